//! Does this endpoint pass its health check?
//!
//! [`Health`] is the state machine, [`active`] decides when to probe, [`probe`] how. What requests say of it, beside its
//! probes, is [`outlier`]'s and [`circuit_breaker`]'s. A health object lives as long as
//! its endpoint, across reloads. What a `checking` endpoint may get, or a fleet that is all down, is decided elsewhere.

pub mod active;
pub mod circuit_breaker;
pub mod outlier;
pub mod probe;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use waypost_config::service::HealthCheck;

pub use self::probe::{ProbeFailure, Target};

/// What is known about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not probed yet.
    Checking,
    /// Passes, or has no health check.
    Up,
    /// Fails.
    Down,
}

impl State {
    /// The word used in logs, metrics and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Checking => "checking",
            State::Up => "up",
            State::Down => "down",
        }
    }

    fn from_byte(byte: u8) -> State {
        match byte {
            0 => State::Checking,
            1 => State::Up,
            _ => State::Down,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A change of state: one log line, one metric, one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now, never the same.
    pub to: State,
    /// For people, such as `3 probes failed, the last one: connection refused`.
    pub why: Arc<str>,
}

/// Everything about an endpoint's health at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// For people, such as `no health check`.
    pub why: Arc<str>,
    /// Probes passed in a row.
    pub passed: u32,
    /// Probes failed in a row.
    pub failed: u32,
}

/// The health of one endpoint.
///
/// The first probe decides at once, either way; from then on `rise` passed probes in a row bring a down endpoint up,
/// and `fall` failed ones an up endpoint down.
#[derive(Debug)]
pub struct Health {
    /// The state of `record`, to be read without its lock.
    state: AtomicU8,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    thresholds: Option<Thresholds>,
    status: Status,
}

#[derive(Debug, Clone, Copy)]
struct Thresholds {
    rise: u32,
    fall: u32,
}

impl From<&HealthCheck> for Thresholds {
    fn from(check: &HealthCheck) -> Thresholds {
        Thresholds { rise: check.rise, fall: check.fall }
    }
}

impl Health {
    /// `Checking`, or `Up` if there is no health check.
    pub fn new(check: Option<&HealthCheck>) -> Health {
        let (state, why) = match check {
            Some(_) => (State::Checking, "not probed yet"),
            None => (State::Up, NO_HEALTH_CHECK),
        };
        // tokio's clock, which tests pause; it runs outside of a runtime, too.
        let since = tokio::time::Instant::now().into_std();
        let status = Status { state, since, why: why.into(), passed: 0, failed: 0 };
        let record = Record { thresholds: check.map(Thresholds::from), status };
        Health { state: AtomicU8::new(state as u8), record: Mutex::new(record) }
    }

    /// The state: one atomic load.
    pub fn state(&self) -> State {
        // Relaxed: the state is all there is to see; a request that sees it a moment late is one more on the old one.
        State::from_byte(self.state.load(Ordering::Relaxed))
    }

