//! A proxy amid a failing fleet: faults, load and changes of the config, all from one seed, and an audit of what it made
//! of them.
//!
//! In reading order: a [`Trial`] says what will happen ([`setting`] the config, [`upstream_mock::Script`] the faults),
//! [`drive`] lets it happen to a [`Subject`], [`client`] and [`sample`] note what is seen, [`audit`] holds that against
//! the invariants. [`process`] is the subject that is a process of its own; [`command`] runs one trial after another.
//!
//! Never does: judge how fast it was.

pub mod audit;
pub mod client;
pub mod command;
pub mod process;
pub mod sample;
pub mod setting;

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use upstream_mock::script::{Bounds, ScriptError, Trouble};
use upstream_mock::{Fleet, Script};

use self::client::{Client, Seen};
use self::sample::Sample;
use self::setting::Setting;

/// Counters must be at rest this long after the load and the fleet are.
const REST: Duration = Duration::from_secs(10);

/// An endpoint that is this much late because the machine is busy may look as if it were ill.
const STALL: Duration = Duration::from_millis(150);

/// Why a trial could not be held.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The proxy under test does not do what it must for a trial.
    #[error("{0}")]
    Subject(String),
    /// The script does not fit the fleet.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A file or a process.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] upstream_mock::StartError),
}

/// Something that is done to the proxy while it serves.
#[derive(Debug, Clone)]
pub enum Change {
    /// Another config.
    Reload(Setting),
    /// The same config, read again.
    Again,
    /// A new process takes over.
    Upgrade,
}

/// The proxy under test.
#[expect(async_fn_in_trait, reason = "nobody sends these futures to another thread")]
pub trait Subject {
    /// Where it takes requests.
    fn web(&self) -> SocketAddr;
    /// Where its metrics are.
    fn admin(&self) -> SocketAddr;
    /// Does this to it; the time of return is when it has happened.
    async fn change(&mut self, change: &Change) -> Result<(), ChaosError>;
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How long faults come.
    pub length: Duration,
    /// Clients that do everything.
    pub clients: usize,
    /// Clients that are pinned, if the service pins.
    pub users: usize,
    /// The pause of a client between two requests, on average.
    pub pause: Duration,
    /// From one change of the config to the next, on average.
    pub change_every: Duration,
    /// From one upgrade to the next, if there are any.
    pub upgrade_every: Option<Duration>,
    /// Short waits and quick probes, for a trial of seconds.
    pub quick: bool,
}

/// All that will happen.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Whence it comes.
    pub seed: u64,
    /// How long and how much.
    pub extent: Extent,
    /// The config to begin with.
    pub setting: Setting,
    /// What happens to the fleet.
    pub script: Script,
    /// What happens to the proxy.
    pub changes: Vec<(Duration, Change)>,
}

/// All that was seen.
#[derive(Debug)]
pub struct Evidence {
    /// Every request.
    pub seen: Vec<Seen>,
    /// The metrics, many times a second.
    pub samples: Vec<Sample>,
    /// When a change began and when it had happened, and whether it was an upgrade.
    pub changed: Vec<(Duration, Duration, bool)>,
    /// Keys of requests that were executed more than once.
    pub doubled: Vec<(String, u64)>,
    /// Counters that did not return to zero.
    pub residue: Vec<String>,
    /// How long it took until all had.
    pub rest: Duration,
    /// Times in which this program itself stood still, so that endpoints and clients were late.
    pub stalls: Vec<(Duration, Duration)>,
}

impl Trial {
    /// The trial of this seed over these endpoints; with a script of its own, or the given one.
    pub fn random(seed: u64, names: &[String], extent: Extent, script: Option<Script>) -> Trial {
        let mut rng = Rng::with_seed(seed);
        let setting = Setting::random(&mut rng, names, extent.quick);
        let longest = Duration::from_millis(if extent.quick { 1200 } else { 4000 });
        let bounds = Bounds { length: extent.length, settle: setting.settle(), longest };
        let script_seed = rng.u64(..);
        let script = script.unwrap_or_else(|| Script::random(script_seed, names, bounds));
        let changes = changes(&mut rng, &setting, &script, extent);
        Trial { seed, extent, setting, script, changes }
    }

    /// When which endpoint takes no new clients because the config says so.
    pub fn drained(&self) -> Vec<Trouble> {
        let reloads: Vec<_> = self.changes.iter().filter_map(|(at, change)| Some((*at, change.setting()?))).collect();
        let ends = reloads.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
        let drained = |((from, setting), to): (&(Duration, &Setting), Duration)| {
            let endpoint = setting.drained()?.to_owned();
            Some(Trouble { endpoint, from: *from, to: to.saturating_add(setting.settle()), faults: Vec::new() })
        };
        reloads.iter().zip(ends).filter_map(drained).collect()
    }
}

impl Change {
    fn setting(&self) -> Option<&Setting> {
        match self {
            Change::Reload(setting) => Some(setting),
            Change::Again | Change::Upgrade => None,
        }
    }
}

/// Whether nothing ails the endpoint within this time.
pub fn is_sound(troubles: &[Trouble], endpoint: &str, from: Duration, to: Duration) -> bool {
    !troubles.iter().any(|trouble| trouble.endpoint == endpoint && trouble.from <= to && from <= trouble.to)
}

