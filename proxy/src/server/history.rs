//! Looks at the counters at the end of every step, for the history that admin tells.
//!
//! Owns the rhythm; the steps belong to [`History`]. Reads what requests write, and never makes one of them wait.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Process;
use crate::aside;
use crate::snapshot::ListenerView;
use crate::telemetry::history::{History, Look, STEP, Source};
use crate::telemetry::metrics::RouteMetrics;

/// One task.
pub(super) async fn keep(process: Arc<Process>) {
    let step = |begun| {
        let process = Arc::clone(&process);
        // Ten thousand routes take a while, to look at and to compare.
        let step = move || aside::run(|| step(&process.history, look(&process), begun));
        // If it fails, the process is at its end.
        async move { tokio::task::spawn_blocking(step).await.unwrap_or(begun) }
    };
    repeat(step).await;
}

/// `step` is told when the step began that is over, and tells when the next one did.
async fn repeat<F: Future<Output = Instant>>(step: impl Fn(Instant) -> F) {
    let mut begun = Instant::now();
    let mut ends = interval_at(begun + STEP, STEP);
    // What comes late is one long step, not two short ones.
    ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ends.tick().await;
        begun = step(begun).await;
    }
}

fn step(history: &Mutex<History>, seen: Look, begun: Instant) -> Instant {
    let now = Instant::now();
    history.lock().step(seen, (SystemTime::now(), now - begun));
    now
}

fn look(process: &Process) -> Look {
    let snapshot = process.shared.snapshot.load_full();
    let mut look = Look { connections: process.edge.inside().values().sum(), ..Look::default() };
    for listener in snapshot.listeners.values() {
        add_routes(&mut look, listener);
    }
    for (service, endpoint) in snapshot.endpoints() {
        let source = Source::Endpoint(Arc::clone(&service.name), Arc::clone(&endpoint.name));
        look.sources.push((source, endpoint.live.metrics.counted()));
    }
    look
}

fn add_routes(look: &mut Look, view: &ListenerView) {
    let nobody: Arc<str> = "".into();
    for route in view.routes() {
        add(look, [&view.name, &route.name, &route.service.name], &route.metrics);
    }
    add(look, [&view.name, &nobody, &nobody], &view.unrouted);
}

fn add(look: &mut Look, [listener, route, service]: [&Arc<str>; 3], metrics: &RouteMetrics) {
    let (listener, route, service) = (Arc::clone(listener), Arc::clone(route), Arc::clone(service));
    look.sources.push((Source::Route { listener, route, service }, metrics.counted()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::history::Counted;

    /// A route that has had so many requests.
    fn counted(requests: u64) -> Look {
        let (listener, route, service) = ("web".into(), "all".into(), "shop".into());
        let counted = Counted { requests, is_new: true, ..Counted::default() };
        Look { sources: vec![(Source::Route { listener, route, service }, counted)], ..Look::default() }
    }

    /// The rates of the steps that are over after so long, at ten requests a second; each look takes some time.
    async fn rates(length: Duration, look_takes: Duration) -> Vec<f32> {
        let (history, start) = (Mutex::new(History::new(SystemTime::now())), Instant::now());
        let history = &history;
        let step = |begun| async move {
            tokio::time::sleep(look_takes).await;
            #[expect(clippy::cast_possible_truncation, reason = "a test of seconds")]
            let requests = start.elapsed().as_millis() as u64 / 100;
            step(history, counted(requests), begun)
        };
        assert!(tokio::time::timeout(length, repeat(step)).await.is_err(), "it never ends");
        let told = history.lock().after(0);
        told.whole.columns.requests
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_ends_every_five_seconds() {
        assert!(rates(Duration::from_millis(4_999), Duration::ZERO).await.is_empty());
        assert_eq!(rates(3 * STEP, Duration::ZERO).await[..2], [10.0; 2]);
        assert_eq!(rates(1000 * STEP, Duration::ZERO).await, [10.0; 180]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_ends_late_counts_for_as_long_as_it_was() {
        let rates = rates(6 * STEP, 2 * STEP).await;
        assert_eq!(rates[..2], [10.0; 2], "{rates:?}");
    }
}
