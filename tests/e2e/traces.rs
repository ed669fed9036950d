//! What was done with a request is in its trace: sent to a real collector, by the share and by the parent, and at no
//! request's cost.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::Value;
use waypost_tests::connection::Connection;
use waypost_tests::tls::Authority;
use waypost_tests::{CHECKED, Stack, client, eventually, trusting, websocket};

use collector::{Collector, MISSING, Span};

mod collector;

/// The rest of `tracing` stands in the place of `{tracing}`.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [telemetry]
    access_log = { path = "{dir}/access.log" }
    tracing = { {tracing} }
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [routes.cart]
    path_prefix = "/echo"
    service = "shop"
    [routes.chat]
    path = "/ws"
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
"#;

fn config(tracing: &str) -> String {
    CONFIG.replace("{tracing}", tracing)
}

/// Over gRPC.
fn over_grpc(collector: &Collector, keys: &str) -> String {
    config(&format!("otlp = \"http://127.0.0.1:{}\"{keys}", collector.grpc))
}

/// Over HTTP.
fn over_http(collector: &Collector, keys: &str) -> String {
    config(&format!("otlp = \"http://127.0.0.1:{}\", protocol = \"http\"{keys}", collector.http))
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// GET with a parent.
fn child_of(parent: &str, path: &str) -> client::Request {
    let request = client::with(client::get(path), "traceparent", parent);
    client::with(request, "tracestate", "vendor=1")
}

/// The spans, once there are so many of requests.
async fn requests(collector: &Collector, count: usize) -> Vec<Span> {
    let requests = || collector.spans().iter().filter(|span| span.is_request()).count();
    eventually!(requests() >= count);
    assert_eq!(requests(), count);
    collector.spans()
}

fn split(spans: Vec<Span>) -> (Vec<Span>, Vec<Span>) {
    spans.into_iter().partition(Span::is_request)
}

async fn log(stack: &Stack, count: usize) -> Vec<Value> {
    let text = || std::fs::read_to_string(stack.folder().join("access.log")).unwrap_or_default();
    eventually!(text().lines().count() >= count);
    text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn check_delivery(config: &str, collector: &Collector, protocol: &str) {
    let stack = Stack::start(config).await;
    assert_eq!(stack.get("/echo?secret=1").await.status, 200);
    let (servers, clients) = split(requests(collector, 1).await);
    let (server, client) = (&servers[0], &clients[0]);
    assert_eq!((server.name.as_str(), client.name.as_str(), clients.len()), ("GET /echo/*", "GET", 1));
    assert_eq!((&server.trace, &server.id, server.parent.as_str()), (&client.trace, &client.parent, ""));
    assert_eq!((server.get("http.response.status_code"), server.get("url.path")), (&200.into(), &"/echo".into()));
    assert_eq!((server.get("waypost.route"), client.get("waypost.outcome")), (&"cart".into(), &"response".into()));
    assert!(
        server.start <= client.start && client.start < client.end && client.end <= server.end,
        "{servers:?} {clients:?}"
    );
    assert!(!format!("{servers:?} {clients:?}").contains("secret"));
    let export = &collector.exports()[0];
    assert_eq!((&export["protocol"], &export["scope"]), (&protocol.into(), &"waypost".into()));
    assert_eq!(export["resource"]["service.name"], "edge");
    assert_eq!(export["resource"]["deployment.environment.name"], "test");
    assert_eq!(export["headers"]["x-token"], "open sesame");
    eventually!(stack.total("waypost_spans_exported_total") == 2.0);
    assert_eq!(stack.total("waypost_spans_dropped_total"), 0.0);
}

const KEYS: &str = r#", service_name = "edge", headers = { x-token = "open sesame" }, resource = { "deployment.environment.name" = "test" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_delivered_over_grpc() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    check_delivery(&over_grpc(&collector, KEYS), &collector, "grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_delivered_over_http() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    check_delivery(&over_http(&collector, KEYS), &collector, "http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_delivered_over_tls_to_a_collector_that_is_believed() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let pair = authority.pair("collector", &["collector.example"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("site.pem", &pair.cert), file("site.key", &pair.key));
    let (good, bad) = (file("good.pem", &authority.pem()), file("bad.pem", &other.pem()));
    let collector = Collector::start(&python, &["--certificate", &certificate, "--key", &key]);
    for (port, protocol) in [(collector.grpc, "grpc"), (collector.http, "http")] {
        let believing = |ca: &str| {
            let tls = format!("tls = {{ ca = \"{ca}\", server_name = \"collector.example\" }}");
            config(&format!("otlp = \"https://127.0.0.1:{port}\", protocol = \"{protocol}\", {tls}"))
        };
        let stack = Stack::start(&believing(&good)).await;
        stack.get("/").await;
        eventually!(collector.exports().iter().any(|export| export["protocol"] == protocol));
        let stack = Stack::start(&believing(&bad)).await;
        stack.get("/").await;
        eventually!(stack.total("waypost_span_export_errors_total") >= 1.0);
        assert_eq!(stack.total("waypost_spans_exported_total"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_has_its_span_with_the_reason() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    stack.container("web-1").crash().await;
    for _ in 0..2 {
        assert_eq!(stack.get("/").await.upstream(), "web-2");
    }
    let (servers, clients) = split(requests(&collector, 2).await);
    assert_eq!(clients.len() as f64, stack.total("waypost_attempts_total"));
    let of = |server: &Span| clients.iter().filter(|client| client.parent == server.id).cloned().collect::<Vec<_>>();
    let attempts = servers.iter().map(of).find(|attempts| attempts.len() == 2).expect("one went to web-1 first");
    let said = |at: usize, key: &str| attempts[at].get(key).clone();
    assert_eq!([said(0, "waypost.endpoint"), said(1, "waypost.endpoint")], ["web-1", "web-2"]);
    assert_eq!([said(0, "waypost.outcome"), said(1, "waypost.outcome")], ["connect_failed", "response"]);
    assert_eq!((said(0, "error.type"), said(1, "error.type")), ("connect_failed".into(), Value::Null));
    assert_eq!((said(0, "http.request.resend_count"), said(1, "http.request.resend_count")), (Value::Null, 1.into()));
    assert_eq!((said(0, "http.response.status_code"), said(1, "http.response.status_code")), (Value::Null, 200.into()));
    assert_eq!((attempts[0].status.as_str(), attempts[0].message.as_str()), ("STATUS_CODE_ERROR", "connect_failed"));
    assert!(servers.iter().all(|server| server.status == "STATUS_CODE_UNSET"), "the client has seen no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_of_our_own_is_a_span_with_its_reason() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    stack.container("web-1").crash().await;
    stack.container("web-2").crash().await;
    assert_eq!(stack.get("/").await.reason(), "connect_failed");
    let (servers, clients) = split(requests(&collector, 1).await);
    assert_eq!((servers[0].status.as_str(), servers[0].message.as_str()), ("STATUS_CODE_ERROR", "connect_failed"));
    assert_eq!(servers[0].get("waypost.reason"), "connect_failed");
    assert_eq!((servers[0].get("http.response.status_code"), clients.len()), (&502.into(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_parents_trace_goes_on_and_endpoints_are_its_children() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&trusting(&over_grpc(&collector, ", sample = \"0%\""))).await;
    stack.get("/").await;
    stack.send(child_of(&PARENT.replace("-01", "-00"), "/")).await;
    let reply = stack.send(child_of(PARENT, "/echo")).await;
    let (servers, clients) = split(requests(&collector, 1).await);
    assert_eq!((servers[0].trace.as_str(), servers[0].parent.as_str()), (TRACE, "00f067aa0ba902b7"));
    assert_eq!((servers[0].state.as_str(), clients[0].parent.as_str()), ("vendor=1", servers[0].id.as_str()));
    assert_eq!(reply.echoed("traceparent"), [format!("00-{TRACE}-{}-01", clients[0].id)]);
    assert_eq!(reply.echoed("tracestate"), ["vendor=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_does_not_decide_what_is_recorded() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let silent = PARENT.replace("-01", "-00");
    let never = Stack::start(&over_grpc(&collector, ", sample = \"0%\"")).await;
    let reply = never.send(child_of(PARENT, "/echo")).await;
    let [told] = &reply.echoed("traceparent")[..] else { panic!("{reply:?}") };
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && *told != silent, "{told}");
    never.waypost.shutdown().await;
    let always = Stack::start(&over_grpc(&collector, "")).await;
    let reply = always.send(child_of(&silent, "/echo")).await;
    let (servers, clients) = split(requests(&collector, 1).await);
    assert_eq!((servers[0].trace.as_str(), servers[0].parent.as_str()), (TRACE, "00f067aa0ba902b7"));
    assert_eq!(reply.echoed("traceparent"), [format!("00-{TRACE}-{}-01", clients[0].id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_parent_begins_a_trace() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&trusting(&over_grpc(&collector, ""))).await;
    let reply = stack.send(child_of("00-nonsense", "/echo")).await;
    let (servers, clients) = split(requests(&collector, 1).await);
    assert_eq!((servers[0].parent.as_str(), servers[0].state.as_str()), ("", ""));
    assert_eq!(reply.echoed("traceparent"), [format!("00-{}-{}-01", servers[0].trace, clients[0].id)]);
    assert!(reply.echoed("tracestate").is_empty());
}

/// Whether a share of a half takes it: by its random part.
fn is_in_upper_half(trace: &str) -> bool {
    u8::from_str_radix(&trace[18..20], 16).unwrap() >= 0x80
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_traces_are_recorded_and_their_identities_say_which() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, ", sample = \"50%\"")).await;
    let mut connection = Connection::http1(stack.address("web")).await;
    for _ in 0..400 {
        connection.send(client::get("/")).await.unwrap();
    }
    let lines = log(&stack, 400).await;
    let known: BTreeSet<String> = lines.iter().map(|line| line["trace_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(known.len(), 400);
    let expected: BTreeSet<String> = known.into_iter().filter(|trace| is_in_upper_half(trace)).collect();
    assert!((140..260).contains(&expected.len()), "{}", expected.len());
    let recorded = requests(&collector, expected.len()).await;
    assert_eq!(recorded.into_iter().map(|span| span.trace).collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_names_the_trace_and_the_trace_the_request() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    stack.get("/").await;
    let line = &log(&stack, 1).await[0];
    let (servers, _) = split(requests(&collector, 1).await);
    assert_eq!(line["trace_id"], servers[0].trace.as_str());
    assert_eq!(&line["request_id"], servers[0].get("waypost.request_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_in_no_trace() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let config = over_grpc(&collector, "").replace("[services.shop]", &format!("[services.shop]\n{CHECKED}"));
    let stack = Stack::start(&config).await;
    eventually!(stack.total("waypost_probes_total") >= 6.0);
    stack.get("/").await;
    stack.waypost.shutdown().await;
    let (servers, clients) = split(collector.spans());
    assert_eq!((servers.len(), clients.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn span_of_a_websocket_ends_with_it() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    let mut socket = websocket::open(stack.address("web"), "/ws").await.unwrap();
    stack.get("/").await;
    requests(&collector, 1).await;
    websocket::text(&mut socket).await.unwrap();
    drop(socket);
    let (servers, _) = split(requests(&collector, 2).await);
    let socket = servers.iter().find(|span| span.name == "GET /ws").unwrap();
    assert_eq!((socket.get("http.response.status_code"), socket.get("waypost.route")), (&101.into(), &"chat".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_over_http2_is_traced_alike() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    Connection::http2(stack.address("web")).await.send(client::get("/")).await.unwrap();
    let (servers, clients) = split(requests(&collector, 1).await);
    assert_eq!((servers[0].get("network.protocol.version"), clients.len()), (&"2".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_is_to_come_again_later_does() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    for over in [over_grpc, over_http] {
        let collector = Collector::start(&python, &["--away", "2"]);
        let stack = Stack::start(&over(&collector, "")).await;
        stack.get("/").await;
        requests(&collector, 1).await;
        eventually!(stack.total("waypost_spans_exported_total") == 2.0);
        let [errors, dropped] = ["waypost_span_export_errors_total", "waypost_spans_dropped_total"];
        assert_eq!((stack.total(errors), stack.total(dropped)), (2.0, 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_collector_does_not_want_are_counted() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    for (option, exported, dropped) in [(&["--refuse"][..], 0.0, 2.0), (&["--reject", "1"], 1.0, 1.0)] {
        for over in [over_grpc, over_http] {
            let collector = Collector::start(&python, option);
            let stack = Stack::start(&over(&collector, "")).await;
            assert_eq!(stack.get("/").await.status, 200);
            eventually!(stack.total("waypost_spans_dropped_total") == dropped);
            assert_eq!(stack.total("waypost_spans_exported_total"), exported);
        }
    }
}

/// So many GETs over a few connections, of which none may fail.
async fn many(stack: &Stack, count: usize) {
    let address = stack.address("web");
    let clients = (0..8).map(|_| async move {
        let mut connection = Connection::http1(address).await;
        for _ in 0..count / 8 {
            assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_that_is_away_costs_spans_and_no_request_and_may_come_back() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let gone = Collector::start(&python, &[]);
    let (port, config) = (gone.grpc, over_grpc(&gone, ""));
    drop(gone);
    let stack = Stack::start(&config).await;
    // More than the queue holds and a batch beside it.
    many(&stack, 9_600).await;
    assert!(stack.total("waypost_spans_dropped_total") >= 2.0, "{}", stack.metrics());
    assert!(stack.total("waypost_span_export_errors_total") >= 1.0);
    let back = Collector::start(&python, &["--grpc-port", &port.to_string()]);
    eventually!(within 30, !back.spans().is_empty());
    let told = |metric| stack.total(metric);
    let all = || told("waypost_spans_exported_total") + told("waypost_spans_dropped_total");
    eventually!(within 30, all() == 19_200.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_at_the_end_is_sent() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let collector = Collector::start(&python, &[]);
    let stack = Stack::start(&over_grpc(&collector, "")).await;
    many(&stack, 80).await;
    stack.waypost.shutdown().await;
    assert_eq!(collector.spans().len(), 160);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_does_not_wait_for_a_collector_that_is_away() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let gone = Collector::start(&python, &[]);
    let config = over_grpc(&gone, "");
    drop(gone);
    let stack = Stack::start(&config).await;
    stack.get("/").await;
    eventually!(stack.total("waypost_span_export_errors_total") >= 1.0);
    let begun = tokio::time::Instant::now();
    stack.waypost.shutdown().await;
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_sends_traces_elsewhere_and_loses_none() {
    let Some(python) = collector::installed() else { return println!("{MISSING}") };
    let [first, second] = [0; 2].map(|_| Collector::start(&python, &[]));
    let stack = Stack::start(&over_grpc(&first, "")).await;
    stack.get("/").await;
    stack.reload(&over_http(&second, ", service_name = \"other\"")).await;
    stack.get("/").await;
    requests(&first, 1).await;
    requests(&second, 1).await;
    assert_eq!(second.exports()[0]["resource"]["service.name"], "other");
    // Without traces the client's own parent passes as it is.
    let off = over_http(&second, "").lines().filter(|line| !line.contains("tracing")).collect::<Vec<_>>().join("\n");
    stack.reload(&off).await;
    let reply = stack.send(child_of(PARENT, "/echo")).await;
    assert_eq!(
        (reply.echoed("traceparent"), reply.echoed("tracestate")),
        (vec![PARENT.to_owned()], vec!["vendor=1".to_owned()])
    );
    stack.waypost.shutdown().await;
    assert_eq!((split(first.spans()).0.len(), split(second.spans()).0.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_a_collector_are_told_to_nobody_else() {
    let keys = ", headers = { authorization = \"Bearer hunter2hunter2\" }";
    let stack = Stack::start(&config(&format!("otlp = \"http://127.0.0.1:9\"{keys}"))).await;
    stack.get("/").await;
    let mut request = client::get("/api/config");
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    let reply = client::send(stack.waypost.admin_address().unwrap(), request).await.unwrap();
    assert!(reply.text().contains("tracing") && reply.text().contains("***"), "{}", reply.text());
    assert!(!reply.text().contains("hunter2"), "{}", reply.text());
}
