//! The invariants, held against what was seen.
//!
//! Decides by the script alone what may fail: an endpoint is *sound* over a time when nothing ailed it within, and not
//! for [`Setting::settle`](super::setting::Setting::settle) before. Owns no state.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use upstream_mock::Fault;
use upstream_mock::script::Trouble;

use super::client::{Outcome, Seen};
use super::sample::{EndpointSample, Sample};
use super::setting::Sticky;
use super::{Evidence, Trial, is_sound};

/// How many examples of a violated invariant are told.
const EXAMPLES: usize = 5;
/// A fault that is over may still show itself in what was begun under it.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Around an upgrade idle connections end, and pins by address begin anew.
const HANDOVER: Duration = Duration::from_millis(1500);

/// What must hold whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No idempotent request fails while one endpoint could answer.
    IdempotentAnswered,
    /// No request without idempotency is executed twice.
    ExecutedOnce,
    /// No message is delivered truncated, or another's, as whole and right.
    Whole,
    /// Every request gets a reply, and every reply of the proxy's own the right reason.
    Explained,
    /// No request to an endpoint known down or never checked.
    KnownDownSpared,
    /// Pins hold.
    PinsHold,
    /// In flight, connections: all return to zero.
    CountersReturn,
    /// Memory and descriptors return to their level.
    LevelReturns,
    /// The process neither panics nor ends.
    Alive,
}

/// One invariant that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How often.
    pub count: usize,
    /// The first of them.
    pub examples: Vec<String>,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invariant::IdempotentAnswered => "an idempotent request failed while an endpoint could answer",
            Invariant::ExecutedOnce => "a request without idempotency was executed twice",
            Invariant::Whole => "a message was delivered as whole that was not",
            Invariant::Explained => "a request got no reply, or one without the right reason",
            Invariant::KnownDownSpared => "a request went to an endpoint known down or never checked",
            Invariant::PinsHold => "a pinned client was sent elsewhere",
            Invariant::CountersReturn => "a counter did not return to zero",
            Invariant::LevelReturns => "memory or descriptors did not return to their level",
            Invariant::Alive => "the process did not stay well",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} times): {}", self.invariant, self.count, self.examples.join("; "))
    }
}

/// Everything that did not hold.
pub fn violations(trial: &Trial, evidence: &Evidence) -> Vec<Violation> {
    let audit = Audit::new(trial, evidence);
    let mut found = Vec::new();
    for seen in &evidence.seen {
        found.extend(audit.of(seen));
    }
    let doubled = evidence.doubled.iter().filter(|(key, _)| key.starts_with("once-"));
    found.extend(doubled.map(|(key, count)| (Invariant::ExecutedOnce, format!("{key}, {count} times"))));
    found.extend(known_down(&evidence.samples).into_iter().map(|what| (Invariant::KnownDownSpared, what)));
    found.extend(evidence.residue.iter().map(|what| (Invariant::CountersReturn, what.clone())));
    gather(found)
}

/// One violation for each invariant.
pub fn gather(found: impl IntoIterator<Item = (Invariant, String)>) -> Vec<Violation> {
    let mut by_invariant: BTreeMap<Invariant, Vec<String>> = BTreeMap::new();
    for (invariant, what) in found {
        by_invariant.entry(invariant).or_default().push(what);
    }
    let violation = |(invariant, mut all): (Invariant, Vec<String>)| {
        let count = all.len();
        all.truncate(EXAMPLES);
        Violation { invariant, count, examples: all }
    };
    by_invariant.into_iter().map(violation).collect()
}

