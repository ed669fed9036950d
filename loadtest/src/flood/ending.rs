//! How hostile connections ended, and how long they lasted.
//!
//! Only counts.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

/// Longest life that is told apart: one hour, in milliseconds.
const LONGEST: u64 = 3_600_000;

/// How one connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) how: How,
    /// The status of the last answer, if there was one.
    pub(super) status: Option<u16>,
    /// HTTP/2 streams that the server reset.
    pub(super) resets: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum How {
    /// There was none, or it ended before TLS was agreed on.
    Refused,
    /// By the server.
    Closed,
    /// By the client.
    Left,
    /// Not before the end of the flood.
    #[default]
    Endured,
}

impl From<How> for Ending {
    fn from(how: How) -> Self {
        Self { how, ..Self::default() }
    }
}

/// How they all ended.
#[derive(Clone)]
pub struct Tally {
    /// Connections that were begun.
    pub begun: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that the server ended.
    pub closed: u64,
    /// Those that the client ended, as it meant to.
    pub left: u64,
    /// Those that were open at the end of the flood.
    pub endured: u64,
    /// HTTP/2 streams that the server reset.
    pub streams_reset: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Lives of those that the server ended, in milliseconds.
    lives: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            begun: 0,
            refused: 0,
            closed: 0,
            left: 0,
            endured: 0,
            streams_reset: 0,
            statuses: BTreeMap::new(),
            lives: Histogram::new_with_max(LONGEST, 2).expect("the bounds are constants that fit"),
        }
    }

    pub(super) fn note(&mut self, ending: Ending, life: Duration) {
        self.begun += 1;
        self.streams_reset += ending.resets;
        if let Some(status) = ending.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        match ending.how {
            How::Refused => self.refused += 1,
            How::Left => self.left += 1,
            How::Endured => self.endured += 1,
            How::Closed => {
                self.closed += 1;
                self.lives.saturating_record(u64::try_from(life.as_millis()).unwrap_or(LONGEST));
            }
        }
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        self.begun += other.begun;
        self.refused += other.refused;
        self.closed += other.closed;
        self.left += other.left;
        self.endured += other.endured;
        self.streams_reset += other.streams_reset;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.lives += &other.lives;
    }

    /// The life that half of those which the server ended did not outlast.
    pub fn median_life(&self) -> Duration {
        Duration::from_millis(self.lives.value_at_quantile(0.5))
    }

    /// The longest life of one that the server ended.
    pub fn longest_life(&self) -> Duration {
        Duration::from_millis(self.lives.max())
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begun, refused, closed, left, endured, streams_reset, statuses, .. } = self;
        write!(f, "{begun} begun, {refused} refused, {closed} closed, {left} left, {endured} endured, ")?;
        write!(f, "{streams_reset} streams reset, {statuses:?}, lives up to {:?}", self.longest_life())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_add_up() {
        let (mut all, mut one) = (Tally::new(), Tally::new());
        one.note(How::Refused.into(), Duration::ZERO);
        one.note(Ending { how: How::Closed, status: Some(408), resets: 2 }, Duration::from_millis(300));
        one.note(How::Closed.into(), Duration::from_millis(10));
        one.note(How::Endured.into(), Duration::from_secs(9));
        all.absorb(&one);
        all.absorb(&one);
        assert_eq!((all.begun, all.refused, all.closed, all.endured, all.left), (8, 2, 4, 2, 0));
        assert_eq!((all.statuses[&408], all.streams_reset), (2, 4));
        assert!(all.median_life() <= Duration::from_millis(11), "{:?}", all.median_life());
        assert!(all.longest_life() >= Duration::from_millis(300), "{:?}", all.longest_life());
    }
}
