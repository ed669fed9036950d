//! What to send, where, how fast and for how long.
//!
//! Plain data, built by hand (tests), by the command line or by a scenario. Opens nothing, resolves nothing.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::HeaderValue,
    uri::{Authority, PathAndQuery},
};

/// One load, whole. Fields are public: the methods are shortcuts for the usual ones.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// How fast.
    pub pace: Pace,
    /// How long requests are begun; those in flight then may finish. Phases bring their own duration.
    pub duration: Duration,
    /// When it is this load's turn among several, of an open loop; time counts only then.
    pub turn: Option<Turn>,
    /// Latencies of requests that are due within this time are not recorded; everything else about them is.
    pub warm_up: Duration,
    /// Begin no more than so many requests, even if the duration is not over.
    pub requests: Option<u64>,
    /// At most so many connections at once, over all threads.
    pub connections: usize,
    /// Requests at once on one connection; more than 1 means something with HTTP/2 only.
    pub streams: usize,
    /// When the connections are opened.
    pub opening: Opening,
    /// Which HTTP.
    pub protocol: Protocol,
    /// Whether a connection serves one request or many.
    pub reuse: Reuse,
    /// Whether TLS sessions are taken up again.
    pub handshakes: Handshakes,
    /// Whom to believe when the target is `https`.
    pub trust: Trust,
    /// What is sent; each request is drawn by weight. Must not be empty.
    pub mix: Vec<Request>,
    /// Virtual users, each with its own cookies and at most one request in flight; 0 sends no cookies at all.
    pub users: usize,
    /// Time for one request, from when it was due to the last byte of its answer.
    pub timeout: Duration,
    /// Threads that send, one event loop each.
    pub threads: usize,
    /// The response header that names the endpoint which answered.
    pub upstream_header: HeaderName,
    /// Statuses of 400 and above that are not errors here.
    pub accept: Vec<StatusCode>,
}

impl Plan {
    /// A closed loop of ten seconds over ten connections: GET of `url`, whose path may have a query.
    pub fn new(url: &str) -> Result<Self, PlanError> {
        let (target, path) = Target::parse(url)?;
        Ok(Self {
            target,
            pace: Pace::Full,
            duration: Duration::from_secs(10),
            turn: None,
            warm_up: Duration::ZERO,
            requests: None,
            connections: 10,
            streams: 1,
            opening: Opening::AsNeeded,
            protocol: Protocol::Http1,
            reuse: Reuse::KeepAlive,
            handshakes: Handshakes::Resumed,
            trust: Trust::default(),
            mix: vec![Request::get(&path)],
            users: 0,
            timeout: Duration::from_secs(10),
            threads: 1,
            upstream_header: HeaderName::from_static("x-upstream"),
            accept: Vec::new(),
        })
    }

    /// Open loop at so many requests per second, over as many as 1 000 connections; say
    /// [`connections`](Self::connections) after it for another limit.
    #[must_use]
    pub fn rate(self, per_second: f64) -> Self {
        Self { pace: Pace::Rate(per_second), connections: 1_000, ..self }
    }

