//! A fleet of identical endpoints and how requests are spread, watched and retried over it.
//!
//! Owns `[services.*]`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::value::{ByteSize, Duration, HashKey, Percent, RetryOn, Secret, StatusRange, UpstreamUrl};

/// A fleet of identical endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// How endpoints are chosen.
    #[serde(default)]
    pub balancer: Balancer,
    /// What the `hash` balancer hashes; absent means the client's address.
    #[serde(default)]
    pub hash_key: Option<HashKey>,
    /// Keeps a client on its endpoint.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// Requests in flight over all endpoints; one more is answered with 503.
    #[serde(default)]
    pub max_in_flight: Option<usize>,
    /// How long an endpoint may take.
    #[serde(default)]
    pub timeouts: ServiceTimeouts,
    /// What happens when no endpoint is available.
    #[serde(default)]
    pub on_all_down: OnAllDown,
    /// The fleet; at least one. When all have weight 0 or drain, the service takes no new clients.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// TLS towards endpoints with an `https` URL.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// The protocol spoken to the endpoints.
    #[serde(default)]
    pub protocol: Protocol,
    /// Idle connections kept.
    #[serde(default)]
    pub pool: Pool,
    /// Active probes; absent means every endpoint counts as healthy.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Takes out endpoints that fail their requests, whatever their probes say; absent means never.
    #[serde(default)]
    pub outlier: Option<Outlier>,
    /// Stops asking an endpoint that fails too great a share of its requests; absent means never.
    #[serde(default)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The share of an endpoint that has come back grows from a tenth to the whole within this; absent means at once.
    #[serde(default)]
    pub slow_start: Option<Duration>,
    /// Failed attempts that are repeated on another endpoint.
    #[serde(default)]
    pub retry: Retry,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balancer {
    /// In turn, by weight, exact.
    #[default]
    RoundRobin,
    /// The fewest requests in flight for its weight.
    LeastRequest,
    /// By chance, by weight.
    Random,
    /// Always the same endpoint for the same key (consistent hashing).
    Hash,
}

impl Balancer {
    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Balancer::RoundRobin => "round_robin",
            Balancer::LeastRequest => "least_request",
            Balancer::Random => "random",
            Balancer::Hash => "hash",
        }
    }
}

/// `sticky = { cookie = "…" }` or `sticky = { client_ip = "1h" }`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Sticky {
    /// By a sealed cookie.
    Cookie(StickyCookie),
    /// By the client's address.
    ClientIp(StickyClientIp),
}

/// Read as one table with all keys of both kinds, so that a mistake in one is found at its own place.
impl<'de> Deserialize<'de> for Sticky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sticky, D::Error> {
        StickyTable::deserialize(deserializer)?.kind().map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StickyTable {
    cookie: Option<String>,
    client_ip: Option<Duration>,
    secrets: Option<Vec<Secret>>,
    max_idle: Option<Duration>,
    max_age: Option<Duration>,
    same_site: Option<SameSite>,
    path: Option<String>,
    domain: Option<String>,
}

impl StickyTable {
    fn kind(self) -> Result<Sticky, &'static str> {
        match (&self.cookie, self.client_ip) {
            (Some(_), Some(_)) => {
                Err("a client is kept by cookie or by address, not both; leave `cookie` or `client_ip`")
            }
            (None, None) => Err("no kind given; write { cookie = \"lb\" } or { client_ip = \"1h\" }"),
            (None, Some(_)) if self.has_cookie_keys() => {
                Err("`client_ip` stands alone; leave out what belongs to `cookie`, or write a cookie's name instead")
            }
            (None, Some(client_ip)) => Ok(Sticky::ClientIp(StickyClientIp { client_ip })),
            (Some(_), None) => Ok(Sticky::Cookie(self.cookie())),
        }
    }

    fn has_cookie_keys(&self) -> bool {
        let texts = self.path.is_some() || self.domain.is_some() || self.secrets.is_some();
        texts || self.max_idle.is_some() || self.max_age.is_some() || self.same_site.is_some()
    }

    fn cookie(self) -> StickyCookie {
        StickyCookie {
            cookie: self.cookie.unwrap_or_default(),
            secrets: self.secrets.unwrap_or_default(),
            max_idle: self.max_idle.unwrap_or_else(default_max_idle),
            max_age: self.max_age.unwrap_or_else(default_max_age),
            same_site: self.same_site.unwrap_or_default(),
            path: self.path.unwrap_or_else(default_cookie_path),
            domain: self.domain,
        }
    }
}

/// Pins held in a sealed cookie.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyCookie {
    /// The cookie's name.
    pub cookie: String,
    /// The first seals, all open. None: a key is made at start, and pins end with the process.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// A pin unused for this long ends.
    #[serde(default = "default_max_idle")]
    pub max_idle: Duration,
    /// A pin ends this long after it began.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// The cookie's `SameSite`.
    #[serde(default)]
    pub same_site: SameSite,
    /// The cookie's `Path`.
    #[serde(default = "default_cookie_path")]
    pub path: String,
    /// The cookie's `Domain`; absent means the host itself.
    #[serde(default)]
    pub domain: Option<String>,
}

fn default_max_idle() -> Duration {
    Duration::seconds(3600)
}

fn default_max_age() -> Duration {
    Duration::seconds(12 * 3600)
}

fn default_cookie_path() -> String {
    "/".to_owned()
}

/// Pins held in a table by client address.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyClientIp {
    /// A pin unused for this long ends.
    pub client_ip: Duration,
}

/// The cookie attribute `SameSite`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Sent with top-level navigation from other sites.
    #[default]
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent; browsers ask for TLS then.
    None,
}

