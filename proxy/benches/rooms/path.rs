//! `path`: the normal form of a path that has it already, and of one that has not.

use std::hint::black_box;

use criterion::Criterion;
use waypost::path::normalise;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    for (name, path) in [
        ("root", "/"),
        ("clean", "/catalogue/shoes/running"),
        ("with dots", "/static/app.4f2a91.min.js"),
        ("escaped", "/caf%C3%A9/a%20b"),
        ("to be resolved", "/a/./b/../%7euser"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| normalise(black_box(path)).is_ok()));
    }
}
