//! A deadline that moves on before it is reached, nearly always.
//!
//! Owns one timer per connection instead of one per request: to set a timer and to clear it costs more than everything
//! else that an attempt needs the clock for. It rings at an old deadline, finds that there is a later one, and is set
//! again: once in as long as an attempt may take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is kept for the next deadline.
#[derive(Debug, Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready at `deadline`, which may be another one each time.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_of_the_day() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        // Sooner and later than the one before, and one that has passed.
        for seconds in [30, 5, 5, 40, 1] {
            let before = begun.elapsed();
            let deadline = begun + Duration::from_secs(seconds);
            poll_fn(|cx| alarm.poll(deadline, cx)).await;
            assert_eq!(begun.elapsed(), before.max(Duration::from_secs(seconds)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_deadline_rings_nobody() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        let first = begun + Duration::from_secs(1);
        poll_fn(|cx| {
            assert!(alarm.poll(first, cx).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll(begun + Duration::from_secs(3), cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