/// How long an endpoint may take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTimeouts {
    /// Connecting, TLS included.
    pub connect: Duration,
    /// From the sent request to the response's head, of one attempt.
    pub response: Duration,
    /// Between two bytes of the response, and of a WebSocket in either direction.
    pub idle: Duration,
}

impl Default for ServiceTimeouts {
    fn default() -> ServiceTimeouts {
        ServiceTimeouts { connect: Duration::seconds(1), response: Duration::seconds(10), idle: Duration::seconds(60) }
    }
}

/// What happens when no endpoint is available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAllDown {
    /// 503 with `Retry-After`.
    #[default]
    Closed,
    /// Try them all the same.
    Open,
}

/// One container of the fleet.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its identity: stays in cookies, metrics and logs whatever the address.
    pub name: String,
    /// `http://host:port` or `https://host:port`.
    pub url: UpstreamUrl,
    /// Its share, 0 to 1000; 0 takes no new clients.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Used only when no other endpoint is available.
    #[serde(default)]
    pub backup: bool,
    /// Takes no new clients, keeps its pinned ones.
    #[serde(default)]
    pub drain: bool,
    /// Requests in flight; a full endpoint is passed over.
    #[serde(default)]
    pub max_in_flight: Option<usize>,
}

fn default_weight() -> u32 {
    1
}

/// TLS towards the endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// PEM file of the authorities believed; absent means the system's.
    pub ca: Option<PathBuf>,
    /// The name sent as SNI and checked; absent means the URL's host.
    pub server_name: Option<String>,
    /// PEM chain that identifies Waypost.
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}

impl UpstreamTls {
    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca, &self.client_cert, &self.client_key].into_iter().filter_map(Option::as_deref)
    }
}

/// The protocol spoken to the endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// By ALPN over TLS, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in plain text with prior knowledge.
    H2c,
}

/// Idle connections kept to an endpoint.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Idle connections kept per endpoint and worker.
    pub max_idle: usize,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool { max_idle: 256, idle_timeout: Duration::seconds(60) }
    }
}

/// Probes that find out which endpoints can take requests.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// What a probe is.
    pub kind: HealthCheckKind,
    /// Path of an http probe.
    pub path: String,
    /// Host header of an http probe; absent means the URL's.
    pub host: Option<String>,
    /// Port probed instead of the URL's.
    pub port: Option<u16>,
    /// Time from one probe to the next.
    pub interval: Duration,
    /// A probe without an answer after this has failed.
    pub timeout: Duration,
    /// Passed probes in a row that bring a down endpoint up.
    pub rise: u32,
    /// Failed probes in a row that bring an up endpoint down.
    pub fall: u32,
    /// What an answer must be like.
    pub expect: Expect,
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            kind: HealthCheckKind::Http,
            path: "/".to_owned(),
            host: None,
            port: None,
            interval: Duration::seconds(5),
            timeout: Duration::seconds(1),
            rise: 2,
            fall: 3,
            expect: Expect::default(),
        }
    }
}

/// What a probe is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    /// A GET request.
    #[default]
    Http,
    /// A connection that opens.
    Tcp,
}

/// What the answer to an http probe must be like.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Statuses that pass.
    pub status: Vec<StatusRange>,
    /// Text the body must contain, within its first 64 KiB.
    pub body: Option<String>,
}

impl Default for Expect {
    fn default() -> Expect {
        Expect { status: vec![StatusRange { first: 200, last: 399 }], body: None }
    }
}

/// When an endpoint is ejected because of the requests it fails: no connection, no response in time, a broken or
/// invalid one, or a 5xx other than 501 and 505. What a client breaks off does not count.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// Failed requests in a row that eject it.
    pub consecutive: u32,
    /// How long the first ejection lasts; the next one in a row twice as long, then three times, at most ten times.
    pub eject_for: Duration,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier { consecutive: 5, eject_for: Duration::seconds(10) }
    }
}

/// When an endpoint's circuit opens, and nothing is sent to it. What fails is as for `outlier`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// The share of its requests of the last ten seconds that must have failed.
    pub failure_ratio: Percent,
    /// With fewer requests within ten seconds it stays closed.
    pub min_requests: u32,
    /// Time until one request is let through to see whether it has recovered.
    pub open_for: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> CircuitBreaker {
        CircuitBreaker { failure_ratio: Percent(0.5), min_requests: 20, open_for: Duration::seconds(10) }
    }
}

/// Which failed attempts are repeated, how often and after what wait.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first one counted; 1 means no retry.
    pub max_attempts: u32,
    /// What is worth another attempt.
    pub on: Vec<RetryOn>,
    /// The wait before another attempt.
    pub backoff: Backoff,
    /// How many retries the service bears.
    pub budget: Budget,
    /// The longest request body kept for a repeat.
    pub max_body: ByteSize,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            max_attempts: 3,
            on: vec![
                RetryOn::ConnectFailure,
                RetryOn::Reset,
                RetryOn::Timeout,
                RetryOn::Status(502),
                RetryOn::Status(503),
                RetryOn::Status(504),
            ],
            backoff: Backoff::default(),
            budget: Budget::default(),
            max_body: ByteSize(64 * 1024),
        }
    }
}

/// Full-jitter exponential backoff: before retry n, a random wait up to `base * 2^(n-1)`, at most `max`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first step.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: Duration::millis(25), max: Duration::seconds(1) }
    }
}

/// The share of requests that may be retries.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Retries per request, over the last ten seconds.
    pub ratio: Percent,
    /// Retries per second that are always allowed.
    pub min_per_second: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { ratio: Percent(0.2), min_per_second: 10 }
    }
}
