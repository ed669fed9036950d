//! What the service manager is told, by the protocol of `sd_notify(3)`: that the process serves, reloads, stops, that
//! another one is the service from now on, and that it is alive.
//!
//! Owns the words. Without `NOTIFY_SOCKET` nobody listens and nothing is said. Never decides when something is due, and
//! never waits for an answer: there is none.

use std::env;
use std::time::Duration;

use sd_notify::NotifyState;

/// Who started the process, if that is systemd or speaks like it; nobody by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd {
    listens: bool,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment has it.
    pub fn of_this_process() -> Systemd {
        let listens = env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        // A clock that ticks without a pause would do nothing else.
        let watchdog = sd_notify::watchdog_enabled().filter(|within| *within >= Duration::from_millis(1));
        Systemd { listens, watchdog: watchdog.filter(|_| listens) }
    }

    /// Without a sign of life for so long the process is taken for dead.
    pub(super) fn watchdog(self) -> Option<Duration> {
        self.watchdog
    }

    /// Requests are served; after a reload: again.
    pub(super) fn serving(self, status: &str) {
        self.say(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The same of a process that has taken over: it is the service now, whoever was before.
    pub(super) fn succeeded(self, status: &str) {
        self.say(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Another process is the service now. It says so itself, but maybe only after the end of this one, which would be
    /// taken for the service's.
    pub(super) fn succeeded_by(self, pid: u32) {
        self.say(&[NotifyState::MainPid(pid)]);
    }

    /// A config is read and put to work; [`Systemd::serving`] is to follow.
    pub(super) fn reloading(self) {
        if self.listens {
            // The time tells an answer to this request from one to an earlier one.
            match NotifyState::monotonic_usec_now() {
                Ok(now) => self.say(&[NotifyState::Reloading, now]),
                Err(error) => tracing::warn!(%error, "there is no clock to tell systemd of a reload"),
            }
        }
    }

    /// What is shown beside the service's state.
    pub(super) fn status(self, status: &str) {
        self.say(&[NotifyState::Status(status)]);
    }

    /// The end has begun.
    pub(super) fn stopping(self) {
        self.say(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    }

    /// A sign of life.
    pub(super) fn alive(self) {
        self.say(&[NotifyState::Watchdog]);
    }

    fn say(self, words: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(words)
        {
            tracing::warn!(%error, "systemd cannot be told");
        }
    }
}
