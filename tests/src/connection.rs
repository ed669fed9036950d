//! One client connection that carries many requests: HTTP/1.1 or HTTP/2, over TCP or TLS.
//!
//! Owns hyper's sender; its task ends with the connection. A request for HTTP/2 may be written as for HTTP/1.1: its
//! `Host` becomes the authority.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::client::Reply;

/// Any request body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// HTTP/1.1 over TCP.
    pub async fn http1(address: SocketAddr) -> Connection {
        Connection::http1_over(tcp(address).await).await
    }

    /// HTTP/2 over TCP, with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Connection {
        Connection::http2_over(tcp(address).await).await
    }

    /// HTTP/1.1 over this stream.
    pub async fn http1_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Connection {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP/1.1 has no handshake that could fail");
        tokio::spawn(connection.with_upgrades());
        Connection { sender: Sender::Http1(sender) }
    }

    /// HTTP/2 over this stream.
    pub async fn http2_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Connection {
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("the preface can be written");
        tokio::spawn(connection);
        Connection { sender: Sender::Http2(sender) }
    }

    /// Sends a request; returns with the response's head.
    pub async fn open<B>(&mut self, request: Request<B>) -> anyhow::Result<Response<Incoming>>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let request = request.map(BodyExt::boxed_unsync);
        Ok(match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => sender.send_request(with_authority(request)).await?,
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send<B>(&mut self, request: Request<B>) -> anyhow::Result<Reply>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let (head, body) = self.open(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Whether the peer has closed it.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Another handle on the same HTTP/2 connection.
    #[must_use]
    pub fn share(&self) -> Connection {
        match &self.sender {
            Sender::Http2(sender) => Connection { sender: Sender::Http2(sender.clone()) },
            Sender::Http1(_) => panic!("HTTP/1.1 carries one request at a time"),
        }
    }
}

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A body of unknown length that is sent as it is fed, and ends when its sender is dropped.
pub fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the address accepts connections");
    stream.set_nodelay(true).expect("a fresh socket takes its options");
    stream
}

fn with_authority(mut request: Request<Body>) -> Request<Body> {
    if request.uri().authority().is_some() {
        return request;
    }
    let host = request.headers_mut().remove(header::HOST).expect("a request has a host");
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(Authority::try_from(host.as_bytes()).expect("the host is an authority"));
    *request.uri_mut() = Uri::from_parts(target).expect("the parts are whole");
    *request.version_mut() = http::Version::HTTP_2;
    request
}
