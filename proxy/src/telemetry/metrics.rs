//! Every metric name of the process, and the handles that count.
//!
//! Decides names, labels and buckets. Owns the registry and the lifetime of each series: handles are resolved once,
//! when a generation is built, shared while their labels are equal, and take their series along when the last one is
//! dropped. A count on the data path is a few atomic additions; no label is looked up and no lock is taken there.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{IntGauge, Registry, TextEncoder};

use super::family::{Cell, Family, Tokens};
pub use super::family::{Counter, Definition, Presence};
pub use super::histogram::{BUCKETS, Histogram};
use super::history::Counted;
use super::live::{Lease, Live};
pub use super::routes::{Answered, Finished, RouteMetrics};
use super::routes::{LABELS, Routes};
use super::traefik::{self, CertificateNames};

/// The outcome of an attempt that nobody has to be sorry for.
pub const ANSWERED: &str = "response";

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Declares the families: a field each, and the table of all of them.
macro_rules! families {
    ($($field:ident: $cell:ident = $name:literal [$($label:literal),*] $meaning:literal;)*) => {
        /// The metric names whose series have a cell each.
        static OWN: &[Definition] = &[$(
            Definition { name: $name, kind: <$cell as Cell>::KIND, labels: &[$($label),*], meaning: $meaning },
        )*];

        pub(super) struct Families { $(pub(super) $field: Family<$cell>,)* pub(super) routes: Routes }

        impl Families {
            fn register(registry: &Registry) -> Families {
                let mut definitions = OWN.iter();
                let mut next = || definitions.next().expect("the macro writes one definition per field");
                let families = Families { $($field: Family::new(next()),)* routes: Routes::default() };
                $(register(registry, families.$field.clone());)*
                register(registry, families.routes.clone());
                families
            }
        }
    };
}

/// Every metric name of Waypost, in the order of the docs.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    BY_ROUTE.iter().chain(OWN)
}

/// The figures of a route that are kept together, in the order in which [`Routes`] shows them.
pub(super) static BY_ROUTE: [Definition; 6] = [
    Definition {
        name: "waypost_requests_total",
        kind: Counter::KIND,
        labels: &["listener", "route", "service", "method", "status"],
        meaning: "Requests answered. An empty route or service means none was found; status 499 means the client left \
                  first.",
    },
    Definition {
        name: "waypost_request_duration_seconds",
        kind: Histogram::KIND,
        labels: &LABELS,
        meaning: "From the complete request head to the last byte of the response; without upgraded connections.",
    },
    Definition {
        name: "waypost_requests_in_flight",
        kind: Presence::KIND,
        labels: &LABELS,
        meaning: "Requests now being served, upgraded connections included.",
    },
    Definition {
        name: "waypost_request_body_bytes_total",
        kind: Counter::KIND,
        labels: &LABELS,
        meaning: "Bytes of request bodies, and from the client on upgraded connections.",
    },
    Definition {
        name: "waypost_response_body_bytes_total",
        kind: Counter::KIND,
        labels: &LABELS,
        meaning: "Bytes of response bodies, and to the client on upgraded connections.",
    },
    Definition {
        name: "waypost_upgrades_total",
        kind: Counter::KIND,
        labels: &LABELS,
        meaning: "Upgraded connections (WebSockets) that have ended.",
    },
];

