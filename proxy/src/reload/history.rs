//! The last generations, kept so that one can return to them.
//!
//! Owns their texts. Never reads a file, and never publishes anything.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// How many are kept.
const KEPT: usize = 10;

/// A generation that serves, or did.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// Since when it serves or did.
    pub published: SystemTime,
    /// What came it about.
    pub origin: Origin,
    /// What was different from the one before, one phrase each.
    pub changes: Vec<String>,
    /// The routes that it has changed, by themselves or by what they lead through.
    pub routes: Vec<String>,
    /// What the file said.
    pub text: Arc<str>,
}

/// What came a generation about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The process has begun with it.
    Start,
    /// The file was read.
    Reload,
    /// Somebody wanted this one back.
    Rollback(u64),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Start => formatter.write_str("start"),
            Origin::Reload => formatter.write_str("reload"),
            Origin::Rollback(to) => write!(formatter, "rollback to {to}"),
        }
    }
}

/// The last generations, the one that serves at the end.
#[derive(Debug)]
pub(super) struct History(VecDeque<Arc<Generation>>);

impl History {
    /// Begins with the first generation.
    pub(super) fn new(text: &str) -> History {
        let (published, origin) = (SystemTime::now(), Origin::Start);
        let (changes, routes) = (Vec::new(), Vec::new());
        History([Arc::new(Generation { number: 1, published, origin, changes, routes, text: text.into() })].into())
    }

    pub(super) fn push(&mut self, generation: Generation) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(generation));
    }

    /// The one that serves.
    pub(super) fn newest(&self) -> Arc<Generation> {
        Arc::clone(self.0.back().expect("it begins with one, and none goes but for another"))
    }

    /// The newest first.
    pub(super) fn list(&self) -> Vec<Arc<Generation>> {
        self.0.iter().rev().cloned().collect()
    }

    /// The one with this number, or else the one before that which serves.
    pub(super) fn find(&self, number: Option<u64>) -> Option<Arc<Generation>> {
        let mut newest_first = self.0.iter().rev();
        match number {
            Some(number) => newest_first.find(|one| one.number == number).cloned(),
            None => newest_first.nth(1).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64) -> Generation {
        let (published, text) = (SystemTime::UNIX_EPOCH, number.to_string().into());
        Generation { number, published, origin: Origin::Reload, changes: Vec::new(), routes: Vec::new(), text }
    }

    #[test]
    fn last_ten_are_kept_and_found_by_number_or_by_being_the_one_before() {
        let mut history = History::new("1");
        assert!(history.find(None).is_none(), "there is none before the first");
        (2..=12).for_each(|number| history.push(generation(number)));
        let numbers: Vec<_> = history.list().iter().map(|one| one.number).collect();
        assert_eq!(numbers, (3..=12).rev().collect::<Vec<_>>());
        assert_eq!(history.find(None).unwrap().number, 11);
        assert_eq!(&*history.find(Some(5)).unwrap().text, "5");
        assert!(history.find(Some(2)).is_none());
    }
}
