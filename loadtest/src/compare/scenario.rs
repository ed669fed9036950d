//! The scenarios: what each one asks of a proxy, how fast, over how many connections, and in which layout of routes
//! and endpoints.
//!
//! Pure. Starts nothing; configs of a layout belong to the peers.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer};

use super::peers::Place;
use crate::{
    hold::Layer,
    plan::{Handshakes, Opening, Pace, Phase, Plan, PlanError, Protocol, Request, Reuse, Trust, Turn},
};

/// Connections of most scenarios.
const CONNECTIONS: usize = 64;
/// Bytes of a `WebSocket` message.
const MESSAGE: usize = 64;
/// In which every one of thousands of connections has its first request.
const RAMP: Duration = Duration::from_millis(2_500);
/// Users with a cookie of their own in `shipped`.
const USERS: usize = 200;

/// A scenario of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP/1.1, small bodies, 64 keep-alive connections.
    H1Small,
    /// The same, at a rate that is borne over 10 000 connections too.
    Conns64,
    /// That over 10 000 connections.
    Conns10k,
    /// The same with access log, metrics, sticky cookies and health checks.
    Shipped,
    /// Small bodies over HTTP/1.1, and nothing told that need not be.
    TelemetryOff,
    /// The same with everything told, and all of it asked for.
    TelemetryOn,
    /// One route.
    Routes1,
    /// A thousand routes: ten paths of a hundred hosts.
    Routes1000,
    /// Ten thousand routes.
    Routes10k,
    /// Three endpoints.
    Endpoints3,
    /// A hundred endpoints.
    Endpoints100,
    /// A thousand endpoints.
    Endpoints1000,
    /// HTTP/1.1 over TLS 1.3, 64 keep-alive connections.
    H1Tls,
    /// HTTP/2 over TLS, 64 connections of 10 streams.
    H2Tls,
    /// A body of 1 MiB to the client.
    Download1m,
    /// A body of 64 KiB to the upstream.
    Post64k,
    /// Small messages there and back over 64 `WebSocket`s.
    WebSocket,
    /// A connection for every request.
    Churn,
    /// A TLS connection for every request, with a full handshake.
    ChurnTlsFull,
    /// A TLS connection for every request, with a session taken up again.
    ChurnTlsResumed,
    /// As many small requests as 64 connections get answered.
    SaturationH1,
    /// The same over TLS.
    SaturationTls,
    /// Saturation of one worker that may use both cores.
    Workers1,
    /// Saturation of two workers on both cores.
    Workers2,
    /// 10 000 connections that do nothing.
    Idle,
    /// 2 000 TLS connections that do nothing.
    IdleTls,
}

/// What is measured of a proxy in a scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// So many requests per second, whatever the proxy does: its CPU time per request, and latency.
    Offered(f64),
    /// As many requests as it can take: answers per second.
    Full,
    /// Nothing, over open connections: its memory for each.
    Idle(Layer),
}

/// What a proxy is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One route to three endpoints.
    Plain,
    /// So many routes, ten paths a host, to three endpoints.
    Routes(usize),
    /// One route to so many endpoints.
    Endpoints(usize),
    /// One route to three endpoints; access log to a file, metrics, sticky cookies, health checks.
    Shipped,
    /// Like `Plain`, and it tells nothing that it need not.
    Unwatched,
    /// The same, and it tells everything: access log with all fields, metrics, health, events, receipts.
    Watched,
    /// Like `Plain`, with so many workers on both cores.
    Workers(usize),
}

/// How a scenario is set beside another one, of the same proxy in the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// CPU time per request divided by that of the other.
    CostOf(Kind),
    /// How many times the requests of the other it gets done, if it had so many times its cores: the CPU time per
    /// request of the other divided by its own, times the workers.
    SpeedUpOf(Kind, u32),
}

/// How long and how much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tempo {
    /// Connections are open and caches warm after this; what is measured begins here.
    pub warm_up: Duration,
    /// What is measured in each round.
    pub measured: Duration,
    /// Idle connections without TLS.
    pub idle: usize,
    /// Idle connections with TLS.
    pub idle_tls: usize,
}

impl Tempo {
    /// To quote from.
    pub const FULL: Self =
        Self { warm_up: Duration::from_millis(700), measured: Duration::from_secs(5), idle: 10_000, idle_tls: 2_000 };
    /// To see that it works.
    pub const QUICK: Self =
        Self { warm_up: Duration::from_millis(200), measured: Duration::from_millis(500), idle: 2_000, idle_tls: 500 };
}

