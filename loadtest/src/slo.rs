//! What a report must show: parsing and judging of objectives.
//!
//! Pure. An objective reads `p99 = "< 50ms"`, `errors = 0`, `errors = "< 0.1%"`, `sticky = "100%"`,
//! `skew = "< 1%"`, `repins = "<= 10"`, `double_executions = 0`, `rate = ">= 1900/s"`: a name, and a bound of
//! an operator (`<`, `<=`, `=`, `>=`, `>`; none means `=`) and a value in the unit of the name.

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed, MapAccess, Visitor},
};

use crate::report::Report;

/// Objectives in the order they were written, and what an even distribution would be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slo(pub Vec<Objective>);

/// One promise about one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// What is looked at.
    pub measure: Measure,
    /// What it must be.
    pub bound: Bound,
}

/// What of a report can be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Median latency.
    P50,
    /// 90th percentile of latency.
    P90,
    /// 95th percentile of latency.
    P95,
    /// 99th percentile of latency.
    P99,
    /// 99.9th percentile of latency.
    #[serde(rename = "p99_9", alias = "p99.9")]
    P99_9,
    /// Longest latency.
    Max,
    /// Mean latency.
    Mean,
    /// Failed requests, as a count or as a percentage of all requests.
    Errors,
    /// Percentage of users' answers that came from the endpoint which answered the user first.
    Sticky,
    /// How often a user was answered by another endpoint than the time before.
    Repins,
    /// Greatest deviation of an endpoint's share from its ideal, in percentage points.
    Skew,
    /// Keyed requests that the fleet executed more than once.
    DoubleExecutions,
    /// Whole answers per second.
    Rate,
}

/// An operator and a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    operator: Operator,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Exactly,
    AtLeast,
    Above,
}

/// A value with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A latency.
    Time(Duration),
    /// A number of things.
    Count(u64),
    /// A percentage, or percentage points.
    Percent(f64),
    /// Requests per second.
    PerSecond(f64),
}

/// An objective that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// Neither number nor duration nor percentage nor rate.
    #[error("`{0}` is no bound: write an operator and a value, like \"< 50ms\", \"100%\", \">= 1900/s\" or 0")]
    Bound(String),
    /// A value in the wrong unit.
    #[error("{measure} is {unit}, not `{value}`")]
    Unit {
        /// What was to be bounded.
        measure: &'static str,
        /// What it takes.
        unit: &'static str,
        /// What it got.
        value: String,
    },
    /// A latency or a rate that was to be hit exactly.
    #[error("{measure} is never exactly `{value}`: write an operator, like \"{example}\"")]
    Operator {
        /// What was to be bounded.
        measure: &'static str,
        /// What it got.
        value: String,
        /// What would do.
        example: String,
    },
}

/// An objective with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The measure's name.
    pub measure: &'static str,
    /// What it had to be.
    pub bound: String,
    /// What it was; `None` if it could not be measured, which is a miss.
    pub measured: Option<String>,
    /// Whether the promise was kept.
    pub met: bool,
}

impl Slo {
    /// One verdict for each objective; `ideal` are the weights that [`Report::skew`] wants.
    pub fn judge(&self, report: &Report, ideal: &BTreeMap<String, u32>) -> Vec<Verdict> {
        self.0.iter().map(|objective| objective.judge(report, ideal)).collect()
    }

    /// Whether any objective looks at `measure`.
    pub fn looks_at(&self, measure: Measure) -> bool {
        self.0.iter().any(|objective| objective.measure == measure)
    }
}

impl Objective {
    /// Checks that the bound has the measure's unit.
    pub fn new(measure: Measure, bound: Bound) -> Result<Self, SloError> {
        let (unit, example, fits) = match (measure, bound.value) {
            (Measure::Errors, value) => {
                ("a count or a percentage", "", matches!(value, Value::Count(_) | Value::Percent(_)))
            }
            (Measure::Sticky | Measure::Skew, value) => ("a percentage", "", matches!(value, Value::Percent(_))),
            (Measure::Repins | Measure::DoubleExecutions, value) => ("a count", "", matches!(value, Value::Count(_))),
            (Measure::Rate, value) => ("requests per second, like 1900/s", ">=", matches!(value, Value::PerSecond(_))),
            (_, value) => ("a duration, like 50ms", "<", matches!(value, Value::Time(_))),
        };
        let (measure_name, value) = (measure.name(), bound.value.to_string());
        if !fits {
            return Err(SloError::Unit { measure: measure_name, unit, value });
        }
        if bound.operator == Operator::Exactly && !example.is_empty() {
            let example = format!("{example} {value}");
            return Err(SloError::Operator { measure: measure_name, value, example });
        }
        Ok(Self { measure, bound })
    }

