//! A load, what is done to the fleet meanwhile, and what must come of it, as a TOML file.
//!
//! Owns the format and the order of events. Every problem names its place in the file where there is one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use indexmap::IndexMap;
use serde::Deserialize;

use crate::{
    events::{self, Action, CallError, Happened},
    load::{self, Load, RunError, Watch},
    plan::{Opening, Pace, Phase, Plan, PlanError, Protocol, Request, Reuse, Target, Trust},
    report::Report,
    slo::{Measure, Slo},
};

/// A scenario, ready to run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The load.
    pub plan: Plan,
    /// Base URL of the fleet's control port.
    pub control: Option<String>,
    /// What is done when, in order of time.
    pub events: Vec<Event>,
    /// What must come of it.
    pub slo: Slo,
    /// Ideal weights of the endpoints by name; empty means equal.
    pub endpoints: BTreeMap<String, u32>,
}

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// From the start of the load.
    #[serde(deserialize_with = "duration")]
    pub at: Duration,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

/// Why a scenario could not be read or run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not a scenario; the message draws the place.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Fields that contradict each other or a request that makes no sense.
    #[error("{0}")]
    Contradiction(String),
    /// The load could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An event or the audit failed, so this was not the scenario that the file describes.
    #[error("the fleet could not be driven: {0}")]
    Control(#[from] CallError),
}

impl From<PlanError> for ScenarioError {
    fn from(error: PlanError) -> Self {
        Self::Contradiction(error.to_string())
    }
}

impl Scenario {
    /// Reads a file. Relative paths in it (`ca`) are relative to the working directory.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let read = |error| ScenarioError::Read { path: path.to_owned(), error };
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let written: Written = toml::from_str(text)?;
        let mut scenario = Self {
            plan: written.plan()?,
            control: written.control,
            events: written.events,
            slo: written.slo,
            endpoints: written.endpoints,
        };
        scenario.events.sort_by_key(|event| event.at);
        scenario.check()?;
        Ok(scenario)
    }

    /// Another target than the file's.
    pub fn retarget(&mut self, url: &str) -> Result<(), ScenarioError> {
        self.plan.target = Target::parse(url)?.0;
        Ok(())
    }

    fn check(&self) -> Result<(), ScenarioError> {
        self.plan.check()?;
        let keyed = self.plan.mix.iter().any(|request| request.key_header.is_some());
        let audited = self.slo.looks_at(Measure::DoubleExecutions);
        let told = self.slo.looks_at(Measure::Sticky) || self.slo.looks_at(Measure::Repins);
        let driven = self.events.iter().any(|event| event.action.needs_control());
        let problem = if told && self.plan.users == 0 {
            "`sticky` and `repins` are about users: say how many (`users = 200`)"
        } else if audited && !keyed {
            "`double_executions` needs requests with a key: give one of the mix a `unique_key = \"idempotency-key\"`"
        } else if (audited || driven) && self.control.is_none() {
            "events and `double_executions` need the fleet's control port: `control = \"http://127.0.0.1:10000\"`"
        } else if self.events.iter().any(|event| event.at >= self.plan.length()) {
            "an event is due after the load has ended"
        } else {
            return Ok(());
        };
        Err(ScenarioError::Contradiction(problem.to_owned()))
    }

    /// Runs it to the end and judges it. `watch` gets a handle of the load as it starts.
    pub async fn run(&self, watch: impl FnOnce(Watch)) -> Result<Report, ScenarioError> {
        let load = load::start(self.plan.clone()).await?;
        watch(load.watch());
        let events = self.drive(&load).await?;
        let prefix = load.key_prefix().to_owned();
        let mut report = load.wait().await?;
        report.events = events;
        if self.slo.looks_at(Measure::DoubleExecutions) {
            report.audit = Some(events::audit(self.control(), &prefix).await?);
        }
        report.slo = self.slo.judge(&report, &self.endpoints);
        Ok(report)
    }

    async fn drive(&self, load: &Load) -> Result<Vec<Happened>, CallError> {
        let mut happened = Vec::new();
        for Event { at, action } in &self.events {
            load.watch().passed(*at).await;
            if load.watch().over() {
                // Stopped, or at its limit of requests.
                break;
            }
            action.perform(self.control()).await?;
            happened.push(Happened { at: at.as_secs_f64(), action: action.to_string() });
        }
        Ok(happened)
    }

    fn control(&self) -> &str {
        self.control.as_deref().unwrap_or_default()
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    target: String,
    control: Option<String>,
    rate: Option<f64>,
    #[serde(default, deserialize_with = "some_duration")]
    duration: Option<Duration>,
    requests: Option<u64>,
    #[serde(default)]
    phases: Vec<WrittenPhase>,
    connections: Option<usize>,
    streams: Option<usize>,
    #[serde(default)]
    open_all: bool,
    protocol: Option<Protocol>,
    #[serde(default = "yes")]
    keepalive: bool,
    #[serde(default)]
    tls: Trust,
    #[serde(default)]
    users: usize,
    #[serde(default, deserialize_with = "some_duration")]
    timeout: Option<Duration>,
    threads: Option<usize>,
    #[serde(default, deserialize_with = "some_parsed")]
    upstream_header: Option<HeaderName>,
    #[serde(default)]
    accept: Vec<u16>,
    #[serde(default)]
    endpoints: BTreeMap<String, u32>,
    #[serde(default)]
    mix: Vec<WrittenRequest>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    slo: Slo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPhase {
    rate: f64,
    #[serde(deserialize_with = "duration")]
    duration: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest {
    #[serde(default, deserialize_with = "some_parsed")]
    method: Option<Method>,
    path: String,
    #[serde(default)]
    headers: IndexMap<String, String>,
    body: Option<String>,
    #[serde(default, deserialize_with = "some_parsed")]
    body_size: Option<bytesize::ByteSize>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default, deserialize_with = "some_parsed")]
    unique_key: Option<HeaderName>,
}

