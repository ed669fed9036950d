//! The figures of a comparison: what was seen in a round, and ratios taken within the rounds.
//!
//! Pure. A [`Ratio`] keeps its median to itself: it can be shown only with its least and its greatest, and from less
//! than two rounds there is none.

use std::fmt;

use serde::Serialize;

use super::scenario::{Kind, Layout, Relation, Work};
use crate::report::Latency;

/// The name of the relay that speaks no HTTP; it is nobody's peer.
pub const FLOOR: &str = "floor";
/// The name of another build of Waypost; it is nobody's peer either.
pub const BASELINE: &str = "baseline";
/// Below the line: whichever peer did best in the same round.
pub const BEST: &str = "best peer";
/// A proxy whose core is busy for less than this share of the time was not what limited the answers.
const FULL_CORE: f64 = 90.0;
/// A proxy that answers less than this share of what is offered did not keep up.
const KEPT_UP: f64 = 0.98;

/// One proxy in one round of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// The scenario.
    pub kind: Kind,
    /// The proxy.
    pub proxy: &'static str,
    /// Which round, from 1.
    pub round: usize,
    /// Connections that were open, or for churn, at once at most.
    pub connections: usize,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// The rest.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Seen {
    /// Of a proxy at work.
    Traffic(Traffic),
    /// Of a proxy that holds connections which do nothing.
    Idle {
        /// Growth of the resident memory for each connection, in KiB.
        kib_per_connection: f64,
        /// Connections that it closed meanwhile.
        closed: usize,
    },
}

/// Of a proxy at work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Microseconds of CPU time per answered request.
    pub cpu_us: f64,
    /// How busy it was, as a percentage of one core.
    pub busy_percent: f64,
    /// Requests per second that were due; `None` in a closed loop.
    pub offered: Option<f64>,
    /// Answers per second.
    pub rate: f64,
    /// Requests that failed.
    pub failed: u64,
    /// Percentage of the connections that took up a TLS session again, as the client saw it; `None` without TLS.
    pub resumed_percent: Option<f64>,
    /// Latencies, from when requests were due, as they were in the middle one of its turns.
    pub latency: Latency,
    /// Latencies of all its turns together, which tell of the machine as much as of the proxy.
    pub all_latency: Box<Latency>,
}

/// Which figure of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// CPU time per request; less is better.
    Cpu,
    /// Median latency; less is better.
    P50,
    /// 99th percentile of the latency; less is better.
    P99,
    /// 99.9th percentile of the latency; less is better.
    P999,
    /// Answers per second at saturation; more is better.
    Rate,
    /// Memory per idle connection; less is better.
    Memory,
}

/// Median, least and greatest of several values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A quotient with its spread over the rounds; there is no way to the one without the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio(Spread);

/// What the first proxy has, relative to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quotient {
    /// The scenario.
    pub kind: Kind,
    /// The figure.
    pub figure: Figure,
    /// The proxy above the line.
    pub of: &'static str,
    /// The proxy below the line.
    pub to: &'static str,
    /// Taken within each round.
    pub ratio: Ratio,
}

/// What a scenario costs a proxy, relative to another scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Related {
    /// The scenario.
    pub kind: Kind,
    /// What is divided by what.
    pub what: String,
    /// The proxy.
    pub proxy: &'static str,
    /// Taken within each round.
    pub ratio: Ratio,
}

/// All figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The proxies with their versions; the first one is what the others are compared with.
    pub proxies: Vec<String>,
    /// Seconds measured in a round.
    pub seconds: f64,
    /// The first proxy relative to each other.
    pub ratios: Vec<Quotient>,
    /// Scenarios relative to others, proxy by proxy.
    pub related: Vec<Related>,
    /// Everything that was measured.
    pub rounds: Vec<Round>,
    /// Who was left out of what, what was limited by something else, and where configs differ.
    pub notes: Vec<String>,
}

impl Kind {
    /// The figures that are compared, the one that matters most first.
    pub fn figures(self) -> &'static [Figure] {
        match self.work() {
            Work::Offered(_) => &[Figure::Cpu, Figure::P50, Figure::P99, Figure::P999],
            Work::Full => &[Figure::Rate, Figure::Cpu],
            Work::Idle(_) => &[Figure::Memory],
        }
    }
}

