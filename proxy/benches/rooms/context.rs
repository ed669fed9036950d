//! `context`: who asks, behind no proxy and behind a trusted one.

use std::hint::black_box;

use criterion::Criterion;
use waypost::context::RequestContext;

use crate::fixture;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("context");
    let downstream = fixture::downstream();
    for (name, head) in [("tiny", fixture::tiny()), ("browser", fixture::browser())] {
        let host = head.headers["host"].to_str().expect("a host is ASCII");
        group.bench_function(format!("identify, {name}"), |bencher| {
            bencher.iter(|| RequestContext::identify(&downstream, black_box(&head), host, &[]));
        });
    }
    let proxied =
        fixture::head("/", &[("host", "a.example"), ("x-forwarded-for", "203.0.113.9"), ("x-request-id", "1")]);
    let believed = ["192.0.2.0/24".parse().expect("a network")];
    group.bench_function("identify, behind a trusted proxy", |bencher| {
        bencher.iter(|| RequestContext::identify(&downstream, black_box(&proxied), "a.example", &believed));
    });
}
