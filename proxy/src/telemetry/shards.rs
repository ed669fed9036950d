//! Figures that every request changes, without workers waiting for each other.
//!
//! Each worker changes a cell of its own; whoever reads adds the cells up. A cell is made when its worker first needs
//! it, by that worker, so that it lies among what that worker alone writes to. Never decides what is counted.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus::core::Atomic;

use crate::shard;

/// Cells of one figure at most; with more workers than this, some share.
const MOST: usize = 16;

/// A figure's cells.
#[derive(Debug)]
pub struct Shards<T>([OnceLock<Box<T>>; MOST]);

impl<T> Default for Shards<T> {
    fn default() -> Shards<T> {
        Shards(array::from_fn(|_| OnceLock::new()))
    }
}

impl<T: Default> Shards<T> {
    /// The cell of this thread.
    pub(super) fn mine(&self) -> &T {
        self.0[shard::mine() % MOST].get_or_init(Box::default)
    }

    /// Every cell there is.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|cell| &**cell)
    }
}

/// A number that only grows.
pub type Sum = Shards<AtomicU64>;

/// A number that grows and shrinks: a cell by itself may be negative.
pub type Level = Shards<AtomicI64>;

// Relaxed throughout: a figure guards no other memory, and a page of metrics is a moment old anyway.
impl Atomic for Sum {
    type T = u64;

    fn new(value: u64) -> Sum {
        let sum = Sum::default();
        sum.set(value);
        sum
    }

    fn set(&self, value: u64) {
        self.inc_by(value.wrapping_sub(self.get()));
    }

    fn get(&self) -> u64 {
        self.all().fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    fn inc_by(&self, delta: u64) {
        self.mine().fetch_add(delta, Ordering::Relaxed);
    }

    fn dec_by(&self, delta: u64) {
        self.mine().fetch_sub(delta, Ordering::Relaxed);
    }
}

impl Atomic for Level {
    type T = i64;

    fn new(value: i64) -> Level {
        let level = Level::default();
        level.set(value);
        level
    }

    fn set(&self, value: i64) {
        self.inc_by(value.wrapping_sub(self.get()));
    }

    fn get(&self) -> i64 {
        self.all().fold(0, |level, cell| level.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    fn inc_by(&self, delta: i64) {
        self.mine().fetch_add(delta, Ordering::Relaxed);
    }

    fn dec_by(&self, delta: i64) {
        self.mine().fetch_sub(delta, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What `act` makes of a new figure when each of so many workers does it a thousand times at once.
    fn worked<A: Atomic>(workers: usize, act: impl Fn(&A) + Sync) -> A::T {
        let figure = A::new(<A::T as prometheus::core::Number>::from_i64(0));
        thread::scope(|scope| {
            for worker in 0..workers {
                let (figure, act) = (&figure, &act);
                scope.spawn(move || {
                    shard::enter(worker);
                    (0..1000).for_each(|_| act(figure));
                });
            }
        });
        figure.get()
    }

    #[test]
    fn nothing_is_lost_however_many_workers_count() {
        for workers in [1, 2, MOST, MOST + 3] {
            assert_eq!(worked::<Sum>(workers, |sum| sum.inc_by(3)), 3000 * workers as u64);
        }
    }

    #[test]
    fn a_level_returns_to_where_it_was_whoever_lowers_it() {
        let level = Level::new(5);
        thread::scope(|scope| {
            scope.spawn(|| {
                shard::enter(1);
                level.inc_by(2);
            });
        });
        assert_eq!(level.get(), 7);
        level.dec_by(2);
        assert_eq!(level.get(), 5);
        level.set(-1);
        assert_eq!(level.get(), -1);
    }

    #[test]
    fn only_who_counts_has_a_cell() {
        let sum = Sum::default();
        assert_eq!((sum.get(), sum.all().count()), (0, 0));
        sum.inc_by(1);
        assert_eq!((sum.get(), sum.all().count()), (1, 1));
    }
}
