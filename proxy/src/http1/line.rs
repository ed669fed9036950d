//! A client's connection as its exchanges share it: the task that answers, and the upload that somebody reads.
//!
//! Owns the socket, what was read ahead, and how far the present request has come. Never looks into a head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::request;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Transport;
use super::decode::{Decoder, Piece};
use super::head::{self, Limits, Malformed};
use super::inbox::{Inbox, NoHead};
use super::length::Length;
use super::outbox::Outbox;
use super::splice::{self, Pipe};

/// A connection that has left HTTP, and what was read of the other protocol already.
pub struct Upgraded {
    /// The connection.
    pub stream: Box<dyn Transport>,
    /// To be taken for its first bytes.
    pub read: BytesMut,
}

/// A client's connection.
#[derive(Debug)]
pub struct Line<S> {
    /// Never held across a wait. All who take it belong to one task, but for an upload to an HTTP/2 endpoint.
    io: Mutex<Io<S>>,
    /// No request is taken after the present one.
    last: AtomicBool,
}

#[derive(Debug)]
struct Io<S> {
    /// `None` once it was upgraded or given up.
    stream: Option<S>,
    inbox: Inbox,
    decoder: Decoder,
    /// Which request the decoder is for: an upload may be held for longer than its exchange.
    request: u64,
    /// What is left of `100 Continue`: to be written before the body is waited for.
    interim: &'static [u8],
    /// Whether anybody has asked for the body.
    touched: bool,
    /// What came is no body, its length is anybody's guess, or it takes too long: nothing that follows can be a request.
    broken: bool,
    /// The client left amid the body.
    lost: bool,
    stage: Stage,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client's, to send a head.
    Head,
    /// Ours.
    Exchange,
    /// The client's, to end a body that is not read any more.
    Rest,
}

/// What a request says of its body.
#[derive(Debug, Clone, Copy)]
pub struct Announced {
    /// Its length; `None` if that is anybody's guess.
    pub length: Option<Length>,
    /// Whether the client waits for a word before it sends it.
    pub expects_continue: bool,
}

/// How HTTP/2's preface begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes of an upload that are read only to come to the next request; more is not worth the wait.
const DRAINED: u64 = 256 * 1024;

/// Bytes of later requests that are read while one is being answered.
const PIPELINED: usize = 16 * 1024;

