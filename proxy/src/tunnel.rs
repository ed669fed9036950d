//! Connections that stop being HTTP: WebSocket and other upgrades, over HTTP/1.1 (RFC 9110 section 7.8) and HTTP/2
//! (RFC 8441).
//!
//! Owns the translation of the handshake between the two and the task that carries bytes both ways until one side
//! ends, nothing moves for too long, or the process or the endpoint goes away. Never looks into messages, beyond
//! knowing where a frame ends, so that a close frame of ours cannot cut one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header, request, response};
use http_body::Body;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::body::Incoming;
use crate::exchange::Exchange;
use crate::http1::{Transport, Upgraded};
use crate::scratch;

/// One end of a tunnel, once its connection has left HTTP.
#[derive(Debug)]
pub enum Side {
    /// It has, unless it is gone.
    Here(Option<Upgraded>),
    /// A client's, after our response.
    Http1(oneshot::Receiver<Upgraded>),
    /// A stream of an HTTP/2 connection.
    Http2(OnUpgrade),
}

impl Side {
    async fn reached(self) -> Option<Upgraded> {
        match self {
            Side::Here(upgraded) => upgraded,
            Side::Http1(receiver) => receiver.await.ok(),
            Side::Http2(upgrade) => {
                let stream = Box::new(TokioIo::new(upgrade.await.ok()?));
                Some(Upgraded { stream, read: BytesMut::new() })
            }
        }
    }
}

/// A client's wish to leave HTTP.
#[derive(Debug)]
pub struct Upgrade {
    client: Side,
    form: Form,
    websocket: bool,
}

/// How the client put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `Connection: upgrade`.
    Http1,
    /// Extended CONNECT.
    Http2,
}

impl Upgrade {
    /// Takes the wish out of a request, if it has one.
    pub fn wanted(request: &mut Request<Incoming>) -> Option<Upgrade> {
        if request.version() == Version::HTTP_2 && request.method() == Method::CONNECT {
            request.extensions().get::<Protocol>()?;
            let client = Side::Http2(hyper::upgrade::on(request));
            return Some(Upgrade { client, form: Form::Http2, websocket: true });
        }
        // Whether `Connection` names it was looked at when the head was read.
        let Incoming::Http1(body) = request.body_mut() else { return None };
        let client = Side::Http1(body.take_upgrade()?);
        let websocket = protocol(request.headers()) == Some("websocket");
        let passes = request.body().is_end_stream() && may_pass(request.headers());
        passes.then_some(Upgrade { client, form: Form::Http1, websocket })
    }

    /// Whether it is for a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Puts the wish into the head for the endpoint, in HTTP/1.1's form. `protocol` is what the client named, saved
    /// from the head before hop-by-hop fields were removed.
    pub fn offer(&self, head: &mut request::Parts, protocol: HeaderValue) {
        if self.form == Form::Http2 {
            head.method = Method::GET;
            head.extensions.remove::<Protocol>();
            head.headers.insert(header::SEC_WEBSOCKET_KEY, fresh_key());
            head.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, protocol);
    }

    /// What the client wants to speak, as a header value.
    pub fn protocol(&self, head: &request::Parts) -> HeaderValue {
        match self.form {
            Form::Http1 => head.headers.get(header::UPGRADE).cloned(),
            Form::Http2 => head.extensions.get::<Protocol>().and_then(|name| HeaderValue::from_str(name.as_str()).ok()),
        }
        .unwrap_or(HeaderValue::from_static("websocket"))
    }

    /// Turns an endpoint's 101 into what this client understands. `protocol` is what the endpoint agreed to.
    pub fn accept(&self, head: &mut response::Parts, protocol: Option<HeaderValue>) {
        match self.form {
            Form::Http1 => {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                if let Some(protocol) = protocol {
                    head.headers.insert(header::UPGRADE, protocol);
                }
            }
            Form::Http2 => {
                head.status = StatusCode::OK;
                head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            }
        }
    }

    /// Whether the client would take an answer that switches nothing for the begin of its tunnel: in HTTP/2 any 2xx is
    /// (RFC 8441 section 5).
    pub fn is_misled_by(&self, status: StatusCode) -> bool {
        self.form == Form::Http2 && status.is_success()
    }

    /// Carries bytes both ways until the end; the exchange ends with it.
    pub async fn carry(self, upstream: Side, exchange: Box<Exchange>, limits: Limits) {
        let (Some(client), Some(upstream)) = tokio::join!(self.client.reached(), upstream.reached()) else {
            let request_id = exchange.context.request_id.to_str().ok();
            let trace_id = exchange.trace_id().map(tracing::field::display);
            return tracing::debug!(request_id, trace_id, "upgrade failed: one side is gone");
        };
        let frames = if self.websocket { Some(Frames::default()) } else { None };
        let mut tunnel = Tunnel::new(client, upstream, frames);
        tunnel.run(&limits).await;
        tunnel.note(exchange);
    }
}

