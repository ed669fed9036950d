//! What is ambiguous or too much is refused, with a status, a reason and a count; what takes too long is ended.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use waypost_tests::connection::{Connection, empty};
use waypost_tests::raw::{self, Raw};
use waypost_tests::{Stack, client, eventually, tls};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    limits = { header_bytes = "8KiB", headers = 20, uri_bytes = "1KiB" }
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

fn with_timeouts(timeouts: &str) -> String {
    CONFIG.replace("limits =", &format!("timeouts = {{ {timeouts} }}\n    limits ="))
}

fn refused(stack: &Stack, reason: &str) -> f64 {
    stack.metric(&format!(r#"waypost_connections_refused_total{{listener="web",reason="{reason}"}}"#))
}

/// Sends a head and checks the answer, which ends the connection if `status` says that the head was not understood.
async fn check(stack: &Stack, head: impl AsRef<[u8]>, status: u16, reason: &str) {
    let shown = String::from_utf8_lossy(&head.as_ref()[..head.as_ref().len().min(80)]).into_owned();
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send(head).await;
    let answer = raw.head().await;
    assert_eq!(raw::status(&answer), status, "{shown:?}: {answer}");
    assert_eq!(raw::field(&answer, "x-waypost-reason"), reason, "{shown:?}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_heads_are_refused_with_a_reason() {
    let stack = Stack::start(CONFIG).await;
    let cases = [
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400, "bad_request"),
        ("GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "unsupported_coding"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nexpect: tea\r\n\r\n", 417, "expectation_failed"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 405, "method_not_allowed"),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405, "method_not_allowed"),
        ("GET /%2e%2e%2fsecret%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request"),
    ];
    for (head, status, reason) in cases {
        check(&stack, head, status, reason).await;
    }
    assert_eq!(stack.container("web-1").requests(), 0);
    let replies = r#"waypost_replies_total{listener="web",reason="method_not_allowed",route="",service=""}"#;
    eventually!(stack.metric(replies) == 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_not_http_are_refused_and_counted() {
    let stack = Stack::start(CONFIG).await;
    let cases: [&[u8]; 9] = [
        b"GET / HTTP/1.1\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\n",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: folded\r\n line\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x07b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    ];
    for (number, head) in cases.into_iter().enumerate() {
        check(&stack, head, 400, "bad_request").await;
        eventually!(refused(&stack, "bad_request") == (number + 1) as f64);
    }
    assert_eq!(stack.container("web-1").requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_head_behind_a_good_one_is_refused_once() {
    let stack = Stack::start(CONFIG).await;
    for good in [
        "GET /bytes/3 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /bytes/200000 HTTP/1.1\r\nhost: a\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let answer = raw::exchange(stack.address("web"), format!("{good}GET / HTTP/1.1\r\nhost : a\r\n\r\n")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_the_limits_are_refused() {
    let stack = Stack::start(CONFIG).await;
    let long = "x".repeat(9000);
    check(&stack, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431, "headers_too_large").await;
    let many = "x: y\r\n".repeat(20);
    check(&stack, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431, "headers_too_large").await;
    eventually!(refused(&stack, "headers_too_large") == 2.0);
    let path = "y".repeat(1024);
    check(&stack, format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n"), 414, "uri_too_long").await;
    check(&stack, format!("GET /bytes/3?{} HTTP/1.1\r\nhost: a\r\n\r\n", &path[..1000]), 200, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_list_of_http2_has_the_same_limit() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let request = Request::get("http://test.example/").header("x", "x".repeat(9000)).body(empty()).unwrap();
    assert_eq!(connection.send(request).await.unwrap().status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_without_one_length_is_refused_and_ends_the_connection() {
    let stack = Stack::start(CONFIG).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let cases = [
        ("1.1", "content-length: 4\r\ntransfer-encoding: chunked"),
        ("1.1", "transfer-encoding: chunked\r\ncontent-length: 4"),
        ("1.1", "content-length: 1\r\ncontent-length: 2"),
        ("1.1", "content-length: 5\r\ncontent-length: 5"),
        ("1.1", "content-length: 5, 5"),
        ("1.1", "content-length: +1"),
        ("1.1", "content-length: "),
        ("1.0", "transfer-encoding: chunked"),
    ];
    for (version, fields) in cases {
        let request = format!("POST /echo HTTP/{version}\r\nhost: a\r\n{fields}\r\n\r\n{smuggled}");
        let answer = raw::exchange(stack.address("web"), request).await;
        assert_eq!((raw::status(&answer), raw::field(&answer, "x-waypost-reason")), (400, "bad_request"), "{fields}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{fields}: {answer}");
    }
    let replies = r#"waypost_replies_total{listener="web",reason="bad_request",route="",service=""}"#;
    eventually!(stack.metric(replies) == cases.len() as f64);
    assert_eq!(stack.container("web-1").requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lengths_are_two_lengths_in_http2_too() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let request = Request::post("http://test.example/upload")
        .header("content-length", "5")
        .header("content-length", "5")
        .body(http_body_util::Full::new(bytes::Bytes::from("hello")))
        .unwrap();
    let reply = connection.send(request).await.unwrap();
    assert_eq!((reply.status, reply.reason()), (StatusCode::BAD_REQUEST, "bad_request"));
    assert_eq!(stack.container("web-1").requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_behind_what_is_no_chunk() {
    let stack = Stack::start(CONFIG).await;
    let head = "POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let next = "GET /bytes/3 HTTP/1.1\r\nhost: a\r\n\r\n";
    for body in ["0\rX\n\r\n", "5 x\r\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n"] {
        let answer = raw::exchange(stack.address("web"), format!("{head}{body}{next}")).await;
        assert_eq!((raw::status(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{body:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_of_an_unwanted_upload_is_no_head() {
    let config = with_timeouts("header = \"100ms\", idle = \"300ms\"")
        .replace("service = \"shop\"", "hosts = [\"a\"]\n    service = \"shop\"");
    let stack = Stack::start(&config).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("POST / HTTP/1.1\r\nhost: nobody.example\r\ncontent-length: 50000\r\n\r\n").await;
    let head = raw.head().await;
    assert_eq!((raw::status(&head), raw::field(&head, "connection")), (404, ""));
    raw.body(raw::field(&head, "content-length").parse().unwrap()).await;
    raw.send(vec![b'x'; 50_000]).await;
    assert_eq!(raw.rest().await, "", "it is idle, and closed without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn target_without_a_path_has_one_upstream() {
    let stack = Stack::start(CONFIG).await;
    let request = "GET http://a?b=c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw::exchange(stack.address("web"), request).await;
    assert_eq!(raw::status(&answer), 200, "{answer}");
    assert_eq!(stack.container("web-1").requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_read_in_one_way_only() {
    let stack = Stack::start(CONFIG).await;
    let head = "POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in
        ["5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "5 x\r\nhello\r\n0\r\n\r\n"]
    {
        check(&stack, format!("{head}{body}"), 400, "bad_request").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_head_is_timed_out_with_a_reply() {
    let stack = Stack::start(&with_timeouts("header = \"150ms\"")).await;
    let answer = raw::exchange(stack.address("web"), "GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert_eq!((raw::status(&answer), raw::field(&answer, "x-waypost-reason")), (408, "header_timeout"));
    assert_eq!(raw::field(&answer, "connection"), "close");
    eventually!(refused(&stack, "header_timeout") == 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_answers_again() {
    let stack = Stack::start(&with_timeouts("header = \"50ms\"")).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    for _ in 0..3 {
        raw.send("GET /bytes/3 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200"));
        raw.body(3).await;
        // By when another client's head has timed out, this connection has been idle for as long.
        let slow = raw::exchange(stack.address("web"), "GET / HTTP/1.1\r\n").await;
        assert_eq!(raw::status(&slow), 408);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_head_is_timed_out_on_a_kept_connection_too() {
    let stack = Stack::start(&with_timeouts("header = \"150ms\"")).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw::status(&raw.head().await), 200);
    assert_eq!(raw.body(1).await, "a");
    raw.send("GET / HT").await;
    assert_eq!(raw::status(&raw.rest().await), 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_without_a_word() {
    let stack = Stack::start(&with_timeouts("idle = \"150ms\"")).await;
    assert_eq!(raw::exchange(stack.address("web"), "").await, "");
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw::status(&raw.head().await), 200);
    assert_eq!(raw.rest().await, "a");
    let mut connection = Connection::http2(stack.address("web")).await;
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
    eventually!(connection.is_closed());
    eventually!(stack.metric("waypost_connections_open{listener=\"web\"}") == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_not_idle() {
    let stack = Stack::start(&with_timeouts("idle = \"100ms\", header = \"100ms\"")).await;
    assert_eq!(stack.get("/delay/400ms").await.status, StatusCode::OK);
    let mut connection = Connection::http2(stack.address("web")).await;
    assert_eq!(connection.send(client::get("/delay/400ms")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_takes_nothing_of_its_response_is_let_go_of() {
    let stack = Stack::start(&with_timeouts("header = \"200ms\", idle = \"300ms\"")).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("GET /bytes/67108864 HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
    eventually!(refused(&stack, "send_timeout") == 1.0);
    eventually!(stack.metric("waypost_requests_in_flight{") == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_which_nothing_is_taken_is_reset_and_its_connection_goes_on() {
    let stack = Stack::start(&with_timeouts("idle = \"400ms\"")).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let unread = connection.open(client::get("/bytes/67108864")).await.unwrap();
    eventually!({
        assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
        refused(&stack, "send_timeout") == 1.0
    });
    assert!(unread.into_body().collect().await.is_err(), "what was not taken is lost");
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
    eventually!(stack.metric("waypost_requests_in_flight{") == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_to_https_needs_a_host() {
    let pair = tls::Authority::new("authority").pair("site", &["test.example"]);
    let config = CONFIG.replace("limits =", "redirect_https = true\n    limits =")
        + "[listeners.secure]\naddress = \"127.0.0.1:0\"\n[listeners.secure.tls]\n\
           certificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n";
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    check(&stack, "GET / HTTP/1.0\r\n\r\n", 400, "bad_request").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_pauses_is_timed_out_with_a_reply() {
    let stack = Stack::start(&with_timeouts("body_idle = \"150ms\"")).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answer = raw.head().await;
    assert_eq!((raw::status(&answer), raw::field(&answer, "x-waypost-reason")), (408, "body_timeout"));
    assert_eq!(raw::field(&answer, "connection"), "close", "the rest is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_goes_on_slowly_is_not_timed_out() {
    let stack = Stack::start(&with_timeouts("body_idle = \"250ms\"")).await;
    let mut raw = Raw::connect(stack.address("web")).await;
    raw.send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await; // the client's pace, which is what is tested
        raw.send("x").await;
    }
    assert_eq!(raw::status(&raw.head().await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_than_the_limit_is_closed_and_counted() {
    let config = CONFIG.replace("limits =", "max_connections = 2\n    limits =");
    let stack = Stack::start(&config).await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(stack.address("web")).await;
        raw.send("GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(raw::status(&raw.head().await), 200);
        inside.push(raw);
    }
    let mut outside = TcpStream::connect(stack.address("web")).await.unwrap();
    assert_eq!(Raw::over(&mut outside).rest().await, "");
    eventually!(refused(&stack, "max_connections") == 1.0);
    inside.pop();
    eventually!(stack.metric("waypost_connections_open{listener=\"web\"}") == 1.0);
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_to_another_http_is_answered_as_a_request() {
    let stack = Stack::start(CONFIG).await;
    let head = "GET /bytes/1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\n\
                upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    check(&stack, head, 200, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_ahead_over_tls_is_idle_and_not_late() {
    let authority = tls::Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let certificates = r#"tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }"#;
    let config = with_timeouts("header = \"100ms\", idle = \"400ms\"");
    let config = config.replace("limits =", &format!("{certificates}\n    limits ="));
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    let stream = tls::Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    assert_eq!(Raw::over(stream).rest().await, "");
    assert_eq!(refused(&stack, "header_timeout"), 0.0);
}
