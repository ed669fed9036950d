//! A client's socket as HTTP reads and writes it: plain or TLS, counted, and watched for whose turn it is.
//!
//! Owns the bytes that were read to find out what the client speaks. Never interprets them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::chatter::Chatter;
use crate::downstream::Downstream;
use crate::http1::Transport;
use crate::telemetry::metrics::ListenerMetrics;

/// A TCP connection of which the first bytes may have been read already.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    read_ahead: Bytes,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> Wire {
        Wire { tcp, read_ahead: Bytes::new() }
    }

    /// Reads until `enough` says so, keeping everything to be read again. The end of the stream ends it, too.
    pub(super) async fn look_ahead<T>(&mut self, mut enough: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let mut seen = BytesMut::from(&self.read_ahead[..]);
        loop {
            if let Some(found) = enough(&seen) {
                self.read_ahead = seen.freeze();
                return Ok(Some(found));
            }
            seen.reserve(1024);
            if self.tcp.read_buf(&mut seen).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Throws away the first bytes of what was read ahead.
    pub(super) fn skip(&mut self, count: usize) {
        self.read_ahead.advance(count);
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buffer);
        }
        let length = self.read_ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.read_ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            // What TLS mostly has: for the kernel, `send` is less work than `writev`.
            [only] => Pin::new(&mut self.tcp).poll_write(cx, only),
            _ => Pin::new(&mut self.tcp).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Plain text or TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    downstream: Arc<Downstream>,
    metrics: Arc<ListenerMetrics>,
    /// Over HTTP/2: what the client says beside its requests.
    chatter: Option<Box<Chatter>>,
}

impl Socket {
    pub(super) fn new(stream: Stream, downstream: Arc<Downstream>, metrics: Arc<ListenerMetrics>) -> Socket {
        Socket { stream, downstream, metrics, chatter: None }
    }

    /// HTTP/2 is spoken, from the first byte that is read from now on.
    pub(super) fn with_http2(mut self) -> Socket {
        self.chatter = Some(Box::new(Chatter::new(Instant::now())));
        self
    }

    /// Puts bytes back in front of what is to be read. Over TLS nothing is ever put back: ALPN tells what follows.
    pub(super) fn unread(mut self, mut bytes: BytesMut) -> Socket {
        if let Stream::Plain(wire) = &mut self.stream {
            bytes.extend_from_slice(&wire.read_ahead);
            wire.read_ahead = bytes.freeze();
        }
        self
    }

    /// Whether the end of the connection has to be told apart from a loss.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Throws away what the client sends, up to `most` bytes of it, until it ends.
    pub(super) async fn discard(mut self, most: u64) -> io::Result<()> {
        let mut left = most;
        while left > 0 {
            let Some(tcp) = self.plain() else {
                return tokio::io::copy(&mut (&mut self).take(left), &mut tokio::io::sink()).await.map(drop);
            };
            tcp.readable().await?;
            match tcp.try_io(Interest::READABLE, || throw_away(tcp, left)) {
                Ok(0) => break,
                Ok(thrown) => {
                    self.received(thrown);
                    left -= thrown as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            // Nobody who is served waits for this.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn sent(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(length)) => {
                self.downstream.activity.unblocked();
                self.metrics.bytes_sent.inc_by(*length as u64);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.downstream.activity.blocked(),
        }
    }

    fn answered(&mut self, result: &Poll<io::Result<usize>>) {
        if let (Some(chatter), Poll::Ready(Ok(length))) = (&mut self.chatter, result) {
            chatter.answered(*length);
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.downstream.activity.received();
        self.metrics.bytes_received.inc_by(bytes.len() as u64);
        if !self.chatter.as_mut().is_some_and(|chatter| chatter.heard(bytes)) {
            return Ok(());
        }
        self.metrics.refused("http2_flood");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a flood of frames that ask for nothing"))
    }
}

/// What is thrown away at once.
const LUMP: u64 = 64 * 1024;

/// By the kernel, which copies nothing: `MSG_TRUNC` of tcp(7). The buffer only says how much.
fn throw_away(tcp: &TcpStream, most: u64) -> io::Result<usize> {
    // At most 64 KiB, which fit.
    let mut untouched = vec![0; most.min(LUMP) as usize];
    Ok(recv(tcp, &mut untouched[..], RecvFlags::TRUNC)?.1)
}

impl Drop for Socket {
    /// The kernel would go on for minutes to offer what a client that takes nothing was to get, and keep it as long.
    fn drop(&mut self) {
        if !self.downstream.activity.is_given_up() {
            return;
        }
        let tcp = match &self.stream {
            Stream::Plain(wire) => &wire.tcp,
            Stream::Tls(stream) => &stream.get_ref().0.tcp,
        };
        // What fails here is closed already.
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for Socket {
    fn plain(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(wire) if wire.read_ahead.is_empty() => Some(&wire.tcp),
            _ => None,
        }
    }

    fn rested(&self) {
        self.downstream.activity.rested();
    }

    fn received(&self, bytes: usize) {
        self.metrics.bytes_received.inc_by(bytes as u64);
    }

    fn passed(&self, written: &Poll<io::Result<usize>>) {
        self.sent(written);
    }
}

/// Runs one method of whichever stream it is.
macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match &mut $socket.stream {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(each!(self, stream => stream.poll_read(cx, buffer)))?;
        let bytes = &buffer.filled()[before..];
        Poll::Ready(if bytes.is_empty() { Ok(()) } else { self.heard(bytes) })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = each!(self, stream => stream.poll_write(cx, bytes));
        self.sent(&result);
        self.answered(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = each!(self, stream => stream.poll_write_vectored(cx, slices));
        self.sent(&result);
        self.answered(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