/// A request with a body is answered as a request. Another HTTP or TLS is for one hop only, and what came through such
/// a tunnel would pass no rule of ours (RFC 9110 section 7.8: an upgrade may be ignored).
fn may_pass(headers: &HeaderMap) -> bool {
    let Some(upgrade) = headers.get(header::UPGRADE) else { return false };
    let name = upgrade.as_bytes().to_ascii_lowercase();
    ![&b"h2"[..], b"http", b"tls"].iter().any(|hop| name.starts_with(hop))
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::UPGRADE)?.to_str().ok()?;
    if value.eq_ignore_ascii_case("websocket") { Some("websocket") } else { None }
}

/// RFC 6455 section 4.1: sixteen random bytes.
fn fresh_key() -> HeaderValue {
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).expect("base64 is printable")
}

/// Turns a WebSocket handshake in HTTP/1.1's form into an extended CONNECT for an HTTP/2 endpoint. Returns the key that
/// the client wants to see answered; `None`, and no change, if it is no such handshake.
pub fn to_extended_connect<B>(request: &mut Request<B>) -> Option<HeaderValue> {
    protocol(request.headers())?;
    let headers = request.headers_mut();
    let key = headers.remove(header::SEC_WEBSOCKET_KEY)?;
    headers.remove(header::UPGRADE);
    headers.remove(header::CONNECTION);
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    Some(key)
}

