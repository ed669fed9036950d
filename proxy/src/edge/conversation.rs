//! A client connection that speaks HTTP: requests go to the pipeline, and the clock says whose turn it is.
//!
//! Owns the deadlines that no exchange owns: a head that does not end, idleness, and the end of the listener. Never
//! looks into a request.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};
use waypost_config::listener::{Limits, Timeouts};

use super::Shared;
use super::gate::Gate;
use super::socket::Socket;
use super::streams::{Parts, Streams};
use super::turns::step_by_step;
use crate::body::{Incoming, ResponseBody};
use crate::downstream::{Downstream, Turn};
use crate::http1::server::{self, End};
use crate::http1::{self, Line, Malformed};
use crate::pipeline::{self, View};
use crate::reply::{self, Cause};

/// Hands each request to the pipeline.
pub(super) struct Handler {
    pub(super) downstream: Arc<Downstream>,
    pub(super) shared: Shared,
    pub(super) gate: Arc<Gate>,
}

impl Handler {
    /// The answer to a request over HTTP/1.1. Boxed, so that a connection is small while it has none.
    fn answer(&self, request: Request<http1::Incoming>) -> Pin<Box<impl Future<Output = Response<ResponseBody>>>> {
        Box::pin(pipeline::handle(self.view(), &self.downstream, request.map(Incoming::Http1)))
    }

    fn view(&self) -> View {
        let snapshot = self.shared.snapshot.load();
        View {
            listener: self.gate.view(&snapshot),
            access_log: snapshot.access_log.clone(),
            tracer: snapshot.tracer.clone(),
            generation: snapshot.generation,
        }
    }
}

/// HTTP/2 answers many requests at once.
struct Answering(Arc<Handler>);

impl Service<Request<hyper::body::Incoming>> for Answering {
    type Response = Response<Parts>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Parts>, Infallible>> + Send>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        let request = request.map(Incoming::Http2);
        Box::pin(async move { Ok(pipeline::handle(handler.view(), &handler.downstream, request).await.map(Parts::of)) })
    }
}

/// All that a connection needs once it speaks HTTP.
pub(super) struct Conversation {
    pub(super) handler: Handler,
    pub(super) gate: Arc<Gate>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
}

/// What is left to do with a connection when HTTP/1.1 is over.
enum Parting {
    /// It is lost, or who is at its other end takes nothing.
    Drop,
    /// It has come to its end.
    Close,
    Linger,
    Refuse(Cause),
    Http2,
}

/// How an HTTP/1.1 connection takes the end of its listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It has not come.
    No,
    /// The next response is the last one; if no request comes for a moment, there is none.
    AfterNext,
    /// The response that is being made is the last one.
    Now,
}

/// A client that does not know yet that we leave may be sending its next request right now: closing at once would
/// lose it.
const LAST_REQUEST: Duration = Duration::from_millis(250);

impl Conversation {
    /// Speaks HTTP/1.1 to the end, or HTTP/2 if that is what a client without TLS begins with.
    pub(super) async fn over_http1(self, socket: Socket) {
        let line = Line::new(socket);
        let parting = self.converse(&line).await;
        let Some((socket, read)) = line.take() else { return };
        match parting {
            Parting::Drop => {}
            Parting::Close => close(socket).await,
            Parting::Linger => linger(socket, u64::MAX).await,
            Parting::Refuse(cause) => {
                self.gate.metrics.refused(cause.token());
                refuse(cause, socket).await;
            }
            // Boxed: an idle HTTP/1.1 connection is not to be as large as an HTTP/2 one.
            Parting::Http2 => Box::pin(self.over_http2(socket.unread(read))).await,
        }
    }