impl Layout {
    /// Host and path prefix of each of its routes; none where a single route takes all.
    pub fn routes(self) -> impl Iterator<Item = (String, String)> + Clone {
        let count = if let Self::Routes(count) = self { count } else { 0 };
        (0..count).map(|n| (format!("h{}.test", n / 10), format!("/p{}", n % 10)))
    }

    /// How many endpoints its service has.
    pub fn endpoints(self) -> usize {
        if let Self::Endpoints(count) = self { count } else { 3 }
    }

    /// How many workers the proxy has.
    pub fn workers(self) -> usize {
        if let Self::Workers(count) = self { count } else { 1 }
    }
}

impl Kind {
    /// All of them; those that are set beside each other follow each other.
    pub const ALL: [Self; 26] = [
        Self::H1Small,
        Self::Conns64,
        Self::Conns10k,
        Self::Shipped,
        Self::TelemetryOff,
        Self::TelemetryOn,
        Self::Routes1,
        Self::Routes1000,
        Self::Routes10k,
        Self::Endpoints3,
        Self::Endpoints100,
        Self::Endpoints1000,
        Self::H1Tls,
        Self::H2Tls,
        Self::Download1m,
        Self::Post64k,
        Self::WebSocket,
        Self::Churn,
        Self::ChurnTlsFull,
        Self::ChurnTlsResumed,
        Self::SaturationH1,
        Self::SaturationTls,
        Self::Workers1,
        Self::Workers2,
        Self::Idle,
        Self::IdleTls,
    ];

