//! SIGTERM: what is in flight ends whole, nothing new comes in, and the process is gone as soon as it can.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::{Connection, get};
use crate::eventually;
use crate::process::Scene;

#[tokio::test]
async fn idle_process_ends_at_once() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let mut kept = Connection::open(running.web()).await.unwrap();
    assert_eq!(kept.get("/").await.unwrap().status(), 200);
    let asked = Instant::now();
    running.signal("TERM");
    assert_eq!(running.ended().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    kept.end().await;
}

#[tokio::test]
async fn silent_connection_does_not_hold_the_process() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let mut silent = Connection::open(running.web()).await.unwrap();
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    let asked = Instant::now();
    running.signal("TERM");
    running.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    silent.end().await;
}

#[tokio::test]
async fn response_in_flight_comes_whole_and_nothing_new_comes_in() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let (web, admin) = (running.web(), running.admin());
    let mut slow = Connection::open(web).await.unwrap();
    slow.send("/delay/1500ms").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    assert_eq!(get(admin, "/ready").await.unwrap().status(), 200);

    running.signal("TERM");
    eventually!(get(web, "/").await.is_err());
    let ready = get(admin, "/ready").await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.body.contains("draining"), "{}", ready.body);
    assert!(running.is_running());

    let reply = slow.reply().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.closes(), "{}", reply.head);
    slow.end().await;
    let answered = Instant::now();
    assert_eq!(running.ended().await.code(), Some(0));
    assert!(answered.elapsed() < Duration::from_secs(1), "{:?}", answered.elapsed());
}

#[tokio::test]
async fn client_on_a_kept_connection_is_told_which_response_is_the_last() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let mut kept = Connection::open(running.web()).await.unwrap();
    assert!(!kept.get("/").await.unwrap().closes());
    running.signal("TERM");
    // It asks without a pause, and no request of it may meet a connection that has ended without a word.
    let mut last = kept.get("/").await.unwrap();
    while !last.closes() {
        assert_eq!(last.status(), 200);
        last = kept.get("/").await.unwrap();
    }
    kept.end().await;
    assert_eq!(running.ended().await.code(), Some(0));
}

#[tokio::test]
async fn websocket_is_told_to_go_away() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", running.web())).await.unwrap();
    socket.send(Message::text("echo")).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::text("echo") {}
    running.signal("TERM");
    assert_eq!(close_code(&mut socket).await, CloseCode::Away);
    assert_eq!(running.ended().await.code(), Some(0));
}

#[tokio::test]
async fn websocket_over_http2_is_told_to_go_away_and_does_not_hold_the_process() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let stream = TcpStream::connect(running.web()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // Extended CONNECT is known to be understood once the server's settings are there, and they come before any answer.
    let first = Request::get("http://test.example/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(first).await.unwrap().status(), 200);
    let uri = "http://test.example/ws";
    let mut request = Request::builder().method("CONNECT").uri(uri).header("sec-websocket-version", "13");
    request.extensions_mut().unwrap().insert(Protocol::from_static("websocket"));
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::text("echo")).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::text("echo") {}

    let asked = Instant::now();
    running.signal("TERM");
    assert_eq!(close_code(&mut socket).await, CloseCode::Away);
    assert_eq!(running.ended().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

/// The code of the close frame that comes after whatever else.
async fn close_code<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> CloseCode {
    loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            return frame.unwrap().code;
        }
    }
}

#[tokio::test]
async fn second_signal_ends_it_at_once() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let mut slow = Connection::open(running.web()).await.unwrap();
    slow.send("/delay/60s").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    running.signal("TERM");
    eventually!(running.log().contains("draining"));
    assert!(running.is_running());
    let asked = Instant::now();
    running.signal("TERM");
    running.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(slow.reply().await.is_err());
}

#[tokio::test]
async fn patience_ends_with_the_grace_period() {
    let scene = Scene::new("").await;
    scene.write(&scene.config("").replace("\"5s\"", "\"300ms\""));
    let mut running = scene.start(&["run"]).await;
    let mut slow = Connection::open(running.web()).await.unwrap();
    slow.send("/delay/60s").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    running.signal("TERM");
    assert_eq!(running.ended().await.code(), Some(0));
    assert!(slow.reply().await.is_err());
}
