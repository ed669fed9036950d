//! Every request is in the access log and in the books, with what became of it.

use serde_json::Value;
use waypost_tests::connection::Connection;
use waypost_tests::{Stack, client, eventually, raw, tls, websocket};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [telemetry]
    access_log = { path = "{dir}/access.log", format = "json" }
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.shop]
    path_prefix = "/"
    service = "shop"
    [routes.none]
    path_prefix = "/none"
    service = "none"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
    [services.none]
    endpoints = [{ name = "web-3", url = "http://{web-3}" }]
"#;

const SHOP: &str = r#"{listener="web",route="shop",service="shop"}"#;

fn log(stack: &Stack) -> String {
    std::fs::read_to_string(stack.folder().join("access.log")).unwrap_or_default()
}

/// The lines, once there are so many.
async fn lines(stack: &Stack, count: usize) -> Vec<String> {
    eventually!(log(stack).lines().count() >= count);
    let lines: Vec<String> = log(stack).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

async fn objects(stack: &Stack, count: usize) -> Vec<Value> {
    lines(stack, count).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_line_says_what_was_asked_and_who_answered() {
    let stack = Stack::start(CONFIG).await;
    let mut request = client::request("POST", "/echo?q=1", "hello");
    request.headers_mut().insert("user-agent", "a \"test\"".parse().unwrap());
    request.headers_mut().insert("referer", "http://before.example/".parse().unwrap());
    let reply = stack.send(request).await;
    let sent_id =
        reply.json()["headers"].as_array().unwrap().iter().find(|pair| pair[0] == "x-request-id").unwrap()[1].clone();
    let line = &objects(&stack, 1).await[0];
    let expected = [
        ("listener", "web"),
        ("route", "shop"),
        ("service", "shop"),
        ("client_ip", "127.0.0.1"),
        ("method", "POST"),
        ("target", "/echo?q=1"),
        ("protocol", "HTTP/1.1"),
        ("host", "test.example"),
        ("user_agent", "a \"test\""),
        ("referer", "http://before.example/"),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!(line["endpoint"], reply.upstream());
    assert_eq!((line["status"].as_u64(), line["request_bytes"].as_u64()), (Some(200), Some(5)));
    assert_eq!(line["response_bytes"], reply.body.len());
    assert_eq!(line["request_id"], sent_id);
    assert_eq!((&line["reason"], &line["tls"], &line["upgraded"]), (&Value::Null, &Value::Null, &Value::Bool(false)));
    assert!(line["duration_ms"].as_f64() >= line["head_after_ms"].as_f64());
    assert_eq!(line["attempts"][0]["outcome"], "response");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_in_the_line_and_the_retry_in_the_books() {
    let stack = Stack::start(CONFIG).await;
    stack.container("web-1").crash().await;
    for _ in 0..2 {
        assert_eq!(stack.send(client::request("POST", "/echo", "once")).await.upstream(), "web-2");
    }
    let lines = objects(&stack, 2).await;
    let attempts = lines.iter().map(|line| line["attempts"].as_array().unwrap()).find(|attempts| attempts.len() == 2);
    let attempts = attempts.expect("one of them went to web-1 first");
    assert_eq!((&attempts[0]["endpoint"], &attempts[0]["outcome"]), (&"web-1".into(), &"connect_failed".into()));
    assert_eq!((&attempts[1]["endpoint"], &attempts[1]["outcome"]), (&"web-2".into(), &"response".into()));
    assert!(stack.metric(r#"waypost_retries_total{reason="connect_failure",service="shop"}"#) >= 1.0);
    let failed = r#"waypost_attempts_total{endpoint="web-1",outcome="connect_failed",service="shop"}"#;
    assert!(stack.metric(failed) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_of_our_own_has_its_reason_in_the_line_and_in_the_books() {
    let stack = Stack::start(CONFIG).await;
    stack.container("web-3").crash().await;
    let reply = stack.get("/none/x").await;
    assert_eq!(reply.reason(), "connect_failed");
    let line = &objects(&stack, 1).await[0];
    assert_eq!((line["status"].as_u64(), &line["reason"]), (Some(502), &"connect_failed".into()));
    let replies = r#"waypost_replies_total{listener="web",reason="connect_failed",route="none",service="none"}"#;
    assert_eq!(stack.metric(replies), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_is_499_in_the_line() {
    let stack = Stack::start(CONFIG).await;
    let mut raw = raw::Raw::connect(stack.address("web")).await;
    raw.send("GET /delay/10s HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
    eventually!(stack.metric(&format!("waypost_requests_in_flight{SHOP}")) == 1.0);
    drop(raw);
    assert_eq!(objects(&stack, 1).await[0]["status"], 499);
    assert_eq!(stack.metric(&format!("waypost_requests_in_flight{SHOP}")), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_connection_has_its_line_when_it_ends() {
    let stack = Stack::start(CONFIG).await;
    let mut socket = websocket::open(stack.address("web"), "/ws").await.unwrap();
    websocket::text(&mut socket).await.unwrap();
    assert_eq!(log(&stack), "");
    drop(socket);
    let line = &objects(&stack, 1).await[0];
    assert_eq!((line["status"].as_u64(), &line["upgraded"]), (Some(101), &Value::Bool(true)));
    assert!(line["response_bytes"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn line_of_a_tls_connection_says_what_was_agreed() {
    let authority = tls::Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let tls = "[listeners.web.tls]\n    certificates = [{ cert = \"{dir}/site.pem\", key = \"{dir}/site.key\" }]";
    let config = CONFIG.replace("[routes.shop]", &format!("{tls}\n    [routes.shop]"));
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    let stream = tls::Client::new(&authority).http2().connect(stack.address("web"), "test.example").await.unwrap();
    Connection::http2_over(stream).await.send(client::get("/")).await.unwrap();
    let line = &objects(&stack, 1).await[0];
    assert_eq!(line["protocol"], "HTTP/2.0");
    assert_eq!((&line["tls"]["sni"], &line["tls"]["client_subject"]), (&"test.example".into(), &Value::Null));
    assert!(line["tls"]["version"].as_str().unwrap().contains("1.3"), "{line}");
    assert!(line["tls"]["cipher"].is_string(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn common_and_combined_lines_are_those_of_apache() {
    for (format, end) in
        [("common", "\"GET /bytes/5 HTTP/1.1\" 200 5"), ("combined", "200 5 \"-\" \"agent \\\"x\\\"\"")]
    {
        let stack = Stack::start(&CONFIG.replace("\"json\"", &format!("\"{format}\""))).await;
        let mut request = client::get("/bytes/5");
        request.headers_mut().insert("user-agent", "agent \"x\"".parse().unwrap());
        stack.send(request).await;
        let line = &lines(&stack, 1).await[0];
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.ends_with(end), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn books_count_requests_bytes_and_times() {
    let stack = Stack::start(CONFIG).await;
    for _ in 0..3 {
        stack.send(client::request("POST", "/upload", vec![0; 1000])).await;
    }
    let weighed = stack.get("/bytes/5000").await;
    assert_eq!(weighed.body.len(), 5000);
    let requests = |method| {
        let labels = format!("listener=\"web\",method=\"{method}\",route=\"shop\",service=\"shop\",status=\"200\"");
        stack.metric(&format!("waypost_requests_total{{{labels}}}"))
    };
    eventually!(requests("GET") == 1.0);
    assert_eq!(requests("POST"), 3.0);
    assert_eq!(stack.metric(&format!("waypost_request_body_bytes_total{SHOP}")), 3000.0);
    assert!(stack.metric(&format!("waypost_response_body_bytes_total{SHOP}")) > 5000.0);
    assert_eq!(stack.metric(&format!("waypost_requests_in_flight{SHOP}")), 0.0);
    for bound in ["0.3", "1.2"] {
        let bucket = format!(
            r#"waypost_request_duration_seconds_bucket{{listener="web",route="shop",service="shop",le="{bound}"}}"#
        );
        assert_eq!(stack.metric(&bucket), 4.0, "{bound}");
    }
    assert_eq!(stack.metric(&format!("waypost_request_duration_seconds_count{SHOP}")), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_not_chosen_by_clients() {
    let stack = Stack::start(CONFIG).await;
    for number in 0..5 {
        let mut request = client::request(&format!("MADEUP{number}"), &format!("/path/{number}"), "");
        request.headers_mut().insert("host", format!("host{number}.example").parse().unwrap());
        stack.send(request).await;
    }
    let page = stack.metrics();
    assert!(!page.contains("MADEUP") && !page.contains("/path") && !page.contains("host0"), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("waypost_requests_total{")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_endpoints_is_a_metric() {
    let check = "[services.shop.health_check]\n    path = \"/health\"\n    interval = \"50ms\"\n    timeout = \"50ms\"\n    rise = 1\n    fall = 1\n    [services.none]";
    let stack = Stack::start(&CONFIG.replace("[services.none]", check)).await;
    let up = r#"waypost_endpoint_up{endpoint="web-1",service="shop"}"#;
    eventually!(stack.metric(up) == 1.0);
    stack.container("web-1").set_health(http::StatusCode::INTERNAL_SERVER_ERROR);
    eventually!(stack.metric(up) == 0.0);
    assert_eq!(stack.metric(r#"waypost_endpoint_state{endpoint="web-1",service="shop",state="down"}"#), 1.0);
    assert_eq!(stack.metric(r#"waypost_service_endpoints_available{service="shop"}"#), 1.0);
    stack.container("web-1").set_health(http::StatusCode::OK);
    eventually!(stack.metric(up) == 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_removed_things_go() {
    let stack = Stack::start(CONFIG).await;
    for _ in 0..4 {
        stack.get("/").await;
        stack.get("/none").await;
    }
    for label in ["endpoint=\"web-2\"", "service=\"none\"", "route=\"none\""] {
        assert!(stack.metrics().contains(label), "{label}");
    }
    let (all, _) = CONFIG.split_once("[services.none]").unwrap();
    let less = all
        .replace("[routes.none]\n    path_prefix = \"/none\"\n    service = \"none\"\n", "")
        .replace(", { name = \"web-2\", url = \"http://{web-2}\" }", "");
    stack.write(&less);
    stack.waypost.reload().await.unwrap();
    for label in ["endpoint=\"web-2\"", "service=\"none\"", "route=\"none\""] {
        eventually!(!stack.metrics().contains(label));
    }
    assert!(stack.metrics().contains("endpoint=\"web-1\""));
}
