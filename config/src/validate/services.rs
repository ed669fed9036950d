//! `[services.*]`.
//!
//! A service needs an endpoint. That none of them takes new clients (every weight 0, every one draining) is allowed:
//! it is how a service is taken out for a while, and requests are answered with 503.

use std::collections::HashMap;

use super::Checker;
use crate::Service;
use crate::place::Place;
use crate::problem::Complaint;
use crate::service::{
    Balancer, Endpoint, HealthCheck, HealthCheckKind, Protocol, Retry, SameSite, Sticky, StickyCookie, UpstreamTls,
};
use crate::value::{HostPattern, is_token};

/// More would make a turn of the round robin longer than anyone waits.
const GREATEST_WEIGHT: u32 = 1000;

impl Checker<'_> {
    pub(super) fn services(&mut self) {
        let config = self.config;
        self.names("services", &config.services);
        for (name, service) in &config.services {
            let place = Place::root().keys(&["services", name]);
            self.balancing(&place, service);
            self.endpoints(&place.key("endpoints"), service);
            self.service_timeouts(&place, service);
            self.upstream_tls(&place.key("tls"), &service.tls);
            self.retry(&place.key("retry"), &service.retry);
            self.standing(&place, service);
            if let Some(health_check) = &service.health_check {
                self.health_check(&place.key("health_check"), health_check);
            }
        }
    }

    fn balancing(&mut self, place: &Place, service: &Service) {
        if service.hash_key.is_some() && service.balancer != Balancer::Hash {
            let complaint = Complaint::new("only the balancer `hash` has a key");
            self.key(&place.key("hash_key"), complaint.hint("add balancer = \"hash\", or leave it out"));
        }
        if let Some(limit) = service.max_in_flight {
            self.at_least_one(&place.key("max_in_flight"), limit);
        }
        let sticky = place.key("sticky");
        match &service.sticky {
            None => {}
            Some(Sticky::ClientIp(pins)) => self.not_zero(&sticky.key("client_ip"), pins.client_ip),
            Some(Sticky::Cookie(cookie)) => self.sticky_cookie(&sticky, cookie),
        }
    }

    fn standing(&mut self, place: &Place, service: &Service) {
        if let Some(outlier) = &service.outlier {
            let place = place.key("outlier");
            self.at_least_one(&place.key("consecutive"), outlier.consecutive as usize);
            self.not_zero(&place.key("eject_for"), outlier.eject_for);
        }
        if let Some(breaker) = &service.circuit_breaker {
            let place = place.key("circuit_breaker");
            self.at_least_one(&place.key("min_requests"), breaker.min_requests as usize);
            self.not_zero(&place.key("open_for"), breaker.open_for);
            if breaker.failure_ratio.0 <= 0.0 {
                let complaint = Complaint::new("a circuit that opens without a failure never lets anything pass");
                self.value(&place.key("failure_ratio"), complaint.hint("write a share above 0%, like \"50%\""));
            }
        }
        if let Some(duration) = service.slow_start {
            self.not_zero(&place.key("slow_start"), duration);
        }
    }

    fn sticky_cookie(&mut self, place: &Place, sticky: &StickyCookie) {
        if !is_token(&sticky.cookie) {
            let complaint = Complaint::new(format!("`{}` is not a cookie's name", sticky.cookie));
            self.value(&place.key("cookie"), complaint.hint("letters, digits, `-` and `_` (RFC 6265 section 4.1.1)"));
        }
        for (index, secret) in sticky.secrets.iter().enumerate() {
            self.secret(&place.key("secrets").index(index), secret.reveal());
        }
        self.not_zero(&place.key("max_idle"), sticky.max_idle);
        self.not_zero(&place.key("max_age"), sticky.max_age);
        self.path(&place.key("path"), &sticky.path);
        if sticky.path.contains(';') {
            self.value(&place.key("path"), Complaint::new("a cookie's path has no `;`"));
        }
        if let Some(domain) = &sticky.domain {
            self.host(&place.key("domain"), domain.trim_start_matches('.'));
        }
        if sticky.same_site == SameSite::None && !self.has_tls() {
            let complaint = Complaint::new("browsers take a cookie with SameSite=None over TLS only");
            self.value(&place.key("same_site"), complaint.hint("add a TLS listener, or write \"lax\""));
        }
    }

    fn endpoints(&mut self, place: &Place, service: &Service) {
        if service.endpoints.is_empty() {
            let none = Complaint::new("a service needs an endpoint");
            let hint = "write endpoints = [{ name = \"web-1\", url = \"http://10.0.0.1:8080\" }]";
            self.value(place, none.hint(hint));
        }
        let mut first = HashMap::new();
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            let known = *first.entry(&endpoint.name).or_insert(index);
            let earlier = (known < index).then(|| place.index(known));
            self.endpoint_name(&place.index(index).key("name"), endpoint, earlier);
            self.endpoint(&place.index(index), endpoint, service.protocol);
        }
    }

    fn endpoint_name(&mut self, place: &Place, endpoint: &Endpoint, earlier: Option<Place>) {
        if let Err(complaint) = super::name_complaint(&endpoint.name) {
            self.value(place, complaint);
        }
        if let Some(earlier) = earlier {
            let twice = Complaint::new(format!("two endpoints are called `{}`", endpoint.name));
            let hint = "the name is the identity in cookies, metrics and logs: give each its own";
            self.against(place, twice.hint(hint), (&earlier.key("name"), "first here"));
        }
    }

    fn endpoint(&mut self, place: &Place, endpoint: &Endpoint, protocol: Protocol) {
        if endpoint.weight > GREATEST_WEIGHT {
            let complaint = Complaint::new(format!("a weight is {GREATEST_WEIGHT} at most"));
            self.value(&place.key("weight"), complaint.hint("weights are shares: 3 and 1 do what 3000 and 1000 would"));
        }
        if let Some(limit) = endpoint.max_in_flight {
            self.at_least_one(&place.key("max_in_flight"), limit);
        }
        if protocol == Protocol::H2c && endpoint.url.tls {
            let complaint = Complaint::new("h2c is HTTP/2 without TLS, this endpoint is https");
            let hint = "leave out `protocol`: over TLS, HTTP/2 is agreed on by ALPN";
            self.value(&place.key("url"), complaint.hint(hint));
        }
    }

    fn service_timeouts(&mut self, place: &Place, service: &Service) {
        let timeouts = &service.timeouts;
        for (key, duration) in [("connect", timeouts.connect), ("response", timeouts.response), ("idle", timeouts.idle)]
        {
            self.not_zero(&place.keys(&["timeouts", key]), duration);
        }
        if service.pool.idle_timeout.is_zero() {
            let complaint = Complaint::new("a connection that is closed at once is not kept");
            let hint = "to keep no idle connections write pool = { max_idle = 0 }";
            self.value(&place.keys(&["pool", "idle_timeout"]), complaint.hint(hint));
        }
    }

    pub(super) fn upstream_tls(&mut self, place: &Place, tls: &UpstreamTls) {
        for (key, other, there) in [
            ("client_cert", "client_key", tls.client_cert.is_some() && tls.client_key.is_none()),
            ("client_key", "client_cert", tls.client_key.is_some() && tls.client_cert.is_none()),
        ] {
            if there {
                self.key(&place.key(key), Complaint::new(format!("`{key}` needs `{other}` beside it")));
            }
        }
        for (key, path) in [("ca", &tls.ca), ("client_cert", &tls.client_cert), ("client_key", &tls.client_key)] {
            if let Some(path) = path {
                self.file(&place.key(key), path);
            }
        }
        if let Some(name) = &tls.server_name {
            self.host(&place.key("server_name"), name);
        }
    }

    fn health_check(&mut self, place: &Place, check: &HealthCheck) {
        if check.kind == HealthCheckKind::Http {
            // A probe may have a query; only the part before it is a path.
            let path = check.path.split('?').next().unwrap_or_default();
            self.path(&place.key("path"), path);
        }
        if let Some(host) = &check.host {
            self.header_value(&place.key("host"), host);
        }
        if check.port == Some(0) {
            self.value(&place.key("port"), Complaint::new("0 is not a port to connect to"));
        }
        self.not_zero(&place.key("interval"), check.interval);
        self.not_zero(&place.key("timeout"), check.timeout);
        self.probe_count(&place.key("rise"), check.rise);
        self.probe_count(&place.key("fall"), check.fall);
        if check.timeout > check.interval && !check.interval.is_zero() {
            let complaint = Complaint::new("a probe's timeout is longer than the interval between probes");
            let hint = format!("write \"{}\" or less, or a longer interval", check.interval);
            self.value(&place.key("timeout"), complaint.hint(hint));
        }
        if check.expect.status.is_empty() {
            let complaint = Complaint::new("no status passes, so every endpoint would be down");
            self.value(&place.keys(&["expect", "status"]), complaint.hint("write status = [\"200-299\"]"));
        }
    }

    fn probe_count(&mut self, place: &Place, count: u32) {
        if count == 0 {
            self.value(place, Complaint::new("it takes at least 1 probe").hint("write 1 or more"));
        }
    }

    fn retry(&mut self, place: &Place, retry: &Retry) {
        if retry.max_attempts == 0 {
            let complaint = Complaint::new("without an attempt there is no answer");
            self.value(&place.key("max_attempts"), complaint.hint("the first one counts: 1 means no retry"));
        }
        if retry.backoff.base > retry.backoff.max {
            let complaint = Complaint::new("the first wait is longer than the longest");
            let hint = format!("at most max = \"{}\"", retry.backoff.max);
            self.value(&place.keys(&["backoff", "base"]), complaint.hint(hint));
        }
    }

    fn host(&mut self, place: &Place, name: &str) {
        match name.parse::<HostPattern>() {
            Ok(HostPattern::Exact(_)) => {}
            Ok(HostPattern::Wildcard(_)) => self.value(place, Complaint::new("one name here, no pattern")),
            Err(message) => self.value(place, Complaint::new(message)),
        }
    }
}