    /// One exchange after another, until the client, the clock or the end of the listener has had enough.
    async fn converse(&self, line: &Arc<Line<Socket>>) -> Parting {
        let Conversation { handler, gate, timeouts, limits } = self;
        let downstream = &handler.downstream;
        let mut speaking = pin!(server::serve(line, head_limits(limits), |request| handler.answer(request)));
        let mut watch = pin!(sleep(timeouts.header.0.min(timeouts.idle.0)));
        let _busy = downstream.lifecycle.busy.token();
        let mut leaving = Leaving::No;
        loop {
            let staying = leaving == Leaving::No;
            let speaking = poll_fn(|cx| {
                let ended = speaking.as_mut().poll(cx);
                if leaving == Leaving::AfterNext && ended.is_pending() && self.turn(line) == Turn::Busy {
                    // The response says `Connection: close`.
                    leaving = Leaving::Now;
                    line.end_after_this();
                }
                ended
            });
            tokio::select! {
                biased;
                end = speaking => return self.parting(end),
                () = gate.closing.cancelled(), if staying => {
                    leaving = Leaving::AfterNext;
                    watch.as_mut().reset(Instant::now() + LAST_REQUEST);
                }
                () = watch.as_mut() => match patience(self.turn(line), timeouts) {
                    _ if is_deaf(downstream, gate, timeouts) => return Parting::Drop,
                    Patience::LeftIdle(_) if leaving == Leaving::AfterNext => return Parting::Close,
                    Patience::Left(wait) | Patience::LeftIdle(wait) => watch.as_mut().reset(Instant::now() + wait),
                    Patience::OverHead if line.awaits_head() => return Parting::Refuse(Cause::HeaderTimeout),
                    // The rest of an upload that nobody reads is no head: its response has been sent.
                    Patience::OverHead | Patience::OverIdle => return Parting::Close,
                },
            }
        }
    }

    /// An exchange is over for its books when the last byte has been taken from the endpoint; for the client it is when
    /// that byte has left.
    fn turn(&self, line: &Line<Socket>) -> Turn {
        if line.is_answering() { Turn::Busy } else { self.handler.downstream.activity.turn() }
    }

    fn parting(&self, end: End) -> Parting {
        match end {
            End::Closed | End::Upgraded => Parting::Close,
            End::Unread => Parting::Linger,
            // Over TLS it is agreed on by ALPN, or not spoken (RFC 9113 section 3.2).
            End::Http2 if self.handler.downstream.tls.is_some() => Parting::Refuse(Cause::BadRequest),
            End::Http2 => Parting::Http2,
            End::Refused(reason) => Parting::Refuse(cause_of(reason)),
            End::Lost(error) => {
                tracing::debug!(listener = %self.gate.name, %error, "client connection broke off");
                note_loss(&self.gate, &error);
                Parting::Drop
            }
        }
    }

    /// Speaks HTTP/2 to the end.
    pub(super) async fn over_http2(self, socket: Socket) {
        let Conversation { handler, gate, timeouts, limits } = self;
        let downstream = Arc::clone(&handler.downstream);
        let answering = Answering(Arc::new(handler));
        let builder = http2_builder(&limits, Streams::new(timeouts.idle.0, &gate));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket.with_http2()), answering));
        let idle = timeouts.idle.0;
        let mut watch = pin!(sleep(idle));
        let mut busy = Some(downstream.lifecycle.busy.token());
        let mut leaving = false;
        loop {
            let staying = !leaving;
            let speaking = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                if !staying && downstream.activity.is_tunnels_only() {
                    // Tunnels are told to end when nobody is busy any more; this connection ends with its last one.
                    busy = None;
                }
                if ended.is_pending() && downstream.activity.is_fickle(limits.concurrent_streams) {
                    return Poll::Ready(None);
                }
                ended.map(Some)
            });
            tokio::select! {
                biased;
                // HTTP/2 says its own reason, in a GOAWAY.
                // Whoever has asked for nothing yet, or taken it back, does not go before those who have.
                ended = step_by_step(speaking, || downstream.activity.is_new()) => return match ended {
                    Some(ended) => note_end(&gate, ended),
                    None => gate.metrics.refused(FLOOD),
                },
                () = gate.closing.cancelled(), if staying => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = watch.as_mut() => match downstream.activity.idle_for() {
                    _ if is_deaf(&downstream, &gate, &timeouts) => return,
                    Some(taken) if taken >= idle && leaving => return,
                    Some(taken) if taken >= idle => {
                        leaving = true;
                        connection.as_mut().graceful_shutdown();
                        watch.as_mut().reset(Instant::now() + GOODBYE);
                    }
                    taken => watch.as_mut().reset(Instant::now() + idle.saturating_sub(taken.unwrap_or_default())),
                },
            }
        }
    }
}

/// More HTTP/2 than anybody needs; the token in the metric.
const FLOOD: &str = "http2_flood";

fn note_end(gate: &Gate, ended: hyper::Result<()>) {
    let Err(error) = ended else { return };
    tracing::debug!(listener = %gate.name, %error, "client connection broke off");
    let Some(error) = http2_error(&error) else { return };
    if error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        gate.metrics.refused(FLOOD);
    }
    if let Some(error) = error.get_io() {
        note_loss(gate, error);
    }
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// Behind the handshake, what is no TLS is somebody's attempt to begin another one (RFC 5746), or to break this one.
fn note_loss(gate: &Gate, error: &io::Error) {
    // Of all that a socket is made of, TLS alone calls data invalid.
    if error.kind() == io::ErrorKind::InvalidData {
        gate.metrics.refused("tls_broken");
    }
}