impl<S: Transport + 'static> Line<S> {
    /// A connection that has sent nothing yet.
    pub fn new(stream: S) -> Arc<Line<S>> {
        let io = Io {
            stream: Some(stream),
            inbox: Inbox::default(),
            decoder: Decoder::Ended,
            request: 0,
            interim: b"",
            touched: false,
            broken: false,
            lost: false,
            stage: Stage::Head,
        };
        Arc::new(Line { io: Mutex::new(io), last: AtomicBool::new(false) })
    }

    /// The response that is being made is the last one, and says so if its head has not left.
    pub fn end_after_this(&self) {
        // Relaxed: read by the task that sets it.
        self.last.store(true, Ordering::Relaxed);
    }

    /// Whether the present response is the last one.
    pub fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether an exchange is going on, to the last byte of its response.
    pub fn is_answering(&self) -> bool {
        self.io.lock().stage == Stage::Exchange
    }

    /// Whether the client owes us a head: then it can be told what was wrong with it.
    pub fn awaits_head(&self) -> bool {
        self.io.lock().stage == Stage::Head
    }

    /// The socket, to be spoken over or closed by somebody else, and what was read and not used.
    pub fn take(&self) -> Option<(S, BytesMut)> {
        let mut io = self.io.lock();
        let stream = io.stream.take()?;
        Some((stream, std::mem::take(io.inbox.bytes())))
    }

    /// The connection is to end in a way that cannot be taken for the end of a body. TLS needs no help: an end without its
    /// alert is none.
    pub fn reset(&self) {
        let io = self.io.lock();
        if let Some(socket) = io.stream.as_ref().and_then(Transport::plain) {
            // If it fails, the client is told less.
            let _ = socket.set_zero_linger();
        }
    }

    /// Waits for a request.
    pub fn poll_head(&self, cx: &mut Context<'_>, limits: Limits) -> Poll<Result<request::Parts, NoHead>> {
        let Io { stream, inbox, request, .. } = &mut *self.io.lock();
        let Some(stream) = stream else { return Poll::Ready(Err(NoHead::Closed)) };
        // The version is found wrong before it is whole: then it would not be known that it is HTTP/2's.
        let first = *request == 0;
        let may_be_http2 = |bytes: &[u8]| first && bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes);
        let parse = |bytes: &[u8]| if may_be_http2(bytes) { Ok(None) } else { head::request(bytes, limits) };
        inbox.poll_head(stream, cx, parse)
    }

    /// Whether the client's first words are HTTP/2's (RFC 9113 section 3.4).
    pub fn begins_http2(&self) -> bool {
        let mut io = self.io.lock();
        io.request == 0 && io.inbox.bytes().starts_with(PREFACE)
    }

    /// A request begins; its body can be read through what is returned.
    pub fn begin(self: &Arc<Line<S>>, announced: Announced, upgrade: Option<oneshot::Receiver<Upgraded>>) -> Incoming {
        let mut io = self.io.lock();
        io.stage = Stage::Exchange;
        io.request += 1;
        io.touched = false;
        io.broken = announced.length.is_none();
        io.lost = false;
        io.decoder = Decoder::new(announced.length.unwrap_or(Length::NONE));
        io.interim = if announced.expects_continue { CONTINUE } else { b"" };
        let source: Option<Arc<dyn Source>> = if io.decoder.is_ended() { None } else { Some(Arc::clone(self) as _) };
        Incoming { source, request: io.request, upgrade }
    }

    /// Ready when the client has left, while it has nothing to say.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.lock().poll_gone(cx)
    }

    /// Sends all of `outbox`.
    pub fn poll_send(&self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        let mut io = self.io.lock();
        ready!(io.poll_interim(cx))?;
        let Some(stream) = &mut io.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        outbox.poll_send(stream, cx)
    }

    /// Whether bytes can go to the client as they are, past our memory.
    pub fn takes_splices(&self) -> bool {
        self.io.lock().stream.as_ref().is_some_and(|stream| stream.plain().is_some())
    }

    /// Sends some of what `pipe` holds.
    pub fn poll_pour(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        let io = self.io.lock();
        let Some(stream) = &io.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let Some(socket) = stream.plain() else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        let poured = pipe.poll_pour(socket, cx);
        stream.passed(&poured);
        poured
    }

    /// A response is on its way: nothing else may be written before its end. Whether another request may follow it.
    pub fn answers(&self) -> bool {
        let unwanted = self.is_unwanted();
        let mut io = self.io.lock();
        // Of which some has left, the rest goes first.
        if io.interim.len() == CONTINUE.len() {
            io.interim = b"";
        }
        !io.broken && !io.lost && !unwanted
    }

    /// Whether the client is going to send a body that nobody has asked for and nobody will: not until it is told to, or
    /// too much to be thrown away.
    fn is_unwanted(&self) -> bool {
        let io = self.io.lock();
        !io.touched && !io.decoder.is_ended() && (!io.interim.is_empty() || io.decoder.expects() > DRAINED)
    }

    /// Reads what is left of a body that nobody reads. Whether the next request can be told from it.
    pub fn poll_rest(&self, cx: &mut Context<'_>, budget: &mut u64) -> Poll<bool> {
        let mut io = self.io.lock();
        let unread = io.stage == Stage::Rest || !io.decoder.is_ended();
        io.stage = Stage::Rest;
        let rest = ready!(io.poll_rest(cx, budget));
        io.inbox.rest();
        io.stage = Stage::Head;
        if let (true, Some(stream)) = (unread, &io.stream) {
            stream.rested();
        }
        Poll::Ready(rest)
    }

    /// Whether there is something that the client has sent and nobody has read, or may be.
    pub fn has_unread(&self) -> bool {
        let io = self.io.lock();
        io.broken || !io.decoder.is_ended() || !io.inbox.is_empty()
    }
}

/// Bytes to be thrown away before the connection is.
pub const REST: u64 = DRAINED;

