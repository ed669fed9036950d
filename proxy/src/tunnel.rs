//! Connections that stop being HTTP: WebSocket and other upgrades, over HTTP/1.1 (RFC 9110 section 7.8) and HTTP/2
//! (RFC 8441).
//!
//! Owns the translation of the handshake between the two and the task that carries bytes both ways until one side
//! ends, nothing moves for too long, or the process or the endpoint goes away. Never looks into messages, beyond
//! knowing where a frame ends, so that a close frame of ours cannot cut one.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header, request, response};
use http_body::Body;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::exchange::Exchange;

/// A client's wish to leave HTTP.
#[derive(Debug)]
pub struct Upgrade {
    client: OnUpgrade,
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
    pub fn wanted<B: Body>(request: &mut Request<B>) -> Option<Upgrade> {
        let form = if request.version() == Version::HTTP_2 && request.method() == Method::CONNECT {
            request.extensions().get::<Protocol>()?;
            Form::Http2
        } else if names_upgrade(request.headers()) && may_pass(request) {
            Form::Http1
        } else {
            return None;
        };
        let websocket = form == Form::Http2 || protocol(request.headers()) == Some("websocket");
        Some(Upgrade { client: hyper::upgrade::on(request), form, websocket })
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
    pub async fn carry(self, upstream: OnUpgrade, exchange: Box<Exchange>, limits: Limits) {
        let (client, upstream) = match tokio::try_join!(self.client, upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let frames = if self.websocket { Some(Frames::default()) } else { None };
        Tunnel::new(client, upstream, limits, frames).run(exchange).await;
    }
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CONNECTION).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// A request with a body is answered as a request. Another HTTP or TLS is for one hop only, and what came through such
/// a tunnel would pass no rule of ours (RFC 9110 section 7.8: an upgrade may be ignored).
fn may_pass<B: Body>(request: &Request<B>) -> bool {
    let Some(upgrade) = request.headers().get(header::UPGRADE) else { return false };
    let name = upgrade.as_bytes().to_ascii_lowercase();
    let hop = [&b"h2"[..], b"http", b"tls"].iter().any(|hop| name.starts_with(hop));
    !hop && request.body().is_end_stream()
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
    client: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    limits: Limits,
    frames: Option<Frames>,
}

/// 16 KiB: a TLS record, and what hyper reads at once.
const BUFFER: usize = 16 * 1024;

impl Tunnel {
    fn new(client: Upgraded, upstream: Upgraded, limits: Limits, frames: Option<Frames>) -> Tunnel {
        Tunnel { client: TokioIo::new(client), upstream: TokioIo::new(upstream), limits, frames }
    }

    async fn run(self, mut exchange: Box<Exchange>) {
        let Tunnel { client, upstream, limits, frames } = self;
        let (from_client, mut to_client) = tokio::io::split(client);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let (up, down) = (Progress::default(), Progress::new(frames));
        let told_to_end = {
            // The directions are independent: one that waits for its reader must not hold up the other.
            let both =
                async { tokio::join!(copy(from_client, to_upstream, &up), copy(from_upstream, &mut to_client, &down)) };
            tokio::select! {
                _ = both => false,
                () = silence(&up, &down, limits.idle) => false,
                () = limits.closing.cancelled() => true,
                () = limits.removed.cancelled() => true,
            }
        };
        if told_to_end {
            say_goodbye(&mut to_client, &down).await;
        }
        exchange.carried(up.bytes(), down.bytes());
        exchange.finish(true);
    }
}

/// How far one direction has come.
#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    writing: AtomicBool,
    frames: Option<Mutex<Frames>>,
}

// Relaxed everywhere: all of it is read by the task that writes it.
impl Progress {
    fn new(frames: Option<Frames>) -> Progress {
        Progress { frames: frames.map(Mutex::new), ..Progress::default() }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn begin(&self, bytes: &[u8]) {
        self.writing.store(true, Ordering::Relaxed);
        if let Some(frames) = &self.frames {
            frames.lock().advance(bytes);
        }
    }

    fn end(&self, length: usize) {
        self.writing.store(false, Ordering::Relaxed);
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
    }

    /// Whether all that was written ends with a whole WebSocket frame.
    fn at_boundary(&self) -> bool {
        let whole = self.frames.as_ref().is_some_and(|frames| frames.lock().at_boundary());
        whole && !self.writing.load(Ordering::Relaxed)
    }
}

/// Carries one direction to its end, and passes the end on.
async fn copy<R, W>(mut from: R, mut to: W, progress: &Progress) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        progress.begin(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        progress.end(length);
    }
}

/// Returns when neither direction has moved for `limit`.
async fn silence(up: &Progress, down: &Progress, limit: Duration) {
    let mut before = None;
    loop {
        let now = (up.bytes(), down.bytes());
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(limit).await;
    }
}

/// Close code 1001, "going away" (RFC 6455 section 7.4.1), if no frame would be cut by it.
async fn say_goodbye<W: AsyncWrite + Unpin>(client: &mut W, sent: &Progress) {
    if sent.at_boundary() {
        let close = [0x88, 0x02, 0x03, 0xE9];
        // The client may be gone already; then nobody is left to be told.
        let _ = client.write_all(&close).await;
        let _ = client.flush().await;
    }
    let _ = client.shutdown().await;
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
        let upgrade = |name: &'static str| {
            let request = Request::get("/").header(header::CONNECTION, "upgrade").header(header::UPGRADE, name);
            Upgrade::wanted(&mut request.body(String::new()).unwrap()).is_some()
        };
        assert!(upgrade("websocket"));
        assert!(upgrade("spdy/3.1"));
        assert!(!upgrade("h2c"));
        assert!(!upgrade("HTTP/2.0"));
        assert!(!upgrade("TLS/1.0"));
        let request = Request::post("/").header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket");
        assert!(Upgrade::wanted(&mut request.body("a body".to_owned()).unwrap()).is_none());
    }
}
