//! `[services.*]`: pins that browsers do not keep, backups that stand in for nobody, and a last resort that never comes.

use std::collections::HashMap;

use super::{Lint, Linter, Remark, asked};
use crate::place::Place;
use crate::service::{OnAllDown, SameSite, Sticky, StickyCookie};
use crate::{Listener, Middleware, Route, Service};

/// The first listener of each kind over which requests come to a service.
#[derive(Debug, Clone, Copy, Default)]
struct Ways<'a> {
    /// In plain text, on all of the way to here.
    plain: Option<&'a str>,
    secure: Option<&'a str>,
}

impl<'a> Ways<'a> {
    fn note(&mut self, name: &'a str, listener: &Listener) {
        // Whom a proxy before this one has served over TLS, is; and on loopback nobody listens in.
        let unknown = !listener.trusted_proxies.is_empty() || listener.address.ip().is_loopback();
        if listener.tls.is_some() {
            self.secure.get_or_insert(name);
        } else if !unknown {
            self.plain.get_or_insert(name);
        }
    }
}

impl<'a> Linter<'a> {
    pub(super) fn services(&mut self) {
        let config = self.config;
        let ways = self.ways();
        for (name, service) in &config.services {
            let place = Place::root().keys(&["services", name]);
            if let Some(Sticky::Cookie(cookie)) = &service.sticky {
                let ways = ways.get(name.as_str()).copied().unwrap_or_default();
                self.sticky(&place.key("sticky"), cookie, ways);
            }
            self.backups(&place.key("endpoints"), service);
            if service.on_all_down == OnAllDown::Open && service.health_check.is_none() {
                let message = "without a health check no endpoint is ever down, so this has no effect";
                let hint = "add `health_check` to the service, or leave this out";
                let place = place.key("on_all_down");
                self.remark(Lint::OpenWithoutHealthCheck, &place, (message.to_owned(), hint.to_owned()));
            }
        }
    }

    fn ways(&self) -> HashMap<&'a str, Ways<'a>> {
        let config = self.config;
        let mut ways: HashMap<&str, Ways<'_>> = HashMap::new();
        for route in config.routes.values().filter(|route| !self.may_redirect(route)) {
            for (_, (name, listener)) in asked(config, route) {
                ways.entry(&route.service).or_default().note(name, listener);
            }
        }
        ways
    }

    /// Whether it may answer every request by itself, as the plain twin of a route over TLS does.
    fn may_redirect(&self, route: &Route) -> bool {
        let redirects = |name: &String| matches!(self.config.middlewares.get(name), Some(Middleware::Redirect(_)));
        route.middlewares.iter().any(redirects)
    }

    /// A cookie is `Secure` where the client came over TLS, and nowhere else.
    fn sticky(&mut self, place: &Place, cookie: &StickyCookie, ways: Ways<'_>) {
        let Some(plain) = ways.plain else { return };
        let (place, message) = match (cookie.same_site, ways.secure) {
            (SameSite::None, _) => {
                let message = format!("browsers refuse SameSite=None in plain text, and so the cookie of `{plain}`");
                (place.key("same_site"), message)
            }
            (_, Some(secure)) => {
                let message =
                    format!("browsers that have the cookie of `{secure}` keep none of `{plain}`: it is not Secure");
                (place.clone(), message)
            }
            (_, None) => return,
        };
        let hint =
            format!("write redirect_https = true in [listeners.{plain}], or bind the routes to TLS by `listeners`");
        let remark = Remark { lint: Lint::StickyInsecure, place, message, hint, related: None };
        self.remark_with(remark, (Place::root().keys(&["listeners", plain]), "in plain text"));
    }

    /// Backups come after all others that are up, open and not yet tried; so something must make these so.
    fn backups(&mut self, place: &Place, service: &Service) {
        let Some(first) = service.endpoints.iter().position(|endpoint| endpoint.backup) else { return };
        let mark = place.index(first).key("backup");
        if service.endpoints.iter().all(|endpoint| endpoint.backup) {
            let message = "every endpoint is a backup, so they are as good as none";
            let hint = "leave `backup` out where requests are to go first";
            return self.remark(Lint::UnreachableBackup, &mark, (message.to_owned(), hint.to_owned()));
        }
        // A client that is pinned to it since it was none goes on.
        if service.sticky.is_some() {
            return;
        }
        for (index, _) in service.endpoints.iter().enumerate().filter(|(_, one)| one.backup && one.weight == 0) {
            let message = "a backup of weight 0 stands in for nobody".to_owned();
            let hint = "give it a weight of 1 or more, or take it out".to_owned();
            self.remark(Lint::UnreachableBackup, &place.index(index).key("weight"), (message, hint));
        }
        if always_others(service) {
            let message = "nothing ever takes the other endpoints out, so this one gets no request";
            let hint = "add `health_check`, `outlier` or `circuit_breaker` to the service, or allow a retry";
            self.remark(Lint::UnreachableBackup, &mark, (message.to_owned(), hint.to_owned()));
        }
    }
}

/// Whether some endpoint that is no backup takes every request: it counts as healthy whatever happens, is never full, and
/// nobody is asked after it.
fn always_others(service: &Service) -> bool {
    let watched = service.health_check.is_some() || service.outlier.is_some() || service.circuit_breaker.is_some();
    let repeats = service.retry.max_attempts > 1 && !service.retry.on.is_empty();
    let mut first = service.endpoints.iter().filter(|one| !one.backup && !one.drain && one.weight > 0);
    !watched && !repeats && first.any(|one| one.max_in_flight.is_none())
}
