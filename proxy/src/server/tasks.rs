//! What goes on beside the requests: reloads, the care of idle connections, the hand-over to a new process, and signs of
//! life.
//!
//! Each function is one task, spawned by the composition root. They own nothing that outlives them.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use waypost_config::watch::{Change, Watched, Watcher};

use super::{Process, certificates};
use crate::aside;
use crate::drain::Tunnels;
use crate::handover::{self, Offer};
use crate::reload::{Refusal, Report};
use crate::snapshot::Snapshot;

/// A reason to read the file again, or not to.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Files that have changed, if that is the reason.
    pub(super) changed: Vec<PathBuf>,
    /// An earlier generation is wanted back.
    pub(super) rollback: Option<Earlier>,
    /// Who wants to know what came of it.
    pub(super) answer: Option<oneshot::Sender<Result<Report, Arc<Refusal>>>>,
}

/// Which of the earlier generations.
#[derive(Debug, Clone, Copy)]
pub(super) enum Earlier {
    /// The one before.
    Last,
    /// The one with this number.
    Number(u64),
}

impl Earlier {
    fn number(self) -> Option<u64> {
        if let Earlier::Number(number) = self { Some(number) } else { None }
    }
}

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// How often a refused config is tried again by itself.
const MENDED_WITHIN: Duration = Duration::from_secs(5);

/// Carries out orders one after another; those that came meanwhile are one.
pub(super) async fn obey(process: Arc<Process>, mut inbox: mpsc::UnboundedReceiver<Order>, files: Vec<PathBuf>) {
    let watcher = watch(&process, &files);
    refresh_certificates(&process).await;
    while let Some(orders) = next(&process, &mut inbox).await {
        let before = process.shared.snapshot.load_full();
        announce(&process, &orders);
        let result = carry_out(&process, &orders).await;
        if let Ok(report) = &result {
            process.follow();
            let now = process.shared.snapshot.load_full();
            release_removed(&now, &before);
            close_replaced_pools(&now, &before);
            tokio::spawn(bury(before));
            if let Some(watcher) = &watcher {
                watcher.set_files(watched(&process, &report.files));
            }
        }
        announce_end(&process, &orders, &result);
        for answer in orders.into_iter().filter_map(|order| order.answer) {
            // Whoever asked may have gone.
            let _ = answer.send(result.clone());
        }
    }
}

/// What is only tried again is nobody's concern before it succeeds.
fn announce(process: &Process, orders: &[Order]) {
    if !orders.is_empty() {
        process.service_manager().reloading();
    }
}

fn announce_end(process: &Process, orders: &[Order], result: &Result<Report, Arc<Refusal>>) {
    if !orders.is_empty() {
        process.service_manager().serving(&process.standing());
    } else if result.is_ok() {
        process.service_manager().status(&process.standing());
    }
}

/// Pairs that were renewed after they were read and before they were watched.
async fn refresh_certificates(process: &Arc<Process>) {
    let refreshing = Arc::clone(process);
    let refresh = move || certificates::refresh(&refreshing.shared.snapshot.load(), &refreshing.shared.metrics);
    // If it fails, the process is at its end.
    drop(tokio::task::spawn_blocking(refresh).await);
    process.certificates.show(&process.shared.snapshot.load(), &process.shared.metrics);
}

/// All orders that have come; none of them when a refused config is to be tried again. `None` at the end.
async fn next(process: &Process, inbox: &mut mpsc::UnboundedReceiver<Order>) -> Option<Vec<Order>> {
    let first = if process.reloader.may_mend() {
        match tokio::time::timeout(MENDED_WITHIN, inbox.recv()).await {
            Ok(order) => order?,
            Err(_) => return Some(Vec::new()),
        }
    } else {
        inbox.recv().await?
    };
    let mut orders = vec![first];
    while let Ok(order) = inbox.try_recv() {
        orders.push(order);
    }
    Some(orders)
}

async fn carry_out(process: &Arc<Process>, orders: &[Order]) -> Result<Report, Arc<Refusal>> {
    let process = Arc::clone(process);
    let again = orders.is_empty();
    let changed: Vec<PathBuf> = orders.iter().flat_map(|order| order.changed.iter().cloned()).collect();
    // Of several, the last one has the last word.
    let rollback = orders.last().and_then(|order| order.rollback);
    let asked = orders.iter().any(|order| order.changed.is_empty() && order.rollback.is_none());
    let reload = move || {
        if again {
            return process.reloader.retry();
        }
        if let Some(to) = rollback {
            return process.reloader.rollback(to.number());
        }
        certificates::refresh(&process.shared.snapshot.load(), &process.shared.metrics);
        if asked || changed.iter().any(|path| path == process.reloader.path()) {
            process.reloader.reload(&changed)
        } else {
            process.reloader.renew(&changed)
        }
    };
    tokio::task::spawn_blocking(reload).await.unwrap_or_else(|_| Err(Arc::new(Refusal::Stopping)))
}

