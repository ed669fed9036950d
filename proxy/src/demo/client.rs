//! A client that asks who serves it.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Who answered, and which cookie they set.
pub(super) struct Answer {
    pub(super) endpoint: String,
    pub(super) cookie: Option<String>,
}

/// GET over a connection of its own. Anything but 200 with a whole body is an error.
pub(super) async fn get(address: SocketAddr, path: &str, cookie: Option<&str>) -> anyhow::Result<Answer> {
    ask(TcpStream::connect(address).await?, path, cookie).await
}

/// GET over a connection that is open.
pub(super) async fn ask<S>(stream: S, path: &str, cookie: Option<&str>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header(header::HOST, "localhost");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let (head, body) = response.into_parts();
    body.collect().await?;
    ensure!(head.status == StatusCode::OK, "{path} answered {}", head.status);
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let endpoint = text("x-upstream").context("the answer does not say who gave it")?.to_owned();
    let cookie = text("set-cookie").and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
    Ok(Answer { endpoint, cookie })
}