/// How many requests came to which end, for people.
pub fn summary(evidence: &Evidence) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seen in &evidence.seen {
        let word = match &seen.outcome {
            Outcome::Answered => "answered".to_owned(),
            Outcome::Wrong(_) => "wrong".to_owned(),
            Outcome::Broken(_) => "broken off".to_owned(),
            Outcome::PassedOn(status) => format!("endpoint's {status}"),
            Outcome::Replied(_, reason) => reason.clone(),
            Outcome::Unexplained(_) => "unexplained".to_owned(),
            Outcome::Lost(_) => "lost".to_owned(),
            Outcome::Silent => "silent".to_owned(),
            Outcome::Left => "left".to_owned(),
        };
        *counts.entry(word).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    let stalled: Duration = evidence.stalls.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
    let stalled = if stalled.is_zero() { String::new() } else { format!("; stood still for {stalled:.1?}") };
    let (requests, changes, rest) = (evidence.seen.len(), evidence.changed.len(), evidence.rest);
    format!("{requests} requests: {}; {changes} changes; at rest after {rest:.1?}{stalled}", counts.join(", "))
}

struct Audit<'a> {
    trial: &'a Trial,
    troubles: Vec<Trouble>,
    /// Troubles, and times in which an endpoint takes no new clients.
    closed: Vec<Trouble>,
    handovers: Vec<(Duration, Duration)>,
    stalls: Vec<(Duration, Duration)>,
}

impl Audit<'_> {
    fn new<'a>(trial: &'a Trial, evidence: &Evidence) -> Audit<'a> {
        let troubles = trial.script.troubles();
        let closed = troubles.iter().cloned().chain(trial.drained()).collect();
        let upgrades = evidence.changed.iter().filter(|(.., upgrade)| *upgrade);
        let handovers = upgrades.map(|(from, to, _)| (*from, *to + HANDOVER)).collect();
        let stalls = evidence.stalls.iter().map(|(from, to)| (*from, *to + AFTERMATH)).collect();
        Audit { trial, troubles, closed, handovers, stalls }
    }

    fn of(&self, seen: &Seen) -> Vec<(Invariant, String)> {
        let mut found = Vec::new();
        let mut violated = |invariant, what: String| found.push((invariant, format!("{what} [{}]", told(seen))));
        match &seen.outcome {
            Outcome::Wrong(what) => violated(Invariant::Whole, what.clone()),
            Outcome::Unexplained(what) => violated(Invariant::Explained, what.clone()),
            Outcome::Silent => violated(Invariant::Explained, "no reply".to_owned()),
            Outcome::Lost(why) if !self.handed_over(seen) => violated(Invariant::Explained, format!("lost: {why}")),
            Outcome::Replied(status, reason) if !self.is_right(seen, *status, reason) => {
                violated(Invariant::Explained, format!("{status} {reason} fits no fault of that time"));
            }
            _ => {}
        }
        if seen.stale && !self.handed_over(seen) {
            violated(Invariant::Explained, "the proxy closed an idle connection".to_owned());
        }
        if seen.kind.is_idempotent()
            && failed(&seen.outcome)
            && let Some(sound) = self.sound(seen)
        {
            violated(Invariant::IdempotentAnswered, format!("{:?}, {sound} was sound", seen.outcome));
        }
        if let (Some(pinned), Some(endpoint)) = (&seen.pinned, &seen.endpoint)
            && pinned != endpoint
            && self.was_sound(&self.troubles, pinned, seen)
            && !self.has_forgotten(seen)
        {
            violated(Invariant::PinsHold, format!("from {pinned} to {endpoint}"));
        }
        found
    }

    /// An endpoint that could have answered.
    fn sound(&self, seen: &Seen) -> Option<&str> {
        let mut names = self.trial.setting.endpoints.iter().map(|endpoint| endpoint.name.as_str());
        names.find(|name| self.was_sound(&self.closed, name, seen))
    }

    fn was_sound(&self, troubles: &[Trouble], endpoint: &str, seen: &Seen) -> bool {
        // An endpoint that stood still with this program looked ill, and was.
        !meets(&self.stalls, seen)
            && is_sound(troubles, endpoint, seen.begin.saturating_sub(self.trial.setting.settle()), seen.end)
    }

    fn handed_over(&self, seen: &Seen) -> bool {
        meets(&self.handovers, seen)
    }

    /// Pins by address end with the process that knows them.
    fn has_forgotten(&self, seen: &Seen) -> bool {
        self.trial.setting.sticky == Sticky::ClientIp && self.handed_over(seen)
    }

    fn is_right(&self, seen: &Seen, status: u16, reason: &str) -> bool {
        if !is_status_of(status, reason) {
            return false;
        }
        if reason == "no_endpoint" {
            return self.sound(seen).is_none();
        }
        if meets(&self.stalls, seen) {
            return true;
        }
        let (from, to) = (seen.begin.saturating_sub(AFTERMATH), seen.end);
        let present = self.troubles.iter().filter(|trouble| trouble.from <= to && from <= trouble.to);
        present.flat_map(|trouble| &trouble.faults).any(|fault| reasons(*fault).contains(&reason))
    }
}

