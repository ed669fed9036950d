//! The composition root: builds everything from a config file, spawns every background task, and takes it all down.
//!
//! Owns the running [`Waypost`], in a process of its own (through [`run`], under Pingora's server) or inside another
//! program, as in tests and the demo. Decides nothing that has a room of its own.

mod process;
mod tasks;
mod monitors;
mod certificates;
mod history;
mod listing;
mod operator;
mod systemd;
mod successor;
mod guard;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Auth};
use crate::drain::{Lifecycle, Phase, Tunnels};
use crate::edge::{BindError, Edge, Shared};
use crate::handover::{self, Draft, Inherited, Offer};
use crate::reload::{self, Refusal, Reloader, Report, Status};
use crate::telemetry::history::History;
use crate::telemetry::logging::Logging;
use crate::telemetry::metrics::Metrics;
use certificates::Certificates;
use monitors::Monitors;
pub use process::{Succession, run};
pub use systemd::Systemd;
use tasks::Order;

/// What to run.
#[derive(Debug, Default)]
pub struct Options {
    /// The config file.
    pub config: PathBuf,
    /// Listening sockets of the process before.
    pub inherited: Option<Inherited>,
    /// The process's log, whose level a reload may change.
    pub logging: Option<Logging>,
    /// Who is told how the process fares.
    pub systemd: Systemd,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config file.
    #[error(transparent)]
    Config(#[from] Refusal),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin address.
    #[error("admin cannot listen on {0}: {1}")]
    Admin(SocketAddr, io::Error),
    /// The socket for upgrades.
    #[error("upgrade socket {path}: {source}", path = .0.display(), source = .1)]
    UpgradeSocket(PathBuf, io::Error),
    /// Somebody was to be taken over from.
    #[error("without `server.upgrade_socket` in the config there is no process to take over from")]
    NoUpgradeSocket,
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The process before did not let go.
    #[error(transparent)]
    Handover(#[from] handover::HandoverError),
}

/// A running Waypost. Dropping it does not stop it; [`Waypost::shutdown`] does.
#[derive(Debug)]
pub struct Waypost {
    process: Arc<Process>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the background tasks share.
#[derive(Debug)]
struct Process {
    shared: Shared,
    edge: Arc<Edge>,
    reloader: Arc<Reloader>,
    monitors: Monitors,
    orders: mpsc::UnboundedSender<Order>,
    certificates: Certificates,
    history: Mutex<History>,
    admin: Option<Admin>,
    /// Cancelled when a new process has taken over.
    superseded: CancellationToken,
    logging: Option<Logging>,
    systemd: Systemd,
}

/// The socket of the admin address.
#[derive(Debug)]
struct Admin {
    /// As the file has it; port 0 stays 0 here.
    wanted: SocketAddr,
    socket: Arc<std::net::TcpListener>,
}

impl Waypost {
    /// Reads the config, opens its listeners and serves. Runs on the current tokio runtime, and on worker threads of
    /// its own.
    pub async fn start(options: Options) -> Result<Waypost, StartError> {
        let Options { config, mut inherited, logging, systemd } = options;
        match Waypost::begin(&config, inherited.as_mut(), (logging, systemd)).await {
            Ok((waypost, draft)) => waypost.take_over(inherited, draft).await,
            Err(error) => {
                if let Some(inherited) = inherited {
                    // If this does not arrive, the end of the connection says the same.
                    let _ = inherited.failed(&error.to_string()).await;
                }
                Err(error)
            }
        }
    }

    /// Tells the process before, if there is one, that this one serves, and offers the sockets in its place.
    async fn take_over(self, inherited: Option<Inherited>, draft: Option<Draft>) -> Result<Waypost, StartError> {
        let status = self.process.standing();
        if let Some(inherited) = inherited {
            if let Err(error) = inherited.ready().await {
                // The old one goes on; whoever has come in here meanwhile is served to the end.
                self.shutdown().await;
                return Err(error.into());
            }
            self.process.service_manager().succeeded(&status);
        } else {
            self.process.service_manager().serving(&status);
        }
        self.offer_sockets(draft);
        self.show_life();
        Ok(self)
    }

    /// Gives signs of life, if somebody wants them.
    fn show_life(&self) {
        if let Some(within) = self.process.systemd.watchdog() {
            self.tasks.lock().spawn(tasks::show_life(Arc::clone(&self.process), within));
        }
    }

    async fn begin(
        config: &Path,
        mut inherited: Option<&mut Inherited>,
        (logging, systemd): (Option<Logging>, Systemd),
    ) -> Result<(Waypost, Option<Draft>), StartError> {
        let metrics = Metrics::new();
        let (ground, snapshot, loaded) = reload::first(config, &metrics)?;
        warn_of_lost_pins(&loaded.config);
        let settings = loaded.config.admin.clone();
        let workers = ground.workers;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let shared = Shared { snapshot, metrics, lifecycle: Lifecycle::new() };
        let edge = Arc::new(Edge::start(&shared, workers)?);
        let admin = settings.as_ref().map(|settings| admin_socket(settings, inherited.as_deref_mut())).transpose()?;
        let status = Status::serving(loaded.text, loaded.warnings);
        let reloader = Reloader::new(config.to_owned(), status, shared.clone(), ground, Arc::clone(&edge));
        let (orders, inbox) = mpsc::unbounded_channel();
        let process = Arc::new(Process {
            shared,
            edge,
            reloader: Arc::new(reloader),
            monitors: Monitors::default(),
            orders,
            certificates: Certificates::default(),
            history: Mutex::new(History::new(SystemTime::now())),
            admin,
            superseded: CancellationToken::new(),
            logging,
            systemd,
        });
        process.follow();
        if inherited.is_some() {
            // Meanwhile the old process serves, who knows its endpoints.
            process.monitors.know_all(&process.shared.snapshot).await;
        }
        let admin = process.admin_door()?;
        let draft = process.draft_offer()?;
        // The last that can fail: from here on there are clients.
        open(&process.reloader, inherited)?;
        process.shared.lifecycle.enter(Phase::Running);
        let waypost = Waypost { process, tasks: Mutex::default() };
        waypost.spawn(inbox, loaded.files);
        waypost.serve_admin(admin, Auth::new(settings.and_then(|settings| settings.token)));
        Ok((waypost, draft))
    }

    fn spawn(&self, inbox: mpsc::UnboundedReceiver<Order>, files: Vec<PathBuf>) {
        let mut running = self.tasks.lock();
        running.spawn(tasks::obey(Arc::clone(&self.process), inbox, files));
        running.spawn(tasks::sweep(Arc::clone(&self.process)));
        running.spawn(guard::keep(Arc::clone(&self.process)));
    }

    fn serve_admin(&self, door: Option<TcpListener>, auth: Auth) {
        let Some(door) = door else { return };
        let router = admin::router(Arc::clone(&self.process) as _, auth);
        let process = Arc::clone(&self.process);
        let mut running = self.tasks.lock();
        // Nobody else asks for it.
        running.spawn(history::keep(Arc::clone(&self.process)));
        running.spawn(async move {
            if let Err(error) = admin::serve(door, router, process.no_longer_asked()).await {
                tracing::error!(%error, "admin has failed");
            }
        });
    }

    /// Lets a new process ask for the listening sockets.
    fn offer_sockets(&self, draft: Option<Draft>) {
        match draft.map(Draft::place).transpose() {
            Ok(None) => {}
            Ok(Some(offer)) => drop(self.tasks.lock().spawn(tasks::hand_over(Arc::clone(&self.process), offer))),
            // No reason to end: there may be nobody else who serves.
            Err(error) => tracing::error!(%error, "sockets are not offered, the next upgrade needs a restart"),
        }
    }

    /// Where a listener is open.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.process.edge.addresses().get(listener).copied()
    }

    /// Where every listener is open, by name.
    pub fn addresses(&self) -> HashMap<Arc<str>, SocketAddr> {
        self.process.edge.addresses()
    }

    /// Where admin is open.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.process.admin.as_ref()?.socket.local_addr().ok()
    }

    /// The books.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.process.shared.metrics
    }

