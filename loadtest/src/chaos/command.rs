//! One trial after another, a minute each, against the binary; what was violated is told and its evidence kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use upstream_mock::{Fleet, FleetOptions, Script};

use super::audit::{self, Invariant, Violation};
use super::process::{Level, Process};
use super::{ChaosError, Extent, REST, Subject, Trial, client, drive, sample};

/// The longest trial; a longer time is several, each with the next seed.
const TRIAL: Duration = Duration::from_mins(1);
/// Load without faults before the level of memory and descriptors is taken.
const WARM_UP: Duration = Duration::from_secs(3);
/// Descriptors that may be more than before: a probe's, a page's.
const SPARE_DESCRIPTORS: usize = 8;
/// Memory that may be more than before, in KiB: an allocator keeps some.
const SPARE_MEMORY: u64 = 24 * 1024;

/// What to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// The binary under test.
    pub waypost: PathBuf,
    /// The first trial's seed.
    pub seed: u64,
    /// How long faults come, over all trials.
    pub length: Duration,
    /// A script instead of made-up ones: one trial, as long as the script.
    pub script: Option<Script>,
    /// Where the evidence of violations goes.
    pub write: PathBuf,
}

/// Runs all trials and says what was violated, each line with its seed.
pub async fn run(order: &Order, mut say: impl FnMut(&str)) -> Result<Vec<String>, ChaosError> {
    let mut lines = Vec::new();
    let (mut seed, mut left) = (order.seed, order.script.as_ref().map_or(order.length, Script::length));
    loop {
        // A script of one's own is not cut.
        let length = if order.script.is_some() { left } else { left.min(TRIAL) };
        for violation in one(order, (seed, length), &mut say).await? {
            let line = format!("VIOLATED with seed {seed}: {violation}");
            say(&line);
            lines.push(line);
        }
        left = left.saturating_sub(length);
        seed += 1;
        if left < Duration::from_secs(1) {
            return Ok(lines);
        }
    }
}

async fn one(
    order: &Order,
    (seed, length): (u64, Duration),
    say: &mut impl FnMut(&str),
) -> Result<Vec<Violation>, ChaosError> {
    let folder = TempDir::with_prefix("waypost-chaos-").map_err(|error| io("make a folder", error))?;
    let trial = trial(seed, length, order.script.clone());
    let fleet = fleet(&trial).await?;
    let mut process = Process::start(&order.waypost, folder.path(), (&fleet, &trial.setting)).await?;
    fs::write(folder.path().join("script.toml"), trial.script.to_string())
        .and_then(|()| fs::copy(folder.path().join("waypost.toml"), folder.path().join("first.toml")))
        .map_err(|error| io("write the script", error))?;
    let before = warm_up(&trial, &process).await;
    let evidence = drive(&trial, &fleet, &mut process).await?;
    let mut violations = audit::violations(&trial, &evidence);
    let ailments = process.ailments().into_iter().map(|what| (Invariant::Alive, what));
    violations.extend(audit::gather(ailments.chain(level(before, process.level()))));
    say(&format!("seed {seed}: {}; {}", audit::summary(&evidence), levels(before, process.level())));
    if !violations.is_empty() {
        let kept = order.write.join(format!("seed-{seed}"));
        keep(folder.path(), &kept, &evidence)?;
        say(&format!("seed {seed}: config, script and logs are in {}", kept.display()));
    }
    drop(process);
    fleet.stop(Duration::ZERO).await;
    Ok(violations)
}

fn trial(seed: u64, length: Duration, script: Option<Script>) -> Trial {
    let mut names: Vec<_> = (1..=3 + Rng::with_seed(seed).usize(..3)).map(|number| format!("web-{number}")).collect();
    if let Some(script) = &script {
        // Whoever the script is about, and never fewer than three.
        names.truncate(3);
        let strangers: Vec<_> = script.steps.iter().map(|step| step.endpoint.clone()).collect();
        names.extend(strangers);
        names.sort();
        names.dedup();
    }
    let extent = Extent {
        length,
        clients: 24,
        users: 12,
        pause: Duration::from_millis(100),
        change_every: Duration::from_secs(3),
        upgrade_every: Some(Duration::from_secs(20)),
        quick: false,
    };
    Trial::random(seed, &names, extent, script)
}

async fn fleet(trial: &Trial) -> Result<Fleet, ChaosError> {
    let names = trial.setting.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    Ok(Fleet::start(FleetOptions { names, ..FleetOptions::default() }).await?)
}

/// The level after some load, at rest.
async fn warm_up(trial: &Trial, process: &Process) -> Option<Level> {
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> = (0..trial.extent.clients)
        .map(|number| client::Client::new(process.web(), (!trial.seed, number), None))
        .map(|client| tokio::spawn(client.run(Instant::now(), trial.extent.pause / 2, stop.clone())))
        .collect();
    sleep(WARM_UP).await;
    stop.cancel();
    for client in clients {
        // What it has seen is of no interest yet.
        drop(client.await);
    }
    let deadline = Instant::now() + REST;
    while Instant::now() < deadline {
        match sample::page(process.admin()).await {
            Ok(page) if sample::residue(&page).is_empty() => break,
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
    process.level()
}

fn level(before: Option<Level>, after: Option<Level>) -> Vec<(Invariant, String)> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut found = Vec::new();
    if after.descriptors > before.descriptors + SPARE_DESCRIPTORS {
        let what = format!("{} descriptors, {} before", after.descriptors, before.descriptors);
        found.push((Invariant::LevelReturns, what));
    }
    if after.resident > before.resident + SPARE_MEMORY {
        found.push((Invariant::LevelReturns, format!("{} KiB, {} KiB before", after.resident, before.resident)));
    }
    found
}

fn levels(before: Option<Level>, after: Option<Level>) -> String {
    let told = |level: Option<Level>| {
        level.map_or("?".to_owned(), |level| format!("{} KiB, {} descriptors", level.resident, level.descriptors))
    };
    format!("{} before, {} after", told(before), told(after))
}

/// Copies what the trial has left, and writes down what its clients saw go wrong.
fn keep(from: &Path, to: &Path, evidence: &super::Evidence) -> Result<(), ChaosError> {
    let copied = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        let whole = |seen: &&client::Seen| seen.outcome != client::Outcome::Answered || seen.stale;
        let lines: Vec<_> = evidence.seen.iter().filter(whole).map(|seen| format!("{seen:?}")).collect();
        let changes = evidence.changed.iter().map(|change| format!("change {change:?}"));
        fs::write(to.join("seen.log"), changes.chain(lines).collect::<Vec<_>>().join("\n"))
    };
    copied().map_err(|error| io(&format!("write {}", to.display()), error))
}

fn io(what: &str, error: std::io::Error) -> ChaosError {
    ChaosError::Io { what: what.to_owned(), error }
}