fn meets(times: &[(Duration, Duration)], seen: &Seen) -> bool {
    times.iter().any(|(from, to)| seen.begin <= *to && *from <= seen.end)
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::PassedOn(_) | Outcome::Replied(..) | Outcome::Lost(_) | Outcome::Silent)
}

fn told(seen: &Seen) -> String {
    let Seen { kind, key, begin, end, .. } = seen;
    let user = seen.user.map(|user| format!(" of user {user}")).unwrap_or_default();
    format!("{kind:?}{user}, {key}, {:.3} s to {:.3} s", begin.as_secs_f64(), end.as_secs_f64())
}

fn is_status_of(status: u16, reason: &str) -> bool {
    match reason {
        "no_endpoint" | "draining" => status == 503,
        "connect_failed" | "upstream_reset" | "upstream_invalid" => status == 502,
        "attempt_timeout" | "request_timeout" => status == 504,
        _ => false,
    }
}

/// What the proxy may say of a request whose attempt met this fault.
fn reasons(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Crash | Fault::Flap { .. } => &["connect_failed", "upstream_reset"],
        Fault::Refuse => &["connect_failed"],
        Fault::Freeze => &["attempt_timeout", "connect_failed"],
        // Who is well again resets whom it has not answered.
        Fault::Blackhole | Fault::Hang => &["attempt_timeout", "upstream_reset"],
        Fault::Slow(_) => &["attempt_timeout"],
        // A break in the body may overtake the head.
        Fault::ResetBeforeHead
        | Fault::ResetAfterExecution
        | Fault::ResetInBody
        | Fault::TruncatedChunked
        | Fault::WrongLength => &["upstream_reset"],
        Fault::Garbage => &["upstream_invalid", "upstream_reset"],
        _ => &[],
    }
}

/// Endpoints that got a request although they were known down, or never checked while another was up.
///
/// Once two samples in a row have found nothing in flight, and the endpoint's health has not changed since, neither may
/// its attempts grow nor anything be in flight. What does not show in the next sample, too, is not held against the
/// proxy: a page is not of one moment.
fn known_down(samples: &[Sample]) -> Vec<String> {
    let names: Vec<_> = samples.first().map(|first| first.endpoints.keys().collect()).unwrap_or_default();
    names.into_iter().flat_map(|name| known_down_of(name, samples)).collect()
}

fn known_down_of(name: &str, samples: &[Sample]) -> Vec<String> {
    let mut found = Vec::new();
    let mut quiet: Option<(&Sample, &EndpointSample)> = None;
    for pair in samples.windows(2) {
        let [sample, next] = pair else { continue };
        let (Some(now), Some(then)) = (is_out(sample, name), is_out(next, name)) else {
            quiet = None;
            continue;
        };
        if next.process != sample.process || then.transitions != now.transitions {
            quiet = None;
            continue;
        }
        match quiet {
            Some((since, before)) if now.attempts > before.attempts || now.in_flight != 0 => {
                let attempts = now.attempts - before.attempts;
                let (from, to) = (since.at.as_secs_f64(), sample.at.as_secs_f64());
                let state = &now.state;
                found.push(format!(
                    "{name}, {state} from {from:.3} s on, had {attempts} attempts and {} in flight at {to:.3} s",
                    now.in_flight
                ));
                quiet = None;
            }
            None if now.in_flight == 0 && then.in_flight == 0 && now.attempts == then.attempts => {
                quiet = Some((next, then));
            }
            Some(_) | None => {}
        }
    }
    found
}

