//! Bodies on their way through: what is counted, timed and kept for a repeat while bytes pass.
//!
//! Owns [`Incoming`] (from a client, whatever it speaks), [`RequestBody`] (towards an endpoint, repeatable while it is
//! small) and [`ResponseBody`] (towards the client, which ends its exchange with the last byte). Never buffers more than
//! a repeat needs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::exchange::Exchange;
use crate::http1::client::Broken;
use crate::http1::splice::{Pipe, Spliced};
use crate::http1::{self, Lost};
use crate::upstream;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender's HTTP/2 connection failed, or sent something that is not HTTP.
    #[error("the sender broke off: {0}")]
    Http2(#[from] hyper::Error),
    /// The client's HTTP/1.1 connection did.
    #[error("the client broke off: {0}")]
    Client(#[from] Lost),
    /// The endpoint's HTTP/1.1 connection did.
    #[error("the endpoint broke off: {0}")]
    Endpoint(#[from] Broken),
    /// No byte for longer than the limit.
    #[error("no byte for {0:?}")]
    Idle(Duration),
    /// A repeat was asked for after the kept bytes were given up.
    #[error("the body is gone and cannot be repeated")]
    NotRepeatable,
}

/// The body of a client's request.
#[derive(Debug)]
pub enum Incoming {
    /// Over HTTP/1.1.
    Http1(http1::Incoming),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            Incoming::Http2(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(sifted(frame?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}

/// A frame of HTTP/2 without the trailers that HTTP/1.1 may not have either.
pub fn sifted(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(fields) = frame.trailers_mut() {
        http1::sift_trailers(fields);
    }
    frame
}

/// The time since the last byte, held against a limit; costs a timer only when a body makes us wait.
#[derive(Debug)]
struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(limit: Duration) -> IdleTimer {
        IdleTimer { limit, sleep: None }
    }

    /// A byte came.
    fn reset(&mut self) {
        self.sleep = None;
    }

    /// Called while no byte is there: ready when the limit has passed.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(BodyError::Idle(limit))
    }
}

/// Pieces of an upload that are copied to be kept.
const SMALL: usize = 4 * 1024;

/// What is kept of an upload for a repeat.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// At most so much.
    pub bytes: usize,
    /// Whether it may be sent again although an endpoint has seen some of it.
    pub when_sent: bool,
}

/// A client's upload, shared by the attempts that send it.
#[derive(Debug)]
pub struct Upload {
    state: Mutex<UploadState>,
    received: AtomicU64,
    /// Whether it may be sent again although an endpoint has seen some of it.
    keeps_when_sent: bool,
}

#[derive(Debug)]
struct UploadState {
    incoming: Incoming,
    idle: IdleTimer,
    /// What has passed so far, while it fits `keep`.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keep: usize,
    /// More has passed than fits `keep`.
    given_up: bool,
    stage: Stage,
    trailers: Option<HeaderMap>,
    last_progress: Instant,
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked for a byte: the client has not even been told to send.
    Untouched,
    /// Bytes are passing.
    Begun,
    /// All of it has come.
    Ended,
    /// The client paused for too long.
    TimedOut,
    /// The client broke off.
    Broken,
}

impl Upload {
    /// Wraps a client's body; up to `keep.bytes` are kept for a repeat.
    pub fn new(incoming: Incoming, keep: Keep, idle: Duration) -> Arc<Upload> {
        let state = UploadState {
            incoming,
            idle: IdleTimer::new(idle),
            kept: Vec::new(),
            kept_bytes: 0,
            keep: keep.bytes,
            given_up: false,
            stage: Stage::Untouched,
            trailers: None,
            last_progress: Instant::now(),
        };
        Arc::new(Upload { state: Mutex::new(state), received: AtomicU64::new(0), keeps_when_sent: keep.when_sent })
    }

    /// It goes to an endpoint that may act on it, and is not to be sent again: nothing has to be kept.
    fn splices(&self) -> bool {
        let state = self.state.lock();
        let spent = state.given_up || !self.keeps_when_sent;
        spent && matches!(&state.incoming, Incoming::Http1(body) if body.splices())
    }

    fn poll_splice(&self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.state.lock().poll_splice(pipe, cx, &self.received)
    }

    /// Whether another attempt could send it from its first byte.
    pub fn repeatable(&self) -> bool {
        let state = self.state.lock();
        !state.given_up && !state.stage.is_lost()
    }

    /// Whether the whole of it is kept, or nothing of it was ever read: what a repeat after sending needs.
    pub fn whole(&self) -> bool {
        let state = self.state.lock();
        state.stage == Stage::Untouched || (state.stage == Stage::Ended && !state.given_up)
    }

    /// Whether the client paused for too long.
    pub fn timed_out(&self) -> bool {
        self.state.lock().stage == Stage::TimedOut
    }

    /// Whether the client broke off.
    pub fn broken(&self) -> bool {
        self.state.lock().stage == Stage::Broken
    }

    /// When the last byte came, or the upload began; `None` while it waits for nothing more.
    pub fn last_progress(&self) -> Instant {
        self.state.lock().last_progress
    }

    /// Bytes received from the client.
    pub fn received(&self) -> u64 {
        // A count for telemetry; orders nothing.
        self.received.load(Ordering::Relaxed)
    }
}

impl Stage {
    fn is_lost(self) -> bool {
        matches!(self, Stage::TimedOut | Stage::Broken)
    }
}

impl UploadState {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        received: &AtomicU64,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.stage = Stage::Begun;
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => {
                let error = ready!(self.idle.poll_elapsed(cx));
                self.time_out();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.arrived(frame, received)))),
            Poll::Ready(Some(Err(error))) => {
                self.stage = Stage::Broken;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    /// Past our memory, and past any repeat.
    fn poll_splice(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
        received: &AtomicU64,
    ) -> Poll<Result<(), BodyError>> {
        let Incoming::Http1(body) = &mut self.incoming else { return Poll::Ready(Err(BodyError::NotRepeatable)) };
        self.given_up = true;
        self.kept = Vec::new();
        let moved = match body.poll_splice(pipe, cx) {
            Poll::Ready(moved) => moved,
            Poll::Pending => {
                let error = ready!(self.idle.poll_elapsed(cx));
                self.time_out();
                return Poll::Ready(Err(error));
            }
        };
        self.idle.reset();
        self.last_progress = Instant::now();
        match moved {
            Ok(moved) => received.fetch_add(moved as u64, Ordering::Relaxed),
            Err(error) => {
                self.stage = Stage::Broken;
                return Poll::Ready(Err(error.into()));
            }
        };
        if self.incoming.is_end_stream() {
            self.end();
        }
        Poll::Ready(Ok(()))
    }

    fn arrived(&mut self, frame: Frame<Bytes>, received: &AtomicU64) -> Frame<Bytes> {
        self.idle.reset();
        self.last_progress = Instant::now();
        match frame.into_data() {
            Ok(data) => {
                received.fetch_add(data.len() as u64, Ordering::Relaxed);
                self.keep(&data);
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Frame::data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.trailers = Some(trailers.clone());
                    self.end();
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            },
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if self.given_up {
            return;
        }
        self.kept_bytes += data.len();
        if self.kept_bytes > self.keep {
            self.given_up = true;
            self.kept = Vec::new();
        } else {
            // A clone of a few bytes would keep the whole buffer that they were read into.
            self.kept.push(if data.len() < SMALL { Bytes::copy_from_slice(data) } else { data.clone() });
        }
    }

    fn time_out(&mut self) {
        self.stage = Stage::TimedOut;
        if let Incoming::Http1(body) = &self.incoming {
            body.give_up();
        }
    }

    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.last_progress = Instant::now();
    }
}

/// A request body on its way to an endpoint.
#[derive(Debug)]
pub struct RequestBody {
    upload: Option<Arc<Upload>>,
    /// How many kept chunks this attempt has sent.
    sent: usize,
    done: bool,
}

impl RequestBody {
    /// No body.
    pub const EMPTY: RequestBody = RequestBody { upload: None, sent: 0, done: true };

    /// The upload from its first byte.
    pub fn of(upload: &Arc<Upload>) -> RequestBody {
        RequestBody { upload: Some(Arc::clone(upload)), sent: 0, done: false }
    }

    /// The upload from its first byte, or nothing.
    pub fn from_start(upload: Option<&Arc<Upload>>) -> RequestBody {
        upload.map_or(RequestBody::EMPTY, RequestBody::of)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let Some(upload) = &this.upload else { return Poll::Ready(None) };
        let mut state = upload.state.lock();
        if let Some(chunk) = state.kept.get(this.sent) {
            this.sent += 1;
            let last = this.sent == state.kept.len() && state.trailers.is_none();
            this.done = last && state.stage == Stage::Ended;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if state.stage == Stage::Ended {
            this.done = true;
            return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if state.given_up && this.sent == 0 {
            return Poll::Ready(Some(Err(BodyError::NotRepeatable)));
        }
        let next = ready!(state.poll_next(cx, &upload.received));
        this.sent += 1;
        this.done = state.stage == Stage::Ended;
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upload {
            None => SizeHint::with_exact(0),
            Some(upload) if self.sent == 0 => {
                let state = upload.state.lock();
                if state.stage == Stage::Untouched { state.incoming.size_hint() } else { SizeHint::default() }
            }
            Some(_) => SizeHint::default(),
        }
    }
}

impl Spliced for RequestBody {
    /// From its second part on: until something of a request has left, all of it may be needed again.
    fn splices(&self) -> bool {
        self.sent > 0 && !self.done && self.upload.as_ref().is_some_and(|upload| upload.splices())
    }

    fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &self.upload {
            Some(upload) => upload.poll_splice(pipe, cx),
            None => Poll::Ready(Err(BodyError::NotRepeatable)),
        }
    }
}

/// A response body on its way to the client. Its end, or its loss, ends the exchange.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    exchange: Option<Box<Exchange>>,
}

#[derive(Debug)]
enum Source {
    Reply(Bytes),
    Upstream { incoming: upstream::Incoming, idle: IdleTimer },
    Ended,
}

impl ResponseBody {
    /// No body, and no exchange that would end with it.
    pub const EMPTY: ResponseBody = ResponseBody { source: Source::Ended, exchange: None };

    /// A body of ours that belongs to no exchange.
    pub fn unbooked(bytes: Bytes) -> ResponseBody {
        ResponseBody { source: Source::Reply(bytes), exchange: None }
    }

    /// A body that Waypost made itself.
    pub fn reply(bytes: Bytes, exchange: Box<Exchange>) -> ResponseBody {
        let source = if bytes.is_empty() { Source::Ended } else { Source::Reply(bytes) };
        ResponseBody { source, exchange: Some(exchange) }
    }

    /// An endpoint's body; `idle` is the longest wait between two of its bytes.
    pub fn upstream(incoming: upstream::Incoming, idle: Duration, exchange: Box<Exchange>) -> ResponseBody {
        note_end(&incoming, &exchange);
        ResponseBody { source: Source::Upstream { incoming, idle: IdleTimer::new(idle) }, exchange: Some(exchange) }
    }

    /// The last byte has gone to the client, or none will go any more: dropping the exchange closes its books.
    fn finish(&mut self) {
        self.exchange = None;
    }

    fn fail(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upstream_broke_off();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match &mut this.source {
            Source::Ended => {
                this.finish();
                Poll::Ready(None)
            }
            Source::Reply(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Ended;
                if let Some(exchange) = &mut this.exchange {
                    exchange.bytes_out += bytes.len() as u64;
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Upstream { incoming, idle } => match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => {
                    let error = ready!(idle.poll_elapsed(cx));
                    this.fail();
                    Poll::Ready(Some(Err(error)))
                }
                Poll::Ready(Some(Ok(frame))) => {
                    idle.reset();
                    if let Some(exchange) = &mut this.exchange {
                        exchange.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                        note_end(incoming, exchange);
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(Some(Err(error))) => {
                    this.fail();
                    Poll::Ready(Some(Err(error)))
                }
                Poll::Ready(None) => {
                    this.source = Source::Ended;
                    if let Some(exchange) = &this.exchange {
                        exchange.delivered();
                    }
                    this.finish();
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::Reply(_) => false,
            Source::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::Reply(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// Not everybody asks for more when the last byte has been seen.
fn note_end(incoming: &upstream::Incoming, exchange: &Exchange) {
    if incoming.is_end_stream() {
        exchange.delivered();
    }
}

impl Spliced for ResponseBody {
    fn splices(&self) -> bool {
        matches!(&self.source, Source::Upstream { incoming, .. } if incoming.splices())
    }

    fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Source::Upstream { incoming, idle } = &mut self.source else { return Poll::Ready(Ok(())) };
        let moved = match incoming.poll_splice(pipe, cx) {
            Poll::Ready(moved) => moved,
            Poll::Pending => Err(ready!(idle.poll_elapsed(cx))),
        };
        idle.reset();
        match (&moved, &mut self.exchange) {
            (Ok(moved), Some(exchange)) => {
                exchange.bytes_out += *moved as u64;
                note_end(incoming, exchange);
            }
            (Err(_), Some(exchange)) => exchange.upstream_broke_off(),
            (_, None) => {}
        }
        Poll::Ready(moved.map(|_| ()))
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Source::Upstream { incoming, .. } = &mut self.source {
            incoming.go_on(cx);
        }
    }
}
