//! The bounded way of lines from the workers to the writer.
//!
//! A channel would wake the writer for each line; here it is woken once a batch, so that a worker pays for a lock that
//! is held for one copy, and seldom for a system call.

use std::mem;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::telemetry::metrics::Counter;

/// How long the writer lets a batch grow. A line is in the file at most this and one write later.
const LINGER: Duration = Duration::from_millis(50);

/// The writer does not linger over more bytes than this: about a hundred lines.
pub(super) const BATCH: usize = 64 * 1024;

/// How long the writer waits before it tries a failed write again.
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to do for the writer.
    work: Condvar,
    /// The writer is gone.
    gone: Condvar,
    /// Bytes of lines that may wait.
    capacity: usize,
    dropped: Counter,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How many lines they are.
    lines: u64,
    reopen: bool,
    closed: bool,
    finished: bool,
}

impl State {
    fn urgent(&self) -> bool {
        self.reopen || self.closed
    }

    fn give(&mut self, pending: &mut Vec<u8>) -> u64 {
        if pending.is_empty() {
            mem::swap(&mut self.bytes, pending);
        } else {
            pending.append(&mut self.bytes);
        }
        mem::take(&mut self.lines)
    }

    fn turn(&mut self) -> Turn {
        match (self.closed, mem::take(&mut self.reopen)) {
            (true, _) => Turn::Close,
            (false, true) => Turn::Reopen,
            (false, false) => Turn::Write,
        }
    }
}

/// What the writer wants of its next turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Lines.
    Lines,
    /// Only a pause: earlier lines could not be written yet. Later ones stay here, where they are bounded.
    Pause,
}

/// What the writer has to do, beside writing what it was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Write,
    /// Open the file anew afterwards.
    Reopen,
    /// End afterwards.
    Close,
}

impl Queue {
    pub(super) fn new(capacity: usize, dropped: Counter) -> Queue {
        Queue { state: Mutex::default(), work: Condvar::new(), gone: Condvar::new(), capacity, dropped }
    }

    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let before = state.bytes.len();
        let length = before + line.len();
        if state.closed || length > self.capacity {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        // The first line starts the writer's linger, the last of a batch ends it.
        if before == 0 || before < BATCH && length >= BATCH {
            self.work.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        self.state.lock().reopen = true;
        self.work.notify_one();
    }

    /// Lets the writer end once it has written what is here. Later records are dropped.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    /// Waits until the writer has ended, but not longer than `patience`.
    pub(super) fn wait_for_end(&self, patience: Duration) {
        self.gone.wait_while_for(&mut self.state.lock(), |state| !state.finished, patience);
    }

    /// The writer's last word.
    pub(super) fn finish(&self) {
        self.state.lock().finished = true;
        self.gone.notify_all();
    }

    /// Waits for something to do and adds the lines, if any, to `pending`; says how many those are.
    pub(super) fn take(&self, want: Want, pending: &mut Vec<u8>) -> (u64, Turn) {
        let mut state = self.state.lock();
        match want {
            Want::Lines => self.gather(&mut state),
            Want::Pause => self.wait(&mut state, RETRY, |state| !state.urgent()),
        }
        let taken = want == Want::Lines || state.closed;
        (if taken { state.give(pending) } else { 0 }, state.turn())
    }

    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        self.work.wait_while(state, |state| state.bytes.is_empty() && !state.urgent());
        self.wait(state, LINGER, |state| state.bytes.len() < BATCH && !state.urgent());
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, limit: Duration, condition: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + limit;
        while condition(state) && !self.work.wait_until(state, deadline).timed_out() {}
    }
}