    /// As it is written on the command line and in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::H1Small => "h1_small",
            Self::Conns64 => "conns64",
            Self::Conns10k => "conns10k",
            Self::Shipped => "shipped",
            Self::TelemetryOff => "telemetry_off",
            Self::TelemetryOn => "telemetry_on",
            Self::Routes1 => "routes1",
            Self::Routes1000 => "routes1000",
            Self::Routes10k => "routes10k",
            Self::Endpoints3 => "endpoints3",
            Self::Endpoints100 => "endpoints100",
            Self::Endpoints1000 => "endpoints1000",
            Self::H1Tls => "h1_tls",
            Self::H2Tls => "h2_tls",
            Self::Download1m => "download1m",
            Self::Post64k => "post64k",
            Self::WebSocket => "websocket",
            Self::Churn => "churn",
            Self::ChurnTlsFull => "churn_tls_full",
            Self::ChurnTlsResumed => "churn_tls_resumed",
            Self::SaturationH1 => "saturation_h1",
            Self::SaturationTls => "saturation_tls",
            Self::Workers1 => "workers1",
            Self::Workers2 => "workers2",
            Self::Idle => "idle",
            Self::IdleTls => "idle_tls",
        }
    }

    /// The scenarios that a word of the command line stands for: one by its name, or all of a family.
    pub fn selected_by(word: &str) -> Result<Vec<Self>, String> {
        let family = |kind: &Self| kind.name() == word || kind.family() == Some(word);
        let found: Vec<_> = Self::ALL.into_iter().filter(family).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
        Err(format!(
            "no such scenario; there are {}, and conns, telemetry, routes, endpoints, churn_tls, saturation, scaling",
            names.join(", ")
        ))
    }

    fn family(self) -> Option<&'static str> {
        match self {
            Self::Conns64 | Self::Conns10k => Some("conns"),
            Self::TelemetryOff | Self::TelemetryOn => Some("telemetry"),
            Self::Routes1 | Self::Routes1000 | Self::Routes10k => Some("routes"),
            Self::Endpoints3 | Self::Endpoints100 | Self::Endpoints1000 => Some("endpoints"),
            Self::ChurnTlsFull | Self::ChurnTlsResumed => Some("churn_tls"),
            Self::SaturationH1 | Self::SaturationTls => Some("saturation"),
            Self::Workers1 | Self::Workers2 => Some("scaling"),
            _ => None,
        }
    }

    /// What is measured. Rates are what one core of load and upstreams can offer without being the bottleneck.
    pub fn work(self) -> Work {
        match self {
            Self::H1Small => Work::Offered(15_000.0),
            Self::Conns64 | Self::Conns10k => Work::Offered(6_000.0),
            Self::Post64k => Work::Offered(1_500.0),
            // Slower, and most of what is measured is how deep the core has slept.
            Self::Churn => Work::Offered(4_000.0),
            Self::Download1m | Self::ChurnTlsFull | Self::ChurnTlsResumed => Work::Offered(300.0),
            Self::SaturationH1 | Self::SaturationTls | Self::Workers1 | Self::Workers2 => Work::Full,
            Self::Idle => Work::Idle(Layer::Plain),
            Self::IdleTls => Work::Idle(Layer::Tls),
            _ => Work::Offered(10_000.0),
        }
    }

    /// What the proxy is configured for.
    pub fn layout(self) -> Layout {
        match self {
            Self::Shipped => Layout::Shipped,
            Self::TelemetryOff => Layout::Unwatched,
            Self::TelemetryOn => Layout::Watched,
            Self::Routes1 => Layout::Routes(1),
            Self::Routes1000 => Layout::Routes(1_000),
            Self::Routes10k => Layout::Routes(10_000),
            Self::Endpoints3 => Layout::Endpoints(3),
            Self::Endpoints100 => Layout::Endpoints(100),
            Self::Endpoints1000 => Layout::Endpoints(1_000),
            Self::Workers1 => Layout::Workers(1),
            Self::Workers2 => Layout::Workers(2),
            _ => Layout::Plain,
        }
    }

    /// Which scenario of the same proxy it is set beside.
    pub fn relation(self) -> Option<Relation> {
        match self {
            Self::Conns10k => Some(Relation::CostOf(Self::Conns64)),
            Self::TelemetryOn => Some(Relation::CostOf(Self::TelemetryOff)),
            Self::Routes1000 | Self::Routes10k => Some(Relation::CostOf(Self::Routes1)),
            Self::Endpoints100 | Self::Endpoints1000 => Some(Relation::CostOf(Self::Endpoints3)),
            Self::Workers2 => Some(Relation::SpeedUpOf(Self::Workers1, 2)),
            _ => None,
        }
    }

    /// Whether it is about Waypost and nobody else.
    pub fn is_of_waypost(self) -> bool {
        matches!(self, Self::Workers1 | Self::Workers2 | Self::TelemetryOff | Self::TelemetryOn)
    }

    /// How many connections it wants.
    pub fn connections(self, tempo: Tempo) -> usize {
        match self {
            Self::Conns10k => 10_000,
            Self::Idle => tempo.idle,
            Self::IdleTls => tempo.idle_tls,
            _ => CONNECTIONS,
        }
    }

    /// How long it runs before it is measured.
    pub fn warm_up(self, tempo: Tempo) -> Duration {
        if self == Self::Conns10k { RAMP } else { tempo.warm_up }
    }

    /// Whether its connections are encrypted.
    pub fn is_tls(self) -> bool {
        matches!(
            self,
            Self::H1Tls
                | Self::H2Tls
                | Self::ChurnTlsFull
                | Self::ChurnTlsResumed
                | Self::SaturationTls
                | Self::IdleTls
        )
    }

    /// Whether every request has a connection of its own.
    pub fn churns(self) -> bool {
        matches!(self, Self::Churn | Self::ChurnTlsFull | Self::ChurnTlsResumed)
    }

    /// The load on a proxy at `place`.
    pub fn plan(self, place: Place, traffic: Traffic) -> Result<Plan, PlanError> {
        let (scheme, port) = if self.is_tls() { ("https", place.tls) } else { ("http", place.plain) };
        let plan = Plan::new(&format!("{scheme}://127.0.0.1:{port}{}", self.path()))?;
        Ok(Plan {
            pace: self.pace(traffic),
            duration: traffic.warm_up + traffic.measured,
            turn: traffic.turn,
            warm_up: traffic.turn.map_or(traffic.warm_up, |turn| turn.shared(traffic.warm_up)),
            connections: traffic.connections,
            streams: if self == Self::H2Tls { 10 } else { 1 },
            protocol: self.protocol(),
            opening: if self.churns() { Opening::AsNeeded } else { Opening::AllAtOnce },
            reuse: if self.churns() { Reuse::Close } else { Reuse::KeepAlive },
            handshakes: if self == Self::ChurnTlsFull { Handshakes::Full } else { Handshakes::Resumed },
            trust: Trust { insecure: true, ..Trust::default() },
            users: if self == Self::Shipped { USERS } else { 0 },
            mix: self.mix().unwrap_or(plan.mix),
            ..plan
        })
    }

    fn pace(self, Traffic { rate, warm_up, measured, connections, .. }: Traffic) -> Pace {
        let Some(rate) = rate else { return Pace::Full };
        if self != Self::Conns10k {
            return Pace::Rate(rate);
        }
        // Each connection's first request finds nothing warm; all of them at once would leave a queue for all that
        // follows, and the proxy with as many connections to its upstreams.
        let ramp = Phase { rate: connections as f64 / warm_up.as_secs_f64(), duration: warm_up };
        Pace::Phases(vec![ramp, Phase { rate, duration: measured }])
    }

    fn path(self) -> &'static str {
        match self {
            Self::Download1m => "/1m",
            Self::WebSocket => "/ws",
            _ => "/",
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::H2Tls => Protocol::Http2,
            Self::WebSocket => Protocol::WebSocket,
            _ => Protocol::Http1,
        }
    }

    /// What is sent, where it is not a plain GET.
    fn mix(self) -> Option<Vec<Request>> {
        match (self, self.layout()) {
            (Self::Post64k, _) => Some(vec![Request::post("/", vec![b'x'; 64 * 1024])]),
            (Self::TelemetryOn, _) => Some(one_receipt_in_a_hundred()),
            (Self::WebSocket, _) => Some(vec![Request::post(self.path(), vec![b'x'; MESSAGE])]),
            (_, layout @ Layout::Routes(_)) => {
                Some(layout.routes().map(|(host, path)| to_route(&host, &path)).collect())
            }
            _ => None,
        }
    }
}