impl<S: Transport> Io<S> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Io { stream: Some(stream), inbox, decoder, lost, .. } = self else { return Poll::Pending };
        if *lost {
            return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
        }
        while decoder.is_ended() && inbox.bytes().len() < PIPELINED {
            match ready!(inbox.poll_fill(stream, cx, 0)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>, budget: &mut u64) -> Poll<bool> {
        while !self.decoder.is_ended() && !self.broken {
            let Ok(piece) = ready!(self.poll_piece(cx)) else { return Poll::Ready(false) };
            if let Piece::Data(data) = piece {
                *budget = budget.saturating_sub(data.len() as u64);
                if *budget == 0 {
                    return Poll::Ready(false);
                }
            }
        }
        Poll::Ready(!self.broken)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Lost>> {
        let piece = ready!(self.poll_next(cx));
        match &piece {
            Err(Lost::Malformed(_)) => self.broken = true,
            Err(Lost::Connection(_)) => self.lost = true,
            _ => {}
        }
        Poll::Ready(piece)
    }

    /// Tells the client to go on, if it waits for that.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let (false, Some(stream)) = (self.interim.is_empty(), &mut self.stream) {
            let written = ready!(Pin::new(stream).poll_write(cx, self.interim))?;
            self.interim = &self.interim[written..];
        }
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Lost>> {
        ready!(self.poll_interim(cx))?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Lost::Over)) };
        loop {
            if let Some(piece) = self.decoder.decode(self.inbox.bytes())? {
                return Poll::Ready(Ok(piece));
            }
            // What is thrown away needs no memory of its own to come in.
            let expected = if self.stage == Stage::Rest { 0 } else { self.decoder.expects() };
            if ready!(self.inbox.poll_fill(stream, cx, expected))? == 0 && !self.decoder.close() {
                return Poll::Ready(Err(Lost::Connection(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }
}

/// Why an upload broke off.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The client's connection failed or ended.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// What came is no body.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Its exchange is over.
    #[error("the exchange is over")]
    Over,
}

/// Where an upload comes from, whatever the connection is made of.
trait Source: Send + Sync + std::fmt::Debug {
    fn poll_piece(&self, request: u64, cx: &mut Context<'_>) -> Poll<Result<Piece, Lost>>;
    fn splices(&self, request: u64) -> bool;
    fn poll_splice(&self, request: u64, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<usize, Lost>>;
    fn give_up(&self, request: u64);
    fn is_ended(&self, request: u64) -> bool;
    fn remaining(&self, request: u64) -> Option<u64>;
}

impl<S: Transport + 'static> Source for Line<S> {
    fn poll_piece(&self, request: u64, cx: &mut Context<'_>) -> Poll<Result<Piece, Lost>> {
        let mut io = self.io.lock();
        if io.request != request || io.stage != Stage::Exchange {
            return Poll::Ready(Err(Lost::Over));
        }
        io.touched = true;
        io.poll_piece(cx)
    }

    fn splices(&self, request: u64) -> bool {
        let io = self.io.lock();
        let present = io.request == request && io.stage == Stage::Exchange && io.interim.is_empty();
        let large = matches!(io.decoder, Decoder::Known(splice::LARGE..)) && io.inbox.is_empty();
        present && large && io.stream.as_ref().is_some_and(|stream| stream.plain().is_some())
    }

    fn poll_splice(&self, request: u64, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<usize, Lost>> {
        let mut io = self.io.lock();
        let Io { stream: Some(stream), decoder: Decoder::Known(left), request: present, .. } = &mut *io else {
            return Poll::Ready(Err(Lost::Over));
        };
        let (true, Some(socket)) = (*present == request, stream.plain()) else { return Poll::Ready(Err(Lost::Over)) };
        let moved = ready!(pipe.poll_fill(socket, *left, cx))?;
        *left -= moved as u64;
        let ended = *left == 0;
        stream.received(moved);
        if ended {
            io.decoder = Decoder::Ended;
        }
        io.lost |= moved == 0;
        Poll::Ready(if moved == 0 { Err(Lost::Connection(io::ErrorKind::UnexpectedEof.into())) } else { Ok(moved) })
    }

    fn give_up(&self, request: u64) {
        let mut io = self.io.lock();
        io.broken |= io.request == request;
    }

    fn is_ended(&self, request: u64) -> bool {
        let io = self.io.lock();
        io.request != request || io.decoder.is_ended()
    }

    fn remaining(&self, request: u64) -> Option<u64> {
        let io = self.io.lock();
        match &io.decoder {
            Decoder::Known(left) if io.request == request => Some(*left),
            Decoder::Ended => Some(0),
            _ => None,
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct Incoming {
    /// `None` if there is no body.
    source: Option<Arc<dyn Source>>,
    request: u64,
    upgrade: Option<oneshot::Receiver<Upgraded>>,
}

impl Incoming {
    /// Where the connection will come if the response says 101; once, and only if the client asks for it.
    pub fn take_upgrade(&mut self) -> Option<oneshot::Receiver<Upgraded>> {
        self.upgrade.take()
    }
}

impl Incoming {
    /// Whether the next bytes can go through a pipe.
    pub fn splices(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.splices(self.request))
    }

    /// The rest of it is not worth waiting for: the response says that the connection ends with it.
    pub fn give_up(&self) {
        if let Some(source) = &self.source {
            source.give_up(self.request);
        }
    }

    /// Moves some of them into `pipe`; returns how many.
    pub fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<usize, Lost>> {
        match &self.source {
            Some(source) => source.poll_splice(self.request, pipe, cx),
            None => Poll::Ready(Err(Lost::Over)),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let Some(source) = &self.source else { return Poll::Ready(None) };
        Poll::Ready(match ready!(source.poll_piece(self.request, cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
            Ok(Piece::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_ended(self.request))
    }

    fn size_hint(&self) -> SizeHint {
        let exact = self.source.as_ref().map_or(Some(0), |source| source.remaining(self.request));
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const LIMITS: Limits = Limits { bytes: 256, fields: 4 };

    #[tokio::test]
    async fn the_preface_of_http2_is_known_whatever_parts_it_comes_in() {
        let preface = [PREFACE, b"\r\n\r\nSM\r\n\r\n"].concat();
        for cut in 1..preface.len() {
            let (mut client, server) = duplex(64);
            let line = Line::new(server);
            client.write_all(&preface[..cut]).await.unwrap();
            let first = line.poll_head(&mut Context::from_waker(Waker::noop()), LIMITS);
            client.write_all(&preface[cut..]).await.unwrap();
            let head = match first {
                Poll::Ready(head) => head,
                Poll::Pending => poll_fn(|cx| line.poll_head(cx, LIMITS)).await,
            };
            assert!(matches!(head, Err(NoHead::Malformed(_))) && line.begins_http2(), "in two at {cut}: {head:?}");
        }
    }
}
