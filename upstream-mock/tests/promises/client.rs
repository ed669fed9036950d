//! The clients of the tests: hyper connections for what is HTTP, a plain socket for what is not.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upstream_mock::{Container, Fleet, FleetOptions};

/// Nothing on loopback takes longer; a test that waits until then has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn fleet() -> Fleet {
    Fleet::start(FleetOptions { control_port: Some(0), ..FleetOptions::default() }).await.unwrap()
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "mock")
}

pub(crate) fn plain(path: &str) -> Request<Full<Bytes>> {
    request("GET", path).body(Full::default()).unwrap()
}

/// A GET that meets this fault.
pub(crate) fn failing(path: &str, fault: &str) -> Request<Full<Bytes>> {
    request("GET", path).header("x-mock-fault", fault).body(Full::default()).unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) async fn h1(address: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

pub(crate) async fn h2(address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends on a connection of its own, HTTP/1.1.
pub(crate) async fn send(container: &Container, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    read(h1(container.address()).await.send_request(request).await?).await
}

/// Sends on a connection of its own, HTTP/2.
pub(crate) async fn send_h2(container: &Container, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let (mut head, body) = request.into_parts();
    head.uri = format!("http://mock{}", head.uri).parse().unwrap();
    head.headers.remove("host");
    read(h2(container.address()).await.send_request(Request::from_parts(head, body)).await?).await
}

pub(crate) async fn get(container: &Container, path: &str) -> Answer {
    send(container, plain(path)).await.unwrap()
}

pub(crate) async fn get_h2(container: &Container, path: &str) -> Answer {
    send_h2(container, plain(path)).await.unwrap()
}

pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Answer { status: head.status, headers: head.headers, trailers, body: collected.to_bytes() })
}

/// Writes these bytes and reads until the connection ends; how it ended comes second.
pub(crate) async fn exchange(address: SocketAddr, bytes: &str) -> (Vec<u8>, io::Result<()>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_out(&mut stream).await
}

pub(crate) async fn read_out(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let end = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut all)).await.expect("the connection ends");
    (all, end.map(drop))
}

/// Polls until the condition holds.
#[track_caller]
pub(crate) fn eventually(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < DEADLINE, "never became true: {place}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