fn changes(rng: &mut Rng, first: &Setting, script: &Script, extent: Extent) -> Vec<(Duration, Change)> {
    let troubles = script.troubles();
    let mut changes = Vec::new();
    let (mut at, mut setting, mut upgraded) = (Duration::ZERO, first.clone(), Duration::ZERO);
    loop {
        at += extent.change_every.mul_f64(0.5 + rng.f64());
        if at >= extent.length {
            return changes;
        }
        if extent.upgrade_every.is_some_and(|every| at >= upgraded + every) {
            upgraded = at;
            changes.push((at, Change::Upgrade));
        } else if rng.u8(..6) == 0 {
            changes.push((at, Change::Again));
        } else {
            // Longer than any draining of the config lasts, for upgrades and the like may come between.
            let until = (at + extent.change_every * 5).min(extent.length);
            let spare = spare(rng, &setting, &troubles, (at, until));
            setting = setting.changed(rng, spare);
            changes.push((at, Change::Reload(setting.clone())));
        }
    }
}

/// An endpoint without which one that nothing ails is left at any time between.
fn spare(rng: &mut Rng, setting: &Setting, troubles: &[Trouble], (from, to): (Duration, Duration)) -> Option<usize> {
    let settle = setting.settle();
    let moments = |from: Duration, to: Duration| {
        let count = to.saturating_sub(from).as_millis() / 100;
        (0..=count).map(move |tenth| from + Duration::from_millis(100) * u32::try_from(tenth).unwrap_or(u32::MAX))
    };
    let names: Vec<_> = setting.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let can_go = |gone: &usize| {
        moments(from.saturating_sub(settle), to + settle).all(|now| {
            let mut others = names.iter().enumerate().filter(|(index, _)| index != gone);
            others.any(|(_, name)| is_sound(troubles, name, now.saturating_sub(settle), now + settle))
        })
    };
    let free: Vec<_> = (0..names.len()).filter(can_go).collect();
    (!free.is_empty()).then(|| free[rng.usize(..free.len())])
}

/// Lets the trial happen, returns what was seen.
pub async fn drive(trial: &Trial, fleet: &Fleet, subject: &mut impl Subject) -> Result<Evidence, ChaosError> {
    fleet.reset_counters();
    let (begin, stop) = (Instant::now(), CancellationToken::new());
    let mut clients = clients(trial, subject.web(), (begin, &stop));
    let watching = CancellationToken::new();
    let samples = tokio::spawn(sample::watch(subject.admin(), begin, watching.clone()));
    let stalls = tokio::spawn(stalls(begin, watching.clone()));
    let (played, changed) = tokio::join!(trial.script.play(fleet, begin), change_all(trial, subject, begin));
    let ended = async {
        played?;
        let changed = changed?;
        for container in fleet.containers() {
            let failed = |error: std::io::Error| ScriptError::Recover(container.name().to_owned(), error.to_string());
            container.recover().await.map_err(failed)?;
        }
        Ok::<_, ChaosError>(changed)
    };
    let ended = ended.await;
    if ended.is_ok() {
        sleep_until(begin + trial.extent.length + trial.setting.settle()).await;
    }
    stop.cancel();
    let mut seen = Vec::new();
    while let Some(one) = clients.join_next().await {
        seen.extend(one.map_err(|error| ChaosError::Subject(format!("a client failed: {error}")))?);
    }
    watching.cancel();
    let samples = samples.await.map_err(|error| ChaosError::Subject(error.to_string()))?;
    let stalls = stalls.await.map_err(|error| ChaosError::Subject(error.to_string()))?;
    let changed = ended?;
    let resting = Instant::now();
    let residue = residue(subject.admin(), fleet).await;
    let (rest, doubled) = (resting.elapsed(), fleet.double_executions());
    Ok(Evidence { seen, samples, changed, doubled, residue, rest, stalls })
}

fn clients(trial: &Trial, web: SocketAddr, (begin, stop): (Instant, &CancellationToken)) -> JoinSet<Vec<Seen>> {
    let mut set = JoinSet::new();
    let users = if trial.setting.pins() { trial.extent.users } else { 0 };
    for number in 0..trial.extent.clients + users {
        let user = number.checked_sub(trial.extent.clients);
        let client = Client::new(web, (trial.seed, number), user);
        set.spawn(client.run(begin, trial.extent.pause, stop.clone()));
    }
    set
}

async fn change_all(
    trial: &Trial,
    subject: &mut impl Subject,
    begin: Instant,
) -> Result<Vec<(Duration, Duration, bool)>, ChaosError> {
    let mut changed = Vec::new();
    for (at, change) in &trial.changes {
        sleep_until(begin + *at).await;
        let from = begin.elapsed();
        subject.change(change).await?;
        changed.push((from, begin.elapsed(), matches!(change, Change::Upgrade)));
    }
    Ok(changed)
}

/// Notes when a short sleep took long: whatever else was due then was late, too.
async fn stalls(begin: Instant, stop: CancellationToken) -> Vec<(Duration, Duration)> {
    let mut stalls = Vec::new();
    let mut before = begin.elapsed();
    while stop.run_until_cancelled(sleep(Duration::from_millis(10))).await.is_some() {
        let now = begin.elapsed();
        if now.saturating_sub(before) > STALL {
            stalls.push((before, now));
        }
        before = now;
    }
    stalls
}

/// What is not zero when everything should be, after some patience.
async fn residue(admin: SocketAddr, fleet: &Fleet) -> Vec<String> {
    let deadline = Instant::now() + REST;
    loop {
        let mut residue = match sample::page(admin).await {
            Ok(page) => sample::residue(&page),
            Err(error) => vec![format!("no metrics: {error}")],
        };
        for container in fleet.containers() {
            // A probe may be under way.
            if container.connections() > 1 {
                residue.push(format!("{} has {} connections", container.name(), container.connections()));
            }
        }
        if residue.is_empty() || Instant::now() > deadline {
            return residue;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
