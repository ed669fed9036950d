//! One buffer per thread, through which sockets are read.
//!
//! What is read is looked at, or written on, where it lies; only what has to wait is copied. So a connection that waits
//! owns no buffer, and the buffer that all of them use stays in the cache.

use std::cell::RefCell;

/// Bytes that are read at once: more than most messages have, and little enough to be copied if a body has begun in them.
pub const SIZE: usize = 8 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into());
}

/// Lends the buffer for one step. What runs inside only talks to a socket: it never lends the buffer again.
pub fn lend<T>(step: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| step(buffer))
}
