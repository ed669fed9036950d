//! A connection whose bytes come in pieces, and a body that is there at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use waypost::http1::Transport;
use waypost::http1::splice::{Pipe, Spliced};

/// What the other end sends, a piece a read and a wait before each, and its end.
#[derive(Debug)]
pub struct Script {
    pieces: VecDeque<Bytes>,
    waits: bool,
    waited: bool,
    /// What was sent to it.
    pub written: Vec<u8>,
}

impl Script {
    /// All at once.
    pub fn whole(data: &[u8]) -> Script {
        let pieces = if data.is_empty() { VecDeque::new() } else { [Bytes::copy_from_slice(data)].into() };
        Script { pieces, waits: false, waited: false, written: Vec::new() }
    }

    /// Byte by byte.
    pub fn single_bytes(data: &[u8]) -> Script {
        Script::split(data, |_| 1)
    }

    /// In pieces of 1 to 32 bytes that look random, and are the same each time.
    pub fn pieces(data: &[u8], seed: usize) -> Script {
        let mut number = seed.wrapping_mul(0x9E37_79B9).wrapping_add(data.len());
        Script::split(data, |left| {
            number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (1 + (number >> 16) % 32).min(left)
        })
    }

    fn split(data: &[u8], mut length: impl FnMut(usize) -> usize) -> Script {
        let mut rest = Bytes::copy_from_slice(data);
        let mut pieces = VecDeque::new();
        while !rest.is_empty() {
            let length = length(rest.len());
            pieces.push_back(rest.split_to(length));
        }
        Script { pieces, waits: true, waited: false, written: Vec::new() }
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.waits && !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        if let Some(piece) = self.pieces.front_mut() {
            let length = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..length]);
            piece.advance(length);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Script {}

/// A body of which nothing has to be waited for.
#[derive(Debug, Default)]
pub struct Whole {
    data: Bytes,
    trailers: HeaderMap,
}

impl Whole {
    /// These bytes, and these fields behind them.
    pub fn new(data: Bytes, trailers: HeaderMap) -> Whole {
        Whole { data, trailers }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.data.is_empty() {
            // Two parts, so that there are two chunks.
            let half = self.data.len().div_ceil(2);
            return Poll::Ready(Some(Ok(Frame::data(self.data.split_to(half)))));
        }
        let trailers = std::mem::take(&mut self.trailers);
        Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}

impl Spliced for Whole {
    fn splices(&self) -> bool {
        false
    }

    fn poll_splice(&mut self, _: &mut Pipe, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}
