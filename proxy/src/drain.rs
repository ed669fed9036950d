//! Running, draining, stopped: what the process is up to, and how it comes to an end.
//!
//! Owns the phase and knows when the last exchange is over. Never kills anything: the server decides what the end of
//! patience means.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first config is being published.
    Starting,
    /// Requests are served.
    Running,
    /// No new connections; what is in flight goes on.
    Draining,
    /// Nothing is in flight any more, or patience is over.
    Stopped,
}

impl Phase {
    /// The word for it in the admin API.
    pub const fn token(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// What upgraded connections are to do while the process drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnels {
    /// They are told to go away when nothing else is in flight: somebody else serves their clients.
    EndLast,
    /// They may live until the grace period is over: a new process has taken the listeners over.
    LiveOn,
}

/// The process's phase and what is in flight.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// One token per client connection, to its very end, and per accept loop.
    pub connections: TaskTracker,
    /// One token per client connection that has more to carry than upgraded streams, or may be about to.
    pub busy: TaskTracker,
    /// One task per upgraded connection.
    pub tunnels: TaskTracker,
    /// Cancelled when upgraded connections must end.
    pub tunnels_end: CancellationToken,
}

impl Lifecycle {
    /// A process that has just begun.
    pub fn new() -> Arc<Lifecycle> {
        Arc::new(Lifecycle {
            phase: watch::Sender::new(Phase::Starting),
            connections: TaskTracker::new(),
            busy: TaskTracker::new(),
            tunnels: TaskTracker::new(),
            tunnels_end: CancellationToken::new(),
        })
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a phase; a process never goes back to an earlier one.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = (phase as u8) > (*current as u8);
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// Returns once the phase has come.
    pub async fn reached(&self, phase: Phase) {
        let mut watched = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = watched.wait_for(|current| *current as u8 >= phase as u8).await;
    }

    /// Returns when nothing is in flight, or after `patience`. The listeners are closed already.
    pub async fn drained(&self, tunnels: Tunnels, patience: Duration) {
        for tracker in [&self.connections, &self.busy, &self.tunnels] {
            tracker.close();
        }
        let calm = async {
            self.busy.wait().await;
            if tunnels == Tunnels::EndLast {
                self.tunnels_end.cancel();
            }
            self.all_gone().await;
        };
        if tokio::time::timeout(patience, calm).await.is_err() {
            self.tunnels_end.cancel();
            // A moment for the close frames to leave.
            let _ = tokio::time::timeout(LAST_WORDS, self.all_gone()).await;
        }
    }

    /// Tunnels over HTTP/2 end before the connections that carry their last words.
    async fn all_gone(&self) {
        self.tunnels.wait().await;
        self.connections.wait().await;
    }
}

/// How long a close frame may take to be written when patience is over.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(25);

    #[tokio::test(start_paused = true)]
    async fn idle_process_is_drained_at_once() {
        let begun = Instant::now();
        Lifecycle::new().drained(Tunnels::EndLast, PATIENCE).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_the_last_exchange_and_then_ends_tunnels() {
        let lifecycle = Lifecycle::new();
        let exchange = lifecycle.busy.token();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(exchange);
        });
        let end = lifecycle.tunnels_end.clone();
        lifecycle.tunnels.spawn(async move { end.cancelled().await });
        let begun = Instant::now();
        lifecycle.drained(Tunnels::EndLast, PATIENCE).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hand_over_tunnels_live_until_the_grace_period_is_over() {
        let lifecycle = Lifecycle::new();
        let end = lifecycle.tunnels_end.clone();
        lifecycle.tunnels.spawn(async move { end.cancelled().await });
        let begun = Instant::now();
        lifecycle.drained(Tunnels::LiveOn, PATIENCE).await;
        assert_eq!(begun.elapsed().as_secs(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_although_something_hangs() {
        let lifecycle = Lifecycle::new();
        let _hangs = lifecycle.connections.token();
        let begun = Instant::now();
        lifecycle.drained(Tunnels::EndLast, PATIENCE).await;
        assert_eq!(begun.elapsed().as_secs(), 25);
    }

    #[test]
    fn a_phase_is_never_left_backwards() {
        let lifecycle = Lifecycle::new();
        lifecycle.enter(Phase::Draining);
        lifecycle.enter(Phase::Running);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
