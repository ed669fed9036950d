//! What Waypost says of itself: log, access log, metrics, traces.
//!
//! Owns `[telemetry]`.

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::UpstreamTls;
use crate::value::{Duration, HeaderName, OtlpUrl, Percent, Secret, UpstreamUrl};

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
    /// Traces for a collector; absent means none are made, and a request's own `traceparent` passes as it is.
    pub tracing: Option<Tracing>,
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

/// Traces by OpenTelemetry, sent to a collector over OTLP. The file says all of it: `OTEL_*` variables are not read.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Where the collector takes OTLP. Without a port, http means 4317 for gRPC and 4318 for HTTP, https means 443. A
    /// path is for HTTP only, and used as it is; without one it is `/v1/traces`.
    pub otlp: OtlpUrl,
    /// How OTLP is spoken.
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// The share of requests that is recorded, where a trusted peer's `traceparent` does not decide.
    #[serde(default = "everything")]
    pub sample: Percent,
    /// Header fields of every export, for example `authorization`; their values are secrets.
    #[serde(default)]
    pub headers: IndexMap<HeaderName, Secret>,
    /// What this Waypost is called in traces: the resource attribute `service.name`.
    #[serde(default = "own_name")]
    pub service_name: String,
    /// Further resource attributes, for example `"deployment.environment.name" = "production"`.
    #[serde(default)]
    pub resource: IndexMap<String, String>,
    /// The longest wait for the collector's answer, connecting included.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
    /// TLS to a collector whose URL is https.
    #[serde(default)]
    pub tls: UpstreamTls,
}

impl Tracing {
    /// The collector's scheme, host and port.
    pub fn collector(&self) -> UpstreamUrl {
        let OtlpUrl { tls, host, port, .. } = &self.otlp;
        let usual = match (tls, self.protocol) {
            (true, _) => 443,
            (false, OtlpProtocol::Grpc) => 4317,
            (false, OtlpProtocol::Http) => 4318,
        };
        UpstreamUrl { tls: *tls, host: host.clone(), port: port.unwrap_or(usual) }
    }

    /// The path that spans are posted to.
    pub fn path(&self) -> &str {
        match self.protocol {
            OtlpProtocol::Grpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            OtlpProtocol::Http => self.otlp.path.as_deref().unwrap_or("/v1/traces"),
        }
    }
}

fn everything() -> Percent {
    Percent::ALL
}

fn own_name() -> String {
    "waypost".to_owned()
}

fn ten_seconds() -> Duration {
    Duration::seconds(10)
}

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// gRPC: HTTP/2, over TLS or with prior knowledge.
    #[default]
    Grpc,
    /// HTTP/1.1 with bodies in protobuf.
    Http,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &str, expected: &str) {
        let tracing: Tracing = toml::from_str(keys).unwrap();
        assert_eq!(format!("{}{}", tracing.collector(), tracing.path()), expected);
    }

    #[test]
    fn collector_is_found_where_collectors_are() {
        let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        check("otlp = 'http://collector'", &format!("http://collector:4317{export}"));
        check("otlp = 'http://[::1]:55680/'", &format!("http://[::1]:55680{export}"));
        check("otlp = 'https://otlp.example'", &format!("https://otlp.example{export}"));
        check("otlp = 'http://collector'\nprotocol = 'http'", "http://collector:4318/v1/traces");
        check("otlp = 'https://otlp.example/otlp/v1/traces'\nprotocol = 'http'", "https://otlp.example/otlp/v1/traces");
    }
}
