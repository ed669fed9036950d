//! Waits until a moment, to a few microseconds.
//!
//! Tokio's timers are as coarse as a millisecond, which would put half a millisecond of our own onto every latency
//! of an open loop; a timerfd is exact and costs two system calls a wait.

use std::{io, os::fd::OwnedFd, time::Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's.
pub(crate) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// Must be called inside a tokio runtime.
    #[expect(deprecated, reason = "its successor is unsafe, for types that may swap their descriptor; OwnedFd cannot")]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Returns at `moment`, at once if it has passed.
    pub(crate) async fn sleep_until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Others of this thread must still get their turn.
            tokio::task::yield_now().await;
            return Ok(());
        }
        rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once_in(left))?;
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

fn once_in(left: std::time::Duration) -> Itimerspec {
    Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        },
    }
}
