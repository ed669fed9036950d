//! What a request costs in each of several proxies, measured side by side.
//!
//! The measure is CPU time of the proxy's processes per answered request, because on a small and noisy machine it
//! holds where throughput does not. Each proxy has one worker on a core of its own; load and upstreams share another;
//! all get the same offered rate in interleaved rounds, and ratios are taken within a round. Owns the order of
//! measuring and who takes part; what is asked belongs to [`scenario`], configs to [`peers`], processes to
//! [`children`], the figures to [`figures`].

pub mod scenario;

pub mod peers;

mod bench;
pub mod children;
pub mod usage;

pub mod figures;
mod picture;
mod table;
mod watcher;

use std::{io, path::PathBuf, time::Duration};

pub use bench::IDLE_WAIT;
pub use figures::Comparison;
pub use scenario::{Kind, Tempo};

use crate::{load::RunError, plan::PlanError};
use bench::Bench;
use children::Children;
use figures::Round;
use peers::Peer;
use scenario::Work;

/// Starting and ending a proxy, and opening its connections; a guess, for the estimate only.
const AROUND: Duration = Duration::from_millis(300);

/// How to compare.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The waypost binary; without it only the peers are compared.
    pub waypost: Option<PathBuf>,
    /// Another build of it.
    pub baseline: Option<PathBuf>,
    /// Names of the peers; all that are found if empty.
    pub peers: Vec<String>,
    /// The scenarios.
    pub kinds: Vec<Kind>,
    /// Rounds of each scenario.
    pub rounds: usize,
    /// How long and how much is measured in each.
    pub tempo: Tempo,
    /// Multiplies all rates, for a slower or faster machine.
    pub pace: f64,
    /// The core of the proxy.
    pub proxy_core: usize,
    /// The core of load and upstreams.
    pub load_core: usize,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Fewer than two proxies.
    #[error("nothing to compare: of waypost and its peers only {0} can be run")]
    Lonely(usize),
    /// A peer that nobody knows.
    #[error("`{0}` is no peer; there are nginx, haproxy, envoy, caddy, traefik and floor")]
    Stranger(String),
    /// A peer that was asked for and is not installed.
    #[error("{0} is not on PATH")]
    Missing(&'static str),
    /// A program could not be started or pinned, or a file not written.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A proxy does not answer.
    #[error("{name} did not get ready; its output:\n{output}")]
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
    /// The first proxy could be measured in no scenario, so there is nothing to compare.
    #[error("nothing could be measured of {name}:\n{notes}")]
    Nothing {
        /// Which.
        name: &'static str,
        /// Why not.
        notes: String,
    },
    /// A proxy answered nothing at all, so there is no cost per request.
    #[error("{name} answered no request of {}", kind.name())]
    Silent {
        /// Which.
        name: &'static str,
        /// In which scenario.
        kind: Kind,
    },
}

impl From<PlanError> for CompareError {
    fn from(error: PlanError) -> Self {
        Self::Run(error.into())
    }
}

/// Compares; `say` gets a line now and then. Dropping the future ends all children.
pub async fn run(settings: Settings, mut say: impl FnMut(&str)) -> Result<Comparison, CompareError> {
    children::pin_self(settings.load_core)?;
    let peers = Peer::found(settings.waypost.as_deref(), settings.baseline.as_deref(), &settings.peers)?;
    if peers.len() < 2 {
        return Err(CompareError::Lonely(peers.len()));
    }
    let versions: Vec<_> = peers.iter().map(Peer::version).collect();
    let (seconds, descriptors) = (settings.tempo.measured.as_secs_f64(), children::descriptors());
    let upstreams = settings.kinds.iter().map(|kind| kind.layout().endpoints()).max().unwrap_or(1);
    let children = Children::new(settings.load_core, upstreams).await?;
    let pace = peers
        .iter()
        .map(|peer| peer.recipe().bears())
        .fold(settings.pace, |pace, bears| pace.min(settings.pace * bears));
    let mut course =
        Course { bench: Bench { settings, children, descriptors, pace }, peers, out: Vec::new(), notes: Vec::new() };
    let long = humantime::format_duration(course.length());
    say(&format!("comparing {}: about {long}", versions.join(", ")));
    let rounds = course.run(&mut say).await;
    if let Some(first) = course.peers.first().filter(|first| rounds.iter().all(|round| round.proxy != first.name())) {
        return Err(CompareError::Nothing { name: first.name(), notes: course.notes().join("\n") });
    }

    let mut comparison = Comparison::new(versions, seconds, rounds);
    comparison.notes.splice(0..0, course.notes());
    Ok(comparison)
}

