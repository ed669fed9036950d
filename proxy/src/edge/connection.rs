//! A client connection until it speaks HTTP: PROXY protocol and TLS.
//!
//! Owns the deadline of the handshake. Never looks into a request; what follows is a [`Conversation`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::conversation::{Conversation, Handler};
use super::gate::Gate;
use super::proxy_protocol::{self, Parsed};
use super::socket::{Socket, Stream, Wire};
use super::turns::step_by_step;
use crate::downstream::{Activity, Downstream};
use crate::forwarding::address_value;
use crate::snapshot::ListenerView;
use crate::telemetry::access_log;
use crate::tls::TlsInfo;

/// Why a connection never came to its first request; the token in the metric.
#[derive(Debug, Clone, Copy)]
struct Refused(&'static str);

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
        let wire = Wire::new(tcp);
        if self.view.tls.is_none() && !self.view.config.proxy_protocol {
            return Ok((Stream::Plain(wire), self.downstream(self.peer, None)));
        }
        let limit = self.view.config.timeouts.handshake.0;
        // Boxed: an idle connection is not to be as large as a handshake.
        match tokio::time::timeout(limit, Box::pin(self.shake_hands(wire))).await {
            Ok(opened) => opened,
            Err(_) => Err(Refused("handshake_timeout")),
        }
    }

    async fn shake_hands(&self, mut wire: Wire) -> Result<(Stream, Arc<Downstream>), Refused> {
        let announced = if self.view.config.proxy_protocol { announced(&mut wire).await? } else { None };
        let peer = announced.unwrap_or(self.peer);
        let Some(tls) = &self.view.tls else {
            return Ok((Stream::Plain(wire), self.downstream(peer, None)));
        };
        let begun = Instant::now();
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let shaking = step_by_step(acceptor.accept(wire), || true);
        let stream = shaking.await.map_err(|error| refused_handshake(&error, &self.view))?;
        self.gate.metrics.tls_handshake.observe(begun.elapsed().as_secs_f64());
        let info = TlsInfo::of(&stream);
        Ok((Stream::Tls(Box::new(stream)), self.downstream(peer, Some(info))))
    }

    fn downstream(&self, peer: SocketAddr, tls: Option<TlsInfo>) -> Arc<Downstream> {
        let tls_log = tls.as_ref().map(|info| {
            let (sni, client_subject) = (info.sni.clone(), info.client_subject.clone());
            Arc::new(access_log::Tls { version: info.version, cipher: info.cipher, sni, client_subject })
        });
        Arc::new(Downstream {
            listener: Arc::clone(&self.view.name),
            peer,
            certificates: self.view.tls.as_ref().map(|tls| Arc::clone(&tls.store)),
            tls,
            tls_log,
            peer_ip: address_value(peer.ip().to_canonical()),
            local_port: self.gate.port.clone(),
            activity: Activity::new(Instant::now()),
            lifecycle: Arc::clone(&self.shared.lifecycle),
        })
    }

    async fn speak(self, stream: Stream, downstream: Arc<Downstream>) {
        let Newcomer { view, gate, shared, .. } = self;
        let (timeouts, limits) = (view.config.timeouts.clone(), view.config.limits.clone());
        // A long-lived connection must not keep an old generation alive.
        drop(view);
        let http2 = downstream.tls.as_ref().is_some_and(|tls| tls.alpn_h2);
        let socket = Socket::new(stream, Arc::clone(&downstream), Arc::clone(&gate.metrics));
        let conversation =
            Conversation { handler: Handler { downstream, shared, gate: Arc::clone(&gate) }, gate, timeouts, limits };
        if http2 {
            Box::pin(conversation.over_http2(socket)).await;
        } else {
            conversation.over_http1(socket).await;
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
