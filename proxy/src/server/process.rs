//! Waypost as a process: under Pingora's server, driven by signals.
//!
//! Owns what each signal means. SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reloads; SIGUSR1 reopens
//! logs. Pingora's own answer to SIGTERM sleeps through its whole grace period, so we drain first and tell it to stop
//! when nothing is left.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Options, Order, StartError, Waypost};
use crate::drain::Tunnels;

/// Runs until a signal or a successor ends it. Blocks.
pub fn run(options: Options) -> Result<(), StartError> {
    let (ended, end) = watch::channel(false);
    let outcome = Arc::new(Mutex::new(Ok(())));
    let conf = ServerConf { threads: 1, grace_period_seconds: Some(0), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.add_service(Control { options: Some(options), ended, outcome: Arc::clone(&outcome) });
    server.run(RunArgs { shutdown_signal: Box::new(End(end)) });
    std::mem::replace(&mut *outcome.lock(), Ok(()))
}

/// The one service: everything but the workers runs on its runtime.
struct Control {
    options: Option<Options>,
    ended: watch::Sender<bool>,
    outcome: Arc<Mutex<Result<(), StartError>>>,
}

#[async_trait]
impl Service for Control {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(options) = self.options.take() {
            let result = serve(options).await;
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

async fn serve(options: Options) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    let waypost = Waypost::start(options).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "started");
    until_ended(&waypost, &mut signals).await;
    waypost.end().await;
    Ok(())
}

async fn until_ended(waypost: &Waypost, signals: &mut Signals) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => waypost.process.order(Order::default()),
            _ = signals.user1.recv() => waypost.reopen_logs(),
            () = waypost.stopped() => return,
        }
    }
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
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }
}