families! {
    build_info: IntGauge = "waypost_build_info" ["version"] "Always 1; the label is the version of the binary.";

    connections_open: IntGauge = "waypost_connections_open" ["listener"] "Client connections now open.";
    connections_max: IntGauge = "waypost_connections_max" ["listener"]
        "Client connections that may be open at once: `max_connections`.";
    connections: Counter = "waypost_connections_total" ["listener"] "Client connections accepted.";
    accept_paused: IntGauge = "waypost_accept_paused" ["listener"]
        "Workers that let new connections wait because few descriptors are left.";
    connections_refused: Counter = "waypost_connections_refused_total" ["listener", "reason"]
        "Client connections that Waypost refused or ended for what the client did or left undone, by reason.";
    connection_received: Counter = "waypost_connection_received_bytes_total" ["listener"]
        "Bytes read from client sockets, heads and TLS included.";
    connection_sent: Counter = "waypost_connection_sent_bytes_total" ["listener"]
        "Bytes written to client sockets, heads and TLS included.";
    handshakes: Histogram = "waypost_tls_handshake_duration_seconds" ["listener"] "Time of completed TLS handshakes.";
    certificate_not_after: IntGauge = "waypost_certificate_not_after_timestamp_seconds" ["listener", "subject", "serial"]
        "End of validity of a certificate in use, Unix time.";

    certificates_kept: IntGauge = "waypost_certificates_kept" ["listener"]
        "Certificate pairs of which the files hold something that cannot be used, so that the old pair is served.";

    replies: Counter = "waypost_replies_total" ["listener", "route", "service", "reason"]
        "Responses that Waypost made itself, by reason token.";

    services_available: IntGauge = "waypost_service_endpoints_available" ["service"]
        "Endpoints that may get new requests.";
    retries: Counter = "waypost_retries_total" ["service", "reason"]
        "Further attempts, by the outcome that made them necessary.";
    retry_budget: Counter = "waypost_retry_budget_exhausted_total" ["service"]
        "Retries left out because the service's budget was used up.";
    sticky: Counter = "waypost_sticky_total" ["service", "outcome"]
        "Answers of services with sticky clients: pinned, repinned or new (no valid pin came).";

    endpoint_up: IntGauge = "waypost_endpoint_up" ["service", "endpoint"]
        "1 while the health check finds the endpoint well (or there is none), else 0.";
    endpoint_state: IntGauge = "waypost_endpoint_state" ["service", "endpoint", "state"]
        "1 for the present state of health: checking, up or down; 0 for the others.";
    endpoint_draining: IntGauge = "waypost_endpoint_draining" ["service", "endpoint"]
        "1 while the endpoint gets only its pinned clients, else 0.";
    endpoint_ejected: IntGauge = "waypost_endpoint_ejected" ["service", "endpoint"]
        "1 while the endpoint gets no requests because it has failed too many, until one finds the ejection over.";
    ejections: Counter = "waypost_ejections_total" ["service", "endpoint"]
        "Ejections of an endpoint because of requests it failed.";
    circuit_transitions: Counter = "waypost_circuit_transitions_total" ["service", "endpoint", "state"]
        "Changes of an endpoint's circuit, by the new state: open, or closed.";
    health_transitions: Counter = "waypost_health_transitions_total" ["service", "endpoint", "state"]
        "Changes of health, by the new state.";
    probes: Counter = "waypost_probes_total" ["service", "endpoint", "result"]
        "Health probes, by result: passed, failed, timed_out, or not_made for a lack of descriptors.";
    endpoint_in_flight: Presence = "waypost_endpoint_requests_in_flight" ["service", "endpoint"]
        "Requests that the endpoint is working on.";
    attempts: Counter = "waypost_attempts_total" ["service", "endpoint", "outcome"]
        "Attempts to have a request answered, by outcome.";
    attempt_duration: Histogram = "waypost_attempt_duration_seconds" ["service", "endpoint"]
        "From the choice of the endpoint to its response head, or to the failure.";
    endpoint_connections: IntGauge = "waypost_endpoint_connections_open" ["service", "endpoint"]
        "Connections to the endpoint, idle ones included.";
    connections_created: Counter = "waypost_endpoint_connections_created_total" ["service", "endpoint"]
        "Connections made to the endpoint.";
    connections_reused: Counter = "waypost_endpoint_connections_reused_total" ["service", "endpoint"]
        "Requests sent over a connection that had carried one before.";

    reloads: Counter = "waypost_reloads_total" ["result"] "Reloads: applied, rolled_back (an earlier config was brought back), unchanged or refused.";
    config_generation: IntGauge = "waypost_config_generation" [] "Number of the generation that is serving.";
    config_success: IntGauge = "waypost_config_last_reload_success" []
        "1 if the last reload was not refused, else 0.";
    config_timestamp: IntGauge = "waypost_config_last_reload_timestamp_seconds" []
        "Unix time of the last reload that was not refused.";

    access_log_lines: Counter = "waypost_access_log_lines_total" [] "Access-log lines written.";
    access_log_dropped: Counter = "waypost_access_log_dropped_total" []
        "Access-log lines lost because the writer could not keep up.";
    access_log_errors: Counter = "waypost_access_log_write_errors_total" []
        "Failed writes or opens of the access log; they are tried again.";

    spans_exported: Counter = "waypost_spans_exported_total" [] "Spans that the collector has taken.";
    spans_dropped: Counter = "waypost_spans_dropped_total" []
        "Spans lost because the collector was away for too long, could not keep up, or refused them.";
    span_export_errors: Counter = "waypost_span_export_errors_total" []
        "Failed exports of spans; what may succeed later is tried again.";
}

