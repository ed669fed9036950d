//! What users noticed of a flood, and what the flood got for it: as numbers, as text and as JSON.
//!
//! Never judges.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{Kind, Process, Settings, Tally};
use crate::report::{ErrorKind, Latency, Report};

/// A flood, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What hostile clients did.
    pub kind: Kind,
    /// How many there were.
    pub clients: usize,
    /// Seconds of each part.
    pub seconds: f64,
    /// The users alone.
    pub before: Users,
    /// The users beside the flood.
    pub during: Users,
    /// By how many percent the users' p99 grew, each as it was in the middle one of many short times.
    pub p99_growth_percent: f64,
    /// What the flood saw.
    pub flood: Flood,
    /// What the process under attack held.
    pub process: Option<Process>,
}

/// What ordinary users saw.
#[derive(Debug, Clone, Serialize)]
pub struct Users {
    /// Requests that were begun.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Failures by kind.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// From when a request was due to the last byte of its answer.
    pub latency: Latency,
    /// The same as it was in the middle one of many short times, most of which pass before a shared machine stands still
    /// again.
    pub typical: Latency,
}

/// What hostile clients saw.
#[derive(Debug, Clone, Serialize)]
pub struct Flood {
    /// Connections that were begun.
    pub connections: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that the server ended.
    pub closed: u64,
    /// Half of those that the server ended had lived no longer than this.
    pub closed_after_p50_ms: u64,
    /// And none of them longer than this.
    pub closed_after_max_ms: u64,
    /// Those that the client ended, as it meant to.
    pub left: u64,
    /// Those that were open at the end.
    pub endured: u64,
    /// HTTP/2 streams that the server reset.
    pub streams_reset: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
}

impl Outcome {
    pub(super) fn new(
        settings: &Settings,
        [before, during]: [&Report; 2],
        tally: Tally,
        process: Option<Process>,
    ) -> Self {
        let (before, during) = (Users::of(before), Users::of(during));
        Self {
            kind: settings.kind,
            clients: settings.clients,
            seconds: settings.duration.as_secs_f64(),
            p99_growth_percent: growth(before.typical.p99, during.typical.p99),
            before,
            during,
            flood: Flood::of(tally),
            process,
        }
    }
}

impl Users {
    fn of(report: &Report) -> Self {
        Self {
            requests: report.requests,
            failed: report.failed,
            errors: report.errors.clone(),
            latency: report.latency,
            typical: Latency::median(&report.turns),
        }
    }
}

impl Flood {
    fn of(tally: Tally) -> Self {
        let millis = |life: Duration| u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        Self {
            connections: tally.begun,
            refused: tally.refused,
            closed: tally.closed,
            closed_after_p50_ms: millis(tally.median_life()),
            closed_after_max_ms: millis(tally.longest_life()),
            left: tally.left,
            endured: tally.endured,
            streams_reset: tally.streams_reset,
            statuses: tally.statuses,
        }
    }
}

/// In percent.
fn growth(before: Duration, during: Duration) -> f64 {
    if before.is_zero() { 0.0 } else { (during.as_secs_f64() / before.as_secs_f64() - 1.0) * 100.0 }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, clients, seconds, before, during, flood, .. } = self;
        writeln!(f, "{}, {clients} clients, {seconds:.1} s", kind.name())?;
        writeln!(f, "  users alone      {before}")?;
        writeln!(f, "  users and flood  {during}")?;
        writeln!(f, "  growth of typical p99  {:+.1} %", self.p99_growth_percent)?;
        write!(f, "{flood}")?;
        match &self.process {
            Some(process) => write!(f, "{process}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typical = self.typical.p99.as_secs_f64() * 1e3;
        write!(f, "{}, typical p99 {typical:.3} ms", self.latency)?;
        write!(f, "  {} requests, {} failed", self.requests, self.failed)?;
        self.errors.iter().try_for_each(|(kind, count)| write!(f, ", {}: {count}", kind.name()))
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, refused, closed, left, endured, .. } = self;
        write!(f, "  connections      {connections}: {refused} refused, {closed} closed, ")?;
        writeln!(f, "{left} left, {endured} open at the end")?;
        let (half, most) = (self.closed_after_p50_ms, self.closed_after_max_ms);
        writeln!(f, "  closed after     p50 {half}  max {most} ms")?;
        if self.streams_reset > 0 {
            writeln!(f, "  streams reset    {}", self.streams_reset)?;
        }
        self.statuses.iter().try_for_each(|(status, count)| writeln!(f, "  status           {status}: {count}"))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        let [before, peak, after] = [self.rss_before_kib, self.rss_peak_kib, self.rss_after_kib].map(mib);
        writeln!(f, "  memory           before {before}  peak {peak}  after {after} MiB")?;
        let Self { descriptors_before, descriptors_peak, descriptors_after, .. } = self;
        writeln!(
            f,
            "  descriptors      before {descriptors_before}  peak {descriptors_peak}  after {descriptors_after}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_relative_to_the_time_before() {
        let ms = Duration::from_millis;
        for (before, during, expected) in [(10, 12, 20.0), (10, 5, -50.0), (0, 5, 0.0)] {
            let found = growth(ms(before), ms(during));
            assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        }
    }
}
