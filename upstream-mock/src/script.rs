//! A script: which container fails how, and when; as TOML, or made up from a seed.
//!
//! Owns the format and the promise of a made-up script: at any time one container has been without a fault for a while
//! and stays so for a while. Never decides what a proxy should make of it.
//!
//! ```toml
//! [[steps]]
//! at = "1.5s"                                   # from the beginning
//! endpoint = "web-2"
//! fault = { kind = "slow", value = "500ms" }    # as everywhere: see `Fault`
//!
//! [[steps]]
//! at = "3s"
//! endpoint = "web-2"
//! recover = true                                # healthy, without faults, its port open
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use http::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{Instant, sleep_until};

use crate::fault::{Fault, duration, written};
use crate::fleet::Fleet;

/// Faults over time, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What happens, the earliest first.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One thing that happens to one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenStep", into = "WrittenStep")]
pub struct Step {
    /// When, from the beginning.
    pub at: Duration,
    /// To whom.
    pub endpoint: String,
    /// What.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The container fails in this way from now on, beside or in place of what came before.
    Fault(Fault),
    /// The container is as new: healthy, without faults, its port open.
    Recover,
}

/// A time in which a container has at least one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who.
    pub endpoint: String,
    /// When it begins.
    pub from: Duration,
    /// When it is over; [`Duration::MAX`] if no step ends it.
    pub to: Duration,
    /// Which faults come within it.
    pub faults: Vec<Fault>,
}

/// Why a script cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It is not what a script is made of; the text shows the line.
    #[error("{0}")]
    Syntax(String),
    /// A step is about a container that the fleet does not have.
    #[error("there is no container {0}")]
    Endpoint(String),
    /// A container could not open its port again.
    #[error("{0} does not recover: {1}")]
    Recover(String, String),
}

/// What a made-up script has to keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All has recovered by then.
    pub length: Duration,
    /// At any time one container has had no fault for this long, and will have none for this long.
    pub settle: Duration,
    /// The longest single fault.
    pub longest: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    at: Written,
    endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<WrittenFault>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    recover: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFault {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// `1.5s`, `500ms`, `1m30s`.
#[derive(Clone, Copy)]
struct Written(Duration);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&written(self.0))
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is no time such as `1.5s`")))
    }
}

impl TryFrom<WrittenStep> for Step {
    type Error = String;

    fn try_from(step: WrittenStep) -> Result<Self, String> {
        let act = match (step.fault, step.recover) {
            (Some(fault), false) => Act::Fault(fault.read()?),
            (None, true) => Act::Recover,
            _ => return Err("a step has either a `fault` or `recover = true`".to_owned()),
        };
        Ok(Self { at: step.at.0, endpoint: step.endpoint, act })
    }
}

impl From<Step> for WrittenStep {
    fn from(step: Step) -> Self {
        let fault = match step.act {
            Act::Fault(fault) => Some(WrittenFault::of(fault)),
            Act::Recover => None,
        };
        Self { at: Written(step.at), endpoint: step.endpoint, recover: fault.is_none(), fault }
    }
}

impl WrittenFault {
    fn of(fault: Fault) -> Self {
        let text = fault.to_string();
        let (kind, value) = text.split_once('=').map_or((text.as_str(), None), |(kind, value)| (kind, Some(value)));
        Self { kind: kind.to_owned(), value: value.map(ToOwned::to_owned) }
    }

    fn read(self) -> Result<Fault, String> {
        let text = match self.value {
            Some(value) => format!("{}={value}", self.kind),
            None => self.kind,
        };
        let fault: Fault = text.parse().map_err(|error: crate::FaultError| error.to_string())?;
        // A value that the fault has no use for is a mistake as much as a missing one.
        if fault.to_string().contains('=') == text.contains('=') {
            Ok(fault)
        } else {
            Err(format!("`{fault}` takes no value"))
        }
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut script: Self = toml::from_str(text).map_err(|error| ScriptError::Syntax(error.to_string()))?;
        script.steps.sort_by_key(|step| step.at);
        Ok(script)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            write!(f, "{gap}[[steps]]\nat = \"{}\"\nendpoint = \"{}\"\n", written(step.at), step.endpoint)?;
            match step.act {
                Act::Recover => f.write_str("recover = true\n")?,
                Act::Fault(fault) => match WrittenFault::of(fault) {
                    WrittenFault { kind, value: None } => writeln!(f, "fault = {{ kind = \"{kind}\" }}")?,
                    WrittenFault { kind, value: Some(value) } => {
                        writeln!(f, "fault = {{ kind = \"{kind}\", value = \"{value}\" }}")?;
                    }
                },
            }
        }
        Ok(())
    }
}

