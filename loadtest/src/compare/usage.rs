//! What a process has used: time on a core, and memory.
//!
//! Reads `/proc`, so Linux only. Sees living threads: the time of one that ended between two looks is lost, which no
//! proxy here does while it is measured. Changes nothing.

use std::{fs, time::Duration};

/// CPU time and memory of a process with its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a core, of all living threads, from their beginning.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_kib: u64,
}

impl Usage {
    /// Of `pid` and all its descendants, now; zero for a process that is gone.
    pub fn of(pid: u32) -> Self {
        let mut all = Self { cpu: Duration::ZERO, rss_kib: rss_kib(pid) };
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            all.cpu += Duration::from_nanos(first_number(&read("schedstat")));
            for child in read("children").split_whitespace().filter_map(|child| child.parse().ok()) {
                let child = Self::of(child);
                all.cpu += child.cpu;
                all.rss_kib += child.rss_kib;
            }
        }
        all
    }
}

fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Instant};

    use super::*;

    #[test]
    fn work_shows_as_cpu_time_with_that_of_children() {
        // A shell that waits for another one, which works.
        let mut shell = Command::new("sh").args(["-c", "sh -c 'while :; do :; done' & wait"]).spawn().unwrap();
        let (begin, mut seen) = (Instant::now(), Usage::default());
        while seen.cpu < Duration::from_millis(30) && begin.elapsed() < Duration::from_secs(20) {
            seen = Usage::of(shell.id());
        }
        for child in children(shell.id()) {
            Command::new("kill").arg(child).status().unwrap();
        }
        shell.wait().unwrap();
        assert!(seen.cpu >= Duration::from_millis(30) && seen.rss_kib > 100, "{seen:?}");
        assert_eq!(Usage::of(shell.id()), Usage::default());
    }

    fn children(pid: u32) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }
}