impl Figure {
    /// What it is.
    pub fn words(self) -> &'static str {
        match self {
            Self::Cpu => "CPU per request",
            Self::P50 => "p50 latency",
            Self::P99 => "p99 latency",
            Self::P999 => "p99.9 latency",
            Self::Rate => "answers per second",
            Self::Memory => "memory per connection",
        }
    }

    /// The better one of two.
    fn better(self, a: f64, b: f64) -> f64 {
        if self == Self::Rate { a.max(b) } else { a.min(b) }
    }
}

impl Round {
    /// One figure of it, if it has it.
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        match (&self.seen, figure) {
            (Seen::Traffic(traffic), Figure::Cpu) => Some(traffic.cpu_us),
            (Seen::Traffic(traffic), Figure::P50) => Some(traffic.latency.p50.as_secs_f64()),
            (Seen::Traffic(traffic), Figure::P99) => Some(traffic.latency.p99.as_secs_f64()),
            (Seen::Traffic(traffic), Figure::P999) => Some(traffic.latency.p99_9.as_secs_f64()),
            (Seen::Traffic(traffic), Figure::Rate) => Some(traffic.rate),
            (&Seen::Idle { kib_per_connection, .. }, Figure::Memory) => Some(kib_per_connection),
            _ => None,
        }
    }

    /// Its traffic, if it was at work.
    pub fn traffic(&self) -> Option<&Traffic> {
        if let Seen::Traffic(traffic) = &self.seen { Some(traffic) } else { None }
    }
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let upper = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[upper] } else { f64::midpoint(values[upper - 1], values[upper]) };
        Some(Self { median, min, max })
    }
}

impl Ratio {
    /// Of the quotients of several rounds; `None` of less than two, for one has no spread.
    pub fn of(mut quotients: Vec<f64>) -> Option<Self> {
        quotients.retain(|quotient| quotient.is_finite());
        if quotients.len() < 2 { None } else { Spread::of(quotients).map(Self) }
    }

    /// Least, median and greatest on somebody's scale: a picture shows all three or nothing.
    pub fn on(&self, scale: impl Fn(f64) -> f64) -> [f64; 3] {
        [self.0.min, self.0.median, self.0.max].map(scale)
    }
}

impl Comparison {
    /// Computes the ratios of the first proxy measured to each other, and of scenarios to those they belong to.
    pub fn new(proxies: Vec<String>, seconds: f64, rounds: Vec<Round>) -> Self {
        let kinds = kinds(&rounds);
        let ratios = kinds.iter().flat_map(|&kind| quotients_of(&rounds, kind)).collect();
        let related = kinds.iter().flat_map(|&kind| related_of(&rounds, kind)).collect();
        let mut notes: Vec<_> = kinds.iter().flat_map(|&kind| limits_of(&rounds, kind)).collect();
        notes.dedup();
        Self { proxies, seconds, ratios, related, rounds, notes }
    }

    /// The spread of one figure of a proxy in a scenario.
    pub fn spread(&self, kind: Kind, proxy: &str, figure: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        let rounds = self.rounds.iter().filter(|round| round.kind == kind && round.proxy == proxy);
        Spread::of(rounds.filter_map(figure).collect())
    }

    /// The scenarios, in the order they were measured.
    pub fn kinds(&self) -> Vec<Kind> {
        kinds(&self.rounds)
    }

    /// The names of the proxies, in the order they were measured.
    pub fn names(&self) -> Vec<&'static str> {
        names(&self.rounds)
    }
}

fn quotients_of(rounds: &[Round], kind: Kind) -> Vec<Quotient> {
    let names = names(rounds);
    let Some((&of, others)) = names.split_first() else { return Vec::new() };
    let below = others.iter().copied().chain((others.len() > 1).then_some(BEST));
    let pairs = below.flat_map(|to| kind.figures().iter().map(move |&figure| (to, figure)));
    pairs
        .filter_map(|(to, figure)| {
            let quotient = |round| {
                Some(value(rounds, (kind, round, of), figure)? / below_line(rounds, (kind, round, to), figure)?)
            };
            let ratio = Ratio::of(numbers(rounds).filter_map(quotient).collect())?;
            Some(Quotient { kind, figure, of, to, ratio })
        })
        .collect()
}

