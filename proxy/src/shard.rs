//! Which worker is this thread? What workers would otherwise wait for each other at is kept in a piece for each of them.
//!
//! Owns the number, and nothing that is kept by it.

use std::cell::Cell;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(0) };
}

/// This thread is worker `index`. Called once by each worker.
pub fn enter(index: usize) {
    MINE.set(index);
}

/// The number of this thread's worker; threads that are none share the first one's pieces.
pub fn mine() -> usize {
    MINE.get()
}
