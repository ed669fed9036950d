//! Does this endpoint fail the requests it gets, whatever its probes say?
//!
//! Decides when an endpoint is ejected and for how long, by failures in a row. Owns that count, which lives as long as
//! the endpoint, across reloads. Never counts what the client did, and never knows whether others are left: a fleet
//! that is all ejected is served all the same, which is the service's affair.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use waypost_config::service as config;

/// What the requests of one endpoint say of it.
#[derive(Debug)]
pub struct Outlier {
    epoch: Instant,
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Milliseconds since `epoch`: the end of its ejection, 0 while there is none.
    until: AtomicU64,
    row: Mutex<Row>,
}

/// Ejections that follow each other closely last longer and longer.
#[derive(Debug, Default)]
struct Row {
    length: u32,
    /// When the last one ended, and how long it was.
    last: Option<(Instant, Duration)>,
}

/// The longest ejection, in units of the first.
const LONGEST: u32 = 10;

impl Outlier {
    /// An endpoint that has failed nothing.
    pub fn new(now: Instant) -> Outlier {
        Outlier { epoch: now, failures: AtomicU32::new(0), until: AtomicU64::new(0), row: Mutex::default() }
    }

    // Relaxed throughout: the numbers inform choices and publish nothing.

    /// A request was answered, to the last byte.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed. If it was the one that was too much, for how long the endpoint is ejected.
    pub fn failed(&self, config: &config::Outlier, now: Instant) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < config.consecutive {
            return None;
        }
        let mut row = self.row.lock();
        if self.until.load(Ordering::Relaxed) > 0 {
            // Requests that were on their way when it was ejected.
            return None;
        }
        let length = row.next(config.eject_for.0, now);
        self.failures.store(0, Ordering::Relaxed);
        self.until.store(self.millis(now + length).max(1), Ordering::Relaxed);
        Some(length)
    }

    /// Whether it is ejected now. `now` is asked for only if it matters.
    pub fn is_ejected(&self, now: impl FnOnce() -> Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > 0 && self.millis(now()) < until
    }

    /// Ends an ejection whose time is over; true for one caller only, who says so.
    pub fn ends(&self, now: impl FnOnce() -> Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > 0
            && self.millis(now()) >= until
            && self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Row {
    /// How long the ejection that begins now is: one more unit for each that went before, until the endpoint has served
    /// for as long as it was out.
    fn next(&mut self, unit: Duration, now: Instant) -> Duration {
        let closely = self.last.is_some_and(|(end, length)| now.saturating_duration_since(end) < length);
        self.length = if closely { (self.length + 1).min(LONGEST) } else { 1 };
        let length = unit * self.length;
        self.last = Some((now + length, length));
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: config::Outlier =
        config::Outlier { consecutive: 3, eject_for: waypost_config::value::Duration::seconds(10) };

    /// Feeds outcomes (`+`, `-`), one a second from `from` on; the lengths of the ejections that begin.
    fn feed(outlier: &Outlier, start: Instant, from: u64, outcomes: &str) -> Vec<u64> {
        let mut ejections = Vec::new();
        for (second, outcome) in (from..).zip(outcomes.chars()) {
            let now = start + Duration::from_secs(second);
            outlier.ends(|| now);
            match outcome {
                '+' => outlier.succeeded(),
                _ => ejections.extend(outlier.failed(&CONFIG, now).map(|length| length.as_secs())),
            }
        }
        ejections
    }

    #[track_caller]
    fn check(outcomes: &str, ejections: &[u64]) {
        let start = Instant::now();
        assert_eq!(feed(&Outlier::new(start), start, 0, outcomes), ejections, "{outcomes}");
    }

    #[test]
    fn failures_in_a_row_eject() {
        check("--", &[]);
        check("--+--+--", &[]);
        check("---", &[10]);
        check("+-+---", &[10]);
    }

    #[test]
    fn what_was_on_its_way_does_not_prolong_it() {
        check("---------", &[10]);
    }

    #[test]
    fn it_is_out_for_as_long_as_it_was_told_and_one_caller_hears_of_its_return() {
        let start = Instant::now();
        let outlier = Outlier::new(start);
        feed(&outlier, start, 0, "---");
        let at = |seconds: u64| move || start + Duration::from_secs(seconds);
        assert!(outlier.is_ejected(at(2)) && outlier.is_ejected(at(11)));
        assert!(!outlier.ends(at(11)));
        assert!(!outlier.is_ejected(at(12)));
        assert!(outlier.ends(at(12)) && !outlier.ends(at(12)));
        assert!(!outlier.is_ejected(at(3)), "it is over");
    }

    #[test]
    fn ejections_in_a_row_grow_until_it_has_served_as_long_as_it_was_out() {
        let start = Instant::now();
        let outlier = Outlier::new(start);
        // Out from 2 to 12, fails again at once: out for 20 s; then for 30 s; then it serves for 31 s.
        assert_eq!(feed(&outlier, start, 0, "---"), [10]);
        assert_eq!(feed(&outlier, start, 12, "---"), [20]);
        assert_eq!(feed(&outlier, start, 40, "+---"), [30]);
        assert_eq!(feed(&outlier, start, 43 + 30 + 31, "---"), [10]);
        // It never grows beyond ten times.
        let mut now = 200;
        let mut longest = 0;
        for _ in 0..20 {
            longest = feed(&outlier, start, now, "---")[0];
            now += 2 + longest;
        }
        assert_eq!(longest, 100);
    }
}