type At = (Kind, usize, &'static str);

fn value(rounds: &[Round], at: At, figure: Figure) -> Option<f64> {
    rounds.iter().find(|one| (one.kind, one.round, one.proxy) == at)?.figure(figure)
}

/// The figure of a proxy, or of the best peer of the round.
fn below_line(rounds: &[Round], (kind, round, to): At, figure: Figure) -> Option<f64> {
    if to != BEST {
        return value(rounds, (kind, round, to), figure);
    }
    let peers = names(rounds).into_iter().skip(1).filter(|name| ![FLOOR, BASELINE].contains(name));
    peers.filter_map(|name| value(rounds, (kind, round, name), figure)).reduce(|a, b| figure.better(a, b))
}

fn related_of(rounds: &[Round], kind: Kind) -> Vec<Related> {
    let Some(relation) = kind.relation() else { return Vec::new() };
    let related = |proxy| {
        let quotient = |round| {
            let cpu = |kind| value(rounds, (kind, round, proxy), Figure::Cpu);
            match relation {
                Relation::CostOf(base) => Some(cpu(kind)? / cpu(base)?),
                Relation::SpeedUpOf(base, workers) => Some(f64::from(workers) * cpu(base)? / cpu(kind)?),
            }
        };
        let ratio = Ratio::of(numbers(rounds).filter_map(quotient).collect())?;
        Some(Related { kind, what: relation.words(kind).into_owned(), proxy, ratio })
    };
    names(rounds).into_iter().filter_map(related).collect()
}

/// Where a figure says less than it seems to.
fn limits_of(rounds: &[Round], kind: Kind) -> Vec<String> {
    let of_kind = rounds.iter().filter(|round| round.kind == kind);
    of_kind.filter_map(limit_of).fold(Vec::new(), |mut all, note| {
        if !all.contains(&note) {
            all.push(note);
        }
        all
    })
}

fn limit_of(Round { kind, proxy, seen, .. }: &Round) -> Option<String> {
    let name = kind.name();
    match seen {
        Seen::Traffic(Traffic { offered: Some(offered), rate, .. }) if *rate < offered * KEPT_UP => {
            Some(format!("{name}: {proxy} answered less than was offered in some round; its latencies are a queue's"))
        }
        // Two workers share their cores with the load: those are never full of the proxy alone.
        Seen::Traffic(Traffic { offered: None, .. }) if matches!(kind.layout(), Layout::Workers(_)) => None,
        Seen::Traffic(Traffic { offered: None, busy_percent, .. }) if *busy_percent < FULL_CORE => Some(format!(
            "{name}: {proxy} had time left in some round: load or upstreams were the limit, not the proxy"
        )),
        Seen::Idle { closed: 1.., .. } => Some(format!("{name}: {proxy} closed connections meanwhile")),
        _ => None,
    }
}

fn numbers(rounds: &[Round]) -> impl Iterator<Item = usize> + use<> {
    1..=rounds.iter().map(|one| one.round).max().unwrap_or(0)
}

fn kinds(rounds: &[Round]) -> Vec<Kind> {
    in_order(rounds.iter().map(|round| round.kind))
}

fn names(rounds: &[Round]) -> Vec<&'static str> {
    in_order(rounds.iter().map(|round| round.proxy))
}