/// A client that takes nothing of its response holds an endpoint's connection as long as we let it.
fn is_deaf(downstream: &Downstream, gate: &Gate, timeouts: &Timeouts) -> bool {
    let deaf = downstream.activity.is_blocked_for(timeouts.idle.0);
    if deaf {
        gate.metrics.refused("send_timeout");
        downstream.activity.give_up();
    }
    deaf
}

fn head_limits(limits: &Limits) -> http1::Limits {
    http1::Limits { bytes: usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX), fields: limits.headers }
}

/// Why a head cannot be read, in the words of a reply.
fn cause_of(reason: Malformed) -> Cause {
    match reason {
        Malformed::Syntax => Cause::BadRequest,
        Malformed::TooLarge => Cause::HeadersTooLarge,
        Malformed::TargetTooLong => Cause::UriTooLong,
    }
}

/// What the clock says about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Patience {
    /// Look again after this.
    Left(Duration),
    /// The same, and nothing is going on.
    LeftIdle(Duration),
    /// It has been idle for too long.
    OverIdle,
    /// Its head has taken too long.
    OverHead,
}

fn patience(turn: Turn, timeouts: &Timeouts) -> Patience {
    let (header, idle) = (timeouts.header.0, timeouts.idle.0);
    match turn {
        Turn::Busy => Patience::Left(header),
        Turn::Head(taken) if taken >= header => Patience::OverHead,
        Turn::Head(taken) => Patience::Left(header.saturating_sub(taken)),
        Turn::Idle(taken) if taken >= idle => Patience::OverIdle,
        // A head may begin right after this look, so the next one is not later than a head may take.
        Turn::Idle(taken) => Patience::LeftIdle(idle.saturating_sub(taken).min(header)),
    }
}

/// The last reply on a connection, to what is no request.
async fn refuse(cause: Cause, mut socket: Socket) {
    let (status, reason, body) = (cause.status(), cause.token(), reply::explained(cause));
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\nx-waypost-reason: {reason}\r\n\r\n{body}"
    );
    if let Ok(Ok(())) = tokio::time::timeout(GOODBYE, socket.write_all(text.as_bytes())).await {
        linger(socket, REFUSED).await;
    }
}

/// What is read behind a head that was refused, so that the reply arrives: more is no mistake of an honest client, and
/// reading it would cost more than all the rest.
const REFUSED: u64 = 256 * 1024;

/// Closes a connection in order: without its alert, the end of a TLS connection could be anybody's (RFC 9112 section 9.8).
async fn close(mut socket: Socket) {
    if socket.is_tls() {
        let _ = tokio::time::timeout(GOODBYE, socket.shutdown()).await;
    }
}

/// Closes a connection on which bytes of the client's may be on their way: to close at once would reset it, and lose
/// what we have said (RFC 9112 section 9.6).
async fn linger(mut socket: Socket, most: u64) {
    // The client is slow at best and gone at worst; nobody waits for it.
    let _ = tokio::time::timeout(GOODBYE, async {
        socket.shutdown().await?;
        socket.discard(most).await
    })
    .await;
}

/// How long a last word to a client may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Taken back before anybody could look at them: as the h2 crate has it, but said here, because promises hang on it.
const PENDING_RESETS: usize = 20;

/// Streams that we had to reset for what was on them, over a connection's life.
const ERRORS: usize = 1024;

/// Uploads that nobody has read yet, of all streams together.
const WINDOW: u32 = 1024 * 1024;

/// What is kept of a response for a client whose window is open and whose line is slow.
const SEND_BUFFER: usize = 64 * 1024;

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERRORS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // A peer that is gone without a word is found within half a minute.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .enable_connect_protocol();
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_and_idleness_have_their_own_limits() {
        let timeouts = Timeouts::default();
        let seconds = Duration::from_secs;
        let cases = [
            (Turn::Busy, Patience::Left(seconds(10))),
            (Turn::Head(seconds(4)), Patience::Left(seconds(6))),
            (Turn::Head(seconds(10)), Patience::OverHead),
            (Turn::Idle(seconds(0)), Patience::LeftIdle(seconds(10))),
            (Turn::Idle(seconds(55)), Patience::LeftIdle(seconds(5))),
            (Turn::Idle(seconds(60)), Patience::OverIdle),
        ];
        for (turn, expected) in cases {
            assert_eq!(patience(turn, &timeouts), expected, "{turn:?}");
        }
    }
}