    /// Begin requests for so long.
    #[must_use]
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }

    /// End after so many requests (or after the duration, whichever comes first).
    #[must_use]
    pub fn requests(self, count: u64) -> Self {
        Self { requests: Some(count), ..self }
    }

    /// At most so many connections.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// So many virtual users with cookies of their own.
    #[must_use]
    pub fn users(self, users: usize) -> Self {
        Self { users, ..self }
    }

    /// Which HTTP to speak.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// What to send instead of the GET.
    #[must_use]
    pub fn mix(self, mix: Vec<Request>) -> Self {
        Self { mix, ..self }
    }

    /// What makes this plan impossible to run, if anything.
    pub fn check(&self) -> Result<(), PlanError> {
        let rates_fine = self.phases().iter().all(|phase| phase.rate.is_finite() && phase.rate > 0.0);
        let problem = if self.connections == 0 || self.streams == 0 || self.threads == 0 {
            "connections, streams and threads must be at least 1"
        } else if self.connections < self.threads || (1..self.threads).contains(&self.users) {
            "every thread needs a connection of its own, and a user if there are any"
        } else if self.mix.iter().map(|request| u64::from(request.weight)).sum::<u64>() == 0 {
            "nothing to send: the mix has no request with a weight above 0"
        } else if self.mix.iter().any(|request| request.path.parse::<PathAndQuery>().is_err()) {
            "a path of the mix is no path: it must begin with / and have no spaces"
        } else if !rates_fine {
            "a rate must be above 0"
        } else if self.turn.is_some() && self.pace == Pace::Full {
            "taking turns needs a rate"
        } else if self.timeout.is_zero() {
            "the timeout must be above 0"
        } else if self.protocol != Protocol::Http1 && self.reuse == Reuse::Close {
            "a connection per request is a thing of HTTP/1.1 only"
        } else if matches!(self.protocol, Protocol::Http1 | Protocol::WebSocket) && self.streams > 1 {
            "several streams on a connection need HTTP/2"
        } else if self.protocol == Protocol::H2c && self.target.tls {
            "h2c is for http targets; for https say http2"
        } else if self.protocol == Protocol::Http2 && !self.target.tls {
            "http2 is negotiated over TLS; for http targets say h2c"
        } else {
            return Ok(());
        };
        Err(PlanError::Impossible(problem))
    }

    /// The pace as phases; empty for a closed loop.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        match &self.pace {
            Pace::Full => Vec::new(),
            Pace::Rate(rate) => vec![Phase { rate: *rate, duration: self.duration }],
            Pace::Phases(phases) => phases.clone(),
        }
    }

    /// How long requests are begun, the turns of others counted.
    pub fn length(&self) -> Duration {
        let own = match &self.pace {
            Pace::Phases(phases) => phases.iter().map(|phase| phase.duration).sum(),
            Pace::Full | Pace::Rate(_) => self.duration,
        };
        self.turn.map_or(own, |turn| turn.shared(own))
    }
}

/// The origin that is put under load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https`, not `http`.
    pub tls: bool,
    /// Host with the port as written: the `Host` header or `:authority`.
    pub authority: Authority,
}

impl Target {
    /// Takes a URL apart into origin and path with query.
    pub fn parse(url: &str) -> Result<(Self, String), PlanError> {
        let bad = |why| PlanError::Url { url: url.to_owned(), why };
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?.clone();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok((Self { tls, authority }, path))
    }

    /// Host name or address without brackets and port.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, by default that of the scheme.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// How fast requests are begun.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// Closed loop: each connection sends its next request as soon as the last one is answered.
    Full,
    /// Open loop: so many per second on a fixed schedule, whatever the server does.
    Rate(f64),
    /// Open loop with a rate that changes in steps.
    Phases(Vec<Phase>),
}

/// A stretch of the open loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// Requests per second.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
}

/// Which turns are a load's own, among several loads that began together: what disturbs a shared machine for a while
/// then disturbs each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How long a turn is.
    pub length: Duration,
    /// Whose, from 0.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl Turn {
    /// The least number of whole turns that takes so long.
    pub fn whole(self, time: Duration) -> Duration {
        let (turns, rest) = divide(time, self.length);
        self.length * (turns + u32::from(!rest.is_zero()))
    }

    /// The time that passes for all while `own` passes for one of them.
    pub fn shared(self, own: Duration) -> Duration {
        own * self.of
    }

    /// How long after the common start the moment is that comes after so much of the load's own time.
    pub(crate) fn at(self, own: Duration) -> Duration {
        let (turns, rest) = divide(own, self.length);
        self.length * (turns * self.of + self.index) + rest
    }

    /// How many own turns have ended so long after the common start, if it is not another one's turn.
    pub(crate) fn number(self, at: Duration) -> usize {
        usize::try_from(divide(at, self.length * self.of).0).unwrap_or(usize::MAX)
    }

    /// The load's own time that has passed so long after the common start; `None` before its first turn.
    pub(crate) fn own(self, at: Duration) -> Option<Duration> {
        // The moment a turn ends belongs to the next one.
        let last = self.length.saturating_sub(Duration::from_nanos(1));
        let (cycles, within) = divide(at.checked_sub(self.length * self.index)?, self.length * self.of);
        Some(self.length * cycles + within.min(last))
    }
}

/// How often `unit` fits, and what is left.
fn divide(time: Duration, unit: Duration) -> (u32, Duration) {
    let times = u32::try_from(time.as_nanos() / unit.as_nanos().max(1)).unwrap_or(u32::MAX);
    (times, time.saturating_sub(unit * times))
}

