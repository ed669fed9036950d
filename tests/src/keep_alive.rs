//! A client that stays: one connection, one request after another.
//!
//! Owns the connection and knows when the other side has closed it. Never connects again by itself.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{Reply, Request};

/// A connection that is kept.
#[derive(Debug)]
pub struct KeepAlive {
    sender: Sender,
    connection: JoinHandle<hyper::Result<()>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl KeepAlive {
    /// Connects and speaks HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> KeepAlive {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("the connection is open");
        KeepAlive { sender: Sender::Http1(sender), connection: tokio::spawn(connection) }
    }

    /// Connects and speaks HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> KeepAlive {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("the other side speaks HTTP/2");
        KeepAlive { sender: Sender::Http2(sender), connection: tokio::spawn(connection) }
    }

    /// One request over this connection; the reply's body is read to its end.
    pub async fn send(&mut self, request: Request) -> anyhow::Result<Reply> {
        let (head, body) = self.head(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// One request over this connection, up to the head of its reply.
    pub async fn head(&mut self, request: Request) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let (mut head, body) = request.into_parts();
                head.uri = format!("http://test.example{}", head.uri).parse().expect("a path fits behind a host");
                head.headers.remove(http::header::HOST);
                sender.send_request(http::Request::from_parts(head, body)).await
            }
        }
    }

    /// Whether the connection is over.
    pub fn is_over(&self) -> bool {
        self.connection.is_finished()
    }

    /// Returns when the connection is over; whether it ended in order.
    pub async fn over(self) -> bool {
        drop(self.sender);
        self.connection.await.expect("the connection's task does not panic").is_ok()
    }
}
