//! WebSockets over HTTP/1.1 and HTTP/2 in any combination: opened, carried, pinned, and ended.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio_tungstenite::tungstenite::Message;
use waypost_tests::connection::Connection;
use waypost_tests::websocket::{self, WebSocket};
use waypost_tests::{Stack, client, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    protocol = "auto"
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

fn h2c() -> String {
    CONFIG.replace("\"auto\"", "\"h2c\"")
}

async fn check_echo(mut socket: WebSocket) {
    assert_eq!(websocket::text(&mut socket).await.unwrap(), "web-1");
    for number in 0..3 {
        socket.send(Message::text(format!("message {number}"))).await.unwrap();
        assert_eq!(websocket::text(&mut socket).await.unwrap(), format!("message {number}"));
    }
    socket.close(None).await.unwrap();
    assert!(websocket::ended(&mut socket).await.is_none_or(|code| code == 1005 || code == 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1() {
    let stack = Stack::start(CONFIG).await;
    check_echo(websocket::open(stack.address("web"), "/ws").await.unwrap()).await;
    eventually!(stack.container("web-1").connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_to_an_http1_endpoint() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let socket = websocket::open_stream(&mut connection, "/ws").await.unwrap();
    // The connection is for other requests, too.
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
    check_echo(socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_to_an_h2c_endpoint() {
    let stack = Stack::start(&h2c()).await;
    check_echo(websocket::open(stack.address("web"), "/ws").await.unwrap()).await;
    check_echo(websocket::open(stack.address("web"), "/ws").await.unwrap()).await;
    assert_eq!(stack.container("web-1").accepted(), 1, "both are streams of one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_to_an_h2c_endpoint() {
    let stack = Stack::start(&h2c()).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    check_echo(websocket::open_stream(&mut connection, "/ws").await.unwrap()).await;
}

async fn check_both_ways_at_once(socket: WebSocket) {
    const MESSAGES: usize = 12;
    let (mut sink, mut stream) = socket.split();
    let message = vec![7; 1024 * 1024];
    let sending = async {
        for _ in 0..MESSAGES {
            sink.send(Message::binary(message.clone())).await.unwrap();
        }
    };
    let reading = async {
        assert!(stream.next().await.unwrap().unwrap().is_text());
        for _ in 0..MESSAGES {
            assert_eq!(stream.next().await.unwrap().unwrap().len(), message.len());
        }
    };
    let both = async { tokio::join!(sending, reading) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither direction waits for the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_go_both_ways_at_once() {
    let stack = Stack::start(CONFIG).await;
    check_both_ways_at_once(websocket::open(stack.address("web"), "/ws").await.unwrap()).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    check_both_ways_at_once(websocket::open_stream(&mut connection, "/ws").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sticky_cookie_leads_a_websocket_to_its_endpoint() {
    let three = r#"sticky = { cookie = "lb", secrets = ["0123456789abcdef0123456789abcdef"] }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
    ]"#;
    let stack =
        Stack::start(&CONFIG.replace("endpoints = [{ name = \"web-1\", url = \"http://{web-1}\" }]", three)).await;
    for _ in 0..3 {
        let (mut first, head) = websocket::open_with(stack.address("web"), websocket::handshake("/ws")).await.unwrap();
        let name = websocket::text(&mut first).await.unwrap();
        let cookie = head.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..3 {
            let mut request = websocket::handshake("/ws");
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
            let (mut again, _) = websocket::open_with(stack.address("web"), request).await.unwrap();
            assert_eq!(websocket::text(&mut again).await.unwrap(), name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_longer_than_the_idle_timeout_closes_it() {
    let idle = "[services.shop]\ntimeouts = { idle = \"200ms\" }";
    let stack = Stack::start(&CONFIG.replace("[services.shop]", idle)).await;
    let mut socket = websocket::open(stack.address("web"), "/ws").await.unwrap();
    assert_eq!(websocket::text(&mut socket).await.unwrap(), "web-1");
    let end = tokio::time::timeout(Duration::from_secs(5), websocket::ended(&mut socket)).await;
    assert_eq!(end.expect("it is closed"), None);
    eventually!(stack.container("web-1").connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetime_is_not_request_latency() {
    let stack = Stack::start(CONFIG).await;
    let mut socket = websocket::open(stack.address("web"), "/ws").await.unwrap();
    assert_eq!(websocket::text(&mut socket).await.unwrap(), "web-1");
    let labels = r#"{listener="web",route="all",service="shop"}"#;
    assert_eq!(stack.metric(&format!("waypost_requests_in_flight{labels}")), 1.0);
    socket.close(None).await.unwrap();
    websocket::ended(&mut socket).await;
    drop(socket);
    eventually!(stack.metric(&format!("waypost_upgrades_total{labels}")) > 0.0);
    assert_eq!(stack.metric(&format!("waypost_request_duration_seconds_count{labels}")), 0.0);
    assert_eq!(stack.metric(&format!("waypost_requests_in_flight{labels}")), 0.0);
    let count = r#"waypost_requests_total{listener="web",method="GET",route="all",service="shop",status="101"}"#;
    assert_eq!(stack.metric(count), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_other_than_101_passes_as_an_ordinary_response() {
    for config in [CONFIG.to_owned(), h2c()] {
        let stack = Stack::start(&config).await;
        let mut connection = Connection::http1(stack.address("web")).await;
        let reply = connection.send(websocket::handshake("/status/403")).await.unwrap();
        assert_eq!((reply.status, reply.upstream().as_str()), (StatusCode::FORBIDDEN, "web-1"));
        // The connection is still HTTP.
        assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
        let mut connection = Connection::http2(stack.address("web")).await;
        let refused = websocket::open_stream(&mut connection, "/status/403").await.unwrap_err();
        assert_eq!(refused.to_string(), "no WebSocket but 403 Forbidden");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_ignores_the_upgrade_opens_no_http2_tunnel() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let refused = websocket::open_stream(&mut connection, "/").await.unwrap_err();
    assert!(refused.to_string().contains("502"), "{refused}");
}
