//! What a load has shown, as numbers, as text and as JSON.
//!
//! Never judges: that is [`slo`](crate::slo)'s.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::{events::Happened, plan::Plan, recorder::Recorder, slo::Verdict};

/// The outcome of one load. In JSON, latencies are microseconds (`…_us`).
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The origin.
    pub target: String,
    /// Seconds from the first request being due to the last answer.
    pub seconds: f64,
    /// Requests begun.
    pub requests: u64,
    /// Requests that got a whole answer, whatever its status.
    pub completed: u64,
    /// Requests that failed: no whole answer, or a status of 400 and above that the plan does not accept.
    pub failed: u64,
    /// Whole answers per second.
    pub rate: f64,
    /// From when a request was due to the last byte of its answer; timeouts are in it.
    pub latency: Latency,
    /// The same for each turn in which it was this load's; one alone if it took none.
    #[serde(skip)]
    pub turns: Vec<Latency>,
    /// From when a request was due to when it got a connection: the load tester's and the connections' own backlog.
    pub wait: Latency,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Failures by kind.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Who answered, by name.
    pub endpoints: Vec<Endpoint>,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Connections opened.
    pub connections: u64,
    /// Those that took up a TLS session again.
    pub resumed: u64,
    /// How true the users' endpoints were to them; absent without users or without endpoint names.
    pub users: Option<Users>,
    /// What the fleet executed; absent if it was not asked.
    pub audit: Option<Audit>,
    /// What was done to the fleet meanwhile.
    pub events: Vec<Happened>,
    /// The judgement, if there was anything to judge by.
    pub slo: Vec<Verdict>,
}

/// Latencies of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names of percentiles say all")]
pub struct Latency {
    #[serde(rename = "mean_us", serialize_with = "micros")]
    pub mean: Duration,
    #[serde(rename = "p50_us", serialize_with = "micros")]
    pub p50: Duration,
    #[serde(rename = "p90_us", serialize_with = "micros")]
    pub p90: Duration,
    #[serde(rename = "p95_us", serialize_with = "micros")]
    pub p95: Duration,
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Duration,
    #[serde(rename = "p99_9_us", serialize_with = "micros")]
    pub p99_9: Duration,
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max: Duration,
}

/// One endpoint's part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endpoint {
    /// As the response header says.
    pub name: String,
    /// Its answers.
    pub answers: u64,
    /// Its percentage of all answers that named an endpoint.
    pub percent: f64,
}

/// How true the endpoints were to the users.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Users {
    /// Users of the plan.
    pub users: usize,
    /// Percentage of the answers that came from the endpoint which answered that user first.
    pub sticky_percent: f64,
    /// How often a user was answered by another endpoint than the time before.
    pub repins: u64,
}

/// What the fleet says it executed, of the keyed requests of this load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Different keys that were executed.
    pub executed: u64,
    /// Keys that were executed more than once.
    pub double_executions: u64,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Nobody listens there.
    ConnectRefused,
    /// No connection for another reason (unreachable, out of local ports).
    ConnectFailed,
    /// The TLS handshake failed, or HTTP/2 was not agreed on.
    Tls,
    /// Waited the whole timeout for a free connection and was never sent.
    NoConnection,
    /// The connection or the stream was reset before the response head.
    Reset,
    /// The connection was closed before the response head.
    ClosedBeforeHead,
    /// The body ended before it was whole.
    TruncatedBody,
    /// Not whole within the timeout.
    Timeout,
    /// Not HTTP.
    Invalid,
    /// A status of 400 to 499.
    #[serde(rename = "status_4xx")]
    Status4xx,
    /// A status of 500 and above.
    #[serde(rename = "status_5xx")]
    Status5xx,
    /// None of the above.
    Other,
}

impl ErrorKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect refused",
            Self::ConnectFailed => "connect failed",
            Self::Tls => "tls handshake",
            Self::NoConnection => "no connection free",
            Self::Reset => "reset",
            Self::ClosedBeforeHead => "closed before head",
            Self::TruncatedBody => "truncated body",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid response",
            Self::Status4xx => "status 4xx",
            Self::Status5xx => "status 5xx",
            Self::Other => "other",
        }
    }

    pub(crate) fn is_connect(self) -> bool {
        matches!(self, Self::ConnectRefused | Self::ConnectFailed | Self::Tls)
    }

    pub(crate) fn of_status(status: StatusCode, accept: &[StatusCode]) -> Result<(), Self> {
        match status.as_u16() {
            ..400 => Ok(()),
            _ if accept.contains(&status) => Ok(()),
            400..500 => Err(Self::Status4xx),
            500.. => Err(Self::Status5xx),
        }
    }
}

