//! Is it worth asking this endpoint at all?
//!
//! Closed lets traffic flow; too great a share of failures within ten seconds opens it, and nothing is sent; after a
//! while one request is let through (half-open), and what becomes of it decides. Owns that state, which lives as long
//! as the endpoint, across reloads.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use waypost_config::service as config;

/// What a circuit does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Circuit {
    /// All pass.
    Closed,
    /// None passes.
    Open,
    /// One has passed, and is waited for.
    HalfOpen,
}

impl Circuit {
    /// The word used in logs, metrics and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::Open => "open",
            Circuit::HalfOpen => "half_open",
        }
    }
}

/// How a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// As all do.
    Free,
    /// As the one by which the endpoint is judged.
    Trial,
}

/// The circuit breaker of one endpoint.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// Of `record`, to be read without its lock.
    circuit: AtomicU8,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    circuit: Circuit,
    /// When it was opened last.
    opened: Option<Instant>,
    window: Window,
}

/// Counts of the last ten seconds, by second.
#[derive(Debug)]
struct Window {
    epoch: Instant,
    seconds: [Second; SECONDS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    requests: u32,
    failures: u32,
}

const SECONDS: usize = 10;

impl CircuitBreaker {
    /// A closed one.
    pub fn new(now: Instant) -> CircuitBreaker {
        let window = Window { epoch: now, seconds: [Second::default(); SECONDS] };
        let record = Record { circuit: Circuit::Closed, opened: None, window };
        CircuitBreaker { circuit: AtomicU8::new(Circuit::Closed as u8), record: Mutex::new(record) }
    }

    /// What it does with requests.
    pub fn circuit(&self) -> Circuit {
        // Relaxed: a request that sees it a moment late is one more on the old one.
        match self.circuit.load(Ordering::Relaxed) {
            0 => Circuit::Closed,
            1 => Circuit::Open,
            _ => Circuit::HalfOpen,
        }
    }

    /// Whether a request could pass now. `now` is asked for only if it matters.
    pub fn would_pass(&self, config: &config::CircuitBreaker, now: impl FnOnce() -> Instant) -> bool {
        match self.circuit() {
            Circuit::Closed => true,
            Circuit::HalfOpen => false,
            Circuit::Open => self.record.lock().is_rested(config.open_for.0, now()),
        }
    }

    /// Lets a request pass, or not: somebody else may have taken the trial since [`would_pass`](Self::would_pass).
    pub fn pass(&self, config: &config::CircuitBreaker, now: impl FnOnce() -> Instant) -> Option<Pass> {
        if self.circuit() == Circuit::Closed {
            return Some(Pass::Free);
        }
        let mut record = self.record.lock();
        match record.circuit {
            Circuit::Closed => Some(Pass::Free),
            Circuit::Open if record.is_rested(config.open_for.0, now()) => {
                self.enter(&mut record, Circuit::HalfOpen);
                Some(Pass::Trial)
            }
            Circuit::Open | Circuit::HalfOpen => None,
        }
    }

    /// A request that had passed came to nothing that could be counted: the trial is free again.
    pub fn abandoned(&self, pass: Pass) {
        let mut record = self.record.lock();
        if pass == Pass::Trial && record.circuit == Circuit::HalfOpen {
            self.enter(&mut record, Circuit::Open);
        }
    }

    /// Counts what became of a request; the new state if that has changed it.
    pub fn count(
        &self,
        (pass, failed): (Pass, bool),
        config: &config::CircuitBreaker,
        now: Instant,
    ) -> Option<Circuit> {
        let mut record = self.record.lock();
        match (record.circuit, pass) {
            (Circuit::HalfOpen, Pass::Trial) if failed => Some(self.open(&mut record, now)),
            (Circuit::HalfOpen, Pass::Trial) => {
                record.window.clear();
                Some(self.enter(&mut record, Circuit::Closed))
            }
            // Requests that were on their way when it was opened say nothing about now.
            (Circuit::Open | Circuit::HalfOpen, _) => None,
            (Circuit::Closed, _) => {
                record.window.count(failed, now);
                record.window.is_over(config, now).then(|| self.open(&mut record, now))
            }
        }
    }

    fn open(&self, record: &mut Record, now: Instant) -> Circuit {
        record.opened = Some(now);
        self.enter(record, Circuit::Open)
    }

