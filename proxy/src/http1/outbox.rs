//! What a connection has to send and has not sent yet.
//!
//! Small things are copied together, so that a head and a small body leave in one write; large ones are sent from where
//! they are. Owns the bytes, not the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Bytes on their way out, in order: `bytes`, `large`, `tail`.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// How much of `bytes` has left.
    sent: usize,
    large: Bytes,
    tail: &'static [u8],
}

/// Data up to this size is copied: that costs less than a second slice for the kernel to look at.
const COPIED: usize = 16 * 1024;

/// When so much is waiting, it is sent before more is asked for.
const ENOUGH: usize = 64 * 1024;

/// A buffer that has grown beyond this is not kept for the next message.
const KEPT: usize = 4 * 1024;

impl Outbox {
    /// An empty one with room for a head.
    pub fn with_capacity(bytes: usize) -> Outbox {
        Outbox { bytes: Vec::with_capacity(bytes), ..Outbox::default() }
    }

    /// Where heads are written to. Only while the outbox is not [full](Outbox::is_full).
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty() && self.tail.is_empty(), "what follows must not overtake");
        &mut self.bytes
    }

    /// Adds data. Only while the outbox is not full.
    pub fn push(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            self.bytes().extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Adds a few bytes behind what was pushed.
    pub fn push_tail(&mut self, tail: &'static [u8]) {
        if self.large.is_empty() {
            self.bytes().extend_from_slice(tail);
        } else {
            self.tail = tail;
        }
    }

    /// Whether it has to be sent before anything is added.
    pub fn is_full(&self) -> bool {
        !self.large.is_empty() || self.bytes.len() >= ENOUGH
    }

    /// How many bytes are waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.large.len() + self.tail.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.large.is_empty()
    }

    /// Whether some of it has left since it was last empty, or all of it.
    pub fn has_begun(&self) -> bool {
        self.sent > 0 || self.bytes.is_empty()
    }

    /// Sends until nothing is left.
    pub fn poll_send<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = ready!(self.poll_write(stream, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_write<S: AsyncWrite + Unpin>(&self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let bytes = &self.bytes[self.sent..];
        if self.large.is_empty() {
            return Pin::new(stream).poll_write(cx, bytes);
        }
        let slices = [bytes, &self.large, self.tail].map(IoSlice::new);
        let first = usize::from(bytes.is_empty());
        Pin::new(stream).poll_write_vectored(cx, &slices[first..])
    }

    fn advance(&mut self, written: usize) {
        let of_bytes = written.min(self.bytes.len() - self.sent);
        self.sent += of_bytes;
        if self.sent == self.bytes.len() {
            self.clear();
        }
        let of_large = (written - of_bytes).min(self.large.len());
        self.large.advance(of_large);
        let of_tail = written - of_bytes - of_large;
        self.tail = &self.tail[of_tail..];
        if self.large.is_empty() && !self.tail.is_empty() {
            // Rare: the socket's buffer was full between the two.
            self.bytes.extend_from_slice(self.tail);
            self.tail = b"";
        }
    }

    fn clear(&mut self) {
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }
}
