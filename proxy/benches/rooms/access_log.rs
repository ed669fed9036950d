//! `telemetry::access_log`: what a worker pays for a line, by one worker and by two, while the writer works beside it;
//! and what ten thousand lines take from their making until they are written.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput};
use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use waypost::telemetry::access_log::{AccessLog, Attempt, Record};
use waypost::telemetry::metrics::Metrics;
use waypost_config::telemetry::AccessLog as Config;

use crate::{fixture, threads};

/// Fewer than the queue holds, so that each one is written.
const LINES: u64 = 10_000;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access log");
    let head = fixture::browser();
    let context = fixture::context(&head);
    let endpoint: Arc<str> = "app-1".into();
    let (route, service): (Arc<str>, Arc<str>) = ("all".into(), "app".into());
    let record = || Record {
        time: SystemTime::UNIX_EPOCH,
        listener: context.listener.clone(),
        route: Some(route.clone()),
        service: Some(service.clone()),
        endpoint: Some(endpoint.clone()),
        client_ip: context.client_ip,
        peer: context.peer,
        method: head.method.clone(),
        target: head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        protocol: head.version,
        host: context.host.clone(),
        status: 200,
        reason: None,
        request_bytes: 0,
        response_bytes: 612,
        duration: Duration::from_micros(350),
        head_after: Some(Duration::from_micros(340)),
        attempts: vec![Attempt {
            endpoint: endpoint.clone(),
            outcome: "response",
            elapsed: Duration::from_micros(320),
        }],
        tls: None,
        request_id: context.request_id.clone(),
        user_agent: head.headers.get(USER_AGENT).cloned(),
        referer: None,
        upgraded: false,
    };
    group.bench_function("a record made and dropped", |bencher| bencher.iter(record));
    let metrics = Metrics::new();
    let open = || {
        let config = Config { path: "/dev/null".to_owned().into(), ..Config::default() };
        AccessLog::open(&config, &metrics).expect("there is a /dev/null")
    };
    let log = open();
    threads::bench(&mut group, "a record handed over", |_| log.record(record()));
    group.throughput(Throughput::Elements(LINES)).bench_function("lines written", |bencher| {
        bencher.iter(|| {
            let log = open();
            (0..LINES).for_each(|_| log.record(record()));
            log.close(Duration::from_secs(10));
        });
    });
}
