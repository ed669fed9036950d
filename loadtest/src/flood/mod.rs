//! Hostile clients, beside ordinary ones, and what those notice of them.
//!
//! In reading order: a [`Kind`] says what is done, an [`Attack`] does it with many clients over a bounded time, and
//! [`run`] sets a load of ordinary users beside it and makes an [`Outcome`] of what both have seen. Owns the bounds: only
//! this machine's own addresses are attacked, for as long as was said, with no more new connections a second than
//! [`MOST_CONNECTIONS`]. Never judges.

mod attack;
mod ending;
mod http1;
mod http2;
mod tls;

pub mod frames;

mod outcome;
mod process;

use std::{io, net::SocketAddr, str::FromStr, time::Duration};

use tokio::sync::oneshot;

pub use attack::{Attack, MOST_CONNECTIONS};
pub use ending::Tally;
pub use outcome::Outcome;
pub use process::Process;

use crate::{
    load::{self, RunError, TrustError},
    plan::{Opening, Plan, PlanError, Target, Trust, Turn},
    report::Report,
};
use process::Watched;

/// What hostile clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Heads that never end, a field at a time.
    SlowHeaders,
    /// Uploads that stop after their first byte.
    SlowBody,
    /// Downloads that nobody reads.
    SlowReader,
    /// Connections on which nothing is said.
    Connections,
    /// Heads of a MiB.
    HeaderBomb,
    /// HTTP/2 requests, each taken back at once.
    H2RapidReset,
    /// HTTP/2 heads that never end.
    H2Continuation,
    /// HTTP/2 SETTINGS, whose acknowledgements nobody reads.
    H2Settings,
    /// HTTP/2 PINGs, whose answers nobody reads.
    H2Ping,
    /// HTTP/2 DATA frames with nothing in them.
    H2EmptyFrames,
    /// HTTP/2 downloads for which no room is made.
    H2ZeroWindow,
    /// TLS handshakes that are left, or never gone on with.
    TlsHandshakes,
    /// TLS 1.2 connections that begin another handshake.
    TlsRenegotiation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::SlowHeaders,
        Self::SlowBody,
        Self::SlowReader,
        Self::Connections,
        Self::HeaderBomb,
        Self::H2RapidReset,
        Self::H2Continuation,
        Self::H2Settings,
        Self::H2Ping,
        Self::H2EmptyFrames,
        Self::H2ZeroWindow,
        Self::TlsHandshakes,
        Self::TlsRenegotiation,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowHeaders => "slow_headers",
            Self::SlowBody => "slow_body",
            Self::SlowReader => "slow_reader",
            Self::Connections => "connections",
            Self::HeaderBomb => "header_bomb",
            Self::H2RapidReset => "h2_rapid_reset",
            Self::H2Continuation => "h2_continuation",
            Self::H2Settings => "h2_settings",
            Self::H2Ping => "h2_ping",
            Self::H2EmptyFrames => "h2_empty_frames",
            Self::H2ZeroWindow => "h2_zero_window",
            Self::TlsHandshakes => "tls_handshakes",
            Self::TlsRenegotiation => "tls_renegotiation",
        }
    }

    /// How many clients make a flood of it: many that do little, or a few that do much.
    pub fn clients(self) -> usize {
        match self {
            Self::SlowHeaders | Self::SlowBody | Self::SlowReader | Self::Connections => 5_000,
            _ => 50,
        }
    }

    /// Whether it is about TLS itself.
    pub fn needs_tls(self) -> bool {
        matches!(self, Self::TlsHandshakes | Self::TlsRenegotiation)
    }

    pub(crate) fn is_http2(self) -> bool {
        self.name().starts_with("h2_")
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no such kind; there are {}", names()))
    }
}

