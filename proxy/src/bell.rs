//! Something that may happen to a task at any time, and nearly never does.
//!
//! A task that waits for bytes and for a timer asks both at each wake, and asking a timer takes a lock. Behind a bell
//! they are asked when one of them has called, and not when the bytes have. Owns no future and no deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rung by the futures behind it.
#[derive(Debug)]
pub struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    /// One that has rung: what is behind it has not been asked yet.
    pub fn new() -> Arc<Bell> {
        Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() })
    }

    /// Asks what is behind it, if it has rung. Whoever changes what is behind it does so after it was ready.
    pub fn poll<T>(
        self: &Arc<Bell>,
        cx: &mut Context<'_>,
        behind: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before the look: whoever rings after it wakes the task.
        self.task.register(cx.waker());
        if !self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let answer = behind(&mut Context::from_waker(&Waker::from(Arc::clone(self))));
        if answer.is_ready() {
            self.rung.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_behind_it_is_asked_when_it_has_called() {
        let (bell, begun) = (Bell::new(), Instant::now());
        let (mut watch, mut other) = (pin!(sleep(Duration::from_secs(5))), pin!(sleep(Duration::from_secs(1))));
        let mut asked = 0;
        let woken = poll_fn(|cx| {
            let behind = bell.poll(cx, |cx| {
                asked += 1;
                watch.as_mut().poll(cx)
            });
            if other.as_mut().poll(cx).is_ready() {
                let next = Instant::now() + Duration::from_secs(1);
                other.as_mut().reset(next);
                assert!(other.as_mut().poll(cx).is_pending());
            }
            behind
        });
        woken.await;
        assert_eq!((asked, begun.elapsed().as_secs()), (2, 5), "first, and at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_ready_is_asked_again() {
        let (bell, begun) = (Bell::new(), Instant::now());
        let mut watch = pin!(sleep(Duration::from_secs(1)));
        for seconds in 1..4 {
            poll_fn(|cx| bell.poll(cx, |cx| watch.as_mut().poll(cx))).await;
            assert_eq!(begun.elapsed().as_secs(), seconds);
            watch.as_mut().reset(Instant::now() + Duration::from_secs(1));
        }
    }
}