/// A family is registered once per registry, and [`definitions`] has no name twice: a test encodes them all.
fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("metric names are unique");
}

/// All metrics of one Waypost instance. There is nothing global: two instances in a process count apart.
pub struct Metrics {
    registry: Registry,
    pub(super) families: Families,
    pub(super) listeners: Arc<Live<ListenerMetrics>>,
    pub(super) certificates: Arc<Live<CertificateMetrics>>,
    routes: Arc<Live<RouteMetrics>>,
    pub(super) services: Arc<Live<ServiceMetrics>>,
    pub(super) endpoints: Arc<Live<EndpointMetrics>>,
    /// Whether the page has Traefik's names, too.
    traefik_names: AtomicBool,
    /// Number of the generation that is serving.
    pub config_generation: IntGauge,
    /// Access-log lines written.
    pub access_log_lines: Counter,
    /// Access-log lines lost because the writer could not keep up.
    pub access_log_dropped: Counter,
    /// Failed writes or opens of the access log.
    pub access_log_errors: Counter,
    /// Spans that the collector has taken.
    pub spans_exported: Counter,
    /// Spans that it will never get.
    pub spans_dropped: Counter,
    /// Failed exports of spans.
    pub span_export_errors: Counter,
}

impl Metrics {
    /// A registry of its own with every family in it, and the process's own figures where Linux gives them.
    pub fn new() -> Arc<Metrics> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        let families = Families::register(&registry);
        families.build_info.cell(&[env!("CARGO_PKG_VERSION")]).set(1);
        Arc::new(Metrics {
            listeners: Arc::default(),
            certificates: Arc::default(),
            routes: Arc::default(),
            services: Arc::default(),
            endpoints: Arc::default(),
            traefik_names: AtomicBool::default(),
            config_generation: families.config_generation.cell(&[]),
            access_log_lines: families.access_log_lines.cell(&[]),
            access_log_dropped: families.access_log_dropped.cell(&[]),
            access_log_errors: families.access_log_errors.cell(&[]),
            spans_exported: families.spans_exported.cell(&[]),
            spans_dropped: families.spans_dropped.cell(&[]),
            span_export_errors: families.span_export_errors.cell(&[]),
            registry,
            families,
        })
    }

    /// All series in Prometheus's text format ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let mut families = self.registry.gather();
        // Relaxed: a page of metrics may be a moment old.
        if self.traefik_names.load(Ordering::Relaxed) {
            families.extend(traefik::families(self));
        }
        TextEncoder::new().encode_to_string(&families).expect("families carry their type and their cells")
    }

    /// What the config says of metrics holds from now on.
    pub fn follow(&self, config: &waypost_config::telemetry::Metrics) {
        self.traefik_names.store(config.traefik_names, Ordering::Relaxed);
    }

    /// The handle of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.listeners.get(&[name], |lease| ListenerMetrics::new(&self.families, lease, name))
    }

    /// The handle of a certificate that a listener serves. `serial` in hexadecimal.
    pub fn certificate(&self, listener: &str, subject: &str, serial: &str) -> Arc<CertificateMetrics> {
        let labels = [listener, subject, serial];
        self.certificates.get(&labels, |lease| CertificateMetrics {
            not_after: lease.series.own(&self.families.certificate_not_after, &labels),
            names: OnceLock::new(),
            _lease: lease,
        })
    }

    /// The handle of a route as one listener and one service see it. Requests that found no route count into
    /// `route(listener, "", "")`.
    pub fn route(&self, listener: &str, route: &str, service: &str) -> Arc<RouteMetrics> {
        let labels = [listener, route, service];
        self.routes.get(&labels, |lease| RouteMetrics::new(&self.families, lease, labels))
    }

    /// The handle of a service.
    pub fn service(&self, name: &str) -> Arc<ServiceMetrics> {
        self.services.get(&[name], |lease| ServiceMetrics::new(&self.families, lease, name))
    }

    /// The handle of an endpoint.
    pub fn endpoint(&self, service: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let labels = [service, endpoint];
        self.endpoints.get(&labels, |lease| EndpointMetrics::new(&self.families, lease, labels))
    }

    /// Counts a reload and says when it was.
    pub fn reloaded(&self, result: ReloadResult) {
        self.families.reloads.cell(&[result.token()]).inc();
        let refused = result == ReloadResult::Refused;
        self.families.config_success.cell(&[]).set(i64::from(!refused));
        if !refused {
            self.families.config_timestamp.cell(&[]).set(unix_seconds(SystemTime::now()));
        }
    }
}

