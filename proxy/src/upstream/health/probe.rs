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

use crate::shortage;

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
    /// The system gave us no socket, which says nothing about the endpoint.
    #[error("no probe could be made: {reason}")]
    NotMade {
        /// The system's words.
        reason: String,
    },
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
        let not_resolved = |error: io::Error| {
            // A resolver needs a descriptor, too, and does not say that it found none.
            if shortage::is_felt() {
                ProbeFailure::NotMade { reason: shortage::error().to_string() }
            } else {
                ProbeFailure::NotResolved { host: host.into(), reason: error.to_string() }
            }
        };
        let addresses: Vec<SocketAddr> = resolved.map_err(not_resolved)?.collect();
        TcpStream::connect(&addresses[..]).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
            _ if shortage::is_ours(&error) => ProbeFailure::NotMade { reason: error.to_string() },
            _ => ProbeFailure::NotConnected { reason: error.to_string() },
        })
    }

    async fn get_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), ProbeFailure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        let request = Request::builder()
            .header(USER_AGENT, PROBE_AGENT)
            .uri(self.check.path.as_str())
            .header(HOST, self.host())
            .header(CONNECTION, "close");
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
        let request = Request::builder().header(USER_AGENT, PROBE_AGENT).version(Version::HTTP_2).uri(format!(
            "{scheme}://{}{}",
            self.host(),
            self.check.path
        ));
        let exchange = async {
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).map_err(no_answer)?).await;
            meets(&self.check.expect, response.map_err(no_answer)?).await
        };
        alongside(exchange, connection).await
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http2 as server_http2;
    use hyper::service::service_fn;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;
    use tokio_rustls::TlsAcceptor;
    use waypost_config::value::StatusRange;

    use super::super::active::watch;
    use super::super::{Health, State};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn target(address: SocketAddr) -> Target {
        let url = UpstreamUrl { tls: false, host: address.ip().to_string(), port: address.port() };
        Target { url, tls: None, check: HealthCheck::default(), protocol: Protocol::Auto }
    }

    async fn probed(target: &Target) -> Result<(), ProbeFailure> {
        timeout(LIMIT, target.probe()).await.expect("a probe on loopback ends")
    }

    /// Reads one request, answers with these bytes and closes; ends with the request's text.
    async fn answer_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ended early");
        }
        // The prober may have seen enough and gone.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        String::from_utf8(request).unwrap()
    }

    async fn endpoint(answer: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.into();
        (address, tokio::spawn(async move { answer_once(listener.accept().await.unwrap().0, answer).await }))
    }

    #[track_caller]
    fn assert_failed(outcome: &Result<(), ProbeFailure>, words: &str) {
        assert_eq!(outcome.as_ref().unwrap_err().to_string(), words);
    }

    #[tokio::test]
    async fn request_says_who_asks_and_closes() {
        let (address, request) = endpoint("HTTP/1.1 204 No Content\r\n\r\n").await;
        let mut target = target(address);
        target.check.path = "/health?deep=1".to_owned();
        probed(&target).await.unwrap();
        let request = request.await.unwrap();
        assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
        let fields = [format!("host: {address}"), format!("user-agent: {PROBE_AGENT}"), "connection: close".to_owned()];
        assert!(fields.iter().all(|field| request.contains(&format!("\r\n{field}\r\n"))), "{request}");
    }

    #[tokio::test]
    async fn host_and_port_of_the_check_take_precedence() {
        let (address, request) = endpoint("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let mut target = target(address);
        (target.url.port, target.check.port) = (1, Some(address.port()));
        target.check.host = Some("shop.example".to_owned());
        probed(&target).await.unwrap();
        assert!(request.await.unwrap().contains("\r\nhost: shop.example\r\n"));
    }

    #[tokio::test]
    async fn status_decides() {
        let cases = [(200, true), (399, true), (404, false), (500, false), (503, false)];
        for (status, passes) in cases {
            let (address, _) = endpoint(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
            let expected = if passes { Ok(()) } else { Err(ProbeFailure::Status { status }) };
            assert_eq!(probed(&target(address)).await, expected);
        }
        let (address, _) = endpoint("HTTP/1.1 418 X\r\ncontent-length: 0\r\n\r\n").await;
        let mut teapot = target(address);
        teapot.check.expect.status = vec![StatusRange { first: 200, last: 204 }, StatusRange { first: 418, last: 418 }];
        assert_eq!(probed(&teapot).await, Ok(()));
    }

    #[tokio::test]
    async fn body_is_looked_at_up_to_64_kib() {
        let cases = [
            ("ok".to_owned(), true),
            ("all is ok".to_owned(), true),
            ("o-k".to_owned(), false),
            (String::new(), false),
            (format!("{}ok", "o".repeat(BODY_LOOKED_AT - 2)), true),
            (format!("{}ok", "-".repeat(BODY_LOOKED_AT - 1)), false),
        ];
        for (body, passes) in cases {
            let (address, _) = endpoint(format!("HTTP/1.0 200 OK\r\n\r\n{body}")).await;
            let mut target = target(address);
            target.check.expect.body = Some("ok".to_owned());
            let expected = if passes { Ok(()) } else { Err(ProbeFailure::Body { expected: "ok".to_owned() }) };
            assert_eq!(probed(&target).await, expected, "body of {} bytes", body.len());
        }
    }

    #[tokio::test]
    async fn text_across_chunks_is_found_before_the_body_ends() {
        let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n";
        let (address, _) = endpoint(endless).await;
        let mut target = target(address);
        target.check.expect.body = Some("ok".to_owned());
        assert_eq!(probed(&target).await, Ok(()));
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refusal_for_either_kind() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for kind in [HealthCheckKind::Http, HealthCheckKind::Tcp] {
            let mut target = target(address);
            target.check.kind = kind;
            assert_failed(&probed(&target).await, "connection refused");
        }
    }

    #[tokio::test]
    async fn open_port_passes_a_tcp_probe() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = target(listener.local_addr().unwrap());
        target.check.kind = HealthCheckKind::Tcp;
        assert_eq!(probed(&target).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_not_http_is_no_answer() {
        let (address, _) = endpoint("220 mail.example ESMTP\r\n").await;
        let failure = probed(&target(address)).await.unwrap_err();
        assert!(failure.to_string().starts_with("no HTTP answer: "), "{failure}");
        let (address, _) = endpoint("").await;
        let failure = probed(&target(address)).await.unwrap_err();
        assert!(matches!(failure, ProbeFailure::NoAnswer { .. }), "{failure}");
    }

    #[tokio::test]
    async fn h2c_is_spoken_where_the_service_speaks_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = target(listener.local_addr().unwrap());
        (target.protocol, target.check.path) = (Protocol::H2c, "/health".to_owned());
        target.check.expect.body = Some("HTTP/2.0 /health".to_owned());
        tokio::spawn(async move {
            let say = |request: Request<Incoming>| async move {
                let text = format!("{:?} {}", request.version(), request.uri().path());
                Ok::<_, Infallible>(Response::new(text))
            };
            let stream = TokioIo::new(listener.accept().await.unwrap().0);
            let _ = server_http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(say)).await;
        });
        assert_eq!(probed(&target).await, Ok(()));
    }

    #[tokio::test]
    async fn watching_runs_as_a_task_and_tells_what_it_finds() {
        let (address, _) = endpoint("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let target = target(address);
        let health = Arc::new(Health::new(Some(&target.check)));
        let (tell, mut told) = mpsc::unbounded_channel();
        let on_transition = move |transition| tell.send(transition).expect("the test listens until it aborts");
        let task = tokio::spawn(watch(target, Arc::clone(&health), Arc::default(), on_transition));
        let transition = timeout(LIMIT, told.recv()).await.unwrap().unwrap();
        assert_eq!((transition.to, health.state()), (State::Up, State::Up));
        task.abort();
    }

    /// A server certificate for `web.internal` and a client that trusts it, if it is the same.
    fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec!["web.internal".to_owned()]).unwrap();
        (made.cert.der().clone(), PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap())
    }

    fn trusting(certificate: CertificateDer<'static>) -> TargetTls {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        TargetTls { config: Arc::new(config), server_name: "web.internal".try_into().unwrap() }
    }

    async fn probed_over_tls(trusts_it: bool) -> Result<(), ProbeFailure> {
        let (served, key) = certificate();
        let tls = trusting(if trusts_it { served.clone() } else { certificate().0 });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![served], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target { tls: Some(tls), ..target(listener.local_addr().unwrap()) };
        tokio::spawn(async move {
            let stream = listener.accept().await.unwrap().0;
            if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                answer_once(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
            }
        });
        probed(&target).await
    }

    #[tokio::test]
    async fn https_endpoint_is_probed_over_tls_and_checked() {
        assert_eq!(probed_over_tls(true).await, Ok(()));
        let failure = probed_over_tls(false).await.unwrap_err();
        assert!(failure.to_string().starts_with("TLS handshake failed: "), "{failure}");
    }
}
