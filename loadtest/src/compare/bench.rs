//! One measurement: a proxy is started, given its scenario, looked at before and after, and ended.
//!
//! At an offered rate all proxies run and take turns of a tenth of a second: a machine that others share is disturbed for
//! some milliseconds now and for some seconds then, and so each of them is. Only where one works as fast as it can it is
//! alone.

use std::time::{Duration, Instant};

use super::{
    CompareError, Settings,
    children::{Children, Started, Wanted},
    figures::{Round, Seen, Traffic},
    peers::{Peer, Place},
    scenario::{self, Kind, Layout, Work},
    usage::Usage,
    watcher::Watcher,
};
use crate::{
    hold::{self, Held, Layer},
    load::{self, Load, RunError},
    plan::{Plan, Turn},
    report::Latency,
};

/// From the last connection's answer to the look at the memory: a proxy that lets go of the buffers of connections
/// idle for 5 s has done so by then, and none has closed them yet.
pub const IDLE_WAIT: Duration = Duration::from_secs(7);
/// Connections that come and go before the memory is looked at first, so that what is made once is not counted.
const FIRST_COMERS: usize = 4;
/// Descriptors that are kept for anything else than clients' connections.
const RESERVE: usize = 400;
/// Long beside a cold cache's first requests, and so short that most turns pass before a shared machine stands still
/// again, as it does several times a second.
const TURN: Duration = Duration::from_millis(100);
/// Between two looks of those who watch a proxy.
const LOOK: Duration = Duration::from_secs(1);
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

    /// How many proxies have a part in a scenario at the same time: as many as the descriptors allow, but nobody
    /// beside one that works as fast as it can.
    pub(super) fn abreast(&self, kind: Kind) -> usize {
        if kind.work() == Work::Full { 1 } else { (self.room() / self.connections(kind)).max(1) }
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
        for some in peers.chunks(self.abreast(kind)) {
            seen.extend(match kind.work() {
                Work::Idle(layer) => self.idle(kind, layer, some).await,
                Work::Offered(_) | Work::Full => self.traffic(kind, some).await,
            });
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

    /// Proxies at work, all of them running: in turns at an offered rate, or one alone as fast as it can.
    async fn traffic(&self, kind: Kind, peers: &[&Peer]) -> Vec<Result<Round, CompareError>> {
        let tempo = self.settings.tempo;
        let course = Course::new(kind.warm_up(tempo), tempo.measured, peers.len());
        let mut runs = Vec::new();
        for (peer, index) in peers.iter().zip(0..) {
            runs.push(self.prepare(kind, peer, (course, index)).await);
        }
        let plans = runs.iter().flatten().map(|run| run.plan.clone()).collect();
        let loads = match load::start_together(plans).await {
            Ok(loads) => loads,
            Err(error) => return runs.into_iter().map(|run| Err(not_begun(run, &error))).collect(),
        };
        let places: Vec<_> = runs.iter().flatten().map(|run| run.started.place).collect();
        let spans = watch(&loads, &places, course).await;
        let mut measured = loads.into_iter().zip(spans);
        let mut rounds = Vec::new();
        for run in runs {
            rounds.push(match run {
                Ok(run) => {
                    let (load, span) = measured.next().expect("each that was ready has its load");
                    run.end(load, span, course).await
                }
                Err(error) => Err(error),
            });
        }
        rounds
    }

    /// A proxy that runs, and what it is to be given.
    async fn prepare(&self, kind: Kind, peer: &Peer, (course, index): (Course, u32)) -> Result<Run, CompareError> {
        let started = self.start(kind, peer).await?;
        let rate = if let Work::Offered(rate) = kind.work() { Some(rate * self.pace) } else { None };
        let connections = self.connections(kind);
        let traffic = scenario::Traffic {
            rate,
            warm_up: course.warm_up,
            measured: course.measured + TAIL,
            connections,
            turn: rate.map(|_| course.turn(index)),
        };
        let plan = kind.plan(started.place, traffic)?;
        // A look for each second of its own: it uses its core while it is another one's turn, too.
        let every = LOOK * course.of;
        let watcher = (kind.layout() == Layout::Watched).then(|| Watcher::start(started.place.admin, every));
        Ok(Run { kind, peer: peer.name(), connections, started, plan, rate, watcher })
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

/// How long a round of traffic is for each of those that share it.
#[derive(Debug, Clone, Copy)]
struct Course {
    warm_up: Duration,
    measured: Duration,
    /// How many take turns.
    of: u32,
}

impl Course {
    /// Whole turns, so that all get the same.
    fn new(warm_up: Duration, measured: Duration, of: usize) -> Self {
        let of = u32::try_from(of).expect("a handful of proxies");
        let whole = |time| Turn { length: TURN, index: 0, of }.whole(time);
        Self { warm_up: whole(warm_up), measured: whole(measured), of }
    }

    fn turn(self, index: u32) -> Turn {
        Turn { length: TURN, index, of: self.of }
    }
}

/// A proxy that runs, and the load it is to get.
struct Run {
    kind: Kind,
    peer: &'static str,
    connections: usize,
    started: Started,
    plan: Plan,
    rate: Option<f64>,
    watcher: Option<Watcher>,
}

/// What a proxy has used and done from the first look to the last one.
struct Span {
    wall: Duration,
    cpu: Duration,
    rss_kib: u64,
    answered: u64,
}

/// Looks at all proxies when they are warm, and again when all have had their turns.
async fn watch(loads: &[Load], places: &[Place], course: Course) -> Vec<Span> {
    let Some(clock) = loads.first().map(Load::watch) else { return Vec::new() };
    let look = || {
        let looks = loads.iter().zip(places).map(|(load, place)| (Instant::now(), Usage::of(place.pid), load.done()));
        looks.collect::<Vec<_>>()
    };
    clock.passed(course.warm_up * course.of).await;
    let before = look();
    clock.passed((course.warm_up + course.measured) * course.of).await;
    let spans = before.into_iter().zip(look()).map(|((begin, used, done), (end, usage, all_done))| Span {
        wall: end - begin,
        cpu: usage.cpu.saturating_sub(used.cpu),
        rss_kib: usage.rss_kib,
        answered: all_done - done,
    });
    spans.collect()
}

impl Run {
    /// Waits for the load's end and ends the proxy.
    async fn end(self, load: Load, span: Span, course: Course) -> Result<Round, CompareError> {
        let report = load.wait().await?;
        if let Some(watcher) = self.watcher {
            let failed = |error| CompareError::Io { what: format!("watch {}", self.peer), error };
            watcher.end().await.map_err(failed)?;
        }
        self.started.end().await;
        if report.completed == 0 || span.answered == 0 {
            return Err(CompareError::Silent { name: self.peer, kind: self.kind });
        }
        let own = span.wall.as_secs_f64() / f64::from(course.of);
        let seen = Traffic {
            cpu_us: span.cpu.as_secs_f64() * 1e6 / span.answered as f64,
            busy_percent: percent(span.cpu.as_secs_f64(), own),
            offered: self.rate,
            rate: span.answered as f64 / own,
            failed: report.failed,
            resumed_percent: (self.kind.is_tls() && self.kind.churns())
                .then(|| percent(report.resumed as f64, report.connections as f64)),
            latency: Latency::median(&report.turns),
            all_latency: Box::new(report.latency),
        };
        let Self { kind, peer, connections, .. } = self;
        Ok(Round { kind, proxy: peer, round: 0, connections, rss_kib: span.rss_kib, seen: Seen::Traffic(seen) })
    }
}

/// Why one of them was not measured, when the loads could not begin.
fn not_begun(run: Result<Run, CompareError>, error: &RunError) -> CompareError {
    run.err().unwrap_or_else(|| RunError::Worker(error.to_string()).into())
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
