//! `telemetry::access_log`: what a worker pays for a line, by one worker and by two, while the writer works beside it;
//! and what ten thousand lines take until they are written.

use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput};
use http::header::USER_AGENT;
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
    let attempts = [Attempt { endpoint: "app-1".into(), outcome: "response", elapsed: Duration::from_micros(320) }];
    let record = Record {
        time: SystemTime::UNIX_EPOCH,
        listener: &context.listener,
        route: Some("all"),
        service: Some("app"),
        endpoint: Some("app-1"),
        client_ip: context.client_ip,
        peer: context.peer,
        method: &head.method,
        target: head.uri.path(),
        protocol: head.version,
        host: &context.host,
        status: 200,
        reason: None,
        request_bytes: 0,
        response_bytes: 612,
        duration: Duration::from_micros(350),
        head_after: Some(Duration::from_micros(340)),
        attempts: &attempts,
        tls: None,
        request_id: &context.request_id,
        trace_id: None,
        user_agent: head.headers.get(USER_AGENT),
        referer: None,
        upgraded: false,
    };
    let metrics = Metrics::new();
    let open = || {
        let config = Config { path: "/dev/null".to_owned().into(), ..Config::default() };
        AccessLog::open(&config, &metrics).expect("there is a /dev/null")
    };
    let log = open();
    threads::bench(&mut group, "a line handed over", |_| log.record(&record));
    group.throughput(Throughput::Elements(LINES)).bench_function("lines written", |bencher| {
        bencher.iter(|| {
            let log = open();
            (0..LINES).for_each(|_| log.record(&record));
            log.close(Duration::from_secs(10));
        });
    });
}