/// Each once, in the order they come.
pub(super) fn in_order<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut found, one| {
        if !found.contains(&one) {
            found.push(one);
        }
        found
    })
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} – {:.2})", self.median, self.min, self.max)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.kind.name(), self.proxy)?;
        match &self.seen {
            Seen::Traffic(Traffic { cpu_us, rate, busy_percent, failed, .. }) => {
                write!(f, "{cpu_us:.2} us/request at {rate:.0}/s, core busy {busy_percent:.0} %, {failed} failed")
            }
            Seen::Idle { kib_per_connection, .. } => {
                write!(f, "{kib_per_connection:.2} KiB for each of {} connections", self.connections)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], expected: Option<(f64, f64, f64)>) {
        let spread = Spread::of(values.to_vec()).map(|spread| (spread.median, spread.min, spread.max));
        assert_eq!(spread, expected, "{values:?}");
    }

    #[test]
    fn a_spread_is_median_least_and_greatest() {
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0)));
        check(&[4.0, 1.0, 2.0, 3.0], Some((2.5, 1.0, 4.0)));
    }

    #[test]
    fn one_round_makes_no_ratio() {
        assert_eq!(Ratio::of(vec![0.9]), None);
        assert_eq!(Ratio::of(vec![0.9, f64::NAN, f64::INFINITY]), None);
        assert_eq!(Ratio::of(vec![1.0, 0.5]).unwrap().to_string(), "0.75 (0.50 – 1.00)");
    }

    pub(in crate::compare) fn round(kind: Kind, proxy: &'static str, round: usize, cpu_us: f64) -> Round {
        let traffic = Traffic {
            cpu_us,
            busy_percent: 95.0,
            offered: matches!(kind.work(), Work::Offered(_)).then_some(100.0),
            rate: 1e6 / cpu_us,
            failed: 1,
            resumed_percent: None,
            latency: Latency { p99: std::time::Duration::from_millis(2), ..Latency::default() },
            all_latency: Box::default(),
        };
        Round { kind, proxy, round, connections: 64, rss_kib: 2048, seen: Seen::Traffic(traffic) }
    }

    pub(in crate::compare) fn comparison(rounds: Vec<Round>) -> Comparison {
        Comparison::new(vec!["waypost 1.0".into(), "nginx 2.0".into()], 1.0, rounds)
    }

    #[track_caller]
    fn shown(comparison: &Comparison, to: &str, figure: Figure) -> String {
        let found = comparison.ratios.iter().find(|one| one.to == to && one.figure == figure);
        found.unwrap_or_else(|| panic!("{to}: {:?}", comparison.ratios)).ratio.to_string()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round; the ratio must not see it.
        let of = |proxy, number, cpu| round(Kind::H1Small, proxy, number, cpu);
        let rounds = [("waypost", 1, 9.0), ("nginx", 1, 10.0), ("waypost", 2, 19.0), ("nginx", 2, 20.0)];
        let found = comparison(rounds.map(|(proxy, number, cpu)| of(proxy, number, cpu)).into());
        assert_eq!(shown(&found, "nginx", Figure::Cpu), "0.93 (0.90 – 0.95)");
        assert_eq!(shown(&found, "nginx", Figure::P99), "1.00 (1.00 – 1.00)");
        assert!(found.ratios.iter().all(|one| one.to != BEST), "of one peer there is no best");
    }

    #[test]
    fn the_best_peer_is_that_of_the_round_and_never_the_floor() {
        let costs = [("waypost", [10.0, 10.0]), ("nginx", [20.0, 5.0]), ("haproxy", [10.0, 10.0]), (FLOOR, [1.0, 1.0])];
        let rounds = |kind| {
            costs.iter().flat_map(move |(proxy, cpu)| [round(kind, proxy, 1, cpu[0]), round(kind, proxy, 2, cpu[1])])
        };
        let found = comparison(rounds(Kind::H1Small).collect());
        assert_eq!(shown(&found, BEST, Figure::Cpu), "1.50 (1.00 – 2.00)");
        assert_eq!(shown(&found, FLOOR, Figure::Cpu), "10.00 (10.00 – 10.00)");
        let found = comparison(rounds(Kind::SaturationH1).collect());
        assert_eq!(shown(&found, BEST, Figure::Rate), "0.75 (0.50 – 1.00)", "of answers, more are better");
    }

    #[test]
    fn scenarios_are_set_beside_those_they_belong_to() {
        let rounds = [(Kind::Routes1, 10.0), (Kind::Routes1000, 12.0), (Kind::Workers1, 10.0), (Kind::Workers2, 12.5)];
        let rounds = rounds.into_iter().flat_map(|(kind, cpu)| [1, 2].map(|n| round(kind, "waypost", n, cpu)));
        let shown: Vec<_> =
            comparison(rounds.collect()).related.iter().map(|one| (one.what.clone(), one.ratio.to_string())).collect();
        let told = |what: &str, ratio: &str| (what.to_owned(), ratio.to_owned());
        assert_eq!(
            shown,
            [
                told("CPU per request, routes1000 / routes1", "1.20 (1.20 – 1.20)"),
                told("2 x CPU per request, workers1 / workers2", "1.60 (1.60 – 1.60)"),
            ]
        );
    }

    #[test]
    fn who_did_not_keep_up_is_said() {
        let mut slow = round(Kind::H1Small, "envoy", 1, 10.0);
        let Seen::Traffic(traffic) = &mut slow.seen else { panic!() };
        traffic.rate = 90.0;
        let mut bored = round(Kind::SaturationH1, "floor", 1, 10.0);
        let Seen::Traffic(traffic) = &mut bored.seen else { panic!() };
        traffic.busy_percent = 60.0;
        let notes = comparison(vec![slow.clone(), slow, bored]).notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("h1_small: envoy") && notes[1].starts_with("saturation_h1: floor"), "{notes:?}");
    }
}
