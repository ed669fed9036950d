//! `upstream::retry_budget`: what every request deposits, and what a retry withdraws.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use waypost::upstream::retry_budget::RetryBudget;

use crate::{fixture, threads};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retry budget");
    let snapshot = fixture::snapshot(&fixture::endpoints(3));
    let budget = RetryBudget::new(&snapshot.services["app"].config.retry.budget);
    let now = Duration::from_secs(7);
    threads::bench(&mut group, "deposit", |_| budget.deposit(black_box(now)));
    group.bench_function("withdraw", |bencher| bencher.iter(|| budget.withdraw(black_box(now))));
}
