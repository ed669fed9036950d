//! A failed attempt is repeated elsewhere where that is safe, and nothing is ever executed twice that must not be.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use waypost_tests::client::{self, Reply, Request, get, request, with};
use waypost_tests::{Container, Stack, eventually, routed, shop, shop_of, with_workers};

/// The request fails so at web-1, whose turn is the first.
fn failing(request: Request, fault: &str) -> Request {
    with(with(request, "x-mock-fault", fault), "x-mock-on", "web-1")
}

/// Booked under this key, of which Waypost knows nothing.
fn keyed(request: Request, key: &str) -> Request {
    with(request, "x-request-key", key)
}

/// A socket that listens and takes no connection: two wait to be accepted, and the kernel answers no third.
struct Deaf {
    socket: TcpListener,
    _waiting: [TcpStream; 2],
}

impl Deaf {
    async fn new() -> Deaf {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = socket.listen(1).unwrap();
        let address = socket.local_addr().unwrap();
        let waiting = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        Deaf { socket, _waiting: waiting }
    }

    fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }
}

#[track_caller]
fn assert_reply(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status.as_u16(), reply.reason()), (status, reason), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_goes_elsewhere_whatever_the_method() {
    let stack = Stack::start(&shop("")).await;
    stack.container("web-1").crash().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        for turn in 0..3 {
            let sent = keyed(request(method, "/echo", "text"), &format!("{method}-{turn}"));
            let reply = stack.send(sent).await;
            assert_reply(&reply, 200, "");
            assert_eq!(reply.json()["body"], "text");
        }
    }
    assert_eq!(stack.fleet.double_executions(), []);
    assert!(stack.metric(r#"waypost_retries_total{reason="connect_failure",service="shop"}"#) >= 5.0);
    assert_eq!(stack.metric("waypost_retry_budget_exhausted_total"), 0.0, "what was not sent costs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_anywhere_answers_502_connect_failed() {
    let stack = Stack::start(&shop("")).await;
    for container in stack.fleet.containers() {
        container.crash().await;
    }
    assert_reply(&stack.get("/").await, 502, "connect_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn get_is_repeated_after_a_reset() {
    let stack = Stack::start(&shop("")).await;
    for fault in ["reset_before_head", "reset_after_execution", "garbage"] {
        // Each round begins at web-1 again: three turns, one of them taken by the repeat.
        let reply = stack.send(failing(get("/echo"), fault)).await;
        assert_reply(&reply, 200, "");
        stack.get("/").await;
    }
    assert_eq!(stack.metric(r#"waypost_retries_total{reason="reset",service="shop"}"#), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_is_not_repeated_once_it_was_sent() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], "")).await;
    for (fault, executions) in [("reset_before_head", 0), ("reset_after_execution", 1)] {
        let reply = stack.send(failing(keyed(request("POST", "/echo", "text"), fault), fault)).await;
        assert_reply(&reply, 502, "upstream_reset");
        assert_eq!(stack.fleet.executions(fault), executions, "{fault}");
    }
    let garbage = stack.send(failing(keyed(request("POST", "/echo", "text"), "garbage"), "garbage")).await;
    assert_reply(&garbage, 502, "upstream_invalid");
    assert_eq!(stack.fleet.executions("garbage"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_that_was_sent_stays_unrepeated_though_others_are_there() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack.send(failing(keyed(request("POST", "/echo", "text"), "k"), "reset_after_execution")).await;
    assert_reply(&reply, 502, "upstream_reset");
    assert_eq!(stack.fleet.executions("k"), 1);
    assert_eq!(stack.total("waypost_retries_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_with_an_idempotency_key_is_repeated() {
    let stack = Stack::start(&shop("")).await;
    let post = with(request("POST", "/echo", "text"), "idempotency-key", "4711");
    let reply = stack.send(failing(post, "reset_before_head")).await;
    assert_reply(&reply, 200, "");
    assert_eq!(reply.json()["body"], "text");
    assert_eq!(stack.fleet.executions("4711"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_answered_503_is_repeated_and_post_is_not() {
    let stack = Stack::start(&shop("")).await;
    let read = stack.send(failing(get("/"), "status=503")).await;
    assert_reply(&read, 200, "");
    assert_eq!(stack.metric(r#"waypost_retries_total{reason="503",service="shop"}"#), 1.0);
    stack.get("/").await;
    let written = stack.send(failing(request("POST", "/echo", "text"), "status=503")).await;
    assert_eq!((written.status.as_u16(), written.upstream().as_str()), (503, "web-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_goes_to_an_endpoint_not_yet_tried() {
    let stack = Stack::start(&shop("retry = { max_attempts = 9 }")).await;
    let reply = stack.send(with(get("/"), "x-mock-fault", "status=503")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!reply.upstream().is_empty(), "the last endpoint's own answer is passed on");
    for container in stack.fleet.containers() {
        assert_eq!(container.requests(), 1, "{}", container.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_at_their_maximum() {
    let stack = Stack::start(&shop("retry = { max_attempts = 2 }")).await;
    let reply = stack.send(with(get("/"), "x-mock-fault", "reset_before_head")).await;
    assert_reply(&reply, 502, "upstream_reset");
    assert_eq!(stack.total("waypost_attempts_total"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_without_weight_is_no_place_for_a_repeat() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], "")).await;
    let reply = stack.send(failing(get("/"), "status=503")).await;
    assert_eq!((reply.status.as_u16(), reply.upstream().as_str()), (503, "web-1"));
    assert_eq!(stack.total("waypost_retries_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_budget_ends_repeats_except_of_what_was_not_sent() {
    let stack = Stack::start(&shop("retry = { budget = { ratio = \"0%\", min_per_second = 0 } }")).await;
    assert_reply(&stack.send(failing(get("/"), "reset_before_head")).await, 502, "upstream_reset");
    assert_eq!(stack.metric("waypost_retry_budget_exhausted_total"), 1.0);
    stack.container("web-2").crash().await;
    assert_reply(&stack.get("/").await, 200, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn body_within_max_body_is_sent_again_and_a_longer_one_is_not() {
    let stack = Stack::start(&shop("retry = { max_body = \"16KiB\" }")).await;
    let put = |length: usize| failing(request("PUT", "/upload", vec![b'x'; length]), "reset_after_execution");
    let kept = stack.send(put(16 * 1024)).await;
    assert_reply(&kept, 200, "");
    assert_eq!(kept.json()["length"], 16 * 1024);
    stack.get("/").await;
    assert_reply(&stack.send(put(17 * 1024)).await, 502, "upstream_reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempt_that_times_out_goes_elsewhere() {
    let stack = Stack::start(&shop("timeouts = { response = \"300ms\" }")).await;
    assert_reply(&stack.send(failing(get("/"), "hang")).await, 200, "");
    assert_eq!(stack.metric(r#"waypost_retries_total{reason="timeout",service="shop"}"#), 1.0);
    stack.get("/").await;
    let written = stack.send(failing(keyed(request("POST", "/echo", "text"), "k"), "hang")).await;
    assert_reply(&written, 504, "attempt_timeout");
    assert_eq!(stack.fleet.executions("k"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_attempt_that_times_out_answers_504_attempt_timeout() {
    let stack = Stack::start(&shop("timeouts = { response = \"100ms\" }")).await;
    assert_reply(&stack.send(with(get("/"), "x-mock-fault", "hang")).await, 504, "attempt_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_takes_too_long_in_all_answers_504_request_timeout() {
    let stack = Stack::start(&routed(&shop(""), "timeouts = { request = \"300ms\" }")).await;
    let begun = std::time::Instant::now();
    assert_reply(&stack.send(with(get("/"), "x-mock-fault", "hang")).await, 504, "request_timeout");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_runs_out_while_connecting_answers_504_request_timeout() {
    let deaf = Deaf::new().await;
    let config = shop("timeouts = { connect = \"5s\" }").replace("{web-1}", &deaf.address());
    let config = config.replace(" },\n", ", drain = true },\n").replacen(", drain = true", "", 1);
    let stack = Stack::start(&routed(&config, "timeouts = { request = \"300ms\" }")).await;
    assert_reply(&stack.get("/").await, 504, "request_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_was_begun_is_never_repeated_and_arrives_broken() {
    let stack = Stack::start(&shop("")).await;
    for (path, fault) in [("/bytes/100000", "reset_in_body"), ("/chunked/100000", "truncated_chunked")] {
        let result = client::send(stack.address("web"), with(get(path), "x-mock-fault", fault)).await;
        assert!(result.is_err(), "{path} must not look whole: {result:?}");
    }
    let requests: u64 = stack.fleet.containers().iter().map(Container::requests).sum();
    assert_eq!(requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_endpoint_serves_the_next_request_post_included() {
    let stack = Stack::start(&with_workers(1, &shop("retry = { max_attempts = 1 }"))).await;
    for round in 0..3 {
        assert_eq!(stack.answers(3).await.len(), 3, "a connection to each is idle now");
        for container in stack.fleet.containers() {
            container.crash().await;
            container.recover().await.unwrap();
        }
        for turn in 0..3 {
            let post = keyed(request("POST", "/echo", Bytes::from("text")), &format!("{round}-{turn}"));
            assert_reply(&stack.send(post).await, 200, "");
        }
    }
    assert_eq!(stack.fleet.double_executions(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_executed_twice_under_any_fault() {
    let stack = Stack::start(&shop("timeouts = { response = \"200ms\" }")).await;
    let faults = ["reset_before_head", "reset_after_execution", "garbage", "hang", "status=503", "status=500"];
    let posts = (0..30).map(|number| {
        let post = keyed(request("POST", "/echo", "text"), &number.to_string());
        with(post, "x-mock-fault", faults[number % faults.len()])
    });
    let replies = stack.send_all(posts).await;
    assert!(replies.iter().all(|reply| reply.status.is_server_error()));
    assert_eq!(stack.fleet.double_executions(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_of_any_length_goes_elsewhere_when_no_connection_opened() {
    let stack = Stack::start(&shop("retry = { max_body = \"1KiB\" }")).await;
    stack.container("web-1").crash().await;
    for _ in 0..3 {
        let reply = stack.send(request("POST", "/upload", vec![b'x'; 1_000_000])).await;
        assert_reply(&reply, 200, "");
        assert_eq!(reply.json()["length"], 1_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_takes_no_connection_costs_the_connect_timeout() {
    let deaf = Deaf::new().await;
    let config = shop("timeouts = { connect = \"200ms\" }").replace("{web-1}", &deaf.address());
    let stack = Stack::start(&config).await;
    let begun = std::time::Instant::now();
    assert_reply(&stack.send(request("POST", "/echo", "text")).await, 200, "");
    assert!((200..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_does_not_list_is_not_repeated() {
    let stack = Stack::start(&shop("retry = { on = [\"connect_failure\", \"404\"] }")).await;
    assert_reply(&stack.send(failing(get("/"), "reset_before_head")).await, 502, "upstream_reset");
    stack.send_all([get("/"), get("/")]).await;
    assert_eq!(stack.send(failing(get("/"), "status=503")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    stack.send_all([get("/"), get("/")]).await;
    assert_eq!(stack.send(failing(get("/"), "status=404")).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_frees_its_place_and_counts_against_nobody() {
    let check = r#"health_check = { path = "/health", interval = "20s", fall = 1 }"#;
    let stack = Stack::start(&shop(&format!("max_in_flight = 1\n{check}"))).await;
    let probes = stack.container("web-1").probes();
    let waiting = tokio::spawn(client::send(stack.address("web"), with(get("/"), "x-mock-fault", "hang")));
    eventually!(stack.container("web-1").requests() == 1);
    waiting.abort();
    eventually!(stack.get("/").await.status == StatusCode::OK);
    for name in ["web-1", "web-2", "web-3"] {
        let series = format!("waypost_endpoint_requests_in_flight{{endpoint=\"{name}\"");
        eventually!(stack.metric(&series) == 0.0);
    }
    assert_eq!(stack.container("web-1").probes(), probes, "nothing is wrong with the endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_answers_pass_as_they_are() {
    let stack = Stack::start(&shop("")).await;
    for status in [200, 201, 400, 401, 404, 409, 418, 429, 500, 501] {
        let reply = stack.get(&format!("/status/{status}")).await;
        assert_reply(&reply, status, "");
    }
    assert_eq!(stack.total("waypost_retries_total"), 0.0);
}
