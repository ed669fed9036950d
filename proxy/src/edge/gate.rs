//! The door of one listener: how many are inside, and whether it is still open.
//!
//! Shared by all workers that accept for the listener. Never touches a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
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
}

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

    /// Lets one more in, unless `max` are inside.
    pub(super) fn enter(self: &Arc<Gate>, max: usize) -> Option<Inside> {
        // Relaxed: a count for a limit; it guards no memory.
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        let inside = Inside(Arc::clone(self));
        if before < max { Some(inside) } else { None }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections_open.dec();
    }
}
