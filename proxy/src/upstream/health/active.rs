//! When is an endpoint probed?
//!
//! One probe at a time, one stream of probes per endpoint, jittered, so that neither many endpoints nor many instances
//! probe in step. A failed request may ask for a probe before its time. How to probe is [`super::probe`]'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use waypost_config::service::HealthCheck;

use super::probe::Probe;
use super::{Health, ProbeFailure, State, Transition, is_not_made};

/// The first probe of an endpoint that serves already comes within this.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The first probe of an endpoint that waits for it comes within this.
const FIRST_OF_CHECKING_WITHIN: Duration = Duration::from_millis(100);

/// Of many endpoints that begin together, one after another is probed, so far apart: a thousand in a fifth of a second.
const FIRST_APART: Duration = Duration::from_micros(200);

/// Probes asked for are at least this far apart, or a tenth of the interval if that is longer.
const EARLY_APART: Duration = Duration::from_millis(100);

/// How long an endpoint waits for its first probe, by chance; it is one of a `crowd` that begin together.
pub fn first_delay(check: &HealthCheck, state: State, crowd: usize) -> Duration {
    let alone = if state == State::Checking { FIRST_OF_CHECKING_WITHIN } else { FIRST_WITHIN };
    let together = FIRST_APART * u32::try_from(crowd).unwrap_or(u32::MAX);
    alone.max(together).min(*check.interval).mul_f64(fastrand::f64())
}

/// Probes for ever, from now on; the caller aborts it. `wake` asks for an early probe, after a failed request.
pub async fn watch(
    target: impl Probe,
    health: Arc<Health>,
    wake: Arc<Notify>,
    on_transition: impl Fn(Transition) + Send,
) {
    loop {
        let began = Instant::now();
        let outcome = in_time(&target).await;
        if let Some(transition) = health.record(&outcome, Instant::now().into_std()) {
            on_transition(transition);
        }
        if is_not_made(&outcome) {
            // Nothing is known of the endpoint, so the next probe need not be due.
            sleep_until(began + early(target.check())).await;
        } else {
            wait(target.check(), began, &wake).await;
        }
    }
}

async fn in_time(target: &impl Probe) -> Result<(), ProbeFailure> {
    let limit = *target.check().timeout;
    timeout(limit, target.probe()).await.unwrap_or(Err(ProbeFailure::TimedOut { after: limit }))
}

/// Until the next probe is due, counted from the beginning of the last one.
async fn wait(check: &HealthCheck, began: Instant, wake: &Notify) {
    let due = began + check.interval.mul_f64(0.9 + 0.2 * fastrand::f64());
    let early = began + early(check);
    tokio::select! {
        () = sleep_until(due) => {}
        () = wake.notified() => sleep_until(early.min(due)).await,
    }
}

