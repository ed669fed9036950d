//! Waypost as a process: under Pingora's server, driven by signals.
//!
//! Owns what each signal means. SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reloads; SIGUSR1 reopens
//! logs; SIGUSR2 starts the next binary, which takes over. Pingora's own answer to SIGTERM sleeps through its whole grace
//! period, so we drain first and tell it to stop when nothing is left.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::tasks::Order;
use super::{Options, StartError, Systemd, Waypost, successor};
use crate::drain::Tunnels;
use crate::handover::{self, HandoverError, Inherited};
use crate::reload::Refusal;

/// Whether a new process takes over from one that runs, found at the config's `server.upgrade_socket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// It does not look for one.
    Cold,
    /// It does if there is one, and starts cold otherwise.
    IfAny,
    /// It does, or it does not start.
    Required,
}

/// Runs until a signal or a successor ends it. Blocks. Sockets in `options` are not looked at: the process before is
/// asked for them here.
pub fn run(options: Options, succession: Succession) -> Result<(), StartError> {
    let (ended, end) = watch::channel(false);
    let outcome = Arc::new(Mutex::new(Ok(())));
    let conf = ServerConf { threads: 1, grace_period_seconds: Some(0), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.add_service(Control { options: Some(options), succession, ended, outcome: Arc::clone(&outcome) });
    server.run(RunArgs { shutdown_signal: Box::new(End(end)) });
    std::mem::replace(&mut *outcome.lock(), Ok(()))
}

/// The one service: everything but the workers runs on its runtime.
struct Control {
    options: Option<Options>,
    succession: Succession,
    ended: watch::Sender<bool>,
    outcome: Arc<Mutex<Result<(), StartError>>>,
}

#[async_trait]
impl Service for Control {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(options) = self.options.take() {
            let result = serve(options, self.succession).await;
            *self.outcome.lock() = result;
        }
        // Pingora may have gone already.
        let _ = self.ended.send(true);
    }

    fn name(&self) -> &'static str {
        "waypost"
    }
}

/// Pingora's server stops when Waypost has stopped by itself.
struct End(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for End {
    async fn recv(&self) -> ShutdownSignal {
        // An error means that the service has gone, which is an end, too.
        let _ = self.0.clone().wait_for(|ended| *ended).await;
        ShutdownSignal::FastShutdown
    }
}

async fn serve(mut options: Options, succession: Succession) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    options.inherited = predecessor(&options.config, succession).await?;
    options.systemd = Systemd::of_this_process();
    let waypost = Waypost::start(options).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "started");
    until_ended(&waypost, &mut signals).await;
    waypost.end().await;
    Ok(())
}

async fn predecessor(config: &Path, succession: Succession) -> Result<Option<Inherited>, StartError> {
    if succession == Succession::Cold {
        return Ok(None);
    }
    let config = waypost_config::load(config).map_err(Refusal::from)?.config;
    let path = config.server.upgrade_socket.ok_or(StartError::NoUpgradeSocket)?;
    match handover::take(&path).await {
        Ok(inherited) => Ok(Some(inherited)),
        Err(HandoverError::NobodyThere) if succession == Succession::IfAny => {
            tracing::info!(path = %path.display(), "nobody to take over from, starting cold");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn until_ended(waypost: &Waypost, signals: &mut Signals) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => waypost.process.order(Order::default()),
            _ = signals.user1.recv() => waypost.reopen_logs(),
            _ = signals.user2.recv() => successor::start(waypost.process.reloader.path()),
            () = waypost.stopped() => return,
        }
    }
    waypost.announce_stop();
    tokio::select! {
        () = waypost.drain(Tunnels::EndLast) => {}
        _ = signals.terminate.recv() => tracing::warn!("second signal: stopping at once"),
        _ = signals.interrupt.recv() => tracing::warn!("second signal: stopping at once"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}
