//! A client that does what it is told: one request, one reply, over a connection of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What is sent.
pub type Request = http::Request<Full<Bytes>>;

/// What came back, whole.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// All header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// A header field as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the field is text"))
    }

    /// Who answered: the fleet's own `x-upstream`.
    pub fn upstream(&self) -> String {
        self.header("x-upstream").to_owned()
    }

    /// Why Waypost answered by itself.
    pub fn reason(&self) -> &str {
        self.header("x-waypost-reason")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// All fields of this name, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().expect("the field is text")).collect()
    }

    /// The first cookie that is set, as a client sends it back; empty when there is none.
    pub fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
    }

    /// What `/echo` says it received in the fields of this name, in their order.
    pub fn echoed(&self, name: &str) -> Vec<String> {
        let seen = self.json();
        let fields = seen["headers"].as_array().expect("the echo lists its fields");
        let fields = fields.iter().filter(|field| field[0] == name);
        fields.map(|field| field[1].as_str().expect("a field is text").to_owned()).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// A GET of this path on host `test.example`.
pub fn get(path: &str) -> Request {
    request("GET", path, "")
}

/// A request with this body on host `test.example`.
pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request {
    let builder = http::Request::builder().method(method).uri(path).header("host", "test.example");
    builder.body(Full::new(body.into())).expect("the request is well formed")
}

/// The request with one more header field.
pub fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    let value = value.parse().expect("the value fits into a field");
    request.headers_mut().append(name, value);
    request
}

/// One request over one HTTP/1.1 connection; the reply's body is read to its end.
pub async fn send(address: SocketAddr, request: Request) -> anyhow::Result<Reply> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    Ok(Reply { status: head.status, headers: head.headers, body })
}
