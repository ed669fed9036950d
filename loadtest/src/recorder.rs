//! What one worker has seen so far; the workers' recorders are added up into the report.
//!
//! Never sends, never judges.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use indexmap::IndexMap;

use crate::{
    report::ErrorKind,
    user::{Meeting, User},
};

/// Longest latency that is told apart: one hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Why a histogram takes every latency.
const GROWS: &str = "it grows as needed, and an hour is far below what fits";

/// How long a request took, and in which turn of the load it was due: 0 if it takes none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) turn: usize,
    pub(crate) time: Duration,
}

/// Counts and latencies.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Microseconds from due to the last byte of the answer, turn by turn; timeouts are in it with the time they took.
    pub(crate) latency: Vec<Histogram<u64>>,
    /// Microseconds from due to the moment the request got hold of a connection's lane.
    pub(crate) wait: Histogram<u64>,
    pub(crate) requests: u64,
    pub(crate) completed: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<ErrorKind, u64>,
    pub(crate) endpoints: IndexMap<String, u64>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) user_answers: u64,
    pub(crate) faithful: u64,
    pub(crate) moves: u64,
    /// When the last answer was complete, from the start.
    pub(crate) last: Duration,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            latency: Vec::new(),
            wait: histogram(),
            requests: 0,
            completed: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            endpoints: IndexMap::new(),
            bytes_received: 0,
            bytes_sent: 0,
            user_answers: 0,
            faithful: 0,
            moves: 0,
            last: Duration::ZERO,
        }
    }

    /// A request began, so long after it was due.
    pub(crate) fn began(&mut self, late: Duration, bytes: u64) {
        self.requests += 1;
        self.bytes_sent += bytes;
        self.wait.record(micros(late)).expect(GROWS);
    }

    /// A whole answer came, with whatever status; after so long, if that is of interest.
    pub(crate) fn answered(&mut self, status: u16, bytes: u64, latency: Option<Took>) {
        self.completed += 1;
        self.bytes_received += bytes;
        *self.statuses.entry(status).or_default() += 1;
        self.took(latency);
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, kind: ErrorKind, latency: Option<Took>) {
        *self.errors.entry(kind).or_default() += 1;
        if matches!(kind, ErrorKind::Timeout | ErrorKind::NoConnection) {
            // Left out they would flatter the server.
            self.took(latency);
        }
    }

    fn took(&mut self, latency: Option<Took>) {
        let Some(Took { turn, time }) = latency else { return };
        self.turns(turn + 1)[turn].record(micros(time)).expect(GROWS);
    }

    /// The histograms of so many turns or more.
    fn turns(&mut self, count: usize) -> &mut [Histogram<u64>] {
        let count = count.max(self.latency.len());
        self.latency.resize_with(count, histogram);
        &mut self.latency
    }

    /// The latencies of all turns.
    pub(crate) fn all_turns(&self) -> Histogram<u64> {
        let mut all = histogram();
        for turn in &self.latency {
            all.add(turn).expect(GROWS);
        }
        all
    }

    /// The endpoint `name` answered, `user` if it asked.
    pub(crate) fn served(&mut self, name: &str, user: Option<&mut User>) {
        let index =
            self.endpoints.get_index_of(name).unwrap_or_else(|| self.endpoints.insert_full(name.to_owned(), 0).0);
        self.endpoints[index] += 1;
        if let Some(user) = user {
            let Meeting { faithful, moved } = user.meet(index);
            self.user_answers += 1;
            self.faithful += u64::from(faithful);
            self.moves += u64::from(moved);
        }
    }

    /// Adds what another worker has seen.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (own, turn) in self.turns(other.latency.len()).iter_mut().zip(other.latency) {
            own.add(turn).expect(GROWS);
        }
        self.wait.add(other.wait).expect(GROWS);
        self.requests += other.requests;
        self.completed += other.completed;
        add(&mut self.statuses, other.statuses);
        add(&mut self.errors, other.errors);
        for (name, count) in other.endpoints {
            *self.endpoints.entry(name).or_default() += count;
        }
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.user_answers += other.user_answers;
        self.faithful += other.faithful;
        self.moves += other.moves;
        self.last = self.last.max(other.last);
    }
}

/// Grows with what it is given, so that many of them are no burden.
fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are allowed");
    histogram.auto(true);
    histogram
}

fn add<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(LONGEST).min(LONGEST)
}
