//! WebSockets of a client: over HTTP/1.1 (RFC 6455) and over HTTP/2 (RFC 8441).

use std::net::SocketAddr;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection::{Body, Connection, empty};

/// An open WebSocket.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The example key of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The request that asks for a WebSocket over HTTP/1.1.
pub fn handshake(path: &str) -> Request<Body> {
    let request = Request::get(path)
        .header(header::HOST, "test.example")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, KEY);
    request.body(empty()).expect("the handshake is well formed")
}

/// Opens a WebSocket over an HTTP/1.1 connection of its own.
pub async fn open(address: SocketAddr, path: &str) -> anyhow::Result<WebSocket> {
    open_with(address, handshake(path)).await.map(|(socket, _)| socket)
}

/// The same with a handshake that has further fields; also returns the head of the answer.
pub async fn open_with(address: SocketAddr, request: Request<Body>) -> anyhow::Result<(WebSocket, Response<()>)> {
    let mut response = Connection::http1(address).await.open(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        bail!("no WebSocket but {}", response.status());
    }
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).context("no sec-websocket-accept")?;
    assert_eq!(accept, derive_accept_key(KEY.as_bytes()).as_str(), "the answer is to this handshake");
    let socket = upgraded(&mut response).await?;
    Ok((socket, response.map(|_| ())))
}

/// Opens a WebSocket over one stream of an HTTP/2 connection.
pub async fn open_stream(connection: &mut Connection, path: &str) -> anyhow::Result<WebSocket> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://test.example{path}"))
        .version(Version::HTTP_2)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(empty())?;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let mut response = connection.open(request).await?;
    if response.status() != StatusCode::OK {
        bail!("no WebSocket but {}", response.status());
    }
    upgraded(&mut response).await
}

async fn upgraded(response: &mut Response<Incoming>) -> anyhow::Result<WebSocket> {
    let upgraded = hyper::upgrade::on(response).await?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// The text of the next message.
pub async fn text(socket: &mut WebSocket) -> anyhow::Result<String> {
    let message = socket.next().await.context("the WebSocket has ended")??;
    Ok(message.into_text()?.to_string())
}

/// Waits for the end: the close code, or `None` if the connection ended without one.
pub async fn ended(socket: &mut WebSocket) -> Option<u16> {
    let mut code = None;
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => code = frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return code,
        }
    }
}
