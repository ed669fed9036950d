//! A client connection until it speaks HTTP: PROXY protocol, TLS, and which HTTP it is.
//!
//! Owns the deadline of the handshake. Never looks into a request; what follows is a [`Conversation`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::conversation::{Conversation, Handler, no_longer_expected};
use super::gate::Gate;
use super::proxy_protocol::{self, Parsed};
use super::socket::{Socket, Stream, Wire};
use crate::downstream::{Activity, Downstream};
use crate::forwarding::address_value;
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
    let Some(view) = gate.view(&shared.snapshot.load()) else { return };
    gate.metrics.connections.inc();
    let Some(_inside) = gate.enter(view.config.max_connections) else { return gate.metrics.refused("max_connections") };
    let newcomer = Newcomer { peer, view, gate, shared };
    match newcomer.open(tcp).await {
        Ok((stream, downstream)) => newcomer.speak(stream, downstream).await,
        Err(Refused(reason)) => newcomer.gate.metrics.refused(reason),
    }
}

/// A connection that has been let in.
struct Newcomer {
    peer: SocketAddr,
    view: Arc<ListenerView>,
    gate: Arc<Gate>,
    shared: Shared,
}

impl Newcomer {
    async fn open(&self, tcp: TcpStream) -> Result<(Stream, Arc<Downstream>), Refused> {
        let limit = self.view.config.timeouts.handshake.0;
        match tokio::time::timeout(limit, self.shake_hands(tcp)).await {
            Ok(opened) => opened,
            Err(_) => Err(Refused("handshake_timeout")),
        }
    }

    async fn shake_hands(&self, tcp: TcpStream) -> Result<(Stream, Arc<Downstream>), Refused> {
        // A head and a small body may be two writes; waiting for the first one's acknowledgement would cost 40 ms.
        tcp.set_nodelay(true).map_err(|_| Refused("socket"))?;
        let local = tcp.local_addr().map_err(|_| Refused("socket"))?;
        let mut wire = Wire::new(tcp);
        let announced = if self.view.config.proxy_protocol { announced(&mut wire).await? } else { None };
        let peer = announced.unwrap_or(self.peer);
        let Some(tls) = &self.view.tls else {
            return Ok((Stream::Plain(wire), self.downstream(peer, local, None)));
        };
        let begun = Instant::now();
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let stream = Box::pin(acceptor.accept(wire)).await.map_err(|error| refused_handshake(&error, &self.view))?;
        self.gate.metrics.tls_handshake.observe(begun.elapsed().as_secs_f64());
        let info = TlsInfo::of(&stream);
        Ok((Stream::Tls(Box::new(stream)), self.downstream(peer, local, Some(info))))
    }

    fn downstream(&self, peer: SocketAddr, local: SocketAddr, tls: Option<TlsInfo>) -> Arc<Downstream> {
        let tls_log = tls.as_ref().map(|info| {
            let (sni, client_subject) = (info.sni.clone(), info.client_subject.clone());
            Arc::new(access_log::Tls { version: info.version, cipher: info.cipher, sni, client_subject })
        });
        Arc::new(Downstream {
            listener: Arc::clone(&self.view.name),
            peer,
            local,
            certificates: self.view.tls.as_ref().map(|tls| Arc::clone(&tls.store)),
            tls,
            tls_log,
            peer_ip: address_value(peer.ip().to_canonical()),
            local_port: HeaderValue::from(local.port()),
            activity: Activity::new(Instant::now()),
            lifecycle: Arc::clone(&self.shared.lifecycle),
        })
    }

    async fn speak(self, mut stream: Stream, downstream: Arc<Downstream>) {
        let Newcomer { view, gate, shared, .. } = self;
        let (timeouts, limits) = (view.config.timeouts.clone(), view.config.limits.clone());
        // A long-lived connection must not keep an old generation alive.
        drop(view);
        let Some(http) = first_bytes(&mut stream, &downstream, &gate, timeouts.idle.0).await else { return };
        if downstream.tls.is_none() {
            // The first bytes have been read already. Over TLS none has come: the client may be connecting ahead.
            downstream.activity.received();
        }
        let socket = Socket::new(stream, Arc::clone(&downstream), Arc::clone(&gate.metrics));
        let conversation =
            Conversation { handler: Handler { downstream, shared, gate: Arc::clone(&gate) }, gate, timeouts, limits };
        match http {
            Http::One => conversation.over_http1(socket).await,
            // Boxed, as the handshake is: an idle HTTP/1.1 connection is not to be as large as either of them.
            Http::Two => Box::pin(conversation.over_http2(socket)).await,
        }
    }
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

/// What the client speaks, once it does; `None` if it does not in time.
async fn first_bytes(stream: &mut Stream, downstream: &Downstream, gate: &Gate, limit: Duration) -> Option<Http> {
    tokio::select! {
        known = tokio::time::timeout(limit, which_http(stream, downstream)) => known.ok().flatten(),
        () = no_longer_expected(gate) => None,
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
}
