//! What each room costs one request, in nanoseconds: `cargo bench -p waypost`, or `… -- router` for one room.
//!
//! Measures the rooms alone, without sockets, with the allocator of the binary. Decides nothing about what is fast
//! enough: that is measured on whole requests.

mod access_log;
mod balancer;
mod context;
mod fixture;
mod forwarding;
mod metrics;
mod path;
mod retry_budget;
mod router;
mod sticky;
mod threads;
mod traces;

use std::time::Duration;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let short = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut criterion = short.sample_size(30).configure_from_args();
    for room in [
        path::bench,
        context::bench,
        router::bench,
        forwarding::bench,
        sticky::bench,
        balancer::bench,
        retry_budget::bench,
        metrics::bench,
        access_log::bench,
        traces::bench,
    ] {
        room(&mut criterion);
    }
    criterion.final_summary();
}
