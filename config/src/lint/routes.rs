//! `[routes.*]`, and what only routes give a meaning: middlewares and services.

use std::collections::HashSet;

use super::shadow::Shadows;
use super::{Lint, Linter, Remark, asked};
use crate::place::Place;
use crate::words;

impl Linter<'_> {
    pub(super) fn routes(&mut self) {
        self.shadowed();
        self.behind_redirects();
        self.unused();
    }

    fn shadowed(&mut self) {
        let config = self.config;
        for (hidden, hider) in Shadows::of(config).pairs() {
            let (Some((name, route)), Some((other, before))) =
                (config.routes.get_index(hidden), config.routes.get_index(hider))
            else {
                continue;
            };
            let hint = if before.priority > route.priority {
                format!("give it a priority above {}, or `{other}` a further condition", before.priority)
            } else {
                format!("both ask for the same: give `{other}` a further condition, or take one of them out")
            };
            let remark = Remark {
                lint: Lint::ShadowedRoute,
                place: Place::root().keys(&["routes", name]),
                message: format!("no request comes here: `{other}` goes first and holds whenever this one does"),
                hint,
                related: None,
            };
            self.remark_with(remark, (Place::root().keys(&["routes", other]), "goes first"));
        }
    }

    fn behind_redirects(&mut self) {
        let config = self.config;
        let secure: Vec<String> =
            config.listeners.iter().filter(|(_, one)| one.tls.is_some()).map(|(name, _)| name.clone()).collect();
        for (name, route) in &config.routes {
            if asked(config, route).next().is_some() {
                continue;
            }
            let message = "no request comes here: `redirect_https` answers all of them before a route is asked";
            let hint =
                format!("the redirect leads to {}: name it here, or leave `listeners` out", words::list(&secure));
            let place = Place::root().keys(&["routes", name, "listeners"]);
            self.remark(Lint::RouteBehindRedirect, &place, (message.to_owned(), hint));
        }
    }

    fn unused(&mut self) {
        let config = self.config;
        let routes = || config.routes.values();
        let middlewares: HashSet<&String> = routes().flat_map(|route| &route.middlewares).collect();
        let services: HashSet<&String> = routes().map(|route| &route.service).collect();
        for name in config.middlewares.keys().filter(|name| !middlewares.contains(name)) {
            let hint = format!("add \"{name}\" to the `middlewares` of a route, or take it out");
            let place = Place::root().keys(&["middlewares", name]);
            self.remark(Lint::UnusedMiddleware, &place, ("no route names it, so it does nothing".to_owned(), hint));
        }
        for name in config.services.keys().filter(|name| !services.contains(name)) {
            let hint = format!("write service = \"{name}\" in a route, or take it out");
            let place = Place::root().keys(&["services", name]);
            self.remark(Lint::UnusedService, &place, ("no route leads here".to_owned(), hint));
        }
    }
}