/// How a reload ended; the first load counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// A new generation is serving.
    Applied,
    /// The same, with an earlier config.
    RolledBack,
    /// The config was the one that is serving.
    Unchanged,
    /// The old generation goes on.
    Refused,
}

impl ReloadResult {
    /// The label value.
    pub const fn token(self) -> &'static str {
        match self {
            ReloadResult::Applied => "applied",
            ReloadResult::RolledBack => "rolled_back",
            ReloadResult::Unchanged => "unchanged",
            ReloadResult::Refused => "refused",
        }
    }
}

/// What a listener counts.
pub struct ListenerMetrics {
    /// Client connections now open.
    pub connections_open: IntGauge,
    /// Client connections that may be open at once.
    pub connections_max: IntGauge,
    /// Client connections accepted.
    pub connections: Counter,
    /// Bytes read from client sockets.
    pub bytes_received: Counter,
    /// Bytes written to client sockets.
    pub bytes_sent: Counter,
    /// Pairs that are served although their files hold something else.
    pub certificates_kept: IntGauge,
    /// Workers that let new connections wait.
    pub accept_paused: IntGauge,
    /// Seconds of completed TLS handshakes.
    pub tls_handshake: Histogram,
    refused: Tokens,
    _lease: Lease<ListenerMetrics>,
}

impl ListenerMetrics {
    fn new(families: &Families, lease: Lease<ListenerMetrics>, name: &str) -> ListenerMetrics {
        let series = &lease.series;
        ListenerMetrics {
            connections_open: series.own(&families.connections_open, &[name]),
            connections_max: series.own(&families.connections_max, &[name]),
            connections: series.own(&families.connections, &[name]),
            bytes_received: series.own(&families.connection_received, &[name]),
            bytes_sent: series.own(&families.connection_sent, &[name]),
            certificates_kept: series.own(&families.certificates_kept, &[name]),
            accept_paused: series.own(&families.accept_paused, &[name]),
            tls_handshake: series.own(&families.handshakes, &[name]),
            refused: Tokens::new(&families.connections_refused, series, &[name]),
            _lease: lease,
        }
    }

    /// A connection was refused, or ended for what its client did or left undone. `reason` is one of a closed list.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get(reason).inc();
    }
}

/// What is said of a certificate in use.
pub struct CertificateMetrics {
    /// End of validity, Unix time in seconds.
    pub not_after: IntGauge,
    /// What Traefik calls it, once that was told.
    pub names: OnceLock<CertificateNames>,
    _lease: Lease<CertificateMetrics>,
}

/// What a service counts.
pub struct ServiceMetrics {
    /// Endpoints that may get new requests.
    pub endpoints_available: IntGauge,
    /// Retries left out because the budget was used up.
    pub retry_budget_exhausted: Counter,
    pub(super) retries: Tokens,
    sticky: Tokens,
    _lease: Lease<ServiceMetrics>,
}

impl ServiceMetrics {
    fn new(families: &Families, lease: Lease<ServiceMetrics>, name: &str) -> ServiceMetrics {
        let series = &lease.series;
        ServiceMetrics {
            endpoints_available: series.own(&families.services_available, &[name]),
            retry_budget_exhausted: series.own(&families.retry_budget, &[name]),
            retries: Tokens::new(&families.retries, series, &[name]),
            sticky: Tokens::new(&families.sticky, series, &[name]),
            _lease: lease,
        }
    }

    /// A further attempt is made because of `reason`, an attempt's outcome.
    pub fn retried(&self, reason: &'static str) {
        self.retries.get(reason).inc();
    }

    /// A sticky decision: `pinned`, `repinned`, `new` or `invalid`.
    pub fn sticky(&self, outcome: &'static str) {
        self.sticky.get(outcome).inc();
    }
}

