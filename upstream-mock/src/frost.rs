//! A container that is stopped as by SIGSTOP: whoever wants to move bytes waits until it thaws.
//!
//! Owns the wakers of those that wait. Never touches a socket.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Whether a container is frozen, shared by its listener and all of its connections.
#[derive(Debug, Default)]
pub(crate) struct Frost {
    frozen: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Frost {
    /// Freezes, or thaws and wakes all that wait.
    pub(crate) fn set(&self, frozen: bool) {
        let mut waiting = self.waiting.lock();
        // Release: who finds it thawed sees what was changed before.
        self.frozen.store(frozen, Ordering::Release);
        if !frozen {
            waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Ready unless frozen; else the task is woken by the thaw.
    pub(crate) fn poll_thawed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.frozen.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        // Under the lock the thaw cannot come between the look and the entry.
        if !self.frozen.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the thaw.
    pub(crate) async fn thawed(&self) {
        poll_fn(|cx| self.poll_thawed(cx)).await;
    }
}