impl Report {
    pub(crate) fn new(plan: &Plan, seen: Recorder, connections: u64) -> Self {
        let seconds = seen.last.as_secs_f64();
        Self {
            target: plan.target.to_string(),
            seconds,
            requests: seen.requests,
            completed: seen.completed,
            failed: seen.errors.values().sum(),
            rate: if seconds > 0.0 { seen.completed as f64 / seconds } else { 0.0 },
            latency: Latency::of(&seen.all_turns()),
            turns: seen.latency.iter().filter(|turn| !turn.is_empty()).map(Latency::of).collect(),
            wait: Latency::of(&seen.wait),
            users: (plan.users > 0 && seen.user_answers > 0).then(|| Users {
                users: plan.users,
                sticky_percent: percent(seen.faithful, seen.user_answers),
                repins: seen.moves,
            }),
            endpoints: endpoints(seen.endpoints),
            statuses: seen.statuses,
            errors: seen.errors,
            bytes_received: seen.bytes_received,
            bytes_sent: seen.bytes_sent,
            connections,
            resumed: 0,
            audit: None,
            events: Vec::new(),
            slo: Vec::new(),
        }
    }

    /// How many requests failed this way.
    pub fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors.get(&kind).copied().unwrap_or(0)
    }

    /// How many answers came from the endpoint `name`.
    pub fn answers_of(&self, name: &str) -> u64 {
        self.endpoints.iter().find(|endpoint| endpoint.name == name).map_or(0, |endpoint| endpoint.answers)
    }

    /// Greatest deviation of an endpoint's share from its ideal, in percentage points; `None` if nobody was named.
    ///
    /// `ideal` gives weights by name. Without any, all endpoints that answered are taken to be equal, so one that
    /// never answered is not missed: name them where that matters.
    pub fn skew(&self, ideal: &BTreeMap<String, u32>) -> Option<f64> {
        let all: u64 = self.endpoints.iter().map(|endpoint| endpoint.answers).sum();
        if all == 0 {
            return None;
        }
        let weights: u64 = ideal.values().copied().map(u64::from).sum();
        let fair = |name: &str| match ideal.get(name) {
            Some(&weight) => percent(weight.into(), weights),
            None if ideal.is_empty() => 100.0 / self.endpoints.len() as f64,
            None => 0.0,
        };
        let silent = ideal.keys().filter(|name| self.answers_of(name) == 0).map(|name| fair(name));
        let spoken = self.endpoints.iter().map(|endpoint| (endpoint.percent - fair(&endpoint.name)).abs());
        spoken.chain(silent).reduce(f64::max)
    }
}