    /// Reads the config file again.
    pub async fn reload(&self) -> Result<Report, Arc<Refusal>> {
        self.process.ask(Order::default()).await
    }

    /// Opens access-log files again under their names, after a rotation.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.process.shared.snapshot.load().access_log {
            log.reopen();
        }
    }

    /// Tells the service manager that the end begins.
    fn announce_stop(&self) {
        self.process.service_manager().stopping();
    }

    /// Drains, and returns when nothing is in flight or the grace period is over.
    pub async fn drain(&self, tunnels: Tunnels) {
        self.process.drain(tunnels).await;
    }

    /// Returns when a drain that somebody else began is over: a new process has taken the sockets over.
    pub async fn stopped(&self) {
        self.process.shared.lifecycle.reached(Phase::Stopped).await;
    }

    /// Drains, then ends every task and thread.
    pub async fn shutdown(self) {
        self.drain(Tunnels::EndLast).await;
        self.end().await;
    }

    /// Ends every task and thread now; whatever is in flight is cut.
    pub async fn end(self) {
        self.process.shared.lifecycle.enter(Phase::Stopped);
        self.process.monitors.stop();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        let process = self.process;
        let ended = tokio::task::spawn_blocking(move || {
            process.edge.stop();
            let snapshot = process.shared.snapshot.load();
            if let Some(tracer) = &snapshot.tracer {
                tracer.close(LAST_SPANS);
            }
            if let Some(log) = &snapshot.access_log {
                log.close(LAST_LINES);
            }
        });
        if ended.await.is_err() {
            tracing::error!("a worker could not be ended");
        }
    }
}

/// How long the access log may take to write out what it has.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How long the collector may take for what is left.
const LAST_SPANS: Duration = Duration::from_secs(2);