    /// Looks up the measure in the report and compares.
    pub fn judge(&self, report: &Report, ideal: &BTreeMap<String, u32>) -> Verdict {
        let in_percent = matches!(self.bound.value, Value::Percent(_));
        let measured = match self.measure {
            Measure::Errors if in_percent && report.requests == 0 => None,
            Measure::Errors if in_percent => {
                Some(Value::Percent(report.failed as f64 * 100.0 / report.requests as f64))
            }
            measure => measure.of(report, ideal),
        };
        Verdict {
            measure: self.measure.name(),
            bound: self.bound.to_string(),
            met: measured.is_some_and(|measured| self.bound.holds(measured)),
            measured: measured.map(|measured| measured.to_string()),
        }
    }
}

impl Measure {
    /// As it is written in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P99_9 => "p99_9",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::Errors => "errors",
            Self::Sticky => "sticky",
            Self::Repins => "repins",
            Self::Skew => "skew",
            Self::DoubleExecutions => "double_executions",
            Self::Rate => "rate",
        }
    }

    /// Its value in `report`; `None` if nothing there says.
    fn of(self, report: &Report, ideal: &BTreeMap<String, u32>) -> Option<Value> {
        let latency = (report.completed > 0).then_some(report.latency);
        Some(match self {
            Self::P50 => Value::Time(latency?.p50),
            Self::P90 => Value::Time(latency?.p90),
            Self::P95 => Value::Time(latency?.p95),
            Self::P99 => Value::Time(latency?.p99),
            Self::P99_9 => Value::Time(latency?.p99_9),
            Self::Max => Value::Time(latency?.max),
            Self::Mean => Value::Time(latency?.mean),
            // No request at all is not a run without errors.
            Self::Errors => Value::Count((report.requests > 0).then_some(report.failed)?),
            Self::Sticky => Value::Percent(report.users?.sticky_percent),
            Self::Repins => Value::Count(report.users?.repins),
            Self::Skew => Value::Percent(report.skew(ideal)?),
            Self::DoubleExecutions => Value::Count(report.audit?.double_executions),
            Self::Rate => Value::PerSecond(report.rate),
        })
    }
}

impl Bound {
    /// Whether `measured`, which has the bound's unit, keeps it.
    fn holds(&self, measured: Value) -> bool {
        let order = measured.number().partial_cmp(&self.value.number());
        order.is_some_and(|order| match self.operator {
            Operator::Below => order == Ordering::Less,
            Operator::AtMost => order != Ordering::Greater,
            Operator::Exactly => order == Ordering::Equal,
            Operator::AtLeast => order != Ordering::Less,
            Operator::Above => order == Ordering::Greater,
        })
    }
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Count(count) => count as f64,
            Self::Percent(number) | Self::PerSecond(number) => number,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        if let Some(percent) = text.strip_suffix('%') {
            return number(percent).map(Self::Percent);
        }
        if let Some(rate) = text.strip_suffix("/s") {
            return number(rate).map(Self::PerSecond);
        }
        text.parse().map(Self::Count).ok().or_else(|| humantime::parse_duration(text).map(Self::Time).ok())
    }
}

impl FromStr for Bound {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        const OPERATORS: [(&str, Operator); 5] = [
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("<", Operator::Below),
            (">", Operator::Above),
            ("=", Operator::Exactly),
        ];
        let trimmed = text.trim();
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, trimmed.strip_prefix(sign)?)));
        let (operator, value) = found.unwrap_or((Operator::Exactly, trimmed));
        let value = Value::parse(value.trim()).ok_or_else(|| SloError::Bound(text.to_owned()))?;
        Ok(Self { operator, value })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::Below => "<",
            Operator::AtMost => "<=",
            Operator::Exactly => "=",
            Operator::AtLeast => ">=",
            Operator::Above => ">",
        };
        write!(f, "{sign} {}", self.value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) if time.as_millis() < 1 => write!(f, "{}us", time.as_micros()),
            Self::Time(time) => write!(f, "{}ms", (time.as_secs_f64() * 1e6).round() / 1e3),
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{}%", (percent * 1e4).round() / 1e4),
            Self::PerSecond(rate) => write!(f, "{}/s", (rate * 10.0).round() / 10.0),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.met { "met" } else { "MISSED" };
        let measured = self.measured.as_deref().unwrap_or("nothing");
        write!(f, "{word}: {} {}, measured {measured}", self.measure, self.bound)
    }
}

impl<'de> Deserialize<'de> for Slo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SloVisitor)
    }
}

struct SloVisitor;