impl Script {
    /// A script made up from a seed: the same for the same arguments.
    ///
    /// One container after another, each for some time, is spared, and is so for [`Bounds::settle`] before and after;
    /// the others fail in any way, one fault after another or two at a time, and have all recovered at the end.
    pub fn random(seed: u64, endpoints: &[String], bounds: Bounds) -> Self {
        let mut rng = Rng::with_seed(seed);
        let spared = spared(&mut rng, endpoints.len(), bounds);
        let mut script = Self::default();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let free: Vec<_> =
                spared.iter().filter(|(who, ..)| *who == index).map(|&(_, from, to)| (from, to)).collect();
            script.steps.extend(life(&mut rng, endpoint, &free, bounds));
        }
        script.steps.sort_by_key(|step| step.at);
        script
    }

    /// When whom something ails, in the order of the beginnings.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        for step in &self.steps {
            let open = troubles.iter_mut().find(|open| open.endpoint == step.endpoint && open.to == Duration::MAX);
            match (step.act, open) {
                (Act::Fault(fault), Some(open)) => open.faults.push(fault),
                (Act::Fault(fault), None) => troubles.push(Trouble {
                    endpoint: step.endpoint.clone(),
                    from: step.at,
                    to: Duration::MAX,
                    faults: vec![fault],
                }),
                (Act::Recover, Some(open)) => open.to = step.at,
                (Act::Recover, None) => {}
            }
        }
        troubles
    }

    /// When the last step is done.
    pub fn length(&self) -> Duration {
        self.steps.iter().map(|step| step.at).max().unwrap_or_default()
    }

    /// Does each step at its time, counted from `begin`.
    pub async fn play(&self, fleet: &Fleet, begin: Instant) -> Result<(), ScriptError> {
        if let Some(step) = self.steps.iter().find(|step| fleet.container(&step.endpoint).is_none()) {
            return Err(ScriptError::Endpoint(step.endpoint.clone()));
        }
        for step in &self.steps {
            sleep_until(begin + step.at).await;
            let container = fleet.container(&step.endpoint).expect("asked above");
            match step.act {
                Act::Fault(fault) => container.set_fault(fault).await,
                Act::Recover => container
                    .recover()
                    .await
                    .map_err(|error| ScriptError::Recover(step.endpoint.clone(), error.to_string()))?,
            }
        }
        Ok(())
    }
}

/// Which container has no fault from when to when: eras of different length, `settle` added at both ends of each.
fn spared(rng: &mut Rng, containers: usize, bounds: Bounds) -> Vec<(usize, Duration, Duration)> {
    let mut eras = Vec::new();
    let (mut who, mut from) = (rng.usize(..containers.max(1)), Duration::ZERO);
    while from < bounds.length {
        let to = from + between(rng, bounds.settle * 3, bounds.settle * 8);
        eras.push((who, from.saturating_sub(bounds.settle), to + bounds.settle));
        // Another one each time, if there is another one.
        who = (who + 1 + rng.usize(..containers.saturating_sub(1).max(1))) % containers.max(1);
        from = to;
    }
    eras
}

/// What happens to one container outside of its spared times.
fn life(rng: &mut Rng, endpoint: &str, spared: &[(Duration, Duration)], bounds: Bounds) -> Vec<Step> {
    let step = |at, act| Step { at, endpoint: endpoint.to_owned(), act };
    let mut steps = Vec::new();
    let mut from = between(rng, SHORTEST, bounds.longest);
    loop {
        let mut to = from + between(rng, SHORTEST, bounds.longest);
        if let Some((_, end)) = spared.iter().find(|(begin, end)| from < *end && *begin < from + SHORTEST) {
            from = *end;
            to = from + between(rng, SHORTEST, bounds.longest);
        }
        to = spared.iter().map(|(begin, _)| *begin).filter(|begin| *begin > from).fold(to, Duration::min);
        if to > bounds.length {
            return steps;
        }
        // Back to back spared times leave no room.
        if to >= from + SHORTEST {
            steps.push(step(from, Act::Fault(fault(rng))));
            if rng.u8(..4) == 0 {
                steps.push(step((from + to) / 2, Act::Fault(fault(rng))));
            }
            if rng.u8(..4) == 0 {
                steps.push(step(from, Act::Fault(lie(rng))));
            }
            steps.push(step(to, Act::Recover));
        }
        from = to + between(rng, SHORTEST, bounds.longest);
    }
}

/// No fault, and no pause between two of a container, is shorter.
const SHORTEST: Duration = Duration::from_millis(150);