/// What the health check thinks of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// No verdict yet.
    Checking,
    /// Well, or not checked at all.
    Up,
    /// Not well.
    Down,
}

impl Health {
    const ALL: [Health; 3] = [Health::Checking, Health::Up, Health::Down];
    /// The byte of an endpoint whose health nobody has told yet.
    const UNTOLD: u8 = u8::MAX;

    /// The label value.
    pub const fn token(self) -> &'static str {
        match self {
            Health::Checking => "checking",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// What an endpoint counts.
pub struct EndpointMetrics {
    /// Requests that the endpoint is working on.
    pub in_flight: Presence,
    /// Connections to the endpoint, idle ones included.
    pub connections: IntGauge,
    /// Connections made to the endpoint.
    pub connections_created: Counter,
    /// Requests sent over a connection that had carried one before.
    pub connections_reused: Counter,
    /// 1 while the endpoint gets only its pinned clients.
    pub draining: IntGauge,
    ejected: IntGauge,
    ejections: Counter,
    circuits: Tokens,
    pub(super) up: IntGauge,
    /// Of the newest generation.
    pub(super) url: Mutex<String>,
    states: [IntGauge; Health::ALL.len()],
    health: AtomicU8,
    transitions: Tokens,
    probes: Tokens,
    attempts: Tokens,
    attempt_duration: Histogram,
    lease: Lease<EndpointMetrics>,
}

impl EndpointMetrics {
    fn new(families: &Families, lease: Lease<EndpointMetrics>, labels: [&str; 2]) -> EndpointMetrics {
        let series = &lease.series;
        let [service, endpoint] = labels;
        let state = |health: Health| series.own(&families.endpoint_state, &[service, endpoint, health.token()]);
        EndpointMetrics {
            in_flight: series.own(&families.endpoint_in_flight, &labels),
            connections: series.own(&families.endpoint_connections, &labels),
            connections_created: series.own(&families.connections_created, &labels),
            connections_reused: series.own(&families.connections_reused, &labels),
            draining: series.own(&families.endpoint_draining, &labels),
            ejected: series.own(&families.endpoint_ejected, &labels),
            ejections: series.own(&families.ejections, &labels),
            circuits: Tokens::new(&families.circuit_transitions, series, &labels),
            up: series.own(&families.endpoint_up, &labels),
            url: Mutex::default(),
            states: Health::ALL.map(state),
            health: AtomicU8::new(Health::UNTOLD),
            transitions: Tokens::new(&families.health_transitions, series, &labels),
            probes: Tokens::new(&families.probes, series, &labels),
            attempts: Tokens::new(&families.attempts, series, &labels),
            attempt_duration: series.own(&families.attempt_duration, &labels),
            lease,
        }
    }

    /// An attempt is over: its outcome, one of a closed list, and the time to the response head or to the failure.
    pub fn attempt(&self, outcome: &'static str, elapsed: Duration) {
        self.attempts.get(outcome).inc();
        self.attempt_duration.observe(elapsed.as_secs_f64());
    }

    /// It is there now.
    pub fn at(&self, url: String) {
        *self.url.lock() = url;
    }

    /// All attempts so far, and whether this is the first look at them; those are failed whose outcome is not [`ANSWERED`].
    pub fn counted(&self) -> Counted {
        let durations = self.attempt_duration.counts();
        let requests = durations.iter().sum();
        let answered = self.attempts.known(ANSWERED).map_or(0, Counter::get);
        // What is counted between the two looks is neither.
        let failed = u64::saturating_sub(requests, answered);
        let is_new = self.lease.series.is_first_look();
        Counted { requests, failed, durations, in_flight: self.in_flight.get(), is_new, ..Counted::default() }
    }

    /// A health probe is over: its result, one of a closed list.
    pub fn probed(&self, result: &'static str) {
        self.probes.get(result).inc();
    }

    /// An ejection begins or ends.
    pub fn ejected(&self, begins: bool) {
        self.ejected.set(i64::from(begins));
        self.ejections.inc_by(u64::from(begins));
    }

    /// The circuit's new state.
    pub fn circuit(&self, state: &'static str) {
        self.circuits.get(state).inc();
    }

    /// The endpoint's health; a change of it (not the first word) counts as a transition.
    pub fn health(&self, health: Health) {
        // Relaxed: one writer, and nothing else is published with it.
        let before = self.health.swap(health as u8, Ordering::Relaxed);
        self.up.set(i64::from(health == Health::Up));
        for (state, gauge) in Health::ALL.iter().zip(&self.states) {
            gauge.set(i64::from(*state == health));
        }
        if before != Health::UNTOLD && before != health as u8 {
            self.transitions.get(health.token()).inc();
        }
    }
}

/// Shown by name only: a handle's figures are on the metrics page.
macro_rules! opaque {
    ($($type:ident),*) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        })*
    };
}

