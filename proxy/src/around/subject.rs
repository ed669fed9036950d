//! Whom a metric can tell of in this config: a sticky outcome comes from sticky services only, a probe from those that
//! are probed.
//!
//! Pure; knows metrics by the beginning of their names, as whoever asks Prometheus for them does.

use std::sync::LazyLock;

use regex::Regex;
use waypost_config::{Config, Listener, Service};

/// A metric in an expression, recorded ones too: those have what was measured in the middle of their name.
pub(super) static METRIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:service:|listener:)?waypost_\w+(?::\w+)?").expect("a constant that tests use"));

/// Those of whom a metric can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// The process as a whole.
    Process,
    /// These services.
    Services(Vec<&'a str>),
    /// These listeners.
    Listeners(Vec<&'a str>),
    /// Nobody: the config lacks what it is about.
    Nobody,
}

/// Which services a metric is about.
type OfServices = (&'static str, fn(&Service) -> bool);

/// Metrics that only some services have. The beginning of a name stands for all that begin so.
const SERVICES: [OfServices; 10] = [
    ("waypost_sticky_", |service| service.sticky.is_some()),
    ("waypost_retries", |service| service.retry.max_attempts > 1),
    ("waypost_retry_budget_", |service| service.retry.max_attempts > 1),
    ("waypost_ejections_", |service| service.outlier.is_some()),
    ("waypost_endpoint_ejected", |service| service.outlier.is_some()),
    ("waypost_circuit_", |service| service.circuit_breaker.is_some()),
    ("waypost_probes_", |service| service.health_check.is_some()),
    ("waypost_health_", |service| service.health_check.is_some()),
    // Without a health check an endpoint is always up.
    ("waypost_endpoint_up", |service| service.health_check.is_some()),
    ("waypost_endpoint_state", |service| service.health_check.is_some()),
];

/// Metrics that every service has.
const ANY_SERVICE: [&str; 7] = [
    "waypost_service_",
    "waypost_endpoint_",
    "waypost_attempt",
    "waypost_request",
    "waypost_response_",
    "waypost_replies_",
    "waypost_upgrades_",
];

/// Metrics that only listeners with TLS have, and those that every listener has.
const TLS_LISTENERS: [&str; 2] = ["waypost_tls_", "waypost_certificate"];
const ANY_LISTENER: [&str; 2] = ["waypost_connection", "waypost_accept_"];

impl<'a> Subject<'a> {
    /// Of whom `metric` can tell.
    pub(super) fn of(config: &'a Config, metric: &str) -> Subject<'a> {
        let metric = metric.trim_start_matches("service:").trim_start_matches("listener:");
        let begins = |beginning: &&str| metric.starts_with(*beginning);
        if let Some((_, has)) = SERVICES.iter().find(|(beginning, _)| begins(beginning)) {
            services(config, has)
        } else if ANY_SERVICE.iter().any(begins) {
            services(config, |_| true)
        } else if TLS_LISTENERS.iter().any(begins) {
            listeners(config, |listener| listener.tls.is_some())
        } else if ANY_LISTENER.iter().any(begins) {
            listeners(config, |_| true)
        } else if metric.starts_with("waypost_access_log_") && config.telemetry.access_log.is_none() {
            Subject::Nobody
        } else {
            Subject::Process
        }
    }

    /// Whether it can tell of this service, or of all.
    pub(super) fn has_service(&self, name: &str) -> bool {
        if let Subject::Services(names) = self { names.contains(&name) } else { *self != Subject::Nobody }
    }

    /// Whether it can tell of this listener, or of all.
    pub(super) fn has_listener(&self, name: &str) -> bool {
        if let Subject::Listeners(names) = self { names.contains(&name) } else { *self != Subject::Nobody }
    }
}

/// Whether everything that an expression asks for can tell of somebody.
pub(super) fn speaks(config: &Config, expression: &str) -> bool {
    METRIC.find_iter(expression).all(|metric| Subject::of(config, metric.as_str()) != Subject::Nobody)
}

fn services(config: &Config, has: impl Fn(&Service) -> bool) -> Subject<'_> {
    let names: Vec<_> = config.services.iter().filter(|(_, service)| has(service)).map(|(name, _)| &**name).collect();
    if names.is_empty() { Subject::Nobody } else { Subject::Services(names) }
}

fn listeners(config: &Config, has: impl Fn(&Listener) -> bool) -> Subject<'_> {
    let names: Vec<_> =
        config.listeners.iter().filter(|(_, listener)| has(listener)).map(|(name, _)| &**name).collect();
    if names.is_empty() { Subject::Nobody } else { Subject::Listeners(names) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::definitions;

    const CONFIG: &str = r#"
        version = 1
        [listeners.web]
        address = "127.0.0.1:8080"
        [routes.all]
        service = "plain"
        [services.plain]
        retry = { max_attempts = 1 }
        endpoints = [{ name = "one", url = "http://127.0.0.1:9001" }]
        [services.rich]
        health_check = { path = "/health" }
        sticky = { cookie = "lb" }
        endpoints = [{ name = "one", url = "http://127.0.0.1:9001" }]
    "#;

    fn config() -> Config {
        waypost_config::parse(CONFIG, "waypost.toml".as_ref(), &|_| None).unwrap().config
    }

    #[track_caller]
    fn check(metric: &str, subject: &Subject<'_>) {
        assert_eq!(Subject::of(&config(), metric), *subject, "{metric}");
    }

    #[test]
    fn a_metric_tells_of_those_who_have_what_it_is_about() {
        check("waypost_sticky_total", &Subject::Services(vec!["rich"]));
        check("waypost_endpoint_up", &Subject::Services(vec!["rich"]));
        check("service:waypost_retries:ratio_rate5m", &Subject::Services(vec!["rich"]));
        check("waypost_attempts_total", &Subject::Services(vec!["plain", "rich"]));
        check("service:waypost_requests:rate5m", &Subject::Services(vec!["plain", "rich"]));
        check("waypost_ejections_total", &Subject::Nobody);
        check("waypost_certificates_kept", &Subject::Nobody);
        check("listener:waypost_connections_open:ratio", &Subject::Listeners(vec!["web"]));
        check("waypost_access_log_lines_total", &Subject::Nobody);
        check("waypost_config_generation", &Subject::Process);
    }

    #[test]
    fn every_beginning_is_one_of_a_metric() {
        let services = SERVICES.iter().map(|(beginning, _)| *beginning);
        let all = services.chain(ANY_SERVICE).chain(TLS_LISTENERS).chain(ANY_LISTENER).chain(["waypost_access_log_"]);
        for beginning in all {
            assert!(definitions().any(|definition| definition.name.starts_with(beginning)), "{beginning}");
        }
    }

    #[test]
    fn a_subject_is_named_by_a_label_that_the_metric_has() {
        let config = config();
        for definition in definitions() {
            let label = match Subject::of(&config, definition.name) {
                Subject::Services(_) => "service",
                Subject::Listeners(_) => "listener",
                Subject::Process | Subject::Nobody => continue,
            };
            assert!(definition.labels.contains(&label), "{} by {label}", definition.name);
        }
    }

    #[test]
    fn an_expression_speaks_if_all_of_its_metrics_do() {
        assert!(speaks(&config(), r#"rate(waypost_sticky_total{service="x"}[5m]) / up{job="waypost"}"#));
        assert!(!speaks(&config(), "waypost_sticky_total + waypost_ejections_total"));
    }
}
