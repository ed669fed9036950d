//! One connection to the target and one exchange over it.
//!
//! Owns connecting, TLS, the HTTP handshake, and the naming of whatever goes wrong. Repeats a request only if hyper
//! proves that not a byte of it was written (a kept connection that the server had closed meanwhile); every other
//! failure is the caller's to count. Lives on one thread.

use std::{
    error::Error as StdError,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    plan::{Handshakes, Plan, Protocol, Reuse, Trust},
    report::ErrorKind,
    websocket::Socket,
};

pub(crate) type Body = Full<Bytes>;

type Tls = (TlsConnector, ServerName<'static>);

/// Knows how to open connections of a plan.
#[derive(Clone)]
pub(crate) struct Dialer {
    address: SocketAddr,
    tls: Option<Tls>,
    protocol: Protocol,
    reuse: Reuse,
    /// Host and path of an upgrade to a `WebSocket`.
    upgrade: Arc<(String, String)>,
    opened: Arc<Opened>,
}

/// Counts of connections.
#[derive(Debug, Default)]
struct Opened {
    all: AtomicU64,
    resumed: AtomicU64,
}

/// What keeps a dialer from being made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA file cannot be read or holds no certificate.
    #[error("{path}: {why}")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a name that TLS can ask for.
    #[error("`{0}` is not a server name")]
    ServerName(String),
}

impl Dialer {
    pub(crate) fn new(plan: &Plan, address: SocketAddr) -> Result<Self, TrustError> {
        let tls = if plan.target.tls {
            let name = plan.trust.server_name.clone().unwrap_or_else(|| plan.target.host().to_owned());
            let name = ServerName::try_from(name.clone()).map_err(|_| TrustError::ServerName(name))?;
            Some((TlsConnector::from(Arc::new(client_config(&plan.trust, plan.protocol, plan.handshakes)?)), name))
        } else {
            None
        };
        let path = plan.mix.first().map_or_else(|| "/".to_owned(), |request| request.path.clone());
        let upgrade = Arc::new((plan.target.authority.to_string(), path));
        Ok(Self { address, tls, protocol: plan.protocol, reuse: plan.reuse, upgrade, opened: Arc::default() })
    }

    /// How many connections were opened by this dialer and its clones.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.all.load(Ordering::Relaxed)
    }

    /// How many of them took up a TLS session again.
    pub(crate) fn resumed(&self) -> u64 {
        self.opened.resumed.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Result<Sender, ErrorKind> {
        let stream = self.reach().await?;
        match &self.tls {
            None => self.shake_hands(TokioIo::new(stream)).await,
            Some(tls) => self.shake_hands(TokioIo::new(self.secure(tls, stream).await?)).await,
        }
    }

    async fn upgrade(&self) -> Result<Socket, ErrorKind> {
        let stream = self.reach().await?;
        let (host, path) = &*self.upgrade;
        match &self.tls {
            None => Socket::open(Box::new(stream), host, path).await,
            Some(tls) => Socket::open(Box::new(self.secure(tls, stream).await?), host, path).await,
        }
    }

    async fn reach(&self) -> Result<TcpStream, ErrorKind> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| connect_kind(&error))?;
        // Without it the kernel may hold a request back for the sake of a fuller packet.
        stream.set_nodelay(true).map_err(|_| ErrorKind::ConnectFailed)?;
        self.opened.all.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    async fn secure(&self, (connector, name): &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, ErrorKind> {
        let stream = connector.connect(name.clone(), stream).await.map_err(|_| ErrorKind::Tls)?;
        let session = stream.get_ref().1;
        if self.protocol == Protocol::Http2 && session.alpn_protocol() != Some(b"h2") {
            return Err(ErrorKind::Tls);
        }
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.opened.resumed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(stream)
    }

    async fn shake_hands<T: Read + Write + Unpin + Send + 'static>(&self, io: T) -> Result<Sender, ErrorKind> {
        if self.protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(io).await.map_err(|error| head_kind(&error))?;
            tokio::task::spawn_local(connection);
            return Ok(Sender::Http1(sender));
        }
        let (sender, connection) = http2::Builder::new(LocalExecutor).handshake(io).await.map_err(|e| head_kind(&e))?;
        tokio::task::spawn_local(connection);
        Ok(Sender::Http2(sender))
    }
}

/// Spawns hyper's HTTP/2 tasks on the thread that uses them.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// Where a lane keeps its connection between requests: alone (HTTP/1.1), or with others (HTTP/2).
#[derive(Clone, Default)]
pub(crate) struct Link {
    http: Rc<Mutex<Option<Sender>>>,
    socket: Rc<Mutex<Option<Socket>>>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    /// Bytes of its body.
    pub(crate) bytes: u64,
}

