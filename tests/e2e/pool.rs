//! Connections to endpoints are kept, used again, and given up in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use waypost_tests::connection::Connection;
use waypost_tests::raw::Raw;
use waypost_tests::{Conversation, Stack, client, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    pool = { max_idle = 2, idle_timeout = "1m" }
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_one_request_after_another() {
    let stack = Stack::start(CONFIG).await;
    for number in 0..50 {
        let reply = stack.send(client::request("POST", "/echo", number.to_string())).await;
        assert_eq!(reply.json()["body"], number.to_string());
    }
    assert_eq!(stack.container("web-1").accepted(), 1);
    let labels = r#"{endpoint="web-1",service="shop"}"#;
    assert_eq!(stack.metric(&format!("waypost_endpoint_connections_created_total{labels}")), 1.0);
    assert_eq!(stack.metric(&format!("waypost_endpoint_connections_reused_total{labels}")), 49.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_max_idle_are_kept() {
    let stack = Stack::start(CONFIG).await;
    let connection = Connection::http2(stack.address("web")).await;
    let requests = (0..6).map(|_| {
        let mut connection = connection.share();
        async move { connection.send(client::get("/delay/100ms")).await.unwrap() }
    });
    futures_util::future::join_all(requests).await;
    assert_eq!(stack.container("web-1").accepted(), 6);
    eventually!(stack.container("web-1").connections() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_idle_for_too_long_is_not_used_again() {
    let stack = Stack::start(&CONFIG.replace("\"1m\"", "\"50ms\"")).await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    let idle = std::time::Instant::now();
    eventually!(idle.elapsed().as_millis() > 100);
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    assert_eq!(stack.container("web-1").accepted(), 2);
    eventually!(stack.container("web-1").connections() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_a_replaced_pool_are_closed_though_a_websocket_still_knows_it() {
    let stack = Stack::start(CONFIG).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    assert_eq!(stack.container("web-1").connections(), 2);
    stack.reload(&CONFIG.replace("max_idle = 2", "max_idle = 3")).await;
    eventually!(stack.container("web-1").connections() == 1);
    assert!(socket.echoes("over the one that is left").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_client_left_does_not_poison_the_next() {
    let stack = Stack::start(CONFIG).await;
    for _ in 0..5 {
        let mut connection = Connection::http1(stack.address("web")).await;
        let mut body = connection.open(client::get("/bytes/50000000")).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        drop((body, connection));
        let reply = stack.get("/bytes/26").await;
        assert_eq!(reply.text(), "abcdefghijklmnopqrstuvwxyz");
    }
    eventually!(stack.container("web-1").connections() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_endpoint_closed_while_idle_costs_no_request() {
    let stack = Stack::start(CONFIG).await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    for _ in 0..5 {
        stack.container("web-1").crash().await;
        stack.container("web-1").recover().await.unwrap();
        let reply = stack.send(client::request("POST", "/echo", "once")).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
}

/// An endpoint whose first connection ends under its second request, and whose further ones do what `answer` says; and
/// how many requests it got over those.
async fn fading(answer: &'static str) -> (Stack, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stack = Stack::start(&CONFIG.replace("{web-1}", &listener.local_addr().unwrap().to_string())).await;
    let more = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&more);
    tokio::spawn(async move {
        let mut first = Raw::over(listener.accept().await.unwrap().0);
        first.head().await;
        first.send(OK).await;
        first.head().await;
        drop(first);
        loop {
            let mut next = Raw::over(listener.accept().await.unwrap().0);
            next.head().await;
            counted.fetch_add(1, Ordering::SeqCst);
            next.send(answer).await;
        }
    });
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    (stack, more)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_under_a_get_costs_a_lone_endpoint_no_request() {
    let (stack, more) = fading(OK).await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    assert_eq!(more.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_under_a_post_is_not_made_up_for() {
    let (stack, more) = fading(OK).await;
    let reply = stack.send(client::request("POST", "/", "")).await;
    assert_eq!((reply.status, reply.reason()), (StatusCode::BAD_GATEWAY, "upstream_reset"));
    assert_eq!(more.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_endpoint_that_ends_every_connection_is_asked_again_only_once() {
    let (stack, more) = fading("").await;
    let reply = stack.get("/").await;
    assert_eq!((reply.status, reply.reason()), (StatusCode::BAD_GATEWAY, "upstream_reset"));
    assert_eq!(more.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nobody_asked_for_end_an_idle_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stack = Stack::start(&CONFIG.replace("{web-1}", &listener.local_addr().unwrap().to_string())).await;
    let upstream = tokio::spawn(async move {
        let mut first = Raw::over(listener.accept().await.unwrap().0);
        first.head().await;
        first.send(OK).await;
        first.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison").await;
        assert_eq!(first.rest().await, "", "it is closed without another request");
        let mut second = Raw::over(listener.accept().await.unwrap().0);
        second.head().await;
        second.send(OK).await;
        second
    });
    assert_eq!(stack.get("/").await.text(), "ok");
    let open = r#"waypost_endpoint_connections_open{endpoint="web-1",service="shop"}"#;
    eventually!(stack.metric(open) == 0.0);
    assert_eq!(stack.get("/").await.text(), "ok");
    upstream.await.unwrap();
}