impl Process {
    /// Has an order carried out, and waits for what comes of it.
    async fn ask(&self, order: Order) -> Result<Report, Arc<Refusal>> {
        let (answer, told) = oneshot::channel();
        let asked = self.orders.send(Order { answer: Some(answer), ..order });
        match told.await {
            Ok(result) if asked.is_ok() => result,
            _ => Err(Arc::new(Refusal::Stopping)),
        }
    }

    /// Returns when admin is to close: at the very end, so that whoever asks `/ready` learns that we drain; or when a
    /// new process answers in our place.
    async fn no_longer_asked(self: Arc<Process>) {
        tokio::select! {
            () = self.shared.lifecycle.reached(Phase::Stopped) => {}
            () = self.superseded.cancelled() => {}
        }
    }

    /// The admin socket, ready to be served.
    fn admin_door(&self) -> Result<Option<TcpListener>, StartError> {
        let Some(admin) = &self.admin else { return Ok(None) };
        let door = admin.socket.try_clone().and_then(TcpListener::from_std);
        door.map(Some).map_err(|error| StartError::Admin(admin.wanted, error))
    }

    /// The socket at which a new process is to ask, if the config has one.
    fn draft_offer(&self) -> Result<Option<Draft>, StartError> {
        let config = &self.shared.snapshot.load().config;
        let Some(path) = config.server.upgrade_socket.as_deref() else { return Ok(None) };
        Offer::draft(path).map(Some).map_err(|error| StartError::UpgradeSocket(path.to_owned(), error))
    }

    /// Everything that a new process may take over, by key.
    fn sockets(&self) -> Vec<(String, Arc<std::net::TcpListener>)> {
        let mut sockets = self.edge.sockets();
        sockets.extend(self.admin.iter().map(|admin| (admin_key(admin.wanted), Arc::clone(&admin.socket))));
        sockets
    }

    /// Who started the process, as long as it is the service: one that drains has nothing to say any more, for another
    /// one may have taken its place.
    fn service_manager(&self) -> Systemd {
        if self.shared.lifecycle.phase() == Phase::Running { self.systemd } else { Systemd::default() }
    }

    /// What serves, in a few words.
    fn standing(&self) -> String {
        let snapshot = self.shared.snapshot.load();
        let (routes, plural) = match snapshot.config.routes.len() {
            1 => (1, ""),
            routes => (routes, "s"),
        };
        let refused = if self.reloader.status().refused.is_some() { "; a newer config is refused" } else { "" };
        format!("generation {}, {routes} route{plural}{refused}", snapshot.generation)
    }

    fn order(&self, order: Order) {
        // Nobody obeys any more once the process stops.
        let _ = self.orders.send(order);
    }

    /// Brings to the published snapshot what lives beside it.
    fn follow(&self) {
        self.monitors.follow(&self.shared.snapshot);
        let snapshot = self.shared.snapshot.load();
        self.certificates.show(&snapshot, &self.shared.metrics);
        self.shared.metrics.follow(&snapshot.config.telemetry.metrics);
        if let Some(logging) = &self.logging {
            logging.apply(&snapshot.config.telemetry.log);
        }
    }

    async fn drain(&self, tunnels: Tunnels) {
        let server = self.shared.snapshot.load().config.server.clone();
        self.shared.lifecycle.enter(Phase::Draining);
        tracing::info!(grace_period = %server.grace_period, "draining");
        let over = Instant::now() + server.grace_period.0;
        if tunnels == Tunnels::EndLast {
            tokio::time::sleep(server.drain_delay.0).await;
        }
        self.edge.close();
        self.shared.lifecycle.drained(tunnels, over.saturating_duration_since(Instant::now())).await;
        tracing::info!("stopped");
        self.shared.lifecycle.enter(Phase::Stopped);
    }
}

fn open(reloader: &Reloader, mut inherited: Option<&mut Inherited>) -> Result<(), StartError> {
    let mut claim = |address: SocketAddr| -> Option<OwnedFd> { inherited.as_mut()?.claim(&address.to_string()) };
    Ok(reloader.open(&mut claim)?)
}

fn admin_socket(settings: &waypost_config::Admin, inherited: Option<&mut Inherited>) -> Result<Admin, StartError> {
    let wanted = settings.address;
    let descriptor = inherited.and_then(|inherited| inherited.claim(&admin_key(wanted)));
    let socket = match descriptor {
        Some(descriptor) => descriptor.into(),
        None => bind_admin(wanted).map_err(|error| StartError::Admin(wanted, error))?,
    };
    let address = socket.local_addr().unwrap_or(wanted);
    tracing::info!(%address, "admin open");
    Ok(Admin { wanted, socket: Arc::new(socket) })
}

/// Under which the admin socket is handed over; a listener's key is its address alone.
fn admin_key(address: SocketAddr) -> String {
    format!("admin {address}")
}

fn bind_admin(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn warn_of_lost_pins(config: &waypost_config::Config) {
    for (name, service) in &config.services {
        if let Some(waypost_config::service::Sticky::Cookie(cookie)) = &service.sticky
            && cookie.secrets.is_empty()
        {
            tracing::warn!(service = %name, "sticky has no secrets: pins end with this process");
        }
    }
}
