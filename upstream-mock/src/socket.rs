//! The socket below HTTP, and the line by which a handler above HTTP decides how it ends.
//!
//! hyper owns the [`Socket`] and drops it; the handler holds the [`Line`] of the same connection. The handler writes the
//! fate of the connection into the line, the connection's task sees the line end and drops hyper, and the socket carries
//! out its fate as it is dropped: a FIN, an RST, or bytes that are no HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::frost::Frost;

/// What the `excess` fault sends behind an answer: another one.
const EXCESS: &[u8] = b"HTTP/1.1 200 OK\r\nx-upstream: nobody\r\ncontent-length: 17\r\n\r\nnobody asked this";
/// What the `garbage` fault answers: no status line, no frame.
const GARBAGE: &[u8] = b"\x00\x01\xfe\xff this is no HTTP \x7f\r\n\r\n";

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    /// In order, with a FIN.
    Close,
    /// With an RST; what the kernel has not sent yet is lost.
    Reset,
    /// With bytes that are no HTTP, then a FIN.
    Garbage,
}

impl Fate {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Reset,
            2 => Self::Garbage,
            _ => Self::Close,
        }
    }
}

/// A handle on one connection, shared by its socket, its task and its handlers.
#[derive(Debug)]
pub(crate) struct Line {
    fate: AtomicU8,
    ends_when_flushed: AtomicBool,
    exceeds: AtomicBool,
    end: CancellationToken,
    crashed: Arc<AtomicBool>,
    frost: Arc<Frost>,
}

impl Line {
    /// A line that ends at the latest when `parent` is cancelled, and that is reset if its container has `crashed` then.
    /// Nothing moves on it while `frost` holds.
    pub(crate) fn new(parent: &CancellationToken, crashed: Arc<AtomicBool>, frost: Arc<Frost>) -> Arc<Self> {
        Arc::new(Self {
            fate: AtomicU8::new(Fate::Close as u8),
            ends_when_flushed: AtomicBool::new(false),
            exceeds: AtomicBool::new(false),
            end: parent.child_token(),
            crashed,
            frost,
        })
    }

    /// Settles how the connection will end, without ending it.
    pub(crate) fn doom(&self, fate: Fate) {
        // Release: the socket reads it in another task, after the token told that task to drop it.
        self.fate.store(fate as u8, Ordering::Release);
    }

    /// Ends the connection now.
    pub(crate) fn end(&self, fate: Fate) {
        self.doom(fate);
        self.end.cancel();
    }

    /// Ends the connection as soon as all that HTTP has written so far is with the kernel.
    pub(crate) fn end_when_flushed(&self, fate: Fate) {
        self.doom(fate);
        self.ends_when_flushed.store(true, Ordering::Release);
    }

    /// Lets the bytes of another answer follow what is written next, in the same write: then the peer cannot have used
    /// the connection again before it could see them.
    pub(crate) fn exceed(&self) {
        self.exceeds.store(true, Ordering::Release);
    }

    /// Resolves when the connection has to end; its fate is settled then.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
        if self.crashed.load(Ordering::Acquire) {
            self.doom(Fate::Reset);
        }
    }

    fn flushed(&self) {
        if self.ends_when_flushed.load(Ordering::Acquire) {
            self.end.cancel();
        }
    }
}

/// A TCP connection that meets its fate when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line }
    }
}

impl Socket {
    /// Writes these bytes and, if there is room for all of them, what nobody asked for behind them.
    fn poll_write_exceeding(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let asked: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut all = Vec::with_capacity(asked + EXCESS.len());
        for buf in bufs {
            all.extend_from_slice(buf);
        }
        all.extend_from_slice(EXCESS);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &all))?;
        if written > asked {
            self.line.exceeds.store(false, Ordering::Release);
        }
        Poll::Ready(Ok(written.min(asked)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match Fate::from_u8(self.line.fate.load(Ordering::Acquire)) {
            Fate::Close => {}
            // A linger time of zero turns close(2) into an RST. Failing means that the peer was faster.
            Fate::Reset => drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))),
            Fate::Garbage => drop(self.stream.try_write(GARBAGE)),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.line.frost.poll_thawed(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.line.frost.poll_thawed(cx));
        if self.line.exceeds.load(Ordering::Acquire) {
            return self.poll_write_exceeding(cx, bufs);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has nothing of its own to flush: what was written is with the kernel.
        self.line.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
