//! How is an endpoint probed?
//!
//! Each probe resolves the name, opens its own connection and closes it: it tests what the next new connection will
//! meet, not what an old one still can. The time limit is the caller's.

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use waypost_config::service::{Expect, HealthCheck, HealthCheckKind, Protocol};
use waypost_config::value::UpstreamUrl;

/// The part of a body that is looked at.
const BODY_LOOKED_AT: usize = 64 * 1024;

const PROBE_AGENT: &str = concat!("waypost-health-check/", env!("CARGO_PKG_VERSION"));

/// Something that can be probed.
pub trait Probe: Send + Sync {
    /// When to probe and how long to wait.
    fn check(&self) -> &HealthCheck;

    /// Probes once, without a time limit of its own.
    fn probe(&self) -> impl Future<Output = Result<(), ProbeFailure>> + Send;
}

/// An endpoint as its probes see it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub url: UpstreamUrl,
    /// How to speak TLS to it; present exactly if the URL is `https`.
    pub tls: Option<TargetTls>,
    /// What a probe is and must meet.
    pub check: HealthCheck,
    /// The protocol of the service.
    pub protocol: Protocol,
}

/// TLS towards a target.
#[derive(Debug, Clone)]
pub struct TargetTls {
    /// With the ALPN protocols to offer.
    pub config: Arc<rustls::ClientConfig>,
    /// The name sent as SNI and checked.
    pub server_name: ServerName<'static>,
}

/// Why a probe failed, in a few words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The name has no address.
    #[error("cannot resolve `{host}`: {reason}")]
    NotResolved {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No connection for another reason.
    #[error("cannot connect: {reason}")]
    NotConnected {
        /// The system's words.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {reason}")]
    Tls {
        /// The words of the TLS library.
        reason: String,
    },
    /// No whole answer came over the connection.
    #[error("no HTTP answer: {reason}")]
    NoAnswer {
        /// The words of the HTTP library.
        reason: String,
    },
    /// The answer's status is not among those expected.
    #[error("status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The first 64 KiB of the answer's body lack the text expected.
    #[error("body does not contain {expected:?}")]
    Body {
        /// The text.
        expected: String,
    },
    /// The whole took too long.
    #[error("timed out after {}", humantime::format_duration(*.after))]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

impl Probe for Target {
    fn check(&self) -> &HealthCheck {
        &self.check
    }

    async fn probe(&self) -> Result<(), ProbeFailure> {
        let stream = self.connect().await?;
        match (self.check.kind, &self.tls) {
            (HealthCheckKind::Tcp, _) => Ok(()),
            (HealthCheckKind::Http, None) if self.protocol == Protocol::H2c => self.get_http2(stream).await,
            (HealthCheckKind::Http, None) => self.get_http1(stream).await,
            (HealthCheckKind::Http, Some(tls)) => {
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                let handshake = connector.connect(tls.server_name.clone(), stream).await;
                let stream = handshake.map_err(|error| ProbeFailure::Tls { reason: error.to_string() })?;
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => self.get_http2(stream).await,
                    _ => self.get_http1(stream).await,
                }
            }
        }
    }
}

impl Target {
    async fn connect(&self) -> Result<TcpStream, ProbeFailure> {
        let host = self.url.host.as_str();
        let resolved = lookup_host((host, self.check.port.unwrap_or(self.url.port))).await;
        let not_resolved =
            |error: io::Error| ProbeFailure::NotResolved { host: host.into(), reason: error.to_string() };
        let addresses: Vec<SocketAddr> = resolved.map_err(not_resolved)?.collect();
        TcpStream::connect(&addresses[..]).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
            _ => ProbeFailure::NotConnected { reason: error.to_string() },
        })
    }

    async fn get_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), ProbeFailure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        let request =
            self.request().uri(self.check.path.as_str()).header(HOST, self.host()).header(CONNECTION, "close");
        let exchange = async {
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).map_err(no_answer)?).await;
            meets(&self.check.expect, response.map_err(no_answer)?).await
        };
        alongside(exchange, connection).await
    }

    async fn get_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), ProbeFailure> {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(no_answer)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let request =
            self.request().version(Version::HTTP_2).uri(format!("{scheme}://{}{}", self.host(), self.check.path));
        let exchange = async {
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).map_err(no_answer)?).await;
            meets(&self.check.expect, response.map_err(no_answer)?).await
        };
        alongside(exchange, connection).await
    }

    fn request(&self) -> http::request::Builder {
        Request::get("/").header(USER_AGENT, PROBE_AGENT)
    }

    fn host(&self) -> String {
        self.check.host.clone().unwrap_or_else(|| self.url.authority())
    }
}

/// The exchange's result while its connection is driven in the same task, so that both end together.
async fn alongside<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    let connection = async {
        // How the connection ends, the exchange learns too; it may still have a body to read then.
        let _ = connection.await;
        pending().await
    };
    tokio::select! {
        result = exchange => result,
        never = connection => never,
    }
}

async fn meets(expect: &Expect, response: Response<Incoming>) -> Result<(), ProbeFailure> {
    let status = response.status().as_u16();
    if !expect.status.iter().any(|range| range.contains(status)) {
        return Err(ProbeFailure::Status { status });
    }
    match &expect.body {
        Some(expected) => contains(response.into_body(), expected).await,
        None => Ok(()),
    }
}

/// Passes as soon as the text has come: the body may never end.
async fn contains(mut body: Incoming, expected: &str) -> Result<(), ProbeFailure> {
    let mut seen = Vec::new();
    while seen.len() < BODY_LOOKED_AT {
        let Some(frame) = body.frame().await else { break };
        let Ok(piece) = frame.map_err(no_answer)?.into_data() else { continue };
        // Only what the new piece could complete is searched: tiny pieces must not cost the square of the body.
        let searched = (seen.len() + 1).saturating_sub(expected.len());
        seen.extend_from_slice(&piece[..piece.len().min(BODY_LOOKED_AT - seen.len())]);
        if is_in(expected.as_bytes(), &seen[searched..]) {
            return Ok(());
        }
    }
    if expected.is_empty() { Ok(()) } else { Err(ProbeFailure::Body { expected: expected.to_owned() }) }
}

fn is_in(text: &[u8], body: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

fn no_answer(error: impl fmt::Display) -> ProbeFailure {
    ProbeFailure::NoAnswer { reason: error.to_string() }
}
