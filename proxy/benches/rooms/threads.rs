//! The same work on one thread and on two at once, for what workers share.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use waypost::shard;

/// Measures `work`, which is told its thread's number, as one worker does it and as two do it.
pub(super) fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, work: impl Fn(usize) + Sync) {
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new(name, format!("{threads} threads")), |bencher| {
            bencher.iter_custom(|rounds| slowest(threads, rounds, &work));
        });
    }
}

/// How long the slowest of so many threads takes for so many rounds.
fn slowest(threads: usize, rounds: u64, work: &(impl Fn(usize) + Sync)) -> Duration {
    let run = |index: usize| {
        shard::enter(index);
        let begun = Instant::now();
        (0..rounds).for_each(|_| work(black_box(index)));
        begun.elapsed()
    };
    thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
        runs.into_iter().map(|run| run.join().expect("no round panics")).max().unwrap_or_default()
    })
}
