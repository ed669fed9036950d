//! Many hostile clients at once: each connects, does its worst until the server ends it, and comes again.
//!
//! Owns the bounds in time and count. What a client says belongs to its kind.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    FloodError, Kind,
    ending::{Ending, How, Tally},
    http1, http2, tls,
};
use crate::{
    connection::{client_config, tls12_config},
    plan::{Handshakes, Protocol, Trust},
    websocket::Duplex,
};

/// New connections a second, of all clients together.
pub const MOST_CONNECTIONS: usize = 5_000;
/// A client that was closed waits at least so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two words of a slow client.
const DRIP: Duration = Duration::from_secs(1);
/// A handshake with a server that is busy with floods.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that share a source address: between them they use up no ports.
const NETWORKS: usize = 200;
const ADDRESSES: usize = 250;

/// Hostile clients of one kind.
#[derive(Debug, Clone)]
pub struct Attack {
    kind: Kind,
    address: SocketAddr,
    clients: usize,
    duration: Duration,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) drip: Duration,
    pub(super) tls: Option<Tls>,
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    /// Offers what the kind speaks.
    pub(super) config: Arc<ClientConfig>,
    /// Offers TLS 1.2 only.
    pub(super) old: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Attack {
    /// So many clients for so long, that ask for `/`.
    pub fn new(kind: Kind, address: SocketAddr, clients: usize, duration: Duration) -> Self {
        let host = address.to_string();
        Self { kind, address, clients, duration, host, path: "/".to_owned(), drip: DRIP, tls: None }
    }

    /// The same for another host and path.
    #[must_use]
    pub fn asking(self, host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), path: path.to_owned(), ..self }
    }

    /// The same with clients that say their next word after so long.
    #[must_use]
    pub fn dripping(self, drip: Duration) -> Self {
        Self { drip, ..self }
    }

    /// The same over TLS.
    pub fn over_tls(self, trust: &Trust, host: &str) -> Result<Self, FloodError> {
        let name = trust.server_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name.clone()).map_err(|_| crate::load::TrustError::ServerName(name))?;
        let protocol = if self.kind.is_http2() { Protocol::Http2 } else { Protocol::Http1 };
        let config = Arc::new(client_config(trust, protocol, Handshakes::Full)?);
        Ok(Self { tls: Some(Tls { config, old: Arc::new(tls12_config(trust)?), name }), ..self })
    }

    /// Runs to its end.
    pub async fn run(self) -> Result<Tally, FloodError> {
        if !self.address.ip().is_loopback() {
            return Err(FloodError::Stranger(self.address));
        }
        if self.kind.needs_tls() && self.tls.is_none() {
            return Err(FloodError::NeedsTls);
        }
        let end = Instant::now() + self.duration;
        let this = Arc::new(self);
        let mut clients: JoinSet<Tally> = (0..this.clients).map(|n| Arc::clone(&this).client(n, end)).collect();
        let mut all = Tally::new();
        while let Some(tally) = clients.join_next().await {
            all.absorb(&tally.map_err(io::Error::other)?);
        }
        Ok(all)
    }

    async fn client(self: Arc<Self>, n: usize, end: Instant) -> Tally {
        let mut tally = Tally::new();
        let pause = PAUSE.max(Duration::from_secs_f64(self.clients as f64 / MOST_CONNECTIONS as f64));
        // Evenly, not all at once: then and whenever they come again.
        sleep_until(end.min(Instant::now() + pause.mul_f64(n as f64 / self.clients as f64))).await;
        while Instant::now() < end {
            let begun = Instant::now();
            let ending = timeout_at(end, self.one(n)).await.unwrap_or_default();
            tally.note(ending, begun.elapsed());
            sleep_until(end.min(begun.max(Instant::now()) + pause)).await;
        }
        tally
    }

    /// One connection, to its end.
    async fn one(&self, n: usize) -> Ending {
        let Ok(tcp) = self.dial(n).await else { return How::Refused.into() };
        match (&self.tls, self.kind) {
            (Some(tls), Kind::TlsHandshakes) => tls::handshake(tls, tcp, n).await,
            (Some(tls), Kind::TlsRenegotiation) => tls::renegotiation(tls, tcp).await,
            (Some(tls), _) => {
                let connecting = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.name.clone(), tcp);
                match tokio::time::timeout(PATIENCE, connecting).await {
                    Ok(Ok(stream)) => self.speak(stream, n).await,
                    _ => How::Refused.into(),
                }
            }
            (None, Kind::SlowReader) => http1::slow_reader(self, tcp).await,
            (None, _) => self.speak(tcp, n).await,
        }
    }

    async fn speak(&self, stream: impl Duplex + Send, n: usize) -> Ending {
        match self.kind {
            Kind::SlowHeaders => http1::slow_headers(self, stream).await,
            Kind::SlowBody => http1::slow_body(self, stream).await,
            Kind::SlowReader => http1::deaf(self, stream).await,
            Kind::Connections => http1::silent(stream).await,
            Kind::HeaderBomb => http1::header_bomb(self, stream).await,
            Kind::H2RapidReset => http2::rapid_reset(self, stream, n).await,
            Kind::H2Continuation => http2::continuation(self, stream).await,
            Kind::H2Settings => http2::settings(stream).await,
            Kind::H2Ping => http2::ping(stream).await,
            Kind::H2EmptyFrames => http2::empty_frames(self, stream).await,
            Kind::H2ZeroWindow => http2::zero_window(self, stream).await,
            // They begin below what this is about.
            Kind::TlsHandshakes | Kind::TlsRenegotiation => How::Left.into(),
        }
    }

    /// From one of many addresses of this machine.
    async fn dial(&self, n: usize) -> io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if self.kind == Kind::SlowReader {
            socket.set_recv_buffer_size(4096)?;
        }
        if self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let byte = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
            let source = Ipv4Addr::new(127, 0, byte(1 + n / ADDRESSES % NETWORKS), byte(1 + n % ADDRESSES));
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
