//! One client connection, from accept to close: PROXY protocol, TLS, HTTP/1.1 or HTTP/2, and whose turn it is.
//!
//! Owns the deadlines that no exchange owns: the handshake, a head that does not end, idleness, and the end of the
//! listener. Never looks into a request.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use waypost_config::listener::{Limits, Timeouts};

use super::Shared;
use super::gate::Gate;
use super::proxy_protocol::{self, Parsed};
use super::socket::{Socket, Stream, Wire};
use crate::body::ResponseBody;
use crate::downstream::{Activity, Downstream, Turn};
use crate::forwarding::address_value;
use crate::pipeline;
use crate::reply::Cause;
use crate::snapshot::ListenerView;
use crate::telemetry::access_log;
use crate::tls::TlsInfo;

/// Why a connection never came to its first request; the token in the metric.
#[derive(Debug, Clone, Copy)]
struct Refused(&'static str);

/// The HTTP that the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// Serves an accepted connection to its end. Never fails: whatever happens is counted.
pub(super) async fn serve(tcp: TcpStream, peer: SocketAddr, gate: Arc<Gate>, shared: Shared) {
    let Some(view) = shared.snapshot.load().listener(&gate.name).cloned() else { return };
    gate.metrics.connections.inc();
    let Some(_inside) = gate.enter(view.config.max_connections) else { return gate.metrics.refused("max_connections") };
    let limit = view.config.timeouts.handshake.0;
    let opened = match tokio::time::timeout(limit, open(tcp, peer, &view, &shared, &gate)).await {
        Ok(opened) => opened,
        Err(_) => Err(Refused("handshake_timeout")),
    };
    let (stream, downstream) = match opened {
        Ok(opened) => opened,
        Err(Refused(reason)) => return gate.metrics.refused(reason),
    };
    drop_view_and_speak(stream, downstream, view, gate, shared).await;
}

/// The view is needed for its settings only; a long-lived connection must not keep an old generation alive.
async fn drop_view_and_speak(
    mut stream: Stream,
    downstream: Arc<Downstream>,
    view: Arc<ListenerView>,
    gate: Arc<Gate>,
    shared: Shared,
) {
    let (timeouts, limits) = (view.config.timeouts.clone(), view.config.limits.clone());
    drop(view);
    let http = tokio::select! {
        known = tokio::time::timeout(timeouts.idle.0, which_http(&mut stream, &downstream)) => known,
        () = no_longer_expected(&gate) => return,
    };
    let Ok(Some(http)) = http else { return };
    downstream.activity.received();
    let socket = Socket::new(stream, Arc::clone(&downstream), Arc::clone(&gate.metrics));
    let handler = Handler { downstream, shared };
    match http {
        Http::One => speak_http1(socket, handler, &gate, &timeouts, &limits).await,
        Http::Two => speak_http2(socket, handler, &gate, &timeouts, &limits).await,
    }
}

async fn open(
    tcp: TcpStream,
    peer: SocketAddr,
    view: &ListenerView,
    shared: &Shared,
    gate: &Gate,
) -> Result<(Stream, Arc<Downstream>), Refused> {
    // A head and a small body may be two writes; waiting for the first one's acknowledgement would cost 40 ms.
    tcp.set_nodelay(true).map_err(|_| Refused("socket"))?;
    let local = tcp.local_addr().map_err(|_| Refused("socket"))?;
    let mut wire = Wire::new(tcp);
    let peer = if view.config.proxy_protocol { announced(&mut wire).await?.unwrap_or(peer) } else { peer };
    let Some(tls) = &view.tls else {
        return Ok((Stream::Plain(wire), Arc::new(downstream(view, shared, peer, local, None))));
    };
    let begun = Instant::now();
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
    let stream = acceptor.accept(wire).await.map_err(|error| refused_handshake(&error, view))?;
    gate.metrics.tls_handshake.observe(begun.elapsed().as_secs_f64());
    let info = TlsInfo::of(&stream);
    Ok((Stream::Tls(Box::new(stream)), Arc::new(downstream(view, shared, peer, local, Some(info)))))
}

fn refused_handshake(error: &io::Error, view: &ListenerView) -> Refused {
    tracing::debug!(listener = %view.name, %error, "TLS handshake failed");
    Refused("tls_handshake")
}

/// The client's address as the PROXY protocol says it; `None` if it says nothing (a health check of the sender).
async fn announced(wire: &mut Wire) -> Result<Option<SocketAddr>, Refused> {
    let found = wire.look_ahead(|bytes| match proxy_protocol::parse(bytes) {
        Parsed::Incomplete => None,
        Parsed::Invalid(_) => Some(None),
        Parsed::Header { consumed, source, .. } => Some(Some((consumed, source))),
    });
    match found.await {
        Ok(Some(Some((consumed, source)))) => {
            wire.skip(consumed);
            Ok(source)
        }
        _ => Err(Refused("proxy_protocol")),
    }
}

fn downstream(
    view: &ListenerView,
    shared: &Shared,
    peer: SocketAddr,
    local: SocketAddr,
    tls: Option<TlsInfo>,
) -> Downstream {
    let tls_log = tls.as_ref().map(|info| {
        let (sni, client_subject) = (info.sni.clone(), info.client_subject.clone());
        Arc::new(access_log::Tls { version: info.version, cipher: info.cipher, sni, client_subject })
    });
    Downstream {
        listener: Arc::clone(&view.name),
        peer,
        local,
        certificates: view.tls.as_ref().map(|tls| Arc::clone(&tls.store)),
        tls,
        tls_log,
        peer_ip: address_value(peer.ip().to_canonical()),
        local_port: HeaderValue::from(local.port()),
        activity: Activity::new(Instant::now()),
        lifecycle: Arc::clone(&shared.lifecycle),
    }
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// By ALPN over TLS; in plain text by the first bytes, for HTTP/2 with prior knowledge begins with a fixed text.
async fn which_http(stream: &mut Stream, downstream: &Downstream) -> Option<Http> {
    match (stream, &downstream.tls) {
        (Stream::Tls(_), Some(tls)) if tls.alpn_h2 => Some(Http::Two),
        (Stream::Tls(_), _) => Some(Http::One),
        (Stream::Plain(wire), _) => wire.look_ahead(sniff).await.ok().flatten(),
    }
}

fn sniff(bytes: &[u8]) -> Option<Http> {
    let length = bytes.len().min(PREFACE.len());
    match bytes[..length] == PREFACE[..length] {
        false => Some(Http::One),
        true if length == PREFACE.len() => Some(Http::Two),
        true => None,
    }
}

/// Hands each request to the pipeline.
#[derive(Clone)]
struct Handler {
    downstream: Arc<Downstream>,
    shared: Shared,
}

impl Service<Request<Incoming>> for Handler {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Handler { downstream, shared } = self.clone();
        Box::pin(async move { Ok(pipeline::handle(&shared.snapshot, &downstream, request).await) })
    }
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

/// Returns when the listener is closing and whoever was about to speak has had time to.
async fn no_longer_expected(gate: &Gate) {
    gate.closing.cancelled().await;
    sleep(LAST_REQUEST).await;
}

async fn speak_http1(socket: Socket, handler: Handler, gate: &Gate, timeouts: &Timeouts, limits: &Limits) {
    let downstream = Arc::clone(&handler.downstream);
    let mut connection = http1_builder(limits).serve_connection(TokioIo::new(socket), handler).with_upgrades();
    let mut watch = std::pin::pin!(sleep(timeouts.header.0.min(timeouts.idle.0)));
    let _busy = downstream.lifecycle.busy.token();
    let mut leaving = Leaving::No;
    let end = loop {
        let staying = leaving == Leaving::No;
        let speaking = poll_fn(|cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            if leaving == Leaving::AfterNext && ended.is_pending() && downstream.activity.turn() == Turn::Busy {
                // The response says `Connection: close`.
                leaving = Leaving::Now;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended
        });
        tokio::select! {
            biased;
            ended = speaking => break ended,
            () = gate.closing.cancelled(), if staying => {
                leaving = Leaving::AfterNext;
                watch.as_mut().reset(tokio::time::Instant::now() + LAST_REQUEST);
            }
            () = watch.as_mut() => match patience(downstream.activity.turn(), timeouts) {
                Patience::LeftIdle(_) if leaving == Leaving::AfterNext => {
                    leaving = Leaving::Now;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Patience::Left(wait) | Patience::LeftIdle(wait) => watch.as_mut().reset(tokio::time::Instant::now() + wait),
                Patience::OverIdle => return,
                Patience::OverHead => {
                    gate.metrics.refused(Cause::HeaderTimeout.token());
                    return say_timeout(connection.into_parts().map(|parts| parts.io.into_inner())).await;
                }
            },
        }
    };
    if let Err(error) = end {
        count_failure(gate, &error);
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let header_bytes = usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX);
    // The time limits of heads are watched here, for idleness has another one.
    builder.header_read_timeout(None).max_header_size(header_bytes).max_buf_size(header_bytes.max(READ_BUFFER));
    if limits.headers != DEFAULT_MAX_HEADERS {
        // Any value, even hyper's own default, moves its table of fields to the heap.
        builder.max_headers(limits.headers);
    }
    builder
}

/// hyper's own limit on the number of header fields.
const DEFAULT_MAX_HEADERS: usize = 100;

/// As far as hyper's read buffer may grow under a fast upload.
const READ_BUFFER: usize = 64 * 1024;

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
        Turn::Head(taken) => Patience::Left(header - taken),
        Turn::Idle(taken) if taken >= idle => Patience::OverIdle,
        // A head may begin right after this look, so the next one is not later than a head may take.
        Turn::Idle(taken) => Patience::LeftIdle((idle - taken).min(header)),
    }
}

/// 408, written by ourselves: hyper closes without a word.
async fn say_timeout(socket: Option<Socket>) {
    let Some(mut socket) = socket else { return };
    let text = concat!(
        "HTTP/1.1 408 Request Timeout\r\n",
        "connection: close\r\ncontent-length: 0\r\nx-waypost-reason: header_timeout\r\n\r\n",
    );
    // The client is slow at best and gone at worst; nobody waits for it.
    let _ = tokio::time::timeout(GOODBYE, async {
        socket.write_all(text.as_bytes()).await?;
        socket.shutdown().await
    })
    .await;
}

/// How long a last word to a client may take.
const GOODBYE: Duration = Duration::from_secs(1);

async fn speak_http2(socket: Socket, handler: Handler, gate: &Gate, timeouts: &Timeouts, limits: &Limits) {
    let downstream = Arc::clone(&handler.downstream);
    let mut connection = std::pin::pin!(http2_builder(limits).serve_connection(TokioIo::new(socket), handler));
    let mut watch = std::pin::pin!(sleep(timeouts.idle.0));
    let mut busy = Some(downstream.lifecycle.busy.token());
    let mut leaving = false;
    let end = loop {
        let staying = !leaving;
        let speaking = poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            if !staying && downstream.activity.is_tunnels_only() {
                // Tunnels are told to end when nobody is busy any more, and this connection ends with its last one.
                busy = None;
            }
            ended
        });
        tokio::select! {
            biased;
            ended = speaking => break ended,
            () = gate.closing.cancelled(), if staying => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = watch.as_mut() => match downstream.activity.idle_for() {
                Some(taken) if taken >= timeouts.idle.0 && leaving => return,
                Some(taken) if taken >= timeouts.idle.0 => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    watch.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                Some(taken) => watch.as_mut().reset(tokio::time::Instant::now() + (timeouts.idle.0 - taken)),
                None => watch.as_mut().reset(tokio::time::Instant::now() + timeouts.idle.0),
            },
        }
    };
    if let Err(error) = end {
        count_failure(gate, &error);
    }
}

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX))
        // A peer that is gone without a word is found within half a minute.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .enable_connect_protocol();
    builder
}

fn count_failure(gate: &Gate, error: &hyper::Error) {
    let reason = if error.is_parse_too_large() {
        Cause::HeadersTooLarge.token()
    } else if error.is_parse() {
        Cause::BadRequest.token()
    } else {
        return tracing::debug!(listener = %gate.name, %error, "client connection broke off");
    };
    gate.metrics.refused(reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prior_knowledge_is_known_by_the_whole_preface() {
        assert_eq!(sniff(b""), None);
        assert_eq!(sniff(b"P"), None);
        assert_eq!(sniff(b"POST / HTTP/1.1"), Some(Http::One));
        assert_eq!(sniff(b"GET"), Some(Http::One));
        assert_eq!(sniff(&PREFACE[..23]), None);
        assert_eq!(sniff(PREFACE), Some(Http::Two));
        assert_eq!(sniff(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0"), Some(Http::Two));
    }

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
