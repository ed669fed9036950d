//! `telemetry::access_log`: what a worker pays for a line, by one worker and by two. The writer's work is not in it,
//! but it runs beside it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::Criterion;
use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use waypost::telemetry::access_log::{AccessLog, Attempt, Record};
use waypost::telemetry::metrics::Metrics;
use waypost_config::telemetry::AccessLog as Config;

use crate::{fixture, threads};

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
    let config = Config { path: "/dev/null".to_owned().into(), ..Config::default() };
    let log = AccessLog::open(&config, &metrics).expect("there is a /dev/null");
    threads::bench(&mut group, "a record handed over", |_| log.record(record()));
}
