//! Connections to endpoints are kept, used again, and given up in time.

use http::StatusCode;
use http_body_util::BodyExt;
use waypost_tests::connection::Connection;
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

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nobody_asked_for_end_an_idle_connection() {
    use waypost_tests::raw::Raw;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stack = Stack::start(&CONFIG.replace("{web-1}", &listener.local_addr().unwrap().to_string())).await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let upstream = tokio::spawn(async move {
        let mut first = Raw::over(listener.accept().await.unwrap().0);
        first.head().await;
        first.send(answer).await;
        first.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison").await;
        assert_eq!(first.rest().await, "", "it is closed without another request");
        let mut second = Raw::over(listener.accept().await.unwrap().0);
        second.head().await;
        second.send(answer).await;
        second
    });
    assert_eq!(stack.get("/").await.text(), "ok");
    let open = r#"waypost_endpoint_connections_open{endpoint="web-1",service="shop"}"#;
    eventually!(stack.metric(open) == 0.0);
    assert_eq!(stack.get("/").await.text(), "ok");
    upstream.await.unwrap();
}