    /// Why it is in its state, for people.
    pub fn why(&self) -> Arc<str> {
        Arc::clone(&self.record.lock().status.why)
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Instant {
        self.record.lock().status.since
    }

    /// State, reason and counters, consistent with each other.
    pub fn status(&self) -> Status {
        self.record.lock().status.clone()
    }

    /// Counts the outcome of a probe. Nothing happens without a health check (a probe that outlived it), or if the probe
    /// could not be made.
    pub fn record(&self, outcome: &Result<(), ProbeFailure>, now: Instant) -> Option<Transition> {
        if is_not_made(outcome) {
            return None;
        }
        let mut record = self.record.lock();
        let thresholds = record.thresholds?;
        let (to, why) = record.status.count(outcome, thresholds)?;
        Some(self.enter(&mut record, to, (why.into(), now)))
    }

    /// Applies another health check, or none, keeping state and counters.
    ///
    /// Without one the endpoint is up. With its first one it stays up until that fails: it has been serving.
    pub fn reconfigure(&self, check: Option<&HealthCheck>, now: Instant) -> Option<Transition> {
        let mut record = self.record.lock();
        record.thresholds = check.map(Thresholds::from);
        if check.is_some() {
            return None;
        }
        (record.status.passed, record.status.failed) = (0, 0);
        if record.status.state == State::Up {
            record.status.why = NO_HEALTH_CHECK.into();
            return None;
        }
        Some(self.enter(&mut record, State::Up, (NO_HEALTH_CHECK.into(), now)))
    }

    fn enter(&self, record: &mut Record, to: State, (why, now): (Arc<str>, Instant)) -> Transition {
        let from = record.status.state;
        record.status = Status { state: to, since: now, why: Arc::clone(&why), ..record.status.clone() };
        self.state.store(to as u8, Ordering::Relaxed);
        Transition { from, to, why }
    }
}

/// Whether there was no probe at all, for a lack of our own.
fn is_not_made(outcome: &Result<(), ProbeFailure>) -> bool {
    matches!(outcome, Err(ProbeFailure::NotMade { .. }))
}

const NO_HEALTH_CHECK: &str = "no health check";

impl Status {
    /// The state to go to and why, if the outcome is the one that was missing.
    fn count(&mut self, outcome: &Result<(), ProbeFailure>, thresholds: Thresholds) -> Option<(State, String)> {
        (self.passed, self.failed) = match outcome {
            Ok(()) => (self.passed.saturating_add(1), 0),
            Err(_) => (0, self.failed.saturating_add(1)),
        };
        match (self.state, outcome) {
            (State::Checking, Ok(())) => Some((State::Up, "the first probe passed".to_owned())),
            (State::Checking, Err(failure)) => Some((State::Down, format!("the first probe failed: {failure}"))),
            (State::Down, Ok(())) if self.passed >= thresholds.rise => {
                Some((State::Up, format!("{} passed", probes(self.passed))))
            }
            (State::Up, Err(failure)) if self.failed >= thresholds.fall => {
                Some((State::Down, format!("{} failed, the last one: {failure}", probes(self.failed))))
            }
            _ => None,
        }
    }
}

fn probes(count: u32) -> String {
    if count == 1 { "1 probe".to_owned() } else { format!("{count} probes") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn health_check(rise: u32, fall: u32) -> HealthCheck {
        HealthCheck { rise, fall, ..HealthCheck::default() }
    }

    fn outcome(passed: char) -> Result<(), ProbeFailure> {
        if passed == '+' { Ok(()) } else { Err(ProbeFailure::Refused) }
    }

    /// Feeds outcomes (`+` passed, `-` failed) and spells the states after each (`u`p, `d`own).
    #[track_caller]
    fn check(rise: u32, fall: u32, outcomes: &str, states: &str) {
        let health = Health::new(Some(&health_check(rise, fall)));
        assert_eq!(health.state(), State::Checking);
        let mut before = State::Checking;
        let mut seen = String::new();
        for passed in outcomes.chars() {
            let transition = health.record(&outcome(passed), Instant::now());
            let expected = (before != health.state()).then_some((before, health.state()));
            assert_eq!(transition.map(|transition| (transition.from, transition.to)), expected);
            before = health.state();
            seen.extend(before.as_str().chars().next());
        }
        assert_eq!(seen, states, "rise {rise}, fall {fall}, {outcomes}");
    }

    #[test]
    fn first_probe_decides_then_rise_and_fall_count() {
        check(2, 3, "+", "u");
        check(2, 3, "-", "d");
        check(2, 3, "+---++", "uuuddu");
        check(2, 3, "+--+--+---", "uuuuuuuuud");
        check(2, 3, "-+-+-++", "ddddddu");
        check(1, 1, "+-+-", "udud");
    }

    #[test]
    fn reason_names_the_count_and_the_last_failure() {
        let health = Health::new(Some(&health_check(2, 1)));
        assert_eq!(&*health.why(), "not probed yet");
        let why = |passed| {
            health.record(&outcome(passed), Instant::now());
            health.why().to_string()
        };
        assert_eq!(why('-'), "the first probe failed: connection refused");
        assert_eq!(why('+'), "the first probe failed: connection refused");
        assert_eq!(why('+'), "2 probes passed");
        assert_eq!(why('-'), "1 probe failed, the last one: connection refused");
    }

    #[test]
    fn since_is_the_time_of_the_transition() {
        let health = Health::new(Some(&health_check(1, 2)));
        let start = Instant::now() + Duration::from_secs(1);
        let seconds = |count| start + Duration::from_secs(count);
        for (second, passed, since) in [(0, '+', 0), (1, '+', 0), (2, '-', 0), (3, '-', 3), (4, '-', 3)] {
            health.record(&outcome(passed), seconds(second));
            assert_eq!(health.since(), seconds(since));
        }
        assert_eq!((health.status().passed, health.status().failed), (0, 3));
    }

    #[test]
    fn without_a_health_check_it_is_up() {
        let health = Health::new(None);
        assert_eq!((health.state(), &*health.why()), (State::Up, "no health check"));
        assert_eq!(health.record(&outcome('-'), Instant::now()), None);
        assert_eq!((health.state(), health.status().failed), (State::Up, 0));
    }

    #[test]
    fn probe_that_could_not_be_made_says_nothing() {
        let not_made = Err(ProbeFailure::NotMade { reason: "no descriptor".to_owned() });
        let health = Health::new(Some(&health_check(2, 1)));
        assert_eq!(health.record(&not_made, Instant::now()), None);
        assert_eq!(health.state(), State::Checking);
        health.record(&outcome('+'), Instant::now());
        assert_eq!(health.record(&not_made, Instant::now()), None);
        assert_eq!((health.state(), health.status().passed, health.status().failed), (State::Up, 1, 0));
    }

    #[test]
    fn another_check_keeps_state_and_counters() {
        let health = Health::new(Some(&health_check(2, 3)));
        "+--".chars().for_each(|passed| drop(health.record(&outcome(passed), Instant::now())));
        assert_eq!(health.reconfigure(Some(&health_check(2, 4)), Instant::now()), None);
        assert_eq!((health.state(), health.status().failed), (State::Up, 2));
        assert_eq!(health.record(&outcome('-'), Instant::now()), None);
        assert!(health.record(&outcome('-'), Instant::now()).is_some());
    }

    #[test]
    fn removed_check_brings_it_up_and_an_added_one_leaves_it_up() {
        let health = Health::new(Some(&health_check(2, 1)));
        health.record(&outcome('-'), Instant::now());
        let transition = health.reconfigure(None, Instant::now()).unwrap();
        assert_eq!((transition.from, transition.to, &*transition.why), (State::Down, State::Up, "no health check"));
        assert_eq!(health.reconfigure(None, Instant::now()), None);
        assert_eq!(health.reconfigure(Some(&health_check(2, 2)), Instant::now()), None);
        assert_eq!(health.record(&outcome('-'), Instant::now()), None);
        assert!(health.record(&outcome('-'), Instant::now()).is_some());
    }
}