impl Written {
    fn plan(&self) -> Result<Plan, ScenarioError> {
        let plan = Plan::new(&self.target)?;
        let mix = if self.mix.is_empty() { plan.mix } else { self.requests()? };
        let pace = self.pace()?;
        let room = if pace == Pace::Full { plan.connections } else { 1_000 };
        Ok(Plan {
            pace,
            mix,
            duration: self.duration.unwrap_or(plan.duration),
            turn: plan.turn,
            warm_up: plan.warm_up,
            requests: self.requests,
            connections: self.connections.unwrap_or(room),
            streams: self.streams.unwrap_or(plan.streams),
            opening: if self.open_all { Opening::AllAtOnce } else { Opening::AsNeeded },
            protocol: self.protocol.unwrap_or(plan.protocol),
            reuse: if self.keepalive { Reuse::KeepAlive } else { Reuse::Close },
            handshakes: plan.handshakes,
            trust: self.tls.clone(),
            users: self.users,
            timeout: self.timeout.unwrap_or(plan.timeout),
            threads: self.threads.unwrap_or(plan.threads),
            upstream_header: self.upstream_header.clone().unwrap_or(plan.upstream_header),
            accept: self.accepted()?,
            target: plan.target,
        })
    }

    fn pace(&self) -> Result<Pace, ScenarioError> {
        match (self.rate, &self.phases[..]) {
            (None, []) => Ok(Pace::Full),
            (Some(rate), []) => Ok(Pace::Rate(rate)),
            (None, phases) if self.duration.is_none() => {
                Ok(Pace::Phases(phases.iter().map(|p| Phase { rate: p.rate, duration: p.duration }).collect()))
            }
            _ => Err(ScenarioError::Contradiction("write `rate` and `duration`, or `[[phases]]`, not both".to_owned())),
        }
    }

    fn requests(&self) -> Result<Vec<Request>, ScenarioError> {
        self.mix.iter().map(WrittenRequest::request).collect()
    }

    fn accepted(&self) -> Result<Vec<StatusCode>, ScenarioError> {
        let status = |&code| {
            StatusCode::from_u16(code).map_err(|_| ScenarioError::Contradiction(format!("accept: no status {code}")))
        };
        self.accept.iter().map(status).collect()
    }
}

impl WrittenRequest {
    fn request(&self) -> Result<Request, ScenarioError> {
        let body = match (&self.body, self.body_size) {
            (Some(_), Some(_)) => {
                let both = format!("{}: write `body` or `body_size`, not both", self.path);
                return Err(ScenarioError::Contradiction(both));
            }
            (Some(body), None) => Bytes::copy_from_slice(body.as_bytes()),
            (None, size) => filler(size.unwrap_or_default()),
        };
        Ok(Request {
            method: self.method.clone().unwrap_or_default(),
            headers: headers(&self.headers)?,
            body,
            weight: self.weight,
            key_header: self.unique_key.clone(),
            ..Request::get(&self.path)
        })
    }
}

/// A body of so many bytes.
pub(crate) fn filler(size: bytesize::ByteSize) -> Bytes {
    vec![b'x'; usize::try_from(size.as_u64()).unwrap_or(usize::MAX)].into()
}

fn headers(written: &IndexMap<String, String>) -> Result<HeaderMap, ScenarioError> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let bad = || ScenarioError::Contradiction(format!("`{name}: {value}` is no header"));
        headers
            .append(name.parse::<HeaderName>().map_err(|_| bad())?, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(headers)
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| serde::de::Error::custom(format!("`{text}`: {error}")))
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn some_parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("`{text}`: {error}")))
}
