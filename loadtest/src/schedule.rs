//! When each request of an open loop is due.
//!
//! Pure arithmetic: the clock is an argument. The times are fixed before the first request and never depend on how
//! the server answers; that is what keeps a stall of the server from hiding the requests it should have got
//! (coordinated omission).

use std::time::Duration;

use crate::plan::{Phase, Turn};

/// The send times of one worker, as offsets from the start.
#[derive(Debug, Clone)]
pub struct Schedule {
    spans: Vec<Span>,
    total: u64,
    share: Share,
    turn: Option<Turn>,
}

/// Which requests of a schedule are this worker's: numbers `index`, `index + of`, `index + 2 * of`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which worker, from 0.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first: u64,
    count: u64,
    begins: f64,
    rate: f64,
}

impl Schedule {
    /// The schedule of `phases` one after the other, cut after `limit` requests.
    pub fn new(phases: &[Phase], limit: Option<u64>, share: Share) -> Self {
        let (mut spans, mut first, mut begins) = (Vec::new(), 0, 0.0);
        for phase in phases {
            let count = requests_within(phase.duration.as_secs_f64(), phase.rate);
            spans.push(Span { first, count, begins, rate: phase.rate });
            first += count;
            begins += phase.duration.as_secs_f64();
        }
        Self { spans, total: limit.map_or(first, |limit| first.min(limit)), share, turn: None }
    }

    /// The same in turns with the schedules of other loads.
    #[must_use]
    pub fn taking_turns(self, turn: Option<Turn>) -> Self {
        Self { turn, ..self }
    }

    /// How many requests this worker sends.
    pub fn total(&self) -> u64 {
        self.own(self.total)
    }

    /// When this worker's request `n` (from 0) is due; `None` after the last one.
    pub fn due(&self, n: u64) -> Option<Duration> {
        let n = self.share.index + n * self.share.of;
        if n >= self.total {
            return None;
        }
        let span = self.spans.iter().rev().find(|span| span.first <= n)?;
        let own = Duration::from_secs_f64(span.begins + (n - span.first) as f64 / span.rate);
        Some(self.turn.map_or(own, |turn| turn.at(own)))
    }

    /// How many of this worker's requests are due once `elapsed` has passed.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        let own = self.turn.map_or(Some(elapsed), |turn| turn.own(elapsed));
        let Some(seconds) = own.map(|own| own.as_secs_f64()) else { return 0 };
        let all = self.spans.iter().map(|span| span.due_by(seconds)).sum::<u64>();
        self.own(all.min(self.total))
    }

    /// How many of the first `all` requests belong to this worker.
    fn own(&self, all: u64) -> u64 {
        (all + self.share.of - 1).saturating_sub(self.share.index) / self.share.of
    }
}

impl Span {
    fn due_by(&self, seconds: f64) -> u64 {
        let within = seconds - self.begins;
        // The first is due as the span begins, hence the one more.
        if within < 0.0 { 0 } else { self.count.min(floor(within * self.rate) + 1) }
    }
}

/// How many requests at `rate` begin before `seconds` are over.
fn requests_within(seconds: f64, rate: f64) -> u64 {
    floor((seconds * rate).round().max(1.0))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, never near 2^53")]
fn floor(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Share = Share { index: 0, of: 1 };

    fn phases(pairs: &[(f64, u64)]) -> Vec<Phase> {
        pairs.iter().map(|&(rate, seconds)| Phase { rate, duration: Duration::from_secs(seconds) }).collect()
    }

    #[track_caller]
    fn check(schedule: &Schedule, n: u64, due_ms: Option<u64>) {
        assert_eq!(schedule.due(n).map(|due| due.as_millis()), due_ms.map(u128::from), "request {n}");
    }

    #[test]
    fn requests_are_evenly_spaced() {
        let schedule = Schedule::new(&phases(&[(100.0, 2)]), None, ALONE);
        assert_eq!(schedule.total(), 200);
        check(&schedule, 0, Some(0));
        check(&schedule, 1, Some(10));
        check(&schedule, 199, Some(1_990));
        check(&schedule, 200, None);
    }

    #[test]
    fn a_phase_begins_when_the_one_before_ends() {
        let schedule = Schedule::new(&phases(&[(10.0, 1), (1_000.0, 1), (1.0, 2)]), None, ALONE);
        assert_eq!(schedule.total(), 10 + 1_000 + 2);
        check(&schedule, 9, Some(900));
        check(&schedule, 10, Some(1_000));
        check(&schedule, 11, Some(1_001));
        check(&schedule, 1_010, Some(2_000));
        check(&schedule, 1_011, Some(3_000));
    }

    #[test]
    fn what_is_due_agrees_with_when_it_is_due() {
        let schedule = Schedule::new(&phases(&[(7.0, 3), (333.0, 1)]), Some(200), Share { index: 1, of: 3 });
        for n in 0..schedule.total() {
            let due = schedule.due(n).unwrap();
            assert!(schedule.due_by(due + Duration::from_micros(1)) > n, "request {n} at {due:?}");
            assert!(schedule.due_by(due.saturating_sub(Duration::from_micros(1))) <= n, "request {n} at {due:?}");
        }
    }

    #[test]
    fn in_turns_nothing_is_due_while_it_is_another_ones() {
        let turn = Turn { length: Duration::from_millis(100), index: 1, of: 3 };
        let schedule = Schedule::new(&phases(&[(100.0, 1)]), None, ALONE).taking_turns(Some(turn));
        check(&schedule, 0, Some(100));
        check(&schedule, 9, Some(190));
        check(&schedule, 10, Some(400));
        check(&schedule, 99, Some(2_890));
        for (at, due) in [(0, 0), (99, 0), (100, 1), (195, 10), (200, 10), (399, 10), (400, 11), (10_000, 100)] {
            assert_eq!(schedule.due_by(Duration::from_millis(at)), due, "at {at} ms");
        }
    }

    #[test]
    fn workers_share_a_schedule_without_gap_or_overlap() {
        let whole = Schedule::new(&phases(&[(100.0, 1)]), Some(50), ALONE);
        let mut parts: Vec<_> = (0..3)
            .flat_map(|index| {
                let part = Schedule::new(&phases(&[(100.0, 1)]), Some(50), Share { index, of: 3 });
                (0..part.total()).map(move |n| part.due(n).unwrap()).collect::<Vec<_>>()
            })
            .collect();
        parts.sort();
        assert_eq!(parts, (0..50).map(|n| whole.due(n).unwrap()).collect::<Vec<_>>());
    }
}
