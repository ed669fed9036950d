//! What would become of a request within its service, in words: the pin, each endpoint's chance, the repeats.

use std::sync::Arc;

use http::request;
use waypost_config::service::{Balancer, Retry, Sticky};

use super::{EndpointTold, ServiceTold};
use crate::snapshot::RouteView;
use crate::upstream::health::State;
use crate::upstream::retry;
use crate::upstream::service::Affinity;
use crate::upstream::{Endpoint, Service};

/// The service of a route, for a head as it would be sent.
pub(super) fn service(
    route: &RouteView,
    head: &request::Parts,
    affinity: &Affinity,
    candidates: &[Arc<Endpoint>],
) -> ServiceTold {
    let service = &route.service;
    let field = Field { service, affinity, candidates };
    ServiceTold {
        name: service.name.to_string(),
        balancer: service.config.balancer.name().to_owned(),
        sticky: service.config.sticky.as_ref().map(|sticky| field.sticky(sticky)),
        endpoints: service.endpoints.iter().map(|endpoint| field.endpoint(endpoint)).collect(),
        retry: repeats(route, head),
    }
}

/// Those who could get the request, and who would.
struct Field<'a> {
    service: &'a Service,
    affinity: &'a Affinity,
    candidates: &'a [Arc<Endpoint>],
}

impl Field<'_> {
    fn is_candidate(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.candidates.iter().any(|candidate| Arc::ptr_eq(candidate, endpoint))
    }

    /// The endpoint that the client is pinned to, if that may serve it.
    fn pinned(&self) -> Option<&str> {
        let name = self.affinity.endpoint()?;
        self.candidates.iter().any(|candidate| *candidate.name == *name).then_some(name)
    }

    fn sticky(&self, sticky: &Sticky) -> String {
        let by = match sticky {
            Sticky::Cookie(cookie) => format!("the cookie `{}`", cookie.cookie),
            Sticky::ClientIp(_) => "the client's address".to_owned(),
        };
        match (self.affinity.endpoint(), self.pinned()) {
            (None, _) => format!("{by} pins to no endpoint yet; the answer will pin to the one that gives it"),
            (Some(name), None) => format!("{by} pins to `{name}`, which can't serve it now; the answer will pin anew"),
            (Some(name), Some(_)) => format!("{by} pins to `{name}`"),
        }
    }

    fn endpoint(&self, endpoint: &Arc<Endpoint>) -> EndpointTold {
        let status = endpoint.live.health.status();
        let why = if self.is_candidate(endpoint) { self.why_it_may(endpoint) } else { self.why_not(endpoint) };
        EndpointTold {
            name: endpoint.name.to_string(),
            url: endpoint.target.url.to_string(),
            state: status.state.as_str().to_owned(),
            chance: self.chance(endpoint),
            why,
        }
    }

    /// By weight, as all balancers but the hash have it in the long run.
    fn chance(&self, endpoint: &Arc<Endpoint>) -> f64 {
        let weight = |one: &Endpoint| f64::from(one.config.weight);
        if !self.is_candidate(endpoint) {
            return 0.0;
        }
        match self.candidates {
            [_] => 1.0,
            several => weight(endpoint) / several.iter().map(|one| weight(one)).sum::<f64>(),
        }
    }

    fn why_it_may(&self, endpoint: &Endpoint) -> String {
        match (self.pinned(), self.service.config.balancer) {
            (Some(_), _) => "the client is pinned to it".to_owned(),
            (None, Balancer::Hash) => "the hash of the key falls on it".to_owned(),
            (None, Balancer::LeastRequest) => format!("available; {} in flight", endpoint.load()),
            (None, _) if endpoint.state() == State::Checking => "not checked yet, and no other one is up".to_owned(),
            (None, _) => "available".to_owned(),
        }
    }

    /// The first reason, in the order in which endpoints are left out.
    fn why_not(&self, endpoint: &Arc<Endpoint>) -> String {
        if let Some(name) = self.pinned() {
            return format!("the client is pinned to `{name}`");
        }
        if endpoint.is_draining() {
            return "it drains: only clients that are pinned to it go there".to_owned();
        }
        if endpoint.config.weight == 0 {
            return "its weight is 0: only clients that are pinned to it go there".to_owned();
        }
        match endpoint.state() {
            State::Down => format!("down: {}", endpoint.live.health.why()),
            State::Checking if !self.service.is_available(endpoint) => "nobody has checked it yet".to_owned(),
            _ => why_passed_over(endpoint),
        }
    }
}

/// Why one that is well gets nothing.
fn why_passed_over(endpoint: &Endpoint) -> String {
    if !endpoint.is_connected() {
        "its circuit is open: too many requests have failed".to_owned()
    } else if endpoint.is_full() {
        format!("full: {} in flight", endpoint.load())
    } else if endpoint.is_ejected() {
        "ejected: it has failed too many requests in a row".to_owned()
    } else if endpoint.config.backup {
        "a backup: it waits until no other one is available".to_owned()
    } else {
        "the hash of the key falls on another one".to_owned()
    }
}

/// Which failed attempts would be repeated.
fn repeats(route: &RouteView, head: &request::Parts) -> Vec<String> {
    let Retry { max_attempts, on, backoff, budget, .. } = &route.service.config.retry;
    if *max_attempts < 2 {
        return vec!["never: max_attempts is 1".to_owned()];
    }
    let on: Vec<_> = on.iter().map(ToString::to_string).collect();
    let mut told = vec![format!("up to {max_attempts} attempts, each at another endpoint, on {}", on.join(", "))];
    told.push(if retry::is_idempotent(&head.method, &head.headers) {
        format!("{} may be repeated even after it was sent", head.method)
    } else {
        format!("{} is repeated only if nothing of it was sent; an Idempotency-Key would allow more", head.method)
    });
    told.push(format!(
        "after {} to {}, while retries are at most {} of requests",
        backoff.base, backoff.max, budget.ratio
    ));
    told.extend(route.timeout.map(|limit| format!("all within {}", humantime::format_duration(limit))));
    told
}
