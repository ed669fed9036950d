//! `upstream::balancer` and `Service::pick`: every algorithm over three endpoints, a hundred and a thousand.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use waypost::upstream::balancer::{self, Slot};
use waypost::upstream::service::Affinity;
use waypost_config::service::Balancer as Kind;

use crate::{fixture, threads};

const KINDS: [(&str, Kind); 4] = [
    ("round_robin", Kind::RoundRobin),
    ("least_request", Kind::LeastRequest),
    ("random", Kind::Random),
    ("hash", Kind::Hash),
];

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balancer");
    for (name, kind) in KINDS {
        for count in [3, 100, 1_000] {
            let slot = |index: usize| Slot { name: format!("app-{index}").into(), weight: 1, load: Arc::default() };
            let balancer = balancer::build(kind, (0..count).map(slot).collect(), &Arc::default());
            let key = keys();
            group.bench_function(format!("{name}, {count} endpoints"), |bencher| {
                bencher.iter(|| balancer.pick(key(), &|_| true));
            });
        }
    }
    let now = Instant::now();
    for count in [3, 1_000] {
        let snapshot = fixture::snapshot(&fixture::endpoints(count));
        let service = &snapshot.services["app"];
        group.bench_function(format!("admission, pick, deposit; {count} endpoints"), |bencher| {
            bencher.iter(|| {
                service.deposit(now);
                (service.admit(), service.pick(&Affinity::None, 0, &[]))
            });
        });
    }
    let snapshot = fixture::snapshot(&fixture::endpoints(3));
    let service = &snapshot.services["app"];
    threads::bench(&mut group, "admission, pick, deposit", |_| {
        service.deposit(now);
        drop((service.admit(), service.pick(&Affinity::None, 0, &[])));
    });
}

/// Well-mixed keys, one after another.
fn keys() -> impl Fn() -> u64 {
    let key = Cell::new(0_u64);
    move || {
        key.set(key.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        key.get()
    }
}
