//! What a process holds while it is under attack: memory and descriptors.
//!
//! Reads `/proc`, so Linux only. Changes nothing.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::task::JoinHandle;

use crate::compare::usage::Usage;

/// Between two looks for the peak.
const GLANCE: Duration = Duration::from_millis(50);

/// Before, during and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Resident memory before the flood.
    pub rss_before_kib: u64,
    /// The most of it during the flood.
    pub rss_peak_kib: u64,
    /// And a second after it.
    pub rss_after_kib: u64,
    /// Open descriptors before the flood.
    pub descriptors_before: u64,
    /// The most of them during the flood.
    pub descriptors_peak: u64,
    /// And a second after it.
    pub descriptors_after: u64,
}

/// A process that is looked at again and again.
#[derive(Debug)]
pub(super) struct Watched {
    pid: u32,
    before: (u64, u64),
    peak: Arc<[AtomicU64; 2]>,
    looking: JoinHandle<()>,
}

impl Watched {
    pub(super) fn begin(pid: u32) -> Self {
        let before = look(pid);
        let peak = Arc::new([AtomicU64::new(before.0), AtomicU64::new(before.1)]);
        let seen = Arc::clone(&peak);
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(GLANCE).await;
                let (rss, descriptors) = look(pid);
                // Relaxed: read after this task has ended.
                seen[0].fetch_max(rss, Ordering::Relaxed);
                seen[1].fetch_max(descriptors, Ordering::Relaxed);
            }
        });
        Self { pid, before, peak, looking }
    }

    pub(super) async fn end(self) -> Process {
        self.looking.abort();
        // Aborted, so it has ended either way.
        let _ = self.looking.await;
        let after = look(self.pid);
        let peak = |n: usize| self.peak[n].load(Ordering::Relaxed);
        Process {
            rss_before_kib: self.before.0,
            rss_peak_kib: peak(0).max(after.0),
            rss_after_kib: after.0,
            descriptors_before: self.before.1,
            descriptors_peak: peak(1).max(after.1),
            descriptors_after: after.1,
        }
    }
}

/// Memory in KiB, and descriptors.
fn look(pid: u32) -> (u64, u64) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (Usage::of(pid).rss_kib, descriptors as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peak_is_kept_until_the_end() {
        let watched = Watched::begin(std::process::id());
        let opened: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        while watched.peak[1].load(Ordering::Relaxed) < watched.before.1 + 100 {
            tokio::time::sleep(GLANCE).await;
        }
        drop(opened);
        let process = watched.end().await;
        assert!(process.descriptors_peak >= process.descriptors_before + 100, "{process:?}");
        assert!(process.rss_peak_kib > 0 && process.rss_after_kib > 0, "{process:?}");
    }
}