fn watch(process: &Arc<Process>, files: &[PathBuf]) -> Option<Watcher> {
    let told = Arc::downgrade(process);
    let on_change = move |Change { paths }: Change| {
        if let Some(process) = told.upgrade() {
            process.order(Order { changed: paths, ..Order::default() });
        }
    };
    match Watcher::new(watched(process, files), on_change) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::error!(%error, "files are not watched; SIGHUP and the admin API still reload");
            None
        }
    }
}

/// The config, as it serves, and the files that it points at.
fn watched(process: &Process, files: &[PathBuf]) -> Vec<Watched> {
    let config = Watched { path: process.reloader.path().to_owned(), read: Some(process.reloader.status().text) };
    [config].into_iter().chain(files.iter().cloned().map(Watched::from)).collect()
}

/// A generation is taken apart here when no request reads it any more. A large one takes milliseconds, which a worker is
/// not to lose in the middle of a request.
async fn bury(before: Arc<Snapshot>) {
    let patient_until = Instant::now() + READ_FOR;
    while before.is_read() && Instant::now() < patient_until {
        tokio::time::sleep(READ_FOR / 50).await;
    }
    // If it fails, the process is at its end.
    drop(tokio::task::spawn_blocking(move || aside::run(move || drop(before))).await);
}

/// Most requests are routed and answered within this; a generation that is read for longer is not kept for them.
const READ_FOR: Duration = Duration::from_secs(1);

/// Upgraded connections of endpoints that are gone get the grace period, then they are told to go.
fn release_removed(now: &Snapshot, before: &Snapshot) {
    let staying: HashSet<_> = now.endpoints().map(|(_, endpoint)| Arc::as_ptr(&endpoint.live)).collect();
    let grace_period = now.config.server.grace_period.0;
    for (_, endpoint) in before.endpoints().filter(|(_, endpoint)| !staying.contains(&Arc::as_ptr(&endpoint.live))) {
        let removed = endpoint.live.removed.clone();
        tokio::spawn(async move {
            tokio::time::sleep(grace_period).await;
            removed.cancel();
        });
    }
}

/// A tunnel keeps its generation's pool alive, and with it idle connections that nobody will use again.
fn close_replaced_pools(now: &Snapshot, before: &Snapshot) {
    let staying: HashSet<_> = now.endpoints().map(|(_, endpoint)| Arc::as_ptr(&endpoint.pool)).collect();
    for (_, endpoint) in before.endpoints().filter(|(_, endpoint)| !staying.contains(&Arc::as_ptr(&endpoint.pool))) {
        endpoint.pool.clear();
    }
}

/// Closes idle connections whose time is over.
pub(super) async fn sweep(process: Arc<Process>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        for (_, endpoint) in process.shared.snapshot.load().endpoints() {
            endpoint.pool.sweep();
        }
    }
}

/// Gives the listening sockets to a new process that asks, and drains once it serves.
pub(super) async fn hand_over(process: Arc<Process>, offer: Offer) {
    loop {
        let mut request = match offer.accept().await {
            Ok(request) => request,
            Err(error) => return tracing::error!(%error, "upgrade socket has failed"),
        };
        let pid = request.pid();
        let sockets = process.sockets();
        let shown: Vec<_> = sockets.iter().map(|(key, socket)| (key.clone(), socket.as_fd())).collect();
        if let Err(error) = request.send(&shown).await {
            tracing::error!(pid, %error, "sockets could not be sent");
            continue;
        }
        match request.outcome().await {
            handover::Outcome::Failed(reason) => tracing::error!(pid, reason, "upgrade failed, this process goes on"),
            handover::Outcome::TakenOver => {
                tracing::info!(pid, "upgraded, the new process serves");
                process.service_manager().succeeded_by(pid);
                process.superseded.cancel();
                drop(offer);
                return process.drain(Tunnels::LiveOn).await;
            }
        }
    }
}

/// Tells the service manager that the process is alive, twice within the time it has for that, as long as its workers
/// are. This very task shows that everything else is.
pub(super) async fn show_life(process: Arc<Process>, within: Duration) {
    let mut ticks = tokio::time::interval(within / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match process.edge.silent_workers(within / 4).await {
            0 => process.service_manager().alive(),
            workers => tracing::error!(workers, "workers hang, the watchdog gets no sign of life"),
        }
    }
}