impl Link {
    /// Opens the connection before it is needed; failure shows again at the first request.
    pub(crate) async fn warm(&self, dialer: &Dialer) {
        if dialer.protocol == Protocol::WebSocket {
            *self.socket.lock().await = dialer.upgrade().await.ok();
        } else {
            *self.http.lock().await = dialer.connect().await.ok();
        }
    }

    /// Sends `request` and reads its answer to the end. Dropped half-way it takes an HTTP/1.1 connection with it.
    pub(crate) async fn exchange(&self, dialer: &Dialer, request: Request<Body>) -> Result<Answer, ErrorKind> {
        if dialer.protocol == Protocol::WebSocket {
            return self.converse(dialer, request).await;
        }
        let (mut sender, kept) = self.take(dialer).await?;
        let sent = match sender.send(request).await {
            Ok(response) => Ok(response),
            Err(mut failure) => match failure.take_message().filter(|_| kept) {
                Some(unsent) => {
                    sender = self.open(dialer).await?;
                    sender.send(unsent).await
                }
                None => Err(failure),
            },
        };
        let answer = read(sent.map_err(|failure| head_kind(failure.error()))?).await?;
        if let (Sender::Http1(_), Reuse::KeepAlive) = (&sender, dialer.reuse) {
            *self.http.lock().await = Some(sender);
        }
        Ok(answer)
    }

    /// Sends the request's body as a message and takes the next one as its answer.
    async fn converse(&self, dialer: &Dialer, request: Request<Body>) -> Result<Answer, ErrorKind> {
        let kept = self.socket.lock().await.take();
        let mut socket = match kept {
            Some(socket) => socket,
            None => dialer.upgrade().await?,
        };
        let Ok(message) = request.into_body().collect().await;
        let bytes = socket.echo(&message.to_bytes()).await? as u64;
        *self.socket.lock().await = Some(socket);
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        Ok(Answer { head, bytes })
    }

    /// A sender that is ready, and whether it had been used before.
    async fn take(&self, dialer: &Dialer) -> Result<(Sender, bool), ErrorKind> {
        let kept = {
            let mut slot = self.http.lock().await;
            match &*slot {
                Some(Sender::Http2(sender)) if !sender.is_closed() => Some(Sender::Http2(sender.clone())),
                _ => slot.take(),
            }
        };
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            return Ok((sender, true));
        }
        Ok((self.open(dialer).await?, false))
    }

    /// A new connection; those who share it wait for one of them to open it.
    async fn open(&self, dialer: &Dialer) -> Result<Sender, ErrorKind> {
        let mut slot = self.http.lock().await;
        if let Some(Sender::Http2(sender)) = &*slot
            && !sender.is_closed()
        {
            return Ok(Sender::Http2(sender.clone()));
        }
        let sender = dialer.connect().await?;
        if let Sender::Http2(sender) = &sender {
            *slot = Some(Sender::Http2(sender.clone()));
        }
        Ok(sender)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, ErrorKind> {
    let (head, mut body) = response.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ErrorKind::TruncatedBody)?;
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(Answer { head, bytes })
}

fn connect_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::ConnectRefused,
        io::ErrorKind::ConnectionReset => ErrorKind::Reset,
        _ => ErrorKind::ConnectFailed,
    }
}

/// Names what happened before the response head was there.
fn head_kind(error: &hyper::Error) -> ErrorKind {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return ErrorKind::Reset,
                io::ErrorKind::UnexpectedEof => return ErrorKind::ClosedBeforeHead,
                _ => {}
            }
        }
        source = cause.source();
    }
    if error.is_parse() {
        ErrorKind::Invalid
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        ErrorKind::ClosedBeforeHead
    } else if error.to_string().contains("http2") {
        // A stream or connection error of HTTP/2: the server took the request back.
        ErrorKind::Reset
    } else {
        ErrorKind::Other
    }
}

pub(crate) fn client_config(
    trust: &Trust,
    protocol: Protocol,
    handshakes: Handshakes,
) -> Result<ClientConfig, TrustError> {
    let mut config = config_of(trust, rustls::ALL_VERSIONS)?;
    config.alpn_protocols = vec![if protocol.begins_as_http1() { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    if handshakes == Handshakes::Full {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// Offers TLS 1.2 and full handshakes only.
pub(crate) fn tls12_config(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let mut config = config_of(trust, &[&rustls::version::TLS12])?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn config_of(trust: &Trust, versions: &[&'static SupportedProtocolVersion]) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3");
    Ok(if trust.insecure {
        let verifier = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(trust)?).with_no_client_auth()
    })
}

fn roots(trust: &Trust) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &trust.ca else {
        // What the system holds and rustls cannot use is the system's business.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let bad = |why: String| TrustError::Ca { path: path.display().to_string(), why };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Believes everybody, but still checks that the peer has the key of the certificate it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