/// A flood beside ordinary users.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What both ask for. Downloads should be large for [`Kind::SlowReader`] and [`Kind::H2ZeroWindow`].
    pub url: String,
    /// Another path for the flood.
    pub path: Option<String>,
    /// What hostile clients do.
    pub kind: Kind,
    /// How many there are.
    pub clients: usize,
    /// How long the users are watched without them, and again with them.
    pub duration: Duration,
    /// Requests of ordinary users a second.
    pub rate: f64,
    /// Whom to believe.
    pub trust: Trust,
    /// The process under attack, to be looked at.
    pub pid: Option<u32>,
}

/// Why there was no flood.
#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    /// The URL is of no use.
    #[error(transparent)]
    Url(#[from] PlanError),
    /// The users could not be run.
    #[error(transparent)]
    Users(#[from] RunError),
    /// The trust settings are of no use.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Not this machine.
    #[error("{0} is not a loopback address: only this machine's own are flooded")]
    Stranger(SocketAddr),
    /// TLS is flooded, but the URL has none.
    #[error("this kind needs an https URL")]
    NeedsTls,
    /// A thread or an address failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Of the second run of users: connections are opened and the first requests sent before the flood begins.
const AHEAD: Duration = Duration::from_millis(500);
/// After the flood, before the process is looked at for the last time.
const AFTER: Duration = Duration::from_secs(1);
/// How long the users' latencies are looked at together.
const GLIMPSE: Duration = Duration::from_millis(200);
/// Connections of the users: more than they need, all open before the flood, as users have them.
const USERS: usize = 50;

/// Watches users without a flood, and then with it.
pub async fn run(settings: Settings, told: impl Fn(&str)) -> Result<Outcome, FloodError> {
    let attack = settings.attack().await?;
    told("users alone");
    let before = load::run(settings.users(AHEAD)?).await?;
    let watched = settings.pid.map(Watched::begin);
    told("users and flood");
    let users = load::start(settings.users(AHEAD)?).await?;
    users.watch().passed(AHEAD).await;
    let tally = aside(attack).await?;
    let during: Report = users.wait().await?;
    tokio::time::sleep(AFTER).await;
    let process = match watched {
        Some(watched) => Some(watched.end().await),
        None => None,
    };
    Ok(Outcome::new(&settings, [&before, &during], tally, process))
}

impl Settings {
    async fn attack(&self) -> Result<Attack, FloodError> {
        let (target, path) = Target::parse(&self.url)?;
        let mut found = tokio::net::lookup_host((target.host(), target.port())).await?;
        let address = found.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let attack = Attack::new(self.kind, address, self.clients, self.duration);
        let attack = attack.asking(target.authority.as_str(), self.path.as_ref().unwrap_or(&path));
        if target.tls { attack.over_tls(&self.trust, target.host()) } else { Ok(attack) }
    }

    fn users(&self, warm_up: Duration) -> Result<Plan, PlanError> {
        let plan = Plan::new(&self.url)?.rate(self.rate).connections(USERS).duration(warm_up + self.duration);
        let turn = Some(Turn { length: GLIMPSE, index: 0, of: 1 });
        Ok(Plan { warm_up, turn, opening: Opening::AllAtOnce, trust: self.trust.clone(), ..plan })
    }
}

/// On a thread of its own, which yields to that of the users where they share a core: they are what is measured.
async fn aside(attack: Attack) -> Result<Tally, FloodError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new().name("flood".to_owned()).spawn(move || {
        // Of this thread only; without it the users would be delayed by their own machine.
        let _ = rustix::process::nice(5);
        // Nobody is left to tell if the flood was dropped.
        let _ = send.send(runtime.block_on(attack.run()));
    })?;
    receive.await.map_err(|_| io::Error::other("the flood's thread panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert!("teapots".parse::<Kind>().unwrap_err().contains("h2_zero_window"));
    }

    #[tokio::test]
    async fn strangers_are_not_flooded() {
        let attack = Attack::new(Kind::Connections, "192.0.2.1:80".parse().unwrap(), 1, Duration::from_secs(1));
        assert!(matches!(attack.run().await, Err(FloodError::Stranger(_))));
    }
}
