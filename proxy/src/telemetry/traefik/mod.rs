//! The same figures under Traefik's names, for dashboards and alerts that were made for Traefik v3.
//!
//! Decides Traefik's names, labels and label values, and where Waypost's figures go among them; each page is made anew
//! from what is counted anyway and from what Traefik tells apart and Waypost does not (`apart`).
//! `docs/guides/from-traefik.md` says what differs.

mod apart;

use std::collections::BTreeMap;

use prometheus::proto::{self, MetricFamily};

use super::family::Definition;
use super::metrics::Metrics;
use super::routes::{counted, labelled, method_of, status_of};
use apart::{Answer, BUCKETS, Owner, Sum};
pub(super) use apart::{Apart, Books, Left};
pub use apart::{Manner, Protocol, Session};

/// What is told of the process as a whole, of listeners, certificates and endpoints, in the order of [`standing`].
static STANDING: [Definition; 6] = [
    Definition {
        name: "traefik_config_reloads_total",
        kind: "counter",
        labels: &[],
        meaning: "Configs that were taken up: `waypost_config_generation`.",
    },
    Definition {
        name: "traefik_config_last_reload_success",
        kind: "gauge",
        labels: &[],
        meaning: "`waypost_config_last_reload_timestamp_seconds`.",
    },
    Definition {
        name: "traefik_open_connections",
        kind: "gauge",
        labels: &["entrypoint", "protocol"],
        meaning: "`waypost_connections_open`; the protocol is always `TCP`.",
    },
    Definition {
        name: "traefik_tls_certs_not_after",
        kind: "gauge",
        labels: &["cn", "serial", "sans"],
        meaning: "`waypost_certificate_not_after_timestamp_seconds`, once for each certificate; `serial` is decimal.",
    },
    Definition {
        name: "traefik_service_retries_total",
        kind: "counter",
        labels: &["service"],
        meaning: "`waypost_retries_total` for all reasons.",
    },
    Definition {
        name: "traefik_service_server_up",
        kind: "gauge",
        labels: &["service", "url"],
        meaning: "`waypost_endpoint_up`, by the endpoint's URL.",
    },
];

/// What is told of requests by one kind of owner.
macro_rules! requests_of {
    ($owner:literal, $whose:literal, $($label:literal),+) => {
        [
            Definition {
                name: concat!("traefik_", $owner, "_requests_total"),
                kind: "counter",
                labels: &["code", "method", "protocol", $($label),+],
                meaning: concat!("Requests of ", $whose, " that were answered."),
            },
            Definition {
                name: concat!("traefik_", $owner, "_requests_tls_total"),
                kind: "counter",
                labels: &["tls_version", "tls_cipher", $($label),+],
                meaning: concat!("Requests of ", $whose, " that came over TLS."),
            },
            Definition {
                name: concat!("traefik_", $owner, "_request_duration_seconds"),
                kind: "histogram",
                labels: &["code", "method", "protocol", $($label),+],
                meaning: concat!("How long requests of ", $whose, " took; without upgraded connections."),
            },
            Definition {
                name: concat!("traefik_", $owner, "_requests_bytes_total"),
                kind: "counter",
                labels: &["code", "method", "protocol", $($label),+],
                meaning: concat!("Bytes of request bodies of ", $whose, "."),
            },
            Definition {
                name: concat!("traefik_", $owner, "_responses_bytes_total"),
                kind: "counter",
                labels: &["code", "method", "protocol", $($label),+],
                meaning: concat!("Bytes of response bodies of ", $whose, "."),
            },
        ]
    };
}

/// By owner, in the order of [`Owner`], and then in that of [`Shown`].
static REQUESTS: [[Definition; 5]; 3] = [
    requests_of!("entrypoint", "a listener", "entrypoint"),
    requests_of!("router", "a route", "router", "service"),
    requests_of!("service", "a service", "service"),
];

/// Every metric name of Traefik's that there is, in the order of the docs.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    STANDING.iter().chain(REQUESTS.iter().flatten())
}

/// A page of them. What has no series is left out, as its format demands.
pub(super) fn families(metrics: &Metrics) -> Vec<MetricFamily> {
    let standing = STANDING.iter().zip(standing(metrics));
    let requests = REQUESTS.iter().flatten().zip(requests(&metrics.families.routes.told_apart()));
    let all = standing.chain(requests).filter(|(_, series)| !series.is_empty());
    all.map(|(definition, series)| definition.family(series)).collect()
}