/// When connections are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// One more whenever a request is due and none is free.
    AsNeeded,
    /// All before the first request, and then used in turn.
    AllAtOnce,
}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, agreed on by ALPN.
    Http2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
    /// `WebSocket` after an HTTP/1.1 upgrade at the first path of the mix: a request is a message, its body, and the
    /// next message from the server is its answer.
    #[serde(rename = "websocket")]
    WebSocket,
}

impl Protocol {
    /// Whether a connection begins as HTTP/1.1.
    pub(crate) fn begins_as_http1(self) -> bool {
        matches!(self, Self::Http1 | Self::WebSocket)
    }
}

/// Whether a connection serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Many.
    KeepAlive,
    /// One: `Connection: close`, and the next request opens a new one.
    Close,
}

/// How TLS connections begin after the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshakes {
    /// With a session taken up again, where the server lets one.
    Resumed,
    /// From nothing, every time.
    Full,
}

/// Whom to believe about certificates, and which name to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Believe any certificate.
    pub insecure: bool,
    /// Believe what this PEM file signed, instead of what the system trusts.
    pub ca: Option<PathBuf>,
    /// The name to ask for (SNI) and to verify, instead of the target's host.
    pub server_name: Option<String>,
}

/// One kind of request of the mix.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Path with query, beginning with `/`.
    pub path: String,
    /// Headers beyond those that the protocol needs.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How often, in relation to the others.
    pub weight: u32,
    /// A header that gets a value of its own in every request, so that double executions can be found.
    pub key_header: Option<HeaderName>,
}

impl Request {
    /// A GET without a body, of weight 1.
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            weight: 1,
            key_header: None,
        }
    }

    /// A POST of weight 1.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(path) }
    }

    /// The same with a fresh value of the header `name` in every request.
    #[must_use]
    pub fn keyed(self, name: HeaderName) -> Self {
        Self { key_header: Some(name), ..self }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

/// A plan that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A URL of no use.
    #[error("{url}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Fields that contradict each other.
    #[error("{0}")]
    Impossible(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_gives_origin_and_path() {
        let (target, path) = Target::parse("https://[::1]:8443/a?b=c").unwrap();
        assert_eq!((target.host(), target.port(), target.tls, path.as_str()), ("::1", 8443, true, "/a?b=c"));
        assert_eq!(Target::parse("http://shop.example").unwrap().0.port(), 80);
        assert!(Target::parse("shop.example/x").is_err());
        assert!(Target::parse("ftp://shop.example").is_err());
    }

    #[test]
    fn turns_follow_each_other_without_gap_or_overlap() {
        let ms = Duration::from_millis;
        let turn = |index| Turn { length: ms(500), index, of: 3 };
        for at in (0..4_500).map(ms) {
            let whose = u32::try_from(at.as_millis() / 500 % 3).unwrap();
            let own = turn(whose).own(at).unwrap();
            assert_eq!(turn(whose).at(own), at, "the way there and back at {at:?}");
        }
        assert_eq!(turn(2).own(ms(999)), None, "not yet");
        assert_eq!(turn(0).own(ms(1_400)), Some(Duration::from_nanos(499_999_999)), "the others' turn");
        assert_eq!(turn(1).at(ms(500)), ms(2_000));
    }

    #[test]
    fn contradictions_are_refused() {
        let plan = || Plan::new("http://127.0.0.1/").unwrap();
        assert_eq!(plan().check(), Ok(()));
        assert!(plan().rate(0.0).check().is_err());
        assert!(plan().connections(0).check().is_err());
        assert!(plan().mix(Vec::new()).check().is_err());
        assert!(plan().protocol(Protocol::Http2).check().is_err(), "no TLS, no ALPN");
        assert!(Plan { streams: 10, ..plan() }.check().is_err());
        let turn = Some(Turn { length: Duration::from_secs(1), index: 0, of: 2 });
        assert!(Plan { turn, ..plan() }.check().is_err(), "a closed loop has no schedule");
        assert!(Plan { threads: 11, ..plan() }.check().is_err(), "more than its connections");
        assert!(Plan { threads: 2, ..plan().users(1) }.check().is_err());
    }
}
