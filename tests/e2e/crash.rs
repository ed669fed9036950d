//! A container dies amid load: nobody who only reads notices, nothing is written twice, and it comes back.

use std::collections::BTreeMap;

use http::{HeaderName, Method};
use loadtest::plan::Request;
use loadtest::report::ErrorKind;
use loadtest::{Load, Plan, Report};
use waypost_tests::{CHECKED, Stack, eventually, shop};

const REQUESTS: u64 = 1200;

/// So many requests like this one by so many clients, each as fast as it is answered.
async fn load(stack: &Stack, clients: usize, request: Request) -> Load {
    let plan = Plan::new(&format!("http://{}/", stack.address("web"))).unwrap();
    let plan = Plan { mix: vec![request], ..plan.requests(REQUESTS).connections(clients) };
    loadtest::start(plan).await.unwrap()
}

fn keyed_post() -> Request {
    let key = HeaderName::from_static("x-request-key");
    Request { method: Method::POST, ..Request::get("/delay/2ms") }.keyed(key)
}

/// Two loads, of reads and of writes, while web-2 crashes and recovers.
async fn under_load(stack: &Stack) -> (Report, Report) {
    let reads = load(stack, 30, Request::get("/delay/2ms")).await;
    let writes = load(stack, 20, keyed_post()).await;
    reads.reached(REQUESTS / 4).await;
    stack.container("web-2").crash().await;
    reads.reached(REQUESTS * 3 / 4).await;
    stack.container("web-2").recover().await.unwrap();
    (reads.finish().await, writes.finish().await)
}

fn assert_kept(stack: &Stack, reads: &Report, writes: &Report) {
    assert_eq!((reads.completed, &reads.errors), (REQUESTS, &BTreeMap::new()), "{reads}");
    // A write that was under way when the container died may be lost, and its client is told.
    let told = writes.errors.get(&ErrorKind::Status5xx).copied().unwrap_or(0);
    assert_eq!(writes.failed, told, "{writes}");
    assert!(told <= 20, "{writes}");
    assert_eq!(stack.fleet.double_executions(), []);
    for line in stack.metrics().lines().filter(|line| line.starts_with("waypost_endpoint_requests_in_flight")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_fails_no_read_and_repeats_no_write() {
    let stack = Stack::start(&shop(CHECKED)).await;
    let (reads, writes) = under_load(&stack).await;
    assert_kept(&stack, &reads, &writes);
    eventually!(stack.answers(3).await.contains(&"web-2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_fails_no_read_without_a_health_check_either() {
    let stack = Stack::start(&shop("")).await;
    let (reads, writes) = under_load(&stack).await;
    assert_kept(&stack, &reads, &writes);
    let retries = stack.metric(r#"waypost_retries_total{reason="connect_failure",service="shop"}"#);
    assert!(retries > 100.0, "every third request meets the dead container first: {retries}");
    assert!(stack.answers(3).await.contains(&"web-2".to_owned()));
}