fn early(check: &HealthCheck) -> Duration {
    EARLY_APART.max(*check.interval / 10)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;
    use tokio::time::{interval, sleep};
    use waypost_config::value;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A target that takes its time, passes or not, and notes when it was probed.
    #[derive(Default)]
    struct Scripted {
        check: HealthCheck,
        takes: Duration,
        fails: AtomicBool,
        probed: Mutex<Vec<Instant>>,
    }

    impl Probe for Arc<Scripted> {
        fn check(&self) -> &HealthCheck {
            &self.check
        }

        async fn probe(&self) -> Result<(), ProbeFailure> {
            self.probed.lock().push(Instant::now());
            sleep(self.takes).await;
            if self.fails.load(Ordering::Relaxed) { Err(ProbeFailure::Status { status: 500 }) } else { Ok(()) }
        }
    }

    /// What came of watching a target for some (paused) time.
    struct Watched {
        target: Arc<Scripted>,
        health: Arc<Health>,
        wake: Arc<Notify>,
        transitions: Mutex<Vec<Transition>>,
    }

    impl Watched {
        fn new(target: Scripted) -> Watched {
            let health = Arc::new(Health::new(Some(&target.check)));
            Watched { target: Arc::new(target), health, wake: Arc::default(), transitions: Mutex::default() }
        }

        async fn run(&self, time: Duration) {
            let on_transition = |transition| self.transitions.lock().push(transition);
            let watching =
                watch(Arc::clone(&self.target), Arc::clone(&self.health), Arc::clone(&self.wake), on_transition);
            timeout(time, watching).await.unwrap_err();
        }

        /// The times from each probe to the next.
        fn gaps(&self) -> Vec<Duration> {
            self.target.probed.lock().windows(2).map(|pair| pair[1] - pair[0]).collect()
        }
    }

    fn every(interval: u64) -> HealthCheck {
        HealthCheck { interval: value::Duration::seconds(interval), ..HealthCheck::default() }
    }

    /// The longest of many waits for the first probe is within the limit and near it.
    #[track_caller]
    fn check_first(interval: u64, state: State, crowd: usize, limit: Duration) {
        let delays = (0..1000).map(|_| first_delay(&every(interval), state, crowd));
        let longest = delays.max().unwrap();
        assert!(longest <= limit && longest > limit.mul_f64(0.9), "{longest:?}, not {limit:?}");
    }

    #[test]
    fn first_probe_comes_at_once_where_it_is_waited_for_and_in_a_crowd_after_the_others() {
        check_first(3600, State::Checking, 1, SECOND / 10);
        check_first(3600, State::Checking, 500, SECOND / 10);
        check_first(3600, State::Checking, 5_000, SECOND);
        check_first(3600, State::Up, 1, SECOND);
        check_first(3600, State::Up, 10_000, 2 * SECOND);
        check_first(1, State::Checking, 10_000, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_keep_the_interval_with_jitter() {
        let watched = Watched::new(Scripted { check: every(10), takes: SECOND / 2, ..Scripted::default() });
        watched.run(1000 * SECOND).await;
        let gaps = watched.gaps();
        assert!((85..=115).contains(&gaps.len()), "{}", gaps.len());
        // tokio's clock counts milliseconds.
        assert!(gaps.iter().all(|gap| (9 * SECOND..=11 * SECOND + SECOND / 500).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| gap.abs_diff(10 * SECOND) > SECOND / 4), "no jitter: {gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_probe_fails_at_its_timeout() {
        let check = HealthCheck { timeout: value::Duration::seconds(2), ..every(1) };
        let watched = Watched::new(Scripted { check, takes: 3600 * SECOND, ..Scripted::default() });
        watched.run(60 * SECOND).await;
        assert_eq!(&*watched.health.why(), "the first probe failed: timed out after 2s");
        assert!(watched.gaps().iter().all(|gap| *gap >= 2 * SECOND), "one at a time: {:?}", watched.gaps());
    }

    #[tokio::test(start_paused = true)]
    async fn transitions_are_told_once() {
        let watched = Watched::new(Scripted { check: every(1), ..Scripted::default() });
        watched.run(10 * SECOND).await;
        watched.target.fails.store(true, Ordering::Relaxed);
        watched.run(10 * SECOND).await;
        watched.target.fails.store(false, Ordering::Relaxed);
        watched.run(10 * SECOND).await;
        let told: Vec<_> = watched.transitions.lock().iter().map(|told| (told.to, told.why.to_string())).collect();
        let expected = [
            (State::Up, "the first probe passed"),
            (State::Down, "3 probes failed, the last one: status 500"),
            (State::Up, "2 probes passed"),
        ];
        assert_eq!(told, expected.map(|(state, why)| (state, why.to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_request_brings_a_probe_forward() {
        let watched = Watched::new(Scripted { check: every(60), ..Scripted::default() });
        let failure = async {
            sleep(20 * SECOND).await;
            watched.wake.notify_one();
        };
        tokio::join!(watched.run(30 * SECOND), failure);
        let gaps = watched.gaps();
        assert!(gaps.len() == 1 && gaps[0] <= 20 * SECOND + SECOND / 500, "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn storm_of_failures_brings_few_probes() {
        let watched = Watched::new(Scripted { check: every(10), ..Scripted::default() });
        let storm = async {
            let mut often = interval(Duration::from_millis(1));
            loop {
                often.tick().await;
                watched.wake.notify_one();
            }
        };
        tokio::select! { () = watched.run(60 * SECOND) => {}, () = storm => {} }
        let gaps = watched.gaps();
        assert!(gaps.iter().all(|gap| *gap >= SECOND) && gaps.len() >= 50, "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn storm_is_bounded_with_a_short_interval_too() {
        let check = HealthCheck { interval: value::Duration::millis(500), ..HealthCheck::default() };
        let watched = Watched::new(Scripted { check, ..Scripted::default() });
        let storm = async {
            let mut often = interval(Duration::from_millis(1));
            loop {
                often.tick().await;
                watched.wake.notify_one();
            }
        };
        tokio::select! { () = watched.run(10 * SECOND) => {}, () = storm => {} }
        assert!(watched.gaps().iter().all(|gap| *gap >= EARLY_APART), "{:?}", watched.gaps());
    }
}
