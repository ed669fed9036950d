//! What a connection has received and nobody has used yet.
//!
//! Owns those bytes. Heads are read through one buffer per thread and parsed where they lie, so that a connection which
//! waits owns no buffer at all; bodies are read into memory of their own and passed on without a copy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::head::{Malformed, Parsed};
use crate::scratch;

/// Bytes that were read ahead.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: BytesMut,
}

/// Read of a body at once. Larger reads cost more in cold memory than they save in system calls.
const CHUNK: usize = 128 * 1024;

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum NoHead {
    /// The connection ended before its first byte.
    #[error("connection closed")]
    Closed,
    /// The connection ended amid the head.
    #[error("connection closed amid a head")]
    Incomplete,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It cannot be read.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Inbox {
    /// The bytes, for a decoder to take from.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Everything that was read ahead.
    pub fn into_bytes(self) -> BytesMut {
        self.bytes
    }

    /// Lets go of memory that a body was read into: a connection that waits owns none, and the next body, on whichever
    /// connection, finds it in the cache.
    pub fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Whether nothing was read ahead.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads until `parse` finds a whole head.
    pub fn poll_head<T, S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        parse: impl Fn(&[u8]) -> Parsed<T>,
    ) -> Poll<Result<T, NoHead>> {
        if self.may_hold_a_head(0)
            && let Some((head, length)) = parse(&self.bytes)?
        {
            self.bytes.advance(length);
            return Poll::Ready(Ok(head));
        }
        loop {
            let read = ready!(scratch::lend(|scratch| self.poll_head_from(stream, cx, scratch, &parse)))?;
            if let Some(head) = read {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// One read, and a look at what it brought.
    fn poll_head_from<T, S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        parse: &impl Fn(&[u8]) -> Parsed<T>,
    ) -> Poll<Result<Option<T>, NoHead>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Err(if self.is_empty() { NoHead::Closed } else { NoHead::Incomplete }));
        }
        if self.is_empty() {
            let parsed = parse(read);
            let used = if let Ok(Some((_, length))) = &parsed { *length } else { 0 };
            self.bytes.extend_from_slice(&read[used..]);
            return Poll::Ready(Ok(parsed?.map(|(head, _)| head)));
        }
        let seen = self.bytes.len();
        self.bytes.extend_from_slice(read);
        if !self.may_hold_a_head(seen) {
            return Poll::Ready(Ok(None));
        }
        let Some((head, length)) = parse(&self.bytes)? else { return Poll::Ready(Ok(None)) };
        self.bytes.advance(length);
        Poll::Ready(Ok(Some(head)))
    }

    /// Whether a head may end behind the first `seen` bytes. A head that comes byte by byte would otherwise be parsed as
    /// often as it has bytes; so that one over the limit is found out, every so often it is.
    fn may_hold_a_head(&self, seen: usize) -> bool {
        const LOOKED_AT: usize = 4096;
        let new = &self.bytes[seen..];
        new.contains(&b'\n') || self.bytes.len() / LOOKED_AT > seen / LOOKED_AT
    }

    /// Reads more of a body of which `expected` bytes are to come; 0 at the end of the connection.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        let expected = usize::try_from(expected).map_or(CHUNK, |expected| expected.min(CHUNK));
        if expected <= scratch::SIZE {
            return scratch::lend(|scratch| self.poll_fill_from(stream, cx, scratch));
        }
        // One byte more than can come: a read that fills its buffer leaves tokio in doubt whether there is more.
        self.bytes.reserve(expected + 1);
        poll_read_buf(Pin::new(stream), cx, &mut self.bytes)
    }

    /// Reads a little of whatever comes; 0 at the end of the connection.
    fn poll_fill_from<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        self.bytes.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}
