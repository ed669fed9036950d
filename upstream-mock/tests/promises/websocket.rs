//! The WebSocket over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use upstream_mock::Container;

use crate::client::{eventually, fleet, get};

async fn connect(container: &Container, path: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    connect_async(format!("ws://{}{path}", container.address())).await.unwrap().0
}

/// RFC 8441: extended CONNECT.
async fn connect_h2(container: &Container, path: &str) -> WebSocketStream<TokioIo<Upgraded>> {
    let stream = TcpStream::connect(container.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // Extended CONNECT may only be used after the server's settings have said so: any answer comes after them.
    let first = Request::get("http://mock/").body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(first).await.unwrap();
    let mut request = Request::connect(format!("http://mock{path}")).body(Empty::new()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-upstream"], container.name());
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

async fn check_echo<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("web-1"));
    for message in [Message::text("over and out"), Message::binary(vec![0xff; 70_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Normal);
}

#[tokio::test]
async fn websocket_greets_echoes_and_closes_after_so_many() {
    let fleet = fleet().await;
    check_echo(connect(&fleet.containers()[0], "/ws?close_after=2").await).await;
}

#[tokio::test]
async fn websocket_over_http2_does_the_same() {
    let fleet = fleet().await;
    check_echo(connect_h2(&fleet.containers()[0], "/ws?close_after=2").await).await;
}

#[tokio::test]
async fn crash_resets_websockets() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let (mut one, mut two) = (connect(web1, "/ws").await, connect_h2(web1, "/ws").await);
    one.next().await.unwrap().unwrap();
    two.next().await.unwrap().unwrap();
    web1.crash().await;
    let Err(Error::Io(error)) = one.next().await.unwrap() else { panic!("no error") };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(two.next().await.unwrap().is_err());
}

#[tokio::test]
async fn draining_container_says_goodbye_to_websockets() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let mut socket = connect(web1, "/ws").await;
    socket.next().await.unwrap().unwrap();
    web1.drain();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Away);
    assert!(socket.next().await.is_none());
    eventually(|| web1.connections() == 0).await;
}

#[tokio::test]
async fn page_without_a_handshake_asks_for_one() {
    let fleet = fleet().await;
    assert_eq!(get(&fleet.containers()[0], "/ws").await.status, StatusCode::UPGRADE_REQUIRED);
}
