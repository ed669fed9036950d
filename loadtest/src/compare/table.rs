//! The figures of a comparison: medians with their spread, ratios taken within a round, as Markdown and JSON.
//!
//! Pure. A ratio is never printed without its spread.

use std::fmt;

use serde::Serialize;

use super::Kind;
use crate::report::Latency;

/// One proxy in one round of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// The scenario.
    pub kind: Kind,
    /// The proxy.
    pub proxy: &'static str,
    /// Which round, from 1.
    pub round: usize,
    /// Microseconds of CPU time per answered request.
    pub cpu_us: f64,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// Requests per second that were due.
    pub offered: f64,
    /// Answers per second.
    pub rate: f64,
    /// Requests that failed.
    pub failed: u64,
    /// Latencies, from when requests were due.
    pub latency: Latency,
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

/// What one proxy costs, relative to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// The scenario.
    pub kind: Kind,
    /// The proxy above the line.
    pub of: &'static str,
    /// The proxy below the line.
    pub to: &'static str,
    /// CPU time per request, divided within each round.
    pub cpu: Spread,
}

/// All figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The proxies with their versions; the first one is what the others are compared with.
    pub proxies: Vec<String>,
    /// Seconds measured in a round.
    pub seconds: u64,
    /// CPU time of the first proxy relative to each other.
    pub ratios: Vec<Ratio>,
    /// Everything that was measured.
    pub rounds: Vec<Round>,
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

impl Comparison {
    /// Computes the ratios of the first proxy measured to each other.
    pub fn new(proxies: Vec<String>, rounds: Vec<Round>, seconds: u64) -> Self {
        let mut ratios = Vec::new();
        for kind in kinds(&rounds) {
            let names = names(&rounds);
            let Some((&of, others)) = names.split_first() else { continue };
            ratios.extend(others.iter().filter_map(|&to| {
                let cpu = Spread::of(quotients(&rounds, kind, (of, to)))?;
                Some(Ratio { kind, of, to, cpu })
            }));
        }
        Self { proxies, seconds, ratios, rounds }
    }

    /// The spread of one figure of a proxy in a scenario.
    fn spread(&self, kind: Kind, proxy: &str, figure: impl Fn(&Round) -> f64) -> Option<Spread> {
        let rounds = self.rounds.iter().filter(|round| round.kind == kind && round.proxy == proxy);
        Spread::of(rounds.map(figure).collect())
    }
}

fn quotients(rounds: &[Round], kind: Kind, (of, to): (&str, &str)) -> Vec<f64> {
    let find = |round: usize, proxy: &str| {
        rounds.iter().find(|one| (one.kind, one.round, one.proxy) == (kind, round, proxy)).map(|one| one.cpu_us)
    };
    let last = rounds.iter().map(|one| one.round).max().unwrap_or(0);
    (1..=last).filter_map(|round| Some(find(round, of)? / find(round, to)?)).filter(|ratio| ratio.is_finite()).collect()
}

/// In the order they were measured.
fn kinds(rounds: &[Round]) -> Vec<Kind> {
    rounds.iter().fold(Vec::new(), |mut found, round| {
        if !found.contains(&round.kind) {
            found.push(round.kind);
        }
        found
    })
}

fn names(rounds: &[Round]) -> Vec<&'static str> {
    rounds.iter().fold(Vec::new(), |mut found, round| {
        if !found.contains(&round.proxy) {
            found.push(round.proxy);
        }
        found
    })
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} – {:.2})", self.median, self.min, self.max)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.2} us/request at {:.0}/s, {} failed", self.proxy, self.cpu_us, self.rate, self.failed)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; rounds of {} s; median (min – max) of the rounds\n", self.proxies.join(", "), self.seconds)?;
        writeln!(
            f,
            "| scenario | proxy | CPU per request, µs | p50, ms | p99, ms | p99.9, ms | memory, MiB | answers/s of offered | failed |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for kind in kinds(&self.rounds) {
            for proxy in names(&self.rounds) {
                self.row(f, kind, proxy)?;
            }
        }
        writeln!(f, "\n| scenario | CPU per request | ratio within the rounds |\n|---|---|---|")?;
        for Ratio { kind, of, to, cpu } in &self.ratios {
            writeln!(f, "| {} | {of} / {to} | {cpu} |", kind.name())?;
        }
        Ok(())
    }
}

impl Comparison {
    fn row(&self, f: &mut fmt::Formatter<'_>, kind: Kind, proxy: &str) -> fmt::Result {
        let spread = |figure: &dyn Fn(&Round) -> f64| self.spread(kind, proxy, figure);
        let median = |figure: &dyn Fn(&Round) -> f64| spread(figure).map_or(0.0, |spread| spread.median);
        let Some(cpu) = spread(&|round| round.cpu_us) else { return Ok(()) };
        let ms = |pick: fn(&Latency) -> std::time::Duration| median(&|round| pick(&round.latency).as_secs_f64() * 1e3);
        write!(f, "| {} | {proxy} | {cpu} ", kind.name())?;
        write!(f, "| {:.2} | {:.2} | {:.2} ", ms(|l| l.p50), ms(|l| l.p99), ms(|l| l.p99_9))?;
        write!(f, "| {:.1} ", median(&|round| round.rss_kib as f64 / 1024.0))?;
        write!(f, "| {:.0} of {:.0} ", median(&|round| round.rate), median(&|round| round.offered))?;
        let failed: u64 =
            self.rounds.iter().filter(|one| one.kind == kind && one.proxy == proxy).map(|one| one.failed).sum();
        writeln!(f, "| {failed} |")
    }
}

#[cfg(test)]
mod tests {
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

    fn round(proxy: &'static str, round: usize, cpu_us: f64) -> Round {
        Round {
            kind: Kind::H1Small,
            proxy,
            round,
            cpu_us,
            rss_kib: 2048,
            offered: 100.0,
            rate: 99.0,
            failed: 1,
            latency: Latency::default(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round; the ratio must not see it.
        let rounds =
            vec![round("waypost", 1, 9.0), round("nginx", 1, 10.0), round("waypost", 2, 19.0), round("nginx", 2, 20.0)];
        let comparison = Comparison::new(vec!["waypost".into(), "nginx".into()], rounds, 1);
        let [ratio] = &comparison.ratios[..] else { panic!("one ratio: {:?}", comparison.ratios) };
        assert_eq!((ratio.of, ratio.to), ("waypost", "nginx"));
        assert!((ratio.cpu.min - 0.9).abs() < 1e-9 && (ratio.cpu.max - 0.95).abs() < 1e-9, "{:?}", ratio.cpu);
        let text = comparison.to_string();
        assert!(text.contains("| h1_small | waypost / nginx | 0.93 (0.90 – 0.95) |"), "{text}");
    }
}
