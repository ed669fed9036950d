//! One measurement: a proxy is started, given its scenario, looked at before and after, and ended.
//!
//! Only one proxy runs at a time, except where all of them do nothing: waiting is done once for as many as the
//! descriptors allow.

use std::time::{Duration, Instant};

use super::{
    CompareError, Settings,
    children::{Children, Started, Wanted},
    figures::{Round, Seen, Traffic},
    peers::Peer,
    scenario::{self, Kind, Layout, Work},
    usage::Usage,
};
use crate::{
    hold::{self, Held, Layer},
    load,
};

/// From the last connection's answer to the look at the memory: a proxy that lets go of the buffers of connections
/// idle for 5 s has done so by then, and none has closed them yet.
pub const IDLE_WAIT: Duration = Duration::from_secs(7);
/// Connections that come and go before the memory is looked at first, so that what is made once is not counted.
const FIRST_COMERS: usize = 4;
/// Descriptors that are kept for anything else than clients' connections.
const RESERVE: usize = 400;
/// How long the load goes on after the last look: the end of its connections is not measured.
const TAIL: Duration = Duration::from_millis(50);

/// What all measurements share.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) settings: Settings,
    pub(super) children: Children,
    /// Descriptors a process may have.
    pub(super) descriptors: usize,
    /// The share of a scenario's rate that the slowest proxy bears.
    pub(super) pace: f64,
}

impl Bench {
    /// Connections of a scenario: as many as it wants, or as the descriptors allow.
    pub(super) fn connections(&self, kind: Kind) -> usize {
        kind.connections(self.settings.tempo).min(self.room())
    }

    /// How many proxies can hold the connections of a scenario at the same time.
    pub(super) fn abreast(&self, kind: Kind) -> usize {
        (self.room() / self.connections(kind)).max(1)
    }

    fn room(&self) -> usize {
        self.descriptors.saturating_sub(RESERVE).max(1)
    }

    /// Why a peer has no part in a scenario; `None` if it has one.
    pub(super) fn excuse(&self, kind: Kind, peer: &Peer) -> Option<String> {
        let need = self.connections(kind) * peer.recipe().descriptors_per_connection();
        let known = peer.recipe().excuse(kind).map(str::to_owned);
        let short = || format!("needs {} descriptors and may have {}", need + RESERVE, self.descriptors);
        known.or_else(|| (need > self.room()).then(short))
    }

    /// A round of a scenario for all these peers; the outcomes in their order.
    pub(super) async fn round(&self, kind: Kind, peers: &[&Peer]) -> Vec<Result<Round, CompareError>> {
        let mut seen = Vec::new();
        let Work::Idle(layer) = kind.work() else {
            for peer in peers {
                seen.push(self.traffic(kind, peer).await);
            }
            return seen;
        };
        for some in peers.chunks(self.abreast(kind)) {
            seen.extend(self.idle(kind, layer, some).await);
        }
        seen
    }

    /// A scenario for one peer.
    pub(super) async fn alone(&self, kind: Kind, peer: &Peer) -> Result<Round, CompareError> {
        self.round(kind, &[peer]).await.pop().expect("one peer has one outcome")
    }

    async fn start(&self, kind: Kind, peer: &Peer) -> Result<Started, CompareError> {
        let Settings { proxy_core, load_core, .. } = self.settings;
        let cores = match kind.layout() {
            Layout::Workers(_) => format!("{proxy_core},{load_core}"),
            _ => proxy_core.to_string(),
        };
        let connections = self.connections(kind);
        self.children.start(peer, Wanted { layout: kind.layout(), connections, cores: &cores }).await
    }

    async fn traffic(&self, kind: Kind, peer: &Peer) -> Result<Round, CompareError> {
        let started = self.start(kind, peer).await?;
        let tempo = self.settings.tempo;
        let offered = if let Work::Offered(rate) = kind.work() { Some(rate * self.pace) } else { None };
        let connections = self.connections(kind);
        let warm_up = kind.warm_up(tempo);
        let traffic = scenario::Traffic { rate: offered, warm_up, measured: tempo.measured + TAIL, connections };
        let load = load::start(kind.plan(started.place, traffic)?).await?;
        let watch = load.watch();
        watch.passed(warm_up).await;
        let (begin, before, done_before) = (Instant::now(), Usage::of(started.place.pid), watch.done());
        watch.passed(warm_up + tempo.measured).await;
        let (wall, after, answered) = (begin.elapsed(), Usage::of(started.place.pid), watch.done() - done_before);
        let report = load.wait().await?;
        started.end().await;
        if report.completed == 0 || answered == 0 {
            return Err(CompareError::Silent { name: peer.name(), kind });
        }
        let cpu = after.cpu.saturating_sub(before.cpu);
        let seen = Traffic {
            cpu_us: cpu.as_secs_f64() * 1e6 / answered as f64,
            busy_percent: percent(cpu.as_secs_f64(), wall.as_secs_f64()),
            offered,
            rate: answered as f64 / wall.as_secs_f64(),
            failed: report.failed,
            resumed_percent: (kind.is_tls() && kind.churns())
                .then(|| percent(report.resumed as f64, report.connections as f64)),
            latency: report.latency,
        };
        let seen = Seen::Traffic(seen);
        Ok(Round { kind, proxy: peer.name(), round: 0, connections, rss_kib: after.rss_kib, seen })
    }

    /// Several proxies that hold their connections at the same time.
    async fn idle(&self, kind: Kind, layer: Layer, peers: &[&Peer]) -> Vec<Result<Round, CompareError>> {
        let mut holding = Vec::new();
        for peer in peers {
            holding.push(self.hold(kind, layer, peer).await);
        }
        tokio::time::sleep(IDLE_WAIT).await;
        let looks = peers.iter().zip(holding).map(|(peer, holding)| look(kind, peer, &holding?));
        looks.collect()
    }

    async fn hold(&self, kind: Kind, layer: Layer, peer: &Peer) -> Result<Holding, CompareError> {
        let started = self.start(kind, peer).await?;
        let place = started.place;
        let port = if layer == Layer::Tls { place.tls } else { place.plain };
        let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
        let failed = |error| CompareError::Io { what: format!("{}: open idle connections", peer.name()), error };
        drop(hold::open(address, layer, FIRST_COMERS).await.map_err(failed)?);
        let before = Usage::of(place.pid);
        let held = hold::open(address, layer, self.connections(kind)).await.map_err(failed)?;
        Ok(Holding { started, before, held })
    }
}

/// A proxy with the connections it holds.
struct Holding {
    started: Started,
    before: Usage,
    held: Held,
}

fn look(kind: Kind, peer: &Peer, holding: &Holding) -> Result<Round, CompareError> {
    let Holding { started, before, held } = holding;
    let (after, alive) = (Usage::of(started.place.pid), held.alive());
    if alive == 0 {
        return Err(CompareError::Silent { name: peer.name(), kind });
    }
    let seen = Seen::Idle {
        kib_per_connection: after.rss_kib.saturating_sub(before.rss_kib) as f64 / alive as f64,
        closed: held.count() - alive,
    };
    Ok(Round { kind, proxy: peer.name(), round: 0, connections: alive, rss_kib: after.rss_kib, seen })
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}
