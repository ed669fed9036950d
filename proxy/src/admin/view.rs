//! The shapes of the API's answers. Plain data, filled by who knows.

use std::net::SocketAddr;

use serde::Serialize;

use crate::telemetry::timestamp::Timestamp;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not all listeners are open yet.
    Starting,
    /// Serving.
    Running,
    /// Ending what is in flight; no new connections soon.
    Draining,
}

/// `GET /api/status`: what is cheap to ask for every second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusView {
    /// Of the binary.
    pub version: &'static str,
    /// Where the process is in its life.
    pub phase: Phase,
    /// Why it is not ready though it is running, one phrase each.
    pub reasons: Vec<String>,
    /// Number of the generation that is serving.
    pub generation: u64,
    /// When it began to.
    pub loaded_at: Timestamp,
    /// When the config was last read and found in order; its warnings are of then, even if nothing else has changed.
    pub checked_at: Timestamp,
    /// When the last attempt to replace it was refused, if it was.
    pub refused_at: Option<Timestamp>,
    /// Whether there is `GET /api/events`.
    pub events: bool,
}

/// One listener in `GET /api/listeners`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListenerView {
    /// Its name in the config.
    pub name: String,
    /// Where it is open.
    pub address: SocketAddr,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Whether it only sends clients to https.
    pub redirect_https: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Client connections that are open.
    pub connections: usize,
    /// Client connections that may be open at once.
    pub max_connections: usize,
    /// What it shows to clients, in the order of the config.
    pub certificates: Vec<CertificateView>,
}

/// A certificate that a listener shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CertificateView {
    /// The file it was read from.
    pub file: String,
    /// The subject's distinguished name.
    pub subject: String,
    /// The names it covers.
    pub names: Vec<String>,
    /// Its serial number, bytes in hex with colons between.
    pub serial: String,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
}

/// One route in `GET /api/routes`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteView {
    /// Its name in the config.
    pub name: String,
    /// Every listener that it applies to.
    pub listeners: Vec<String>,
    /// What must hold for a request to belong to it, one phrase each; empty for a route that takes all.
    pub when: Vec<String>,
    /// Greater goes first.
    pub priority: i64,
    /// Names of its middlewares, in the order a request meets them.
    pub middlewares: Vec<String>,
    /// Where it leads.
    pub service: String,
}

/// `GET /api/config`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigView {
    /// Number of the generation that is serving, from 1.
    pub generation: u64,
    /// When it began to.
    pub loaded_at: Timestamp,
    /// The file it came from; absent for a config that has none.
    pub path: Option<String>,
    /// Its text in TOML, secrets shown as `***`.
    pub text: String,
    /// The last attempt to replace it, if that was refused.
    pub refused: Option<RefusedView>,
    /// What is doubtful in what serves, in the order of the file.
    pub warnings: Vec<ProblemView>,
}

/// A reload that was refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedView {
    /// When.
    pub at: Timestamp,
    /// Why; never empty.
    pub problems: Vec<ProblemView>,
}

/// One reason against a config, or to doubt it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProblemView {
    /// The file, if the reason has a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The place in TOML's terms, for example `services.shop.endpoints[1].url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The name of the lint that warns; absent for a mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<&'static str>,
}

/// One service in `GET /api/services`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    /// Its name in the config.
    pub name: String,
    /// Its balancer's name in the config.
    pub balancer: String,
    /// Endpoints that may get new requests.
    pub available: usize,
    /// All endpoints, in the order of the config.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint of a service.
#[expect(clippy::struct_excessive_bools, reason = "what an operator wants to know, not states of a machine")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointView {
    /// Its name in the config.
    pub name: String,
    /// Its URL in the config.
    pub url: String,
    /// What the health check thinks: `checking`, `up` or `down`.
    pub state: &'static str,
    /// What that opinion rests on, for people: the last probe's result, or that there is no check.
    pub why: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Its share of the requests.
    pub weight: u32,
    /// Whether it gets requests only when no other one is available.
    pub backup: bool,
    /// Whether it gets only its pinned clients.
    pub draining: bool,
    /// Whether it may get new requests.
    pub available: bool,
    /// Whether it is left out for a while because it has failed too many requests.
    pub ejected: bool,
    /// What its circuit does with requests: `closed` lets them pass, `open` none, `half_open` has let one pass.
    pub circuit: &'static str,
    /// Requests it is working on.
    pub in_flight: u64,
}

/// Answer of `POST /api/reload` when the config is serving.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReloadReport {
    /// Number of the generation that is serving now.
    pub generation: u64,
    /// What is different, one short phrase each (`+route shop`); empty when nothing is.
    pub changes: Vec<String>,
}

/// One of the last generations in `GET /api/generations`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// Since when it serves or did.
    pub published: Timestamp,
    /// What came it about: `start`, `reload` or `rollback to N`.
    pub origin: String,
    /// What was different from the one before, one short phrase each.
    pub changes: Vec<String>,
}

/// A reload that changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("config refused, the old one goes on serving")]
pub struct ReloadRefused {
    /// Why; never empty.
    pub problems: Vec<ProblemView>,
}

/// Of what one wants to know what it would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// The text of a config.
    Text(String),
    /// The generation with this number.
    Generation(u64),
}

/// What to do with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOrder {
    /// Give it only its pinned clients.
    Drain,
    /// Give it new requests again.
    Undrain,
}

/// There is no such thing in the generation that is serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No service has the name.
    #[error("no such service")]
    Service,
    /// The service has no endpoint of the name.
    #[error("no such endpoint")]
    Endpoint,
}