    fn enter(&self, record: &mut Record, circuit: Circuit) -> Circuit {
        record.circuit = circuit;
        self.circuit.store(circuit as u8, Ordering::Relaxed);
        circuit
    }
}

impl Record {
    fn is_rested(&self, open_for: Duration, now: Instant) -> bool {
        self.opened.is_none_or(|opened| now.saturating_duration_since(opened) >= open_for)
    }
}

impl Window {
    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn count(&mut self, failed: bool, now: Instant) {
        let number = self.number(now);
        let [.., slot] = (number % SECONDS as u64).to_be_bytes();
        let second = &mut self.seconds[usize::from(slot)];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second.requests += 1;
        second.failures += u32::from(failed);
    }

    fn is_over(&self, config: &config::CircuitBreaker, now: Instant) -> bool {
        let number = self.number(now);
        let recent = self.seconds.iter().filter(|second| second.number + SECONDS as u64 > number);
        let (requests, failures) = recent
            .fold((0, 0), |(requests, failures), second| (requests + second.requests, failures + second.failures));
        requests >= config.min_requests && f64::from(failures) >= config.failure_ratio.0 * f64::from(requests)
    }

    fn clear(&mut self) {
        self.seconds = [Second::default(); SECONDS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: config::CircuitBreaker = config::CircuitBreaker {
        failure_ratio: waypost_config::value::Percent(0.5),
        min_requests: 4,
        open_for: waypost_config::value::Duration::seconds(5),
    };

    struct Bench {
        breaker: CircuitBreaker,
        start: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let start = Instant::now();
            Bench { breaker: CircuitBreaker::new(start), start }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        /// One request at that second: `+` or `-` became of it, or `x` if it could not pass.
        fn request(&self, second: u64, outcome: char) -> char {
            let now = || self.at(second);
            let Some(pass) = self.breaker.pass(&CONFIG, now) else { return 'x' };
            self.breaker.count((pass, outcome == '-'), &CONFIG, now());
            outcome
        }

        /// One request a second from `from` on.
        #[track_caller]
        fn check(&self, from: u64, outcomes: &str, became: &str) {
            let seen: String =
                (from..).zip(outcomes.chars()).map(|(second, outcome)| self.request(second, outcome)).collect();
            assert_eq!(seen, became, "{outcomes}");
        }
    }

    #[test]
    fn a_share_of_failures_opens_it_once_there_are_enough_requests() {
        Bench::new().check(0, "---+", "---+");
        Bench::new().check(0, "----+", "----x");
        Bench::new().check(0, "+++---+", "+++---x");
        Bench::new().check(0, "+++++-+-+-", "+++++-+-+-");
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let bench = Bench::new();
        bench.check(0, "---", "---");
        bench.check(11, "-+++", "-+++");
        assert_eq!(bench.breaker.circuit(), Circuit::Closed);
    }

    #[test]
    fn one_request_is_let_through_after_a_while_and_decides() {
        let bench = Bench::new();
        // Opened at 3; closed to all until 8.
        bench.check(0, "----++++-", "----xxxx-");
        // The trial at 8 failed; the next one is at 13, and passes.
        bench.check(9, "+++++++", "xxxx+++");
        assert_eq!(bench.breaker.circuit(), Circuit::Closed);
        // What led to it is forgotten.
        bench.check(16, "-+-", "-+-");
    }

    #[test]
    fn only_the_trial_is_a_trial() {
        let bench = Bench::new();
        bench.check(0, "----", "----");
        let now = || bench.at(9);
        assert!(bench.breaker.would_pass(&CONFIG, now));
        assert_eq!(bench.breaker.pass(&CONFIG, now), Some(Pass::Trial));
        assert!(!bench.breaker.would_pass(&CONFIG, now));
        assert_eq!(bench.breaker.pass(&CONFIG, now), None);
        // Requests from before it was opened.
        assert_eq!(bench.breaker.count((Pass::Free, false), &CONFIG, now()), None);
        assert_eq!(bench.breaker.circuit(), Circuit::HalfOpen);
        // The trial's client leaves: the next request is the trial.
        bench.breaker.abandoned(Pass::Trial);
        assert_eq!(bench.breaker.pass(&CONFIG, now), Some(Pass::Trial));
        assert_eq!(bench.breaker.count((Pass::Trial, true), &CONFIG, now()), Some(Circuit::Open));
        assert!(
            !bench.breaker.would_pass(&CONFIG, || bench.at(13)) && bench.breaker.would_pass(&CONFIG, || bench.at(14))
        );
    }
}