/// The way through all rounds.
struct Course {
    bench: Bench,
    peers: Vec<Peer>,
    /// Who was left out of what, and why.
    out: Vec<(Kind, &'static str, String)>,
    notes: Vec<String>,
}

impl Course {
    async fn run(&mut self, say: &mut impl FnMut(&str)) -> Vec<Round> {
        let (kinds, last) = (self.bench.settings.kinds.clone(), self.bench.settings.rounds);
        for &kind in &kinds {
            self.introduce(kind, say);
        }
        let mut rounds = Vec::new();
        for number in 1..=last {
            for &kind in &kinds {
                for seen in self.round(kind, say).await {
                    say(&format!("round {number}/{last} {seen}"));
                    rounds.push(Round { round: number, ..seen });
                }
            }
        }
        rounds
    }

    /// One round of a scenario. Who fails in it twice running is left out of it from then on.
    async fn round(&mut self, kind: Kind, say: &mut impl FnMut(&str)) -> Vec<Round> {
        let partakers: Vec<_> = self.peers.iter().filter(|peer| !self.is_out(kind, peer.name())).collect();
        let mut outcomes = self.bench.round(kind, &partakers).await;
        let mut again = Vec::new();
        for (peer, outcome) in partakers.iter().zip(&mut outcomes) {
            if let Err(error) = outcome {
                // A machine that stands still for some seconds, as shared ones do, lets handshakes run out of time.
                let note =
                    format!("{}: {} failed in a round and was measured again: {error}", kind.name(), peer.name());
                say(&note);
                again.push(note);
                *outcome = self.bench.alone(kind, peer).await;
            }
        }
        let names: Vec<_> = partakers.iter().map(|peer| peer.name()).collect();
        self.notes.extend(again);
        let mut seen = Vec::new();
        for (name, outcome) in names.into_iter().zip(outcomes) {
            match outcome {
                Ok(round) => seen.push(round),
                Err(error) => say(&self.leave_out(kind, name, &error.to_string())),
            }
        }
        seen
    }

    /// How long it will take, roughly.
    fn length(&self) -> Duration {
        let Settings { kinds, rounds, tempo, .. } = &self.bench.settings;
        let round: Duration = kinds.iter().map(|&kind| self.length_of(kind, *tempo)).sum();
        // Whole seconds: the rest would be read as precision.
        Duration::from_secs((round * u32::try_from(*rounds).unwrap_or(u32::MAX)).as_secs())
    }

    fn length_of(&self, kind: Kind, tempo: Tempo) -> Duration {
        let partakers = self.peers.iter().filter(|peer| self.bench.excuse(kind, peer).is_none()).count();
        let times = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        match kind.work() {
            Work::Idle(_) => {
                IDLE_WAIT * times(partakers.div_ceil(self.bench.abreast(kind))) + AROUND * times(partakers)
            }
            _ => (kind.warm_up(tempo) + tempo.measured + AROUND) * times(partakers),
        }
    }

    /// Says who has no part in a scenario, and how the others differ in it.
    fn introduce(&mut self, kind: Kind, say: &mut impl FnMut(&str)) {
        for peer in self.peers.clone() {
            if let Some(why) = self.bench.excuse(kind, &peer) {
                say(&self.leave_out(kind, peer.name(), &why));
            } else if let Some(remark) = peer.recipe().remark(kind) {
                self.notes.push(format!("{}, {}: {remark}", kind.name(), peer.name()));
            }
        }
        let (had, wanted) = (self.bench.connections(kind), kind.connections(self.bench.settings.tempo));
        if had < wanted {
            self.notes.push(format!("{}: {had} connections instead of {wanted}, as descriptors allow", kind.name()));
        }
    }

    fn leave_out(&mut self, kind: Kind, name: &'static str, why: &str) -> String {
        if !self.is_out(kind, name) {
            self.out.push((kind, name, why.to_owned()));
        }
        format!("{}: without {name}, {why}", kind.name())
    }

    fn is_out(&self, kind: Kind, name: &str) -> bool {
        self.out.iter().any(|(of, out, _)| (*of, *out) == (kind, name))
    }

    /// What a reader must know: one line for each reason to be left out, then the others.
    fn notes(&self) -> Vec<String> {
        let reasons = figures::in_order(self.out.iter().map(|(_, name, why)| (*name, why)));
        let line = |(name, why): (&str, &String)| {
            let kinds = self.out.iter().filter(|(_, out, because)| (*out, because) == (name, why));
            let kinds: Vec<_> = kinds.map(|(kind, ..)| kind.name()).collect();
            format!("without {name}: {}; {why}", kinds.join(", "))
        };
        reasons.into_iter().map(line).chain(self.notes.iter().cloned()).collect()
    }
}
