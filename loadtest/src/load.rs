//! A running load: started, watched, stopped, and turned into a report.
//!
//! Owns the threads. A load that is dropped stops by itself.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use crate::connection::TrustError;
use crate::{
    connection::Dialer,
    plan::{Plan, PlanError, Target},
    recorder::Recorder,
    report::Report,
    schedule::Share,
    worker::{self, Begin, Progress},
};

/// How often a [`Watch`] looks.
const GLANCE: Duration = Duration::from_millis(1);

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The trust settings are of no use.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The target's name has no address.
    #[error("cannot resolve {target}: {error}")]
    Resolve {
        /// The target.
        target: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// A worker thread could not start or died.
    #[error("a worker thread failed: {0}")]
    Worker(String),
}

/// Runs a plan to its end. Failing requests are no error: they are in the report.
pub async fn run(plan: Plan) -> Result<Report, RunError> {
    start(plan).await?.wait().await
}

/// Starts a plan and returns at once; the first request is due as soon as all threads are ready.
pub async fn start(plan: Plan) -> Result<Load, RunError> {
    let mut loads = start_together(vec![plan]).await?;
    Ok(loads.pop().expect("one plan is one load"))
}

/// Starts several plans at the same moment, which is that of the slowest to get ready; the loads in their order.
pub async fn start_together(plans: Vec<Plan>) -> Result<Vec<Load>, RunError> {
    let mut ready = Vec::new();
    for plan in plans {
        plan.check()?;
        let address = resolve(&plan.target).await?;
        ready.push((Dialer::new(&plan, address)?, plan));
    }
    let begin = Arc::new(Begin::of(ready.iter().map(|(_, plan)| plan.threads).sum()));
    ready.into_iter().map(|(dialer, plan)| Load::begin(plan, dialer, &begin)).collect()
}

type Outcome = oneshot::Receiver<io::Result<Recorder>>;

fn spawn(start: worker::Start) -> Result<Outcome, RunError> {
    let failed = |error: io::Error| RunError::Worker(error.to_string());
    // Made here, because the other workers would wait forever for one that has none.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let progress = Arc::clone(&start.progress);
            let seen = worker::work(start, &runtime);
            progress.ended.fetch_add(1, Ordering::Relaxed);
            // Nobody is left to tell when the load was dropped.
            let _ = send.send(seen);
        })
        .map_err(failed)?;
    Ok(receive)
}

async fn resolve(target: &Target) -> Result<SocketAddr, RunError> {
    let failed = |error| RunError::Resolve { target: target.to_string(), error };
    let mut found = tokio::net::lookup_host((target.host(), target.port())).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    watch: Watch,
    workers: Vec<Outcome>,
    plan: Arc<Plan>,
    dialer: Dialer,
    key: Arc<str>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialer({} opened)", self.opened())
    }
}

impl Load {
    fn begin(plan: Plan, dialer: Dialer, begin: &Arc<Begin>) -> Result<Self, RunError> {
        let (plan, progress) = (Arc::new(plan), Arc::new(Progress::default()));
        let key: Arc<str> = format!("{:012x}", fastrand::u64(..1 << 48)).into();
        let of = plan.threads as u64;
        let workers = (0..of).map(|index| {
            spawn(worker::Start {
                plan: Arc::clone(&plan),
                dialer: dialer.clone(),
                progress: Arc::clone(&progress),
                share: Share { index, of },
                begin: Arc::clone(begin),
                key: Arc::clone(&key),
            })
        });
        let workers = workers.collect::<Result<_, _>>()?;
        let watch = Watch { progress, begin: Arc::clone(begin), length: plan.length(), workers: of };
        Ok(Self { watch, workers, plan, dialer, key })
    }

    /// A handle to watch and to stop it from elsewhere.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Requests that are over, failed ones counted.
    pub fn done(&self) -> u64 {
        self.watch.done()
    }

    /// Returns once so many requests are over, or the load is.
    pub async fn reached(&self, requests: u64) {
        self.watch.reached(requests).await;
    }

    /// The prefix of the keys this load gives to keyed requests.
    pub fn key_prefix(&self) -> &str {
        &self.key
    }

    /// Begins no further request; those in flight may end within the timeout.
    pub fn stop(&self) {
        self.watch.stop();
    }

    /// Waits for the end of the plan, or of what is in flight after a [`stop`](Self::stop).
    pub async fn wait(mut self) -> Result<Report, RunError> {
        let mut all = Recorder::new();
        for worker in std::mem::take(&mut self.workers) {
            let worker = worker.await.map_err(|_| RunError::Worker("it panicked".to_owned()))?;
            all.absorb(worker.map_err(|error| RunError::Worker(error.to_string()))?);
        }
        let report = Report::new(&self.plan, all, self.dialer.opened());
        Ok(Report { resumed: self.dialer.resumed(), ..report })
    }

    /// Like [`wait`](Self::wait), for tests.
    ///
    /// # Panics
    /// If a worker thread died.
    pub async fn finish(self) -> Report {
        self.wait().await.expect("workers do not die")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Looks at a load, and can stop it.
#[derive(Debug, Clone)]
pub struct Watch {
    progress: Arc<Progress>,
    begin: Arc<Begin>,
    length: Duration,
    workers: u64,
}

impl Watch {
    /// Requests that are over, failed ones counted.
    pub fn done(&self) -> u64 {
        self.progress.done.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.progress.failed.load(Ordering::Relaxed)
    }

    /// Time since the load began; zero before.
    pub fn elapsed(&self) -> Duration {
        self.begin.at.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Returns once so much time has passed since the load began, or the load is over.
    pub async fn passed(&self, time: Duration) {
        while self.elapsed() < time && !self.over() {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// How long requests are begun, as planned.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Begins no further request.
    pub fn stop(&self) {
        // Relaxed: workers look often, and nothing else is published with it.
        self.progress.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the last request is over, and none follows.
    pub fn over(&self) -> bool {
        self.progress.ended.load(Ordering::Relaxed) == self.workers
    }

    /// Returns once so many requests are over, or the load is.
    pub async fn reached(&self, requests: u64) {
        while self.done() < requests && !self.over() {
            tokio::time::sleep(GLANCE).await;
        }
    }
}