/// The endpoint, if no request may go to it.
fn is_out<'a>(sample: &'a Sample, name: &str) -> Option<&'a EndpointSample> {
    let endpoint = sample.endpoints.get(name)?;
    let another = sample.endpoints.iter().any(|(other, seen)| other != name && seen.state == "up");
    let out = endpoint.state == "down" || (endpoint.state == "checking" && another);
    out.then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::super::client::Kind;
    use super::*;

    /// `down` samples of one endpoint: attempts, in flight.
    fn samples(figures: &[(i64, i64)]) -> Vec<Sample> {
        let sample = |(number, (attempts, in_flight)): (usize, &(i64, i64))| {
            let (attempts, in_flight) = (*attempts, *in_flight);
            let endpoint = EndpointSample { state: "down".to_owned(), transitions: 1, in_flight, attempts };
            let at = Duration::from_millis(50 * number as u64);
            Sample { at, process: "1".to_owned(), endpoints: [("web-1".to_owned(), endpoint)].into() }
        };
        figures.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn what_was_in_flight_may_end_but_nothing_may_begin() {
        let fine = [(3, 2), (4, 1), (5, 0), (5, 0), (5, 0), (5, 0)];
        assert_eq!(known_down(&samples(&fine)), Vec::<String>::new());
        let begun = [(5, 0), (5, 0), (5, 0), (6, 0), (6, 0)];
        assert_eq!(known_down(&samples(&begun)).len(), 1);
        let stuck = [(5, 0), (5, 0), (5, 1), (5, 1)];
        assert_eq!(known_down(&samples(&stuck)).len(), 1);
    }

    #[test]
    fn violations_are_counted_by_invariant() {
        let found = (0..9).map(|number| (Invariant::Whole, number.to_string()));
        let gathered = gather(found.chain([(Invariant::Alive, "panicked".to_owned())]));
        assert_eq!(gathered.len(), 2);
        assert_eq!((gathered[0].count, gathered[0].examples.len()), (9, EXAMPLES));
    }

    #[test]
    fn a_failure_is_none_of_the_proxys_while_every_endpoint_ails() {
        let script = "[[steps]]\nat = \"0s\"\nendpoint = \"a\"\nfault = { kind = \"hang\" }";
        let script: upstream_mock::Script = script.parse().unwrap();
        let extent = super::super::Extent {
            length: Duration::from_secs(9),
            clients: 1,
            users: 0,
            pause: Duration::from_millis(1),
            change_every: Duration::from_mins(1),
            upgrade_every: None,
            quick: true,
        };
        let check = |names: &[&str], reason: &str, expected: &[Invariant]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let trial = Trial::random(1, &names, extent, Some(script.clone()));
            let seen = Seen {
                kind: Kind::Get,
                key: "again-1".to_owned(),
                user: None,
                begin: Duration::from_secs(5),
                end: Duration::from_secs(6),
                pinned: None,
                endpoint: None,
                stale: false,
                outcome: Outcome::Replied(if reason == "no_endpoint" { 503 } else { 504 }, reason.to_owned()),
            };
            let (samples, changed, doubled, residue, rest, stalls) = Default::default();
            let evidence = Evidence { seen: vec![seen], samples, changed, doubled, residue, rest, stalls };
            let found: Vec<_> = violations(&trial, &evidence).iter().map(|violation| violation.invariant).collect();
            assert_eq!(found, expected, "{names:?} {reason}");
        };
        check(&["a"], "attempt_timeout", &[]);
        check(&["a"], "no_endpoint", &[]);
        check(&["a"], "request_timeout", &[Invariant::Explained]);
        check(&["a", "b"], "attempt_timeout", &[Invariant::IdempotentAnswered]);
        check(&["a", "b"], "no_endpoint", &[Invariant::IdempotentAnswered, Invariant::Explained]);
    }
}
