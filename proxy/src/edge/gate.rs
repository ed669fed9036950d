//! The door of one listener: how many are inside, and whether it is still open.
//!
//! Shared by all workers that accept for the listener. Never touches a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::snapshot::{ListenerView, Snapshot};
use crate::telemetry::metrics::ListenerMetrics;

/// One listener as its accept loops and connections see it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) name: Arc<str>,
    pub(super) metrics: Arc<ListenerMetrics>,
    /// The port that its clients connect to, as a header value.
    pub(super) port: HeaderValue,
    /// Cancelled when no connection is to be accepted any more, and those inside are to leave.
    pub(super) closing: CancellationToken,
    inside: AtomicUsize,
    /// What the listener was when it went: connections that are still inside may bring a last request.
    retired: ArcSwapOption<ListenerView>,
    /// When the log last said that connections wait.
    pause_told: Mutex<Option<Instant>>,
}

/// At the limit a pause follows another, many times a second.
const TOLD_APART: Duration = Duration::from_secs(10);

/// A worker lets new connections wait.
#[derive(Debug)]
pub(super) struct Paused<'a>(&'a Gate);

/// One connection inside.
#[derive(Debug)]
pub(super) struct Inside(Arc<Gate>);

impl Gate {
    pub(super) fn new(name: Arc<str>, metrics: Arc<ListenerMetrics>, port: u16) -> Gate {
        Gate {
            name,
            metrics,
            port: HeaderValue::from(port),
            closing: CancellationToken::new(),
            inside: AtomicUsize::new(0),
            retired: ArcSwapOption::empty(),
            pause_told: Mutex::default(),
        }
    }

    /// The listener as its connections are to see it.
    pub(super) fn view(&self, snapshot: &Snapshot) -> Option<Arc<ListenerView>> {
        snapshot.listeners.get(&self.name).cloned().or_else(|| self.retired.load_full())
    }

    /// The listener is not in the next generation any more.
    pub(super) fn retire(&self, view: &Arc<ListenerView>) {
        self.retired.store(Some(Arc::clone(view)));
    }

    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// How many connections are inside.
    pub(super) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// A worker accepts nobody until this is dropped, because few descriptors are left.
    pub(super) fn pause(&self) -> Paused<'_> {
        self.metrics.accept_paused.inc();
        let mut told = self.pause_told.lock();
        if told.is_none_or(|told| told.elapsed() > TOLD_APART) {
            *told = Some(Instant::now());
            tracing::error!(listener = %self.name, "few descriptors are left, new connections wait");
        }
        Paused(self)
    }

    /// Shows how many may be inside from now on.
    pub(super) fn tell_limit(&self, max: usize) {
        self.metrics.connections_max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// Lets one more in, unless `max` are inside.
    pub(super) fn enter(self: &Arc<Gate>, max: usize) -> Option<Inside> {
        // Relaxed: a count for a limit; it guards no memory.
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        let inside = Inside(Arc::clone(self));
        if before < max { Some(inside) } else { None }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.metrics.accept_paused.dec();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections_open.dec();
    }
}
