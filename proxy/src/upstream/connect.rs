//! A new connection to an endpoint: name, TCP, TLS, and which HTTP it speaks.
//!
//! Owns what must be known to connect ([`Target`]). Never keeps a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntGauge;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waypost_config::service::Protocol;
use waypost_config::value::UpstreamUrl;

use super::alarm::Alarm;
use super::pool::{Http1, Http2};
use crate::http1::Transport;
use crate::http1::client::Connection;
use crate::shortage;

/// How to reach an endpoint and what to speak there.
#[derive(Debug, Clone)]
pub struct Target {
    /// Scheme, host and port.
    pub url: UpstreamUrl,
    /// TLS settings, for an `https` URL.
    pub tls: Option<TargetTls>,
    /// What the config says of the protocol.
    pub protocol: Protocol,
    /// The longest wait for name, TCP and TLS together.
    pub connect_timeout: Duration,
}

impl Target {
    /// Whether HTTP/2 in plain text is all that is spoken there.
    pub fn is_h2c(&self) -> bool {
        self.tls.is_none() && self.protocol == Protocol::H2c
    }

    /// What HTTP/2 requests say in `:scheme`.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

/// TLS towards an endpoint.
#[derive(Debug, Clone)]
pub struct TargetTls {
    /// Offers HTTP/2 and HTTP/1.1.
    pub any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 only, for upgrades.
    pub http1: Arc<ClientConfig>,
    /// Sent as SNI and checked against the certificate.
    pub server_name: ServerName<'static>,
}

/// What the request at hand can be sent over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever the endpoint prefers.
    Any,
    /// HTTP/1.1, for upgrades: few endpoints know them in HTTP/2.
    Http1,
}

/// A new connection.
#[derive(Debug)]
pub enum Connected {
    /// One request at a time, driven by whoever waits for the answer.
    Http1(Box<Http1>),
    /// Many at once; spoken to through its sender, its task runs until it ends.
    Http2(Http2),
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("`{0}` has no address: {1}")]
    Resolve(String, io::Error),
    /// Refused, unreachable, reset.
    #[error("{0}")]
    Tcp(io::Error),
    /// The system gave us no socket, which says nothing about the endpoint.
    #[error("no socket to connect with: {0}")]
    Shortage(io::Error),
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(io::Error),
    /// HTTP's own handshake failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Opens a connection; `open` counts it while it lives. Waits for a descriptor as long as for an answer: as soon as one
/// is free, the connection is made.
pub async fn connect(target: &Target, wanted: Wanted, open: &IntGauge) -> Result<Connected, ConnectError> {
    let limit = target.connect_timeout;
    let waits_until = Instant::now() + limit;
    loop {
        match tokio::time::timeout(limit, establish(target, wanted, open)).await {
            Ok(Err(ConnectError::Shortage(_))) if Instant::now() < waits_until => sleep(shortage::PAUSE).await,
            Ok(result) => return result,
            Err(_) => return Err(ConnectError::Timeout(limit)),
        }
    }
}

async fn establish(target: &Target, wanted: Wanted, open: &IntGauge) -> Result<Connected, ConnectError> {
    let stream = tcp(&target.url).await?;
    let open = OpenGuard::new(open);
    let Some(tls) = &target.tls else {
        let socket = Socket { stream: Stream::Plain(stream), _open: open };
        return if target.is_h2c() { http2(socket).await } else { Ok(http1(socket)) };
    };
    let stream = handshake(stream, tls, wanted, target.protocol).await?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let socket = Socket { stream: Stream::Tls(Box::new(stream)), _open: open };
    if h2 { http2(socket).await } else { Ok(http1(socket)) }
}

async fn tcp(url: &UpstreamUrl) -> Result<TcpStream, ConnectError> {
    let stream = match url.host.parse::<std::net::IpAddr>() {
        Ok(address) => TcpStream::connect((address, url.port)).await.map_err(not_connected)?,
        Err(_) => by_name(url).await?,
    };
    // A head and a small body are two writes; waiting for the first one's acknowledgement would cost 40 ms.
    stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
    Ok(stream)
}

/// Tries the name's addresses in the resolver's order (RFC 6724).
async fn by_name(url: &UpstreamUrl) -> Result<TcpStream, ConnectError> {
    let unresolved = |error| {
        // A resolver needs a descriptor, too, and does not say that it found none.
        if shortage::is_felt() {
            ConnectError::Shortage(shortage::error())
        } else {
            ConnectError::Resolve(url.host.clone(), error)
        }
    };
    let addresses = tokio::net::lookup_host((url.host.as_str(), url.port)).await.map_err(unresolved)?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| unresolved(io::ErrorKind::NotFound.into()), not_connected))
}

fn not_connected(error: io::Error) -> ConnectError {
    if shortage::is_ours(&error) { ConnectError::Shortage(error) } else { ConnectError::Tcp(error) }
}

async fn handshake(
    stream: TcpStream,
    tls: &TargetTls,
    wanted: Wanted,
    protocol: Protocol,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let http1 = wanted == Wanted::Http1 || protocol == Protocol::Http1;
    let config = if http1 { &tls.http1 } else { &tls.any };
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(tls.server_name.clone(), stream).await.map_err(ConnectError::Tls)
}

fn http1(socket: Socket) -> Connected {
    Connected::Http1(Box::new(Http1 { connection: Connection::new(socket), alarm: Alarm::default() }))
}

async fn http2(socket: Socket) -> Result<Connected, ConnectError> {
    let (sender, connection) = http2_builder().handshake(TokioIo::new(socket)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connected::Http2(sender))
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // A dead peer is found within half a minute instead of at the next request's timeout.
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_header_list_size(64 * 1024);
    builder
}

/// A connection's bytes, in plain text or over TLS; it is counted while it lives.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    _open: OpenGuard,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport for Socket {
    fn plain(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(stream) => Some(stream),
            Stream::Tls(_) => None,
        }
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
        each!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, slices))
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

/// One open connection in the gauge.
#[derive(Debug)]
struct OpenGuard(IntGauge);

impl OpenGuard {
    fn new(gauge: &IntGauge) -> OpenGuard {
        gauge.inc();
        OpenGuard(gauge.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
