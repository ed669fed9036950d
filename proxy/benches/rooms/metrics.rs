//! `telemetry::metrics`: all that is counted for one request to one endpoint, by one worker and by two.

use std::time::Duration;

use criterion::Criterion;
use http::Method;
use waypost::telemetry::metrics::{Finished, Metrics};
use waypost::telemetry::traefik::{Manner, Protocol};

use crate::threads;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let metrics = Metrics::new();
    let (listener, route) = (metrics.listener("web"), metrics.route("web", "all", "app"));
    let endpoint = metrics.endpoint("app", "app-1");
    let request = Finished {
        method: &Method::GET,
        status: 200,
        elapsed: Duration::from_micros(350),
        bytes_in: 0,
        bytes_out: 612,
    };
    threads::bench(&mut group, "a request", |_| {
        listener.bytes_received.inc_by(80);
        route.begin();
        endpoint.in_flight.inc();
        endpoint.connections_reused.inc();
        endpoint.attempt("response", request.elapsed);
        listener.bytes_sent.inc_by(900);
        endpoint.in_flight.dec();
        route.finish(&request);
    });
    let manner = Manner { protocol: Protocol::Http, tls: None, latency: Some(request.elapsed) };
    threads::bench(&mut group, "what Traefik's names add to it", |_| route.tell_apart(&request, &manner));
    group.bench_function("a page of a thousand routes", |bencher| {
        let routes: Vec<_> = (0..1_000).map(|index| metrics.route("web", &format!("route-{index}"), "app")).collect();
        for route in &routes {
            route.begin();
            route.finish(&request);
        }
        bencher.iter(|| metrics.encode());
    });
}