opaque!(Metrics, ListenerMetrics, CertificateMetrics, RouteMetrics, ServiceMetrics, EndpointMetrics);

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs, thread};

    use http::Method;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

    #[track_caller]
    fn check(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        assert!(text.lines().any(|found| found == line), "no line {line}\nin\n{text}");
    }

    /// One count in every family.
    fn exercise(metrics: &Arc<Metrics>) -> Vec<Arc<dyn std::any::Any + Send + Sync>> {
        let listener = metrics.listener("web");
        listener.refused("max_connections");
        let certificate = metrics.certificate("web", "CN=shop.example", "0a");
        let route = metrics.route("web", "shop", "shop");
        route.begin();
        route.finish(&Finished {
            method: &Method::GET,
            status: 200,
            elapsed: Duration::from_millis(2),
            bytes_in: 0,
            bytes_out: 10,
        });
        route.replied("no_endpoint");
        let service = metrics.service("shop");
        service.retried("connect_failed");
        service.sticky("new");
        let endpoint = metrics.endpoint("shop", "web-1");
        endpoint.attempt("ok", Duration::from_millis(1));
        endpoint.probed("ok");
        endpoint.health(Health::Checking);
        endpoint.health(Health::Up);
        endpoint.ejected(true);
        endpoint.circuit("open");
        metrics.reloaded(ReloadResult::Applied);
        vec![listener, certificate, route, service, endpoint]
    }

    #[test]
    fn finished_request_is_counted_with_method_and_status() {
        let metrics = Metrics::new();
        let route = metrics.route("web", "shop", "shop");
        route.begin();
        check(&metrics, r#"waypost_requests_in_flight{listener="web",route="shop",service="shop"} 1"#);
        route.finish(&Finished {
            method: &Method::POST,
            status: 201,
            elapsed: Duration::from_millis(40),
            bytes_in: 7,
            bytes_out: 11,
        });
        check(&metrics, r#"waypost_requests_in_flight{listener="web",route="shop",service="shop"} 0"#);
        check(
            &metrics,
            r#"waypost_requests_total{listener="web",method="POST",route="shop",service="shop",status="201"} 1"#,
        );
        check(&metrics, r#"waypost_request_body_bytes_total{listener="web",route="shop",service="shop"} 7"#);
        check(&metrics, r#"waypost_response_body_bytes_total{listener="web",route="shop",service="shop"} 11"#);
        check(
            &metrics,
            r#"waypost_request_duration_seconds_bucket{listener="web",route="shop",service="shop",le="0.05"} 1"#,
        );
    }

    #[test]
    fn buckets_have_the_apdex_bounds_exactly() {
        let metrics = Metrics::new();
        let route = metrics.route("web", "shop", "shop");
        for _ in 0..2 {
            route.begin();
        }
        route.finish(&Finished {
            method: &Method::GET,
            status: 200,
            elapsed: Duration::from_millis(300),
            bytes_in: 0,
            bytes_out: 0,
        });
        route.finish(&Finished {
            method: &Method::GET,
            status: 200,
            elapsed: Duration::from_millis(1200),
            bytes_in: 0,
            bytes_out: 0,
        });
        let bucket = |bound, count| {
            format!(
                "waypost_request_duration_seconds_bucket{{listener=\"web\",route=\"shop\",service=\"shop\",\
                 le=\"{bound}\"}} {count}"
            )
        };
        for (bound, count) in [("0.1", 0), ("0.3", 1), ("1", 1), ("1.2", 2)] {
            check(&metrics, &bucket(bound, count));
        }
    }

    #[test]
    fn unknown_methods_and_statuses_share_one_label_each() {
        let metrics = Metrics::new();
        let route = metrics.route("web", "shop", "shop");
        for (method, status) in [("BREW", 200), ("PURGE", 200), ("GET", 999), ("GET", 600), ("GET", 99)] {
            route.begin();
            route.finish(&Finished {
                method: &Method::from_bytes(method.as_bytes()).unwrap(),
                status,
                elapsed: Duration::ZERO,
                bytes_in: 0,
                bytes_out: 0,
            });
        }
        let line = |method, status, count| {
            format!(
                "waypost_requests_total{{listener=\"web\",method=\"{method}\",route=\"shop\",service=\"shop\",\
                 status=\"{status}\"}} {count}"
            )
        };
        check(&metrics, &line("other", "200", 2));
        check(&metrics, &line("GET", "other", 3));
    }

    #[test]
    fn upgrade_lifetime_is_not_a_latency() {
        let metrics = Metrics::new();
        let route = metrics.route("web", "chat", "chat");
        route.begin();
        route.finish_upgrade(&Finished {
            method: &Method::GET,
            status: 101,
            elapsed: Duration::ZERO,
            bytes_in: 5,
            bytes_out: 6,
        });
        check(&metrics, r#"waypost_request_duration_seconds_count{listener="web",route="chat",service="chat"} 0"#);
        check(&metrics, r#"waypost_upgrades_total{listener="web",route="chat",service="chat"} 1"#);
        check(&metrics, r#"waypost_requests_in_flight{listener="web",route="chat",service="chat"} 0"#);
        check(
            &metrics,
            r#"waypost_requests_total{listener="web",method="GET",route="chat",service="chat",status="101"} 1"#,
        );
    }

    #[test]
    fn series_of_what_is_gone_go() {
        let metrics = Metrics::new();
        let empty = metrics.encode_without_process();
        let handles = exercise(&metrics);
        assert!(metrics.encode_without_process().contains("web-1"));
        drop(handles);
        let left = metrics.encode_without_process();
        let reloads = |line: &&str| !line.contains("reload");
        assert_eq!(left.lines().filter(reloads).collect::<Vec<_>>(), empty.lines().collect::<Vec<_>>());
    }

    #[test]
    fn series_stay_while_a_newer_handle_counts_into_them() {
        let metrics = Metrics::new();
        let old = metrics.endpoint("shop", "web-1");
        old.attempt("ok", Duration::ZERO);
        let new = metrics.endpoint("shop", "web-1");
        assert!(Arc::ptr_eq(&old, &new));
        drop(old);
        new.attempt("ok", Duration::ZERO);
        check(&metrics, r#"waypost_attempts_total{endpoint="web-1",outcome="ok",service="shop"} 2"#);
        drop(new);
        assert!(!metrics.encode().contains("web-1"));
    }

    #[test]
    fn handles_made_while_the_last_one_is_dropped_keep_their_series() {
        let metrics = Metrics::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let route = metrics.route("web", "shop", "shop");
                        route.begin();
                        assert!(route.in_flight() >= 1);
                        route.finish(&Finished {
                            method: &Method::GET,
                            status: 200,
                            elapsed: Duration::ZERO,
                            bytes_in: 0,
                            bytes_out: 0,
                        });
                    }
                });
            }
        });
        assert!(!metrics.encode().contains("shop"));
    }

    #[test]
    fn names_that_only_together_look_equal_are_apart() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.endpoint("ab", "c"), metrics.endpoint("a", "bc"));
        first.connections_created.inc();
        check(&metrics, r#"waypost_endpoint_connections_created_total{endpoint="c",service="ab"} 1"#);
        check(&metrics, r#"waypost_endpoint_connections_created_total{endpoint="bc",service="a"} 0"#);
        drop(second);
    }

    #[test]
    fn only_a_change_of_health_is_a_transition() {
        let metrics = Metrics::new();
        let endpoint = metrics.endpoint("shop", "web-1");
        for health in [Health::Checking, Health::Up, Health::Up, Health::Down, Health::Up] {
            endpoint.health(health);
        }
        let line = |state, count| {
            format!("waypost_health_transitions_total{{endpoint=\"web-1\",service=\"shop\",state=\"{state}\"}} {count}")
        };
        check(&metrics, &line("up", 2));
        check(&metrics, &line("down", 1));
        check(&metrics, r#"waypost_endpoint_state{endpoint="web-1",service="shop",state="up"} 1"#);
        check(&metrics, r#"waypost_endpoint_state{endpoint="web-1",service="shop",state="down"} 0"#);
        check(&metrics, r#"waypost_endpoint_up{endpoint="web-1",service="shop"} 1"#);
    }

    #[test]
    fn labels_stay_bounded_when_a_list_of_tokens_is_not() {
        const TOKENS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let metrics = Metrics::new();
        let listener = metrics.listener("web");
        for at in 0..TOKENS.len() {
            listener.refused(&TOKENS[at..=at]);
        }
        check(&metrics, r#"waypost_connections_refused_total{listener="web",reason="other"} 20"#);
    }

    #[test]
    fn refused_reload_is_seen_and_keeps_the_time_of_the_last_good_one() {
        let metrics = Metrics::new();
        metrics.reloaded(ReloadResult::Applied);
        check(&metrics, "waypost_config_last_reload_success 1");
        let time = metrics.families.config_timestamp.cell(&[]);
        assert!(time.get() > 1_700_000_000);
        time.set(1);
        metrics.reloaded(ReloadResult::Refused);
        check(&metrics, r#"waypost_reloads_total{result="refused"} 1"#);
        check(&metrics, "waypost_config_last_reload_success 0");
        check(&metrics, "waypost_config_last_reload_timestamp_seconds 1");
    }

    #[test]
    fn instances_count_apart() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.config_generation.set(7);
        check(&one, "waypost_config_generation 7");
        check(&two, "waypost_config_generation 0");
    }

    #[test]
    fn every_definition_is_exported_under_its_name() {
        let metrics = Metrics::new();
        let _handles = exercise(&metrics);
        metrics.route("web", "shop", "shop").finish_upgrade(&Finished {
            method: &Method::GET,
            status: 101,
            elapsed: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        });
        for Definition { name, kind, .. } in definitions() {
            check(&metrics, &format!("# TYPE {name} {kind}"));
            assert!(name.starts_with("waypost_"), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
        }
        let known = |line: &str| definitions().any(|definition| line.contains(definition.name));
        let stranger = |line: &&str| line.starts_with("# TYPE") && !line.contains(" process_") && !known(line);
        assert_eq!(metrics.encode().lines().find(stranger), None);
    }

    #[test]
    fn page_of_metrics_is_current() {
        let page = page();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(Path::new(PAGE).parent().unwrap()).unwrap();
            fs::write(PAGE, &page).unwrap();
        }
        let written = fs::read_to_string(PAGE).unwrap_or_default();
        assert!(written == page, "docs/metrics.md is not current: run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn guide_asks_for_metrics_that_exist() {
        let guide = include_str!("../../../docs/guides/observability.md");
        let words = guide.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("waypost_")).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            let name = name.trim_end_matches("_bucket");
            assert!(definitions().any(|definition| definition.name == name), "{name}");
        }
    }

    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\nGenerated from `proxy/src/telemetry/metrics.rs`; `UPDATE_DOCS=1 cargo test -p waypost \
             page_of_metrics` rewrites it.\n\nAll of them are at `/metrics` of the admin address. The buckets of \
             histograms are ",
        );
        page += &BUCKETS.map(|bound| bound.to_string()).join(", ");
        page += " seconds. On Linux the usual `process_*` metrics of the process come with them.\nSeries of a \
                 listener, route, service, endpoint or certificate go when nothing uses it any more.\n\n\
                 | name | type | labels | meaning |\n|---|---|---|---|\n";
        definitions().for_each(|definition| page += &row(definition));
        page += "\n## Traefik's names\n\nWith `[telemetry] metrics = { traefik_names = true }` these come with them, \
                 for dashboards and alerts made for Traefik v3; [Come from Traefik](guides/from-traefik.md#metrics) \
                 says what differs. The buckets of histograms are those of Traefik: 0.1, 0.3, 1.2, 5 seconds.\n\n\
                 | name | type | labels | meaning |\n|---|---|---|---|\n";
        traefik::definitions().for_each(|definition| page += &row(definition));
        page
    }

    fn row(Definition { name, kind, labels, meaning }: &Definition) -> String {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {meaning} |\n", labels.join(", "))
    }

    impl Metrics {
        fn encode_without_process(&self) -> String {
            let text = self.encode();
            text.lines().filter(|line| !line.contains("process_")).collect::<Vec<_>>().join("\n")
        }
    }
}