impl Latency {
    /// Each figure as it is in the middle one of several: a second in which the machine stood still is not in it.
    pub fn median(of: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> Duration| {
            let mut all: Vec<_> = of.iter().map(figure).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Self {
            mean: middle(|one| one.mean),
            p50: middle(|one| one.p50),
            p90: middle(|one| one.p90),
            p95: middle(|one| one.p95),
            p99: middle(|one| one.p99),
            p99_9: middle(|one| one.p99_9),
            max: middle(|one| one.max),
        }
    }

    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Self {
            mean: Duration::from_secs_f64(histogram.mean() / 1e6),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

fn endpoints(counts: indexmap::IndexMap<String, u64>) -> Vec<Endpoint> {
    let all = counts.values().sum();
    let mut endpoints: Vec<_> =
        counts.into_iter().map(|(name, answers)| Endpoint { name, answers, percent: percent(answers, all) }).collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    endpoints
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_micros().try_into().unwrap_or(u64::MAX))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.target)?;
        writeln!(f, "  requests    {} begun, {} answered, {} failed", self.requests, self.completed, self.failed)?;
        write!(f, "  throughput  {:.1}/s over {:.2} s, {} connections", self.rate, self.seconds, self.connections)?;
        if self.resumed > 0 {
            write!(f, ", {} TLS sessions taken up again", self.resumed)?;
        }
        writeln!(f)?;
        let bytes = |count| bytesize::ByteSize(count).display().iec();
        writeln!(f, "  bodies      {} received, {} sent", bytes(self.bytes_received), bytes(self.bytes_sent))?;
        writeln!(f, "  latency     {}", self.latency)?;
        writeln!(f, "  waiting     {}", self.wait)?;
        for (status, count) in &self.statuses {
            writeln!(f, "  status      {status}: {count}")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  error       {}: {count}", kind.name())?;
        }
        for Endpoint { name, answers, percent } in &self.endpoints {
            writeln!(f, "  endpoint    {name}: {answers} ({percent:.2} %)")?;
        }
        if let Some(Users { users, sticky_percent, repins }) = self.users {
            writeln!(f, "  users       {users}, sticky {sticky_percent:.3} %, {repins} repins")?;
        }
        if let Some(Audit { executed, double_executions }) = self.audit {
            writeln!(f, "  executions  {executed} keys, {double_executions} executed twice or more")?;
        }
        for event in &self.events {
            writeln!(f, "  event       {event}")?;
        }
        for verdict in &self.slo {
            writeln!(f, "  slo         {verdict}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| format!("{:.3}", duration.as_secs_f64() * 1e3);
        let [p50, p90, p99, p99_9, max] = [self.p50, self.p90, self.p99, self.p99_9, self.max].map(ms);
        write!(f, "p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max} ms")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn the_median_of_turns_forgets_the_one_that_stood_still() {
        let turn =
            |ms| Latency { p99: Duration::from_millis(ms), max: Duration::from_millis(ms), ..Latency::default() };
        let seen = Latency::median(&[turn(2), turn(90), turn(1)]);
        assert_eq!((seen.p99, seen.max), (Duration::from_millis(2), Duration::from_millis(2)));
        assert_eq!(Latency::median(&[]), Latency::default());
    }

    /// A report of nothing but these answers.
    pub(crate) fn report_of(answers: &[(&str, u64)]) -> Report {
        let mut seen = Recorder::new();
        seen.endpoints = answers.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Report::new(&Plan::new("http://127.0.0.1/").unwrap(), seen, 0)
    }

    #[track_caller]
    fn check(answers: &[(&str, u64)], ideal: &[(&str, u32)], skew: Option<f64>) {
        let ideal = ideal.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        let found = report_of(answers).skew(&ideal);
        match (found, skew) {
            (Some(found), Some(skew)) => assert!((found - skew).abs() < 1e-9, "{found}, not {skew}"),
            _ => assert_eq!(found, skew),
        }
    }

    #[test]
    fn skew_is_the_worst_share_s_distance_from_its_ideal() {
        check(&[], &[], None);
        check(&[("a", 10)], &[], Some(0.0));
        check(&[("a", 50), ("b", 50)], &[], Some(0.0));
        check(&[("a", 60), ("b", 40)], &[], Some(10.0));
        check(&[("a", 75), ("b", 25)], &[("a", 3), ("b", 1)], Some(0.0));
        check(&[("a", 50), ("b", 50)], &[("a", 3), ("b", 1)], Some(25.0));
    }

    #[test]
    fn an_endpoint_that_never_answered_is_missed_if_named() {
        check(&[("a", 50), ("b", 50)], &[("a", 1), ("b", 1), ("c", 2)], Some(50.0));
        check(&[("a", 50), ("stranger", 50)], &[("a", 1)], Some(50.0));
    }

    #[test]
    fn statuses_from_400_are_failures_unless_accepted() {
        let accept = [StatusCode::TOO_MANY_REQUESTS];
        let check = |status: u16, expected| {
            assert_eq!(ErrorKind::of_status(StatusCode::from_u16(status).unwrap(), &accept), expected, "{status}");
        };
        check(200, Ok(()));
        check(302, Ok(()));
        check(429, Ok(()));
        check(404, Err(ErrorKind::Status4xx));
        check(503, Err(ErrorKind::Status5xx));
        check(999, Err(ErrorKind::Status5xx));
    }
}
