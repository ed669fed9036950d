//! What outlives a reload, as the docs say it: an endpoint's health, standing and load, and the budget of a service.

use std::collections::VecDeque;
use std::time::Duration;

use waypost::upstream::health::State;
use waypost_config::service::{Budget, CircuitBreaker, HealthCheck, Outlier};

/// Since the beginning of the history.
pub(crate) type Time = Duration;

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) health: State,
    /// Probes in a row with the same outcome.
    pub(crate) row: (bool, u32),
    /// Drained by an operator.
    pub(crate) drained: bool,
    pub(crate) in_flight: usize,
    born: Time,
    failures: u32,
    ejected_until: Option<Time>,
    last_ejection: Option<(Time, u32, Duration)>,
    pub(crate) circuit: Circuit,
    /// Outcomes while it was closed: the second, and whether it failed.
    outcomes: Vec<(u64, bool)>,
}

/// A circuit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Circuit {
    Closed,
    Open(Time),
    /// Since when it was open, and by whose trial it is judged.
    HalfOpen(Time, u64),
}

impl Life {
    pub(crate) fn new(now: Time) -> Life {
        Life {
            health: State::Checking,
            row: (false, 0),
            drained: false,
            in_flight: 0,
            born: now,
            failures: 0,
            ejected_until: None,
            last_ejection: None,
            circuit: Circuit::Closed,
            outcomes: Vec::new(),
        }
    }

    /// A probe has passed or not.
    pub(crate) fn probed(&mut self, passed: bool, check: &HealthCheck) {
        self.row = if self.row.0 == passed { (passed, self.row.1 + 1) } else { (passed, 1) };
        let enough = self.row.1 >= if passed { check.rise } else { check.fall };
        let other = if passed { State::Down } else { State::Up };
        if self.health == State::Checking || self.health == other && enough {
            self.health = if passed { State::Up } else { State::Down };
        }
    }

    pub(crate) fn is_ejected(&self, rule: Option<&Outlier>, now: Time) -> bool {
        rule.is_some() && self.ejected_until.is_some_and(|until| now < until)
    }

    pub(crate) fn passes(&self, rule: Option<&CircuitBreaker>, now: Time) -> bool {
        let Some(rule) = rule else { return true };
        match self.circuit {
            Circuit::Closed => true,
            Circuit::Open(since) => now >= since + rule.open_for.0,
            Circuit::HalfOpen(..) => false,
        }
    }

    /// A request goes there: one that an open circuit lets through is its trial.
    pub(crate) fn entered(&mut self, rule: Option<&CircuitBreaker>, request: u64) {
        self.in_flight += 1;
        if let (Circuit::Open(since), Some(_)) = (self.circuit, rule) {
            self.circuit = Circuit::HalfOpen(since, request);
        }
    }

    /// A request is over there; its trial, if nothing came of it, is free again.
    pub(crate) fn left(&mut self, request: u64) {
        self.in_flight -= 1;
        if let Circuit::HalfOpen(since, trial) = self.circuit
            && trial == request
        {
            self.circuit = Circuit::Open(since);
        }
    }

    /// An attempt was good or bad.
    pub(crate) fn judged(
        &mut self,
        bad: bool,
        request: u64,
        rules: (Option<&Outlier>, Option<&CircuitBreaker>),
        now: Time,
    ) {
        if let Some(rule) = rules.1 {
            self.cut_off(bad, request, rule, now);
        }
        if let (true, Some(rule)) = (bad, rules.0) {
            self.eject(rule, now);
        }
    }

    /// A good response came to its end.
    pub(crate) fn delivered(&mut self) {
        self.failures = 0;
    }

    fn cut_off(&mut self, bad: bool, request: u64, rule: &CircuitBreaker, now: Time) {
        match self.circuit {
            Circuit::HalfOpen(_, trial) if trial == request => {
                self.circuit = if bad { Circuit::Open(now) } else { Circuit::Closed };
                if !bad {
                    self.outcomes.clear();
                }
            }
            Circuit::HalfOpen(..) | Circuit::Open(_) => {}
            Circuit::Closed => {
                let second = now.saturating_sub(self.born).as_secs();
                self.outcomes.push((second, bad));
                self.outcomes.retain(|(then, _)| then + 10 > second);
                let failed = self.outcomes.iter().filter(|(_, bad)| *bad).count();
                let enough = self.outcomes.len() >= rule.min_requests as usize;
                if enough && failed as f64 >= rule.failure_ratio.0 * self.outcomes.len() as f64 {
                    self.circuit = Circuit::Open(now);
                }
            }
        }
    }

    fn eject(&mut self, rule: &Outlier, now: Time) {
        self.failures += 1;
        let out = self.ejected_until.is_some_and(|until| now < until);
        if out || self.failures < rule.consecutive {
            return;
        }
        let closely = self.last_ejection.filter(|(end, _, length)| now.saturating_sub(*end) < *length);
        let number = closely.map_or(1, |(_, number, _)| (number + 1).min(10));
        let length = rule.eject_for.0 * number;
        self.ejected_until = Some(now + length);
        self.last_ejection = Some((now + length, number, length));
        self.failures = 0;
    }
}

/// What retries a service bears: lists of the seconds in which something happened.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    requests: VecDeque<u64>,
    paid: VecDeque<u64>,
    free: (u64, u32),
}

impl Purse {
    pub(crate) fn deposit(&mut self, now: Time) {
        self.requests.push_back(now.as_secs());
    }

    pub(crate) fn withdraw(&mut self, budget: &Budget, now: Time) -> bool {
        let second = now.as_secs();
        for list in [&mut self.requests, &mut self.paid] {
            list.retain(|then| then + 10 > second);
        }
        if self.free.0 != second {
            self.free = (second, 0);
        }
        if self.free.1 < budget.min_per_second {
            self.free.1 += 1;
            return true;
        }
        let bears = (self.paid.len() + 1) as f64 <= budget.ratio.0 * self.requests.len() as f64;
        self.paid.extend(bears.then_some(second));
        bears
    }
}
