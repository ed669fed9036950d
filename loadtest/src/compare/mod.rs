//! What a request costs in each of several proxies, measured side by side.
//!
//! The measure is CPU time of the proxy's processes per answered request, because on a small and noisy machine it
//! holds where throughput does not. Each proxy has one worker on a core of its own; load and upstreams share another;
//! all get the same offered rate in interleaved rounds, and ratios are taken within a round. Owns the order of
//! measuring; children belong to [`measure`], configs to [`peers`], the figures to [`table`].

pub mod measure;
pub mod peers;
pub mod table;

use std::{io, path::PathBuf, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

pub use table::Comparison;

use crate::{
    load::{self, RunError},
    plan::{Opening, Plan, PlanError, Protocol, Request, Reuse, Trust},
};
use measure::{Children, Usage};
use peers::{Peer, Place};
use table::Round;

/// Connections are open and caches warm after this; what is measured begins here.
const WARM_UP: Duration = Duration::from_millis(700);

/// How to compare.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The waypost binary; without it only the peers are compared.
    pub waypost: Option<PathBuf>,
    /// The scenarios.
    pub kinds: Vec<Kind>,
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Seconds that are measured in each round.
    pub seconds: u64,
    /// The core of the proxy.
    pub proxy_core: usize,
    /// The core of load and upstreams.
    pub load_core: usize,
}

/// A scenario of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// HTTP/1.1, small bodies, 64 keep-alive connections.
    H1Small,
    /// The same over TLS 1.3.
    H1Tls,
    /// HTTP/2 over TLS, 64 connections of 10 streams.
    H2Tls,
    /// A body of 1 MiB to the client.
    Download1m,
    /// A body of 64 KiB to the upstream.
    Post64k,
    /// A connection for every request.
    Churn,
    /// A TLS connection for every request; sessions are resumed.
    ChurnTls,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Fewer than two proxies.
    #[error("nothing to compare: of waypost, nginx and haproxy only {0} of them can be run")]
    Lonely(usize),
    /// A program could not be started or pinned, or a file not written.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A proxy does not answer.
    #[error("{name} did not get ready within 10 s; its output:\n{output}")]
    NotReady {
        /// Which.
        name: String,
        /// What it printed.
        output: String,
    },
    /// The load could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A certificate could not be made.
    #[error("no certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A proxy answered nothing at all, so there is no cost per request.
    #[error("{name} answered no request of {kind:?}")]
    Silent {
        /// Which.
        name: String,
        /// In which scenario.
        kind: Kind,
    },
}

impl From<PlanError> for CompareError {
    fn from(error: PlanError) -> Self {
        Self::Run(error.into())
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::H1Small, Self::H1Tls, Self::H2Tls, Self::Download1m, Self::Post64k, Self::Churn, Self::ChurnTls];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::H1Small => "h1_small",
            Self::H1Tls => "h1_tls",
            Self::H2Tls => "h2_tls",
            Self::Download1m => "download1m",
            Self::Post64k => "post64k",
            Self::Churn => "churn",
            Self::ChurnTls => "churn_tls",
        }
    }

    /// Offered requests per second: what one core of load and upstreams can offer without being the bottleneck.
    pub fn rate(self) -> f64 {
        match self {
            Self::H1Small => 15_000.0,
            Self::H1Tls | Self::H2Tls => 10_000.0,
            Self::Post64k | Self::Churn => 1_500.0,
            Self::Download1m | Self::ChurnTls => 300.0,
        }
    }

    fn tls(self) -> bool {
        matches!(self, Self::H1Tls | Self::H2Tls | Self::ChurnTls)
    }

    fn plan(self, place: Place, seconds: u64) -> Result<Plan, PlanError> {
        let (scheme, port) = if self.tls() { ("https", place.tls) } else { ("http", place.plain) };
        let path = if self == Self::Download1m { "/1m" } else { "/" };
        let plan = Plan::new(&format!("{scheme}://127.0.0.1:{port}{path}"))?.rate(self.rate());
        Ok(Plan {
            duration: WARM_UP + Duration::from_secs(seconds),
            connections: 64,
            streams: if self == Self::H2Tls { 10 } else { 1 },
            protocol: if self == Self::H2Tls { Protocol::Http2 } else { Protocol::Http1 },
            opening: if self.churns() { Opening::AsNeeded } else { Opening::AllAtOnce },
            reuse: if self.churns() { Reuse::Close } else { Reuse::KeepAlive },
            trust: Trust { insecure: true, ..Trust::default() },
            mix: match self {
                Self::Post64k => vec![Request::post("/", vec![b'x'; 64 * 1024])],
                _ => plan.mix.clone(),
            },
            ..plan
        })
    }

    fn churns(self) -> bool {
        matches!(self, Self::Churn | Self::ChurnTls)
    }
}

/// Compares; `say` gets a line now and then. Dropping the future ends all children.
pub async fn run(settings: Settings, mut say: impl FnMut(&str)) -> Result<Comparison, CompareError> {
    measure::pin_self(settings.load_core)?;
    let peers = Peer::found(settings.waypost.as_deref());
    if peers.len() < 2 {
        return Err(CompareError::Lonely(peers.len()));
    }
    let mut children = Children::new()?;
    let upstreams = children.start_upstreams(settings.load_core).await?;
    let mut running = Vec::new();
    for peer in peers {
        say(&format!("starting {}", peer.version()));
        running.push((children.start_peer(&peer, &upstreams, settings.proxy_core).await?, peer));
    }
    let mut rounds = Vec::new();
    for round in 1..=settings.rounds {
        for &kind in &settings.kinds {
            for &(place, ref peer) in &running {
                let seen = measure_once(kind, place, peer, settings.seconds).await?;
                say(&format!("round {round} {}: {seen}", kind.name()));
                rounds.push(Round { round, ..seen });
            }
        }
    }
    Ok(Comparison::new(running.iter().map(|(_, peer)| peer.version()).collect(), rounds, settings.seconds))
}

async fn measure_once(kind: Kind, place: Place, peer: &Peer, seconds: u64) -> Result<Round, CompareError> {
    let load = load::start(kind.plan(place, seconds)?).await?;
    let watch = load.watch();
    watch.passed(WARM_UP).await;
    let (before, done_before) = (Usage::of(place.pid), watch.done());
    let report = load.wait().await?;
    let after = Usage::of(place.pid);
    let answered = watch.done() - done_before;
    if report.completed == 0 || answered == 0 {
        return Err(CompareError::Silent { name: peer.name().to_owned(), kind });
    }
    Ok(Round {
        kind,
        proxy: peer.name(),
        round: 0,
        cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / answered as f64,
        rss_kib: after.rss_kib,
        offered: kind.rate(),
        rate: report.rate,
        failed: report.failed,
        latency: report.latency,
    })
}