impl<'de> Visitor<'de> for SloVisitor {
    type Value = Slo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of objectives")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Slo, M::Error> {
        let mut objectives = Vec::new();
        while let Some(measure) = map.next_key::<Measure>()? {
            objectives.push(map.next_value_seed(BoundOf(measure))?);
        }
        Ok(Slo(objectives))
    }
}

/// Reads the bound of a known measure, so that an error points at the value.
struct BoundOf(Measure);

impl<'de> DeserializeSeed<'de> for BoundOf {
    type Value = Objective;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Objective, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for BoundOf {
    type Value = Objective;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bound like \"< 50ms\", \"100%\", \">= 1900/s\" or 0")
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Objective, E> {
        let count = u64::try_from(count).map_err(|_| E::custom("nothing is counted below 0"))?;
        let bound = Bound { operator: Operator::Exactly, value: Value::Count(count) };
        Objective::new(self.0, bound).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Objective, E> {
        text.parse().and_then(|bound| Objective::new(self.0, bound)).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Audit, Latency, Users, tests::report_of};

    fn report() -> Report {
        let mut report = report_of(&[("a", 51), ("b", 49)]);
        report.requests = 1_000;
        report.completed = 999;
        report.failed = 1;
        report.rate = 1_950.04;
        report.latency = Latency { p50: Duration::from_micros(420), p99: Duration::from_millis(50), ..report.latency };
        report.users = Some(Users { users: 200, sticky_percent: 99.9, repins: 3 });
        report.audit = Some(Audit { executed: 10, double_executions: 0 });
        report
    }

    #[track_caller]
    fn check(objective: &str, met: bool, measured: &str) {
        let slo: Slo = toml::from_str(objective).unwrap_or_else(|error| panic!("{objective}: {error}"));
        let [verdict] = &slo.judge(&report(), &BTreeMap::new())[..] else { panic!("one verdict") };
        assert_eq!((verdict.met, verdict.measured.as_deref()), (met, Some(measured)), "{objective}: {verdict}");
    }

    #[test]
    fn objectives_are_judged_by_what_was_measured() {
        check(r#"p99 = "< 50ms""#, false, "50ms");
        check(r#"p99 = "<= 50ms""#, true, "50ms");
        check(r#"p99 = "<51ms""#, true, "50ms");
        check(r#"p50 = "< 1ms""#, true, "420us");
        check("errors = 0", false, "1");
        check("errors = 1", true, "1");
        check(r#"errors = "<= 1""#, true, "1");
        check(r#"errors = "< 0.1%""#, false, "0.1%");
        check(r#"errors = "<= 0.1%""#, true, "0.1%");
        check(r#"sticky = "100%""#, false, "99.9%");
        check(r#"sticky = "> 99%""#, true, "99.9%");
        check(r#"repins = "< 4""#, true, "3");
        check(r#"skew = "< 1%""#, false, "1%");
        check(r#"skew = "<= 1%""#, true, "1%");
        check("double_executions = 0", true, "0");
        check(r#"rate = ">= 1900/s""#, true, "1950/s");
        check(r#"rate = ">= 2000/s""#, false, "1950/s");
    }

    #[track_caller]
    fn check_unmeasured(objective: &str) {
        let slo: Slo = toml::from_str(objective).unwrap();
        let [verdict] = &slo.judge(&report_of(&[]), &BTreeMap::new())[..] else { panic!("one verdict") };
        assert_eq!((verdict.met, verdict.measured.as_deref()), (false, None), "{objective}");
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        check_unmeasured(r#"p99 = "< 50ms""#);
        check_unmeasured("errors = 0");
        check_unmeasured(r#"errors = "< 1%""#);
        check_unmeasured(r#"sticky = "100%""#);
        check_unmeasured(r#"skew = "< 1%""#);
        check_unmeasured("double_executions = 0");
    }

    #[track_caller]
    fn check_refused(objective: &str, why: &str) {
        let error = toml::from_str::<Slo>(objective).unwrap_err().to_string();
        assert!(error.contains(why), "{objective}: {error}");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        check_refused(r#"p99 = "50ms""#, r#"like "< 50ms""#);
        check_refused(r#"p99 = "< 50""#, "p99 is a duration, like 50ms, not `50`");
        check_refused(r#"p99 = "fast""#, "`fast` is no bound");
        check_refused("p99 = 50", "p99 is a duration");
        check_refused("sticky = 100", "sticky is a percentage");
        check_refused(r#"rate = "> 5%""#, "rate is requests per second");
        check_refused("errors = -1", "below 0");
        check_refused(r#"rate = "> -5/s""#, "is no bound");
        check_refused("p98 = \"< 1s\"", "p98");
    }
}