/// How a scenario's load runs this time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests per second; `None` for as many as are answered.
    pub rate: Option<f64>,
    /// How long it runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub measured: Duration,
    /// Over how many connections.
    pub connections: usize,
    /// When it is its turn, where several proxies take turns.
    pub turn: Option<Turn>,
}

/// Somebody looks into a request now and then.
fn one_receipt_in_a_hundred() -> Vec<Request> {
    let asking = Request::get("/").header(HeaderName::from_static("x-waypost-trace"), HeaderValue::from_static("1"));
    vec![Request { weight: 99, ..Request::get("/") }, asking]
}

fn to_route(host: &str, path: &str) -> Request {
    let host = HeaderValue::from_str(host).expect("letters, digits and a dot");
    Request::get(&format!("{path}/item")).header(header::HOST, host)
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Relation {
    /// What is divided by what, for the scenario it belongs to.
    pub fn words(self, kind: Kind) -> Cow<'static, str> {
        match self {
            Self::CostOf(base) => format!("CPU per request, {} / {}", kind.name(), base.name()).into(),
            Self::SpeedUpOf(base, workers) => {
                format!("{workers} x CPU per request, {} / {}", base.name(), kind.name()).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { pid: 1, plain: 7001, tls: 7002, admin: 7003 };

    #[test]
    fn every_scenario_that_sends_has_a_plan_that_can_run() {
        for kind in Kind::ALL {
            let rate = if let Work::Offered(rate) = kind.work() { Some(rate) } else { None };
            let traffic = Traffic {
                rate,
                warm_up: kind.warm_up(Tempo::FULL),
                measured: Duration::from_secs(1),
                connections: kind.connections(Tempo::FULL),
                turn: None,
            };
            let plan = kind.plan(PLACE, traffic).unwrap();
            assert_eq!(plan.check(), Ok(()), "{}", kind.name());
            assert_eq!(plan.target.tls, kind.is_tls(), "{}", kind.name());
        }
    }

    #[test]
    fn words_select_a_scenario_or_a_family() {
        assert_eq!(Kind::selected_by("churn"), Ok(vec![Kind::Churn]));
        assert_eq!(Kind::selected_by("scaling"), Ok(vec![Kind::Workers1, Kind::Workers2]));
        assert_eq!(Kind::selected_by("routes").unwrap().len(), 3);
        assert!(Kind::selected_by("chrun").unwrap_err().contains("h1_small, conns64"));
    }

    #[test]
    fn requests_reach_every_route() {
        let routes: Vec<_> = Layout::Routes(1_000).routes().collect();
        assert_eq!(routes.first().unwrap(), &("h0.test".to_owned(), "/p0".to_owned()));
        assert_eq!(routes.last().unwrap(), &("h99.test".to_owned(), "/p9".to_owned()));
        let mix = Kind::Routes1000.mix().unwrap();
        assert_eq!(
            (mix.len(), mix[999].path.as_str(), &mix[999].headers["host"]),
            (1_000, "/p9/item", &"h99.test".parse().unwrap())
        );
    }

    #[test]
    fn what_is_set_beside_another_follows_it() {
        let position = |kind| Kind::ALL.iter().position(|&one| one == kind).unwrap();
        for kind in Kind::ALL {
            if let Some(Relation::CostOf(base) | Relation::SpeedUpOf(base, _)) = kind.relation() {
                assert!((1..=2).contains(&(position(kind) - position(base))), "{}", kind.name());
                assert_eq!(kind.work(), base.work(), "{}: equal rates", kind.name());
            }
        }
    }
}