/// Any way to fail.
fn fault(rng: &mut Rng) -> Fault {
    let millis = |rng: &mut Rng, from, to| Duration::from_millis(rng.u64(from..to));
    match rng.u8(..18) {
        0 => Fault::Crash,
        1 => Fault::Freeze,
        2 => Fault::Refuse,
        3 => Fault::Blackhole,
        4 => Fault::ResetBeforeHead,
        5 => Fault::ResetAfterExecution,
        6 => Fault::ResetInBody,
        7 => Fault::TruncatedChunked,
        8 => Fault::WrongLength,
        9 => Fault::Excess,
        10 => Fault::Hang,
        11 => Fault::Garbage,
        12 => Fault::Slow(millis(rng, 20, 1200)),
        13 => Fault::SlowBody(millis(rng, 5, 150)),
        14 | 15 => {
            let statuses = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
            Fault::Status(statuses[rng.usize(..statuses.len())])
        }
        16 => Fault::Flap { up: millis(rng, 50, 600), down: millis(rng, 50, 600) },
        _ => lie(rng),
    }
}

/// A health that says something else than the requests do.
fn lie(rng: &mut Rng) -> Fault {
    let millis = |rng: &mut Rng| Duration::from_millis(rng.u64(100..1500));
    if rng.bool() {
        return Fault::Health(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Fault::FlapHealth { up: millis(rng), down: millis(rng) }
}

fn between(rng: &mut Rng, from: Duration, to: Duration) -> Duration {
    let spread = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
    from + Duration::from_millis(rng.u64(..=spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { length: Duration::from_mins(1), settle: Duration::from_secs(2), longest: Duration::from_secs(4) };

    fn names() -> Vec<String> {
        ["web-1", "web-2", "web-3"].map(str::to_owned).into()
    }

    #[test]
    fn script_is_read_as_it_is_written() {
        for seed in 0..50 {
            let script = Script::random(seed, &names(), BOUNDS);
            assert!(script.steps.len() > 10, "{script}");
            assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_script() {
        assert_eq!(Script::random(7, &names(), BOUNDS), Script::random(7, &names(), BOUNDS));
        assert_ne!(Script::random(7, &names(), BOUNDS), Script::random(8, &names(), BOUNDS));
    }

    #[test]
    fn made_up_script_spares_one_container_at_any_time_and_heals_all() {
        for seed in 0..200 {
            let script = Script::random(seed, &names(), BOUNDS);
            let troubles = script.troubles();
            assert!(troubles.iter().all(|trouble| trouble.to <= BOUNDS.length), "seed {seed}");
            for tenth in 0..600 {
                let now = Duration::from_millis(100 * tenth);
                let (from, to) = (now.saturating_sub(BOUNDS.settle), now + BOUNDS.settle);
                let sound = |name: &&String| {
                    !troubles.iter().any(|trouble| trouble.endpoint == **name && trouble.from < to && from < trouble.to)
                };
                assert!(names().iter().any(|name| sound(&name)), "seed {seed} at {now:?}\n{script}");
            }
        }
    }

    #[track_caller]
    fn check_refused(text: &str, line: &str, message: &str) {
        let error = text.parse::<Script>().unwrap_err().to_string();
        assert!(error.contains(line) && error.contains(message), "{error}");
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        let step = "[[steps]]\nat = \"1s\"\nendpoint = \"web-1\"\n";
        check_refused(&format!("{step}fautl = 1"), "line 4", "fautl");
        check_refused(&format!("{step}fault = {{ kind = \"hung\" }}"), "line 1", "`hung` is no fault");
        check_refused(&format!("{step}fault = {{ kind = \"hang\", value = \"1s\" }}"), "line 1", "takes no value");
        check_refused(&format!("{step}fault = {{ kind = \"hang\", vlaue = 1 }}"), "line 4", "vlaue");
        check_refused(step, "line 1", "either a `fault` or `recover = true`");
        check_refused("[[steps]]\nat = \"soon\"\nendpoint = \"web-1\"\nrecover = true", "line 2", "`soon` is no time");
    }

    #[test]
    fn trouble_lasts_from_the_first_fault_to_the_recovery() {
        let script: Script = "[[steps]]\nat = \"1.5s\"\nendpoint = \"web-1\"\nfault = { kind = \"hang\" }\n\
             [[steps]]\nat = \"3s\"\nendpoint = \"web-1\"\nrecover = true\n\
             [[steps]]\nat = \"2s\"\nendpoint = \"web-1\"\nfault = { kind = \"status\", value = \"503\" }"
            .parse()
            .unwrap();
        let faults = vec![Fault::Hang, Fault::Status(StatusCode::SERVICE_UNAVAILABLE)];
        let (from, to) = (Duration::from_millis(1500), Duration::from_secs(3));
        assert_eq!(script.troubles(), [Trouble { endpoint: "web-1".to_owned(), from, to, faults }]);
    }
}