/// A label name with its value.
type Label = (&'static str, String);
type Labels = Vec<Label>;

fn standing(metrics: &Metrics) -> [Vec<proto::Metric>; STANDING.len()] {
    let published = u64::try_from(metrics.config_generation.get()).unwrap_or_default();
    let taken_up = metrics.families.config_timestamp.cell(&[]).get();
    [
        vec![counter(&[], published)],
        vec![gauge(&[], taken_up)],
        open_connections(metrics),
        certificates(metrics),
        retries(metrics),
        servers(metrics),
    ]
}

fn open_connections(metrics: &Metrics) -> Vec<proto::Metric> {
    let open = metrics.listeners.all().into_iter();
    let open: BTreeMap<_, _> = open.map(|(labels, listener)| (labels, listener.connections_open.get())).collect();
    let labels = |listener: &str| vec![("entrypoint", listener.to_owned()), ("protocol", "TCP".to_owned())];
    open.into_iter().map(|(listener, open)| gauge(&labels(&listener[0]), open)).collect()
}

/// Listeners may share a certificate.
fn certificates(metrics: &Metrics) -> Vec<proto::Metric> {
    let known = metrics.certificates.all().into_iter();
    let ends: BTreeMap<_, _> = known
        .filter_map(|(_, certificate)| Some((certificate.names.get()?.clone(), certificate.not_after.get())))
        .collect();
    let labels = |names: CertificateNames| vec![("cn", names.common), ("serial", names.serial), ("sans", names.hosts)];
    ends.into_iter().map(|(names, end)| gauge(&labels(names), end)).collect()
}

/// What Traefik calls a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateNames {
    /// The subject's common name.
    pub common: String,
    /// The serial number, decimal.
    pub serial: String,
    /// The hosts, in alphabetical order, with commas between.
    pub hosts: String,
}

fn retries(metrics: &Metrics) -> Vec<proto::Metric> {
    let services = metrics.services.all().into_iter();
    let retries: BTreeMap<_, _> = services.map(|(labels, service)| (labels, service.retries.sum())).collect();
    retries.into_iter().map(|(service, retries)| counter(&[("service", of_file(&service[0]))], retries)).collect()
}

/// Endpoints may share a URL; then it is up if one of them is.
fn servers(metrics: &Metrics) -> Vec<proto::Metric> {
    let mut servers: BTreeMap<_, i64> = BTreeMap::new();
    for (labels, endpoint) in metrics.endpoints.all() {
        let up = servers.entry((labels[0].clone(), endpoint.url.lock().clone())).or_default();
        *up = endpoint.up.get().max(*up);
    }
    let labels = |service: &str, url: String| vec![("service", of_file(service)), ("url", url)];
    servers.into_iter().map(|((service, url), up)| gauge(&labels(&service, url), up)).collect()
}

/// The series of one kind of owner.
type Shown = [Vec<proto::Metric>; 5];

fn requests(books: &Books) -> impl Iterator<Item = Vec<proto::Metric>> + use<> {
    let mut shown: [Shown; REQUESTS.len()] = Default::default();
    for (owner, total) in books {
        let (place, whose) = described(owner);
        let [requests, over_tls, durations, bytes_in, bytes_out] = &mut shown[place];
        for (answer, sum) in &total.answers {
            let labels = [labels_of(*answer), whose.clone()].concat();
            requests.push(counter(&labels, sum.requests));
            durations.extend(histogram(&labels, sum));
            bytes_in.push(counter(&labels, sum.bytes_in));
            bytes_out.push(counter(&labels, sum.bytes_out));
        }
        for ((version, cipher), count) in &total.sessions {
            let session = vec![("tls_version", bare(version)), ("tls_cipher", (*cipher).to_owned())];
            over_tls.push(counter(&[session, whose.clone()].concat(), *count));
        }
    }
    shown.into_iter().flatten()
}

/// The place of its metrics in [`REQUESTS`], and its labels.
fn described(owner: &Owner) -> (usize, Labels) {
    match owner {
        Owner::Entrypoint(listener) => (0, vec![("entrypoint", listener.clone())]),
        Owner::Router { router, service } => (1, vec![("router", of_file(router)), ("service", of_file(service))]),
        Owner::Service(service) => (2, vec![("service", of_file(service))]),
    }
}

/// Traefik says behind a name which provider it is from, and its dashboards for Kubernetes cut that off.
fn of_file(name: &str) -> String {
    format!("{name}@file")
}

/// `1.3`, where the access log has `TLSv1.3`.
fn bare(version: &str) -> String {
    version.trim_start_matches("TLSv").to_owned()
}

fn labels_of(Answer { kind, protocol }: Answer) -> Labels {
    let method = match method_of(kind) {
        "other" => "EXTENSION_METHOD",
        method => method,
    };
    vec![("code", status_of(kind)), ("method", method.to_owned()), ("protocol", protocol.word().to_owned())]
}

fn borrowed(labels: &[Label]) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str()))
}

fn counter(labels: &[Label], count: u64) -> proto::Metric {
    counted(borrowed(labels), count)
}

fn gauge(labels: &[Label], value: i64) -> proto::Metric {
    let (mut metric, mut gauge) = (labelled(borrowed(labels)), proto::Gauge::default());
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}

/// `None` where all were upgraded connections.
fn histogram(labels: &[Label], sum: &Sum) -> Option<proto::Metric> {
    let total: u64 = sum.lasted.iter().sum();
    let mut cumulative = 0;
    let buckets = BUCKETS.iter().zip(sum.lasted).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(total);
    histogram.set_sample_sum(sum.micros as f64 / 1e6);
    let mut metric = labelled(borrowed(labels));
    metric.set_histogram(histogram);
    (total > 0).then_some(metric)
}

#[cfg(test)]
mod tests;
