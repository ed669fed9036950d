//! `telemetry::traces`: what a worker pays for a request with one attempt: one that is not recorded, and one that is, its
//! hand-over included. Nobody listens at the collector's port.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use http::{HeaderMap, HeaderValue, StatusCode, request};
use waypost::context::RequestContext;
use waypost::telemetry::metrics::Metrics;
use waypost::telemetry::traces::{Attempted, Attempting, Decides, Served, Tracer, kept};
use waypost_config::value::UpstreamUrl;

use crate::fixture;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("traces");
    let head = fixture::browser();
    let context = fixture::context(&head);
    for (name, sample) in [("not recorded", "0%"), ("recorded", "100%")] {
        let config = format!("otlp = 'http://127.0.0.1:9'\nsample = '{sample}'");
        let config = toml::from_str(&config).expect("the bench's config is valid");
        let tracer = Tracer::start(&config, None, &Metrics::new()).expect("there is a thread to be had");
        let mut headers = HeaderMap::with_capacity(48);
        group
            .bench_function(name, |bencher| bencher.iter(|| follow(&tracer, &mut headers, || served(&head, &context))));
        tracer.close(Duration::ZERO);
    }
}

fn follow(tracer: &Tracer, headers: &mut HeaderMap, served: impl FnOnce() -> Served) {
    headers.clear();
    let (endpoint, now): (Arc<str>, _) = ("app-1".into(), Instant::now());
    let url = UpstreamUrl { tls: false, host: "10.0.0.1".to_owned(), port: 8080 };
    let mut trace = tracer.begin(headers, Decides::Ourselves, 1);
    trace.attempting(&Attempting { endpoint: &endpoint, url: &url, path: "/", begun: now }, headers);
    trace.attempted(Attempted { outcome: "response", status: Some(StatusCode::OK), at: now });
    trace.finish(served);
}

fn served(head: &request::Parts, context: &RequestContext) -> Served {
    Served {
        time: SystemTime::UNIX_EPOCH,
        started: context.started,
        ended: context.started,
        listener: Arc::clone(&context.listener),
        port: HeaderValue::from_static("80"),
        route: None,
        pattern: None,
        service: None,
        client_ip: context.client_ip,
        secure: false,
        method: kept(head.method.as_str().as_bytes()),
        path: kept(head.uri.path().as_bytes()),
        protocol: head.version,
        host: kept(context.host.as_bytes()),
        user_agent: head.headers.get("user-agent").map(|agent| kept(agent.as_bytes())),
        request_id: kept(context.request_id.as_bytes()),
        status: 200,
        reason: None,
        broke_off: false,
    }
}