/// Undoes [`to_extended_connect`], for the next endpoint may speak HTTP/1.1.
pub fn undo_extended_connect<B>(request: &mut Request<B>, key: HeaderValue) {
    *request.method_mut() = Method::GET;
    request.extensions_mut().remove::<Protocol>();
    let headers = request.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Turns an HTTP/2 endpoint's 200 into the 101 that the client waits for (RFC 6455 section 4.2.2).
pub fn from_extended_connect<B>(response: &mut http::Response<B>, key: &HeaderValue) {
    if response.status() != StatusCode::OK {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = HeaderValue::try_from(STANDARD.encode(hash.finish())).expect("base64 is printable");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// When a tunnel has to end.
#[derive(Debug)]
pub struct Limits {
    /// Nothing moved in either direction.
    pub idle: Duration,
    /// The process or the listener goes away.
    pub closing: CancellationToken,
    /// The endpoint was removed and its drain time is over.
    pub removed: CancellationToken,
}

struct Tunnel {
    client: Box<dyn Transport>,
    upstream: Box<dyn Transport>,
    up: Flow,
    down: Flow,
}

impl Tunnel {
    fn new(client: Upgraded, upstream: Upgraded, frames: Option<Frames>) -> Tunnel {
        Tunnel {
            up: Flow::new(client.read, None),
            down: Flow::new(upstream.read, frames),
            client: client.stream,
            upstream: upstream.stream,
        }
    }

    async fn run(&mut self, limits: &Limits) {
        let mut watch = std::pin::pin!(sleep(limits.idle));
        let mut before = 0;
        let told_to_end = loop {
            tokio::select! {
                biased;
                _ = poll_fn(|cx| self.poll(cx)) => break false,
                () = limits.closing.cancelled() => break true,
                () = limits.removed.cancelled() => break true,
                () = watch.as_mut() => {
                    let carried = self.up.carried + self.down.carried;
                    if carried == before {
                        break false;
                    }
                    before = carried;
                    watch.as_mut().reset(Instant::now() + limits.idle);
                }
            }
        };
        if told_to_end {
            self.say_goodbye().await;
        }
    }

    /// Carries what there is. The directions are independent: one that waits for its reader does not hold up the other.
    /// Ready when both have ended, or one cannot be read any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = self.up.poll(&mut *self.client, &mut *self.upstream, cx)?;
        let down = self.down.poll(&mut *self.upstream, &mut *self.client, cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Close code 1001, "going away" (RFC 6455 section 7.4.1), if no frame would be cut by it.
    async fn say_goodbye(&mut self) {
        if self.down.at_boundary() {
            let close = [0x88, 0x02, 0x03, 0xE9];
            // The client may be gone already; then nobody is left to be told.
            let _ = self.client.write_all(&close).await;
            let _ = self.client.flush().await;
        }
        let _ = self.client.shutdown().await;
    }

    fn note(self, mut exchange: Box<Exchange>) {
        exchange.carried(self.up.carried, self.down.carried);
    }
}

/// One direction of a tunnel.
struct Flow {
    /// What was read and could not be written yet.
    waiting: BytesMut,
    carried: u64,
    stage: Stage,
    frames: Option<Frames>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The sender has ended; its end is being passed on.
    Ending,
    Ended,
}

impl Flow {
    fn new(waiting: BytesMut, mut frames: Option<Frames>) -> Flow {
        if let Some(frames) = &mut frames {
            frames.advance(&waiting);
        }
        Flow { waiting, carried: 0, stage: Stage::Open, frames }
    }

    fn poll(&mut self, from: &mut dyn Transport, to: &mut dyn Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if ready!(self.poll_write(to, cx)).is_err() {
                // Whoever takes no more may have sent a last word, which the other direction carries.
                self.waiting.clear();
                self.stage = Stage::Ended;
            }
            match self.stage {
                Stage::Open => ready!(scratch::lend(|buffer| self.poll_pass(from, to, cx, buffer)))?,
                Stage::Ending => {
                    // Nobody is left to be told if it fails.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what waits.
    fn poll_write(&mut self, to: &mut dyn Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.carried += written as u64;
            self.waiting.advance(written);
        }
        Pin::new(to).poll_flush(cx)
    }

    /// One read, and one write of what it brought.
    fn poll_pass(
        &mut self,
        from: &mut dyn Transport,
        to: &mut dyn Transport,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        if let Some(frames) = &mut self.frames {
            frames.advance(bytes);
        }
        // What cannot be written at once waits; if it never can be, that is found when it is tried again.
        let written = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.carried += written as u64;
        self.waiting.extend_from_slice(&bytes[written..]);
        Poll::Ready(Ok(()))
    }

    /// Whether all that was written ends with a whole WebSocket frame.
    fn at_boundary(&self) -> bool {
        self.waiting.is_empty() && self.frames.as_ref().is_some_and(Frames::at_boundary)
    }
}

/// Where the WebSocket frames of one direction begin and end (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    payload_left: u64,
}

impl Frames {
    fn at_boundary(&self) -> bool {
        self.header.is_empty() && self.payload_left == 0
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len() as u64);
                self.payload_left -= skipped;
                bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
            } else {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some(length) = payload_length(&self.header) {
                    self.payload_left = length;
                    self.header.clear();
                }
            }
        }
    }
}

/// The payload's length, once the header is whole.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let short = u64::from(second & 0x7f);
    let long = header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    Some(if extended == 0 { short } else { long })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(boundary: bool, bytes: &[u8]) {
        let mut whole = Frames::default();
        whole.advance(bytes);
        assert_eq!(whole.at_boundary(), boundary, "{bytes:?}");
        let mut one_by_one = Frames::default();
        for byte in bytes {
            one_by_one.advance(&[*byte]);
        }
        assert_eq!(one_by_one.at_boundary(), boundary, "{bytes:?} one by one");
    }

    #[test]
    fn a_boundary_is_where_a_frame_has_ended() {
        check(true, &[]);
        check(false, &[0x81]);
        check(false, &[0x81, 2, b'h']);
        check(true, &[0x81, 2, b'h', b'i']);
        check(true, &[0x81, 0]);
        check(true, &[0x81, 1, b'x', 0x89, 0]);
        check(false, &[0x81, 0x82, 1, 2, 3, 4, b'h']);
        check(true, &[0x81, 0x82, 1, 2, 3, 4, b'h', b'i']);
        let mut long = vec![0x82, 126, 0x01, 0x00];
        long.extend([0; 255]);
        check(false, &long);
        long.push(0);
        check(true, &long);
    }

    impl Transport for tokio::io::DuplexStream {}

    fn upgraded(stream: tokio::io::DuplexStream) -> Upgraded {
        Upgraded { stream: Box::new(stream), read: BytesMut::new() }
    }

    #[tokio::test]
    async fn last_word_of_a_side_that_is_gone_is_carried() {
        let ((mut client, ours), (mut endpoint, theirs)) = (tokio::io::duplex(1024), tokio::io::duplex(1024));
        // The endpoint says something and goes, while the client is still sending to it.
        endpoint.write_all(b"goodbye").await.unwrap();
        drop(endpoint);
        client.write_all(b"are you there?").await.unwrap();
        let mut tunnel = Tunnel::new(upgraded(ours), upgraded(theirs), None);
        poll_fn(|cx| tunnel.poll(cx).map(drop)).await;
        drop(tunnel);
        let mut heard = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut client, &mut heard).await.unwrap();
        assert_eq!(heard, b"goodbye");
    }

    #[test]
    fn handshake_survives_the_way_over_http2() {
        let mut request = Request::new(());
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let key = to_extended_connect(&mut request).unwrap();
        assert_eq!(request.method(), Method::CONNECT);
        let mut response = http::Response::new(());
        from_extended_connect(&mut response, &key);
        // The example of RFC 6455 section 1.3.
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        undo_extended_connect(&mut request, key);
        assert_eq!(request.method(), Method::GET);
        assert_eq!(protocol(request.headers()), Some("websocket"));
        assert!(request.headers().contains_key(header::SEC_WEBSOCKET_KEY));
    }

    #[test]
    fn an_upgrade_to_another_http_is_ignored() {
        let passes =
            |name: &'static str| may_pass(&HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static(name))]));
        assert!(passes("websocket"));
        assert!(passes("spdy/3.1"));
        assert!(!passes("h2c"));
        assert!(!passes("HTTP/2.0"));
        assert!(!passes("TLS/1.0"));
        assert!(!may_pass(&HeaderMap::new()));
    }
}
