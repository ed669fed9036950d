//! What Waypost says of itself: log, access log, metrics.
//!
//! Owns `[telemetry]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Percent;

/// What Waypost says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The operator's log, on standard error.
    pub log: Log,
    /// One line per request; absent means none is written.
    pub access_log: Option<AccessLog>,
    /// Prometheus metrics.
    pub metrics: Metrics,
}

/// The operator's log.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least severe level written.
    pub level: LogLevel,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Only what needs a person now.
    Error,
    /// What will need a person soon.
    Warn,
    /// An operator's events: started, generation, drained, down.
    #[default]
    Info,
    /// Why single attempts, handshakes and connections fail.
    Debug,
    /// Everything.
    Trace,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One line per request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// `stdout`, `stderr` or a file path.
    pub path: AccessLogPath,
    /// Shape of a line.
    pub format: AccessLogFormat,
    /// The share of requests written; failed ones (status 500 and above) always are.
    pub sample: Percent,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { path: AccessLogPath::Stdout, format: AccessLogFormat::Json, sample: Percent::ALL }
    }
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum AccessLogPath {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
}

impl From<String> for AccessLogPath {
    fn from(text: String) -> AccessLogPath {
        match text.as_str() {
            "stdout" => AccessLogPath::Stdout,
            "stderr" => AccessLogPath::Stderr,
            _ => AccessLogPath::File(text.into()),
        }
    }
}

impl From<AccessLogPath> for String {
    fn from(path: AccessLogPath) -> String {
        match path {
            AccessLogPath::Stdout => "stdout".to_owned(),
            AccessLogPath::Stderr => "stderr".to_owned(),
            AccessLogPath::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Shape of an access-log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line, every field.
    #[default]
    Json,
    /// The Common Log Format of NCSA and Apache.
    Common,
    /// Common, with referer and user agent.
    Combined,
}

/// Prometheus metrics.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether `/metrics` has Traefik's names and labels beside Waypost's own, for dashboards and alerts made for Traefik v3.
    pub traefik_names: bool,
}
