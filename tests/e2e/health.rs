//! An endpoint that fails its checks gets no traffic, soon; one that passes them gets it back.

use std::time::{Duration, Instant};

use http::StatusCode;
use waypost_tests::client::{get, with};
use waypost_tests::{CHECKED, Stack, eventually, shop};

const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

/// A config without web-3.
fn of_two(config: &str) -> String {
    config.split_inclusive('\n').filter(|line| !line.contains("{web-3}")).collect()
}

fn is(stack: &Stack, endpoint: &str, state: &str) -> bool {
    let series = format!(r#"waypost_endpoint_state{{endpoint="{endpoint}",service="shop",state="{state}"}}"#);
    stack.metric(&series) > 0.0
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_being_checked_gets_no_traffic_while_others_are_up() {
    let config = shop(r#"health_check = { path = "/health", interval = "30s", timeout = "30s" }"#);
    let stack = Stack::start(&of_two(&config)).await;
    stack.container("web-3").set_health_delay(Duration::from_secs(20));
    stack.reload(&config).await;
    assert!(is(&stack, "web-3", "checking"));
    assert_eq!(stack.answers(4).await, ["web-1", "web-2", "web-1", "web-2"]);
    assert!(is(&stack, "web-3", "checking"));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_get_traffic_when_all_are_being_checked() {
    let config = shop(r#"health_check = { path = "/health", interval = "30s", timeout = "30s" }"#);
    let stack = Stack::start(&config).await;
    for container in stack.fleet.containers() {
        container.set_health_delay(Duration::from_secs(20));
    }
    stack.reload(&config.replace("shop", "store")).await;
    assert_eq!(stack.answers(3).await, ["web-1", "web-2", "web-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_endpoint_gets_traffic_as_soon_as_it_has_passed() {
    let config = shop(r#"health_check = { path = "/health", interval = "30s", rise = 9 }"#);
    let stack = Stack::start(&of_two(&config)).await;
    stack.reload(&config).await;
    let begun = Instant::now();
    eventually!(stack.answers(3).await.contains(&"web-3".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(3), "the first probe comes at once and decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn unhealthy_endpoint_gets_its_last_request_within_interval_times_fall_and_timeout() {
    let check = r#"health_check = { path = "/health", interval = "300ms", timeout = "300ms", fall = 2, rise = 1 }"#;
    let stack = Stack::start(&shop(check)).await;
    stack.container("web-2").set_health(BROKEN);
    let (begun, mut last) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_millis(1500) {
        let reply = stack.get("/").await;
        assert_eq!(reply.status, StatusCode::OK);
        if reply.upstream() == "web-2" {
            last = begun.elapsed();
        }
    }
    assert!(last < Duration::from_millis(900), "served for {last:?}");
    assert!(is(&stack, "web-2", "down"));
    let transitions = r#"waypost_health_transitions_total{endpoint="web-2",service="shop",state="down"}"#;
    assert_eq!(stack.metric(transitions), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_without_an_answer_in_time_has_failed() {
    let stack = Stack::start(&shop(CHECKED)).await;
    stack.container("web-1").set_health_delay(Duration::from_secs(20));
    eventually!(is(&stack, "web-1", "down"));
    assert!(!stack.answers(4).await.contains(&"web-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn down_endpoint_comes_back_after_rise_passed_probes() {
    let check = r#"health_check = { path = "/health", interval = "100ms", timeout = "100ms", fall = 1, rise = 4 }"#;
    let stack = Stack::start(&shop(check)).await;
    let container = stack.container("web-1");
    container.set_health(BROKEN);
    eventually!(is(&stack, "web-1", "down"));
    let before = container.probes();
    container.set_health(StatusCode::OK);
    eventually!(is(&stack, "web-1", "up"));
    assert!(container.probes() - before >= 4, "{} probes", container.probes() - before);
    assert!(stack.answers(3).await.contains(&"web-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_probe_of_several_takes_nobody_out() {
    let check = r#"health_check = { path = "/health", interval = "100ms", timeout = "100ms", fall = 50, rise = 1 }"#;
    let stack = Stack::start(&shop(check)).await;
    let container = stack.container("web-1");
    container.set_health(BROKEN);
    let before = container.probes();
    eventually!(container.probes() > before + 1);
    assert!(is(&stack, "web-1", "up"));
    assert!(stack.answers(3).await.contains(&"web-1".to_owned()));
}

/// With this expectation the endpoints, which answer 200 `healthy`, get into this state.
async fn check_expectation(expect: &str, state: &str) {
    let check = format!(r#"health_check = {{ path = "/health", interval = "30s", expect = {expect} }}"#);
    let stack = Stack::start(&shop(&check)).await;
    assert!(is(&stack, "web-1", state), "{expect}: {}", stack.metrics());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_body_must_be_as_expected() {
    check_expectation(r#"{ status = ["200"] }"#, "up").await;
    check_expectation(r#"{ status = ["201-299", "500"] }"#, "down").await;
    check_expectation(r#"{ body = "healthy" }"#, "up").await;
    check_expectation(r#"{ body = "splendid" }"#, "down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_check_asks_only_for_a_connection() {
    let check = r#"health_check = { kind = "tcp", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }"#;
    let stack = Stack::start(&shop(check)).await;
    let container = stack.container("web-3");
    container.set_health(BROKEN);
    assert!(stack.answers(3).await.contains(&"web-3".to_owned()));
    container.crash().await;
    eventually!(is(&stack, "web-3", "down"));
    container.recover().await.unwrap();
    eventually!(is(&stack, "web-3", "up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_request_brings_an_early_probe() {
    let check = r#"health_check = { path = "/health", interval = "8s", timeout = "1s", fall = 1 }"#;
    let stack = Stack::start(&shop(check)).await;
    let begun = Instant::now();
    stack.container("web-1").crash().await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    eventually!(is(&stack, "web-1", "down"));
    assert!(begun.elapsed() < Duration::from_secs(4), "noticed after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_bring_no_flood_of_probes() {
    let check = r#"health_check = { path = "/health", interval = "1s", timeout = "1s" }"#;
    let stack = Stack::start(&shop(&format!("{check}\nretry = {{ max_attempts = 1 }}"))).await;
    let begun = Instant::now();
    stack.fleet.reset_counters();
    for _ in 0..5 {
        stack.send_all((0..12).map(|_| with(get("/"), "x-mock-fault", "reset_before_head"))).await;
    }
    let allowed = u64::try_from(begun.elapsed().as_millis() / 100).unwrap() + 2;
    for container in stack.fleet.containers() {
        let probes = container.probes();
        assert!(probes <= allowed, "{probes} probes of {} after 20 failures, {allowed} allowed", container.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_a_reload() {
    let config = |more: &str| {
        shop(&format!("{more}\nhealth_check = {{ path = \"/health\", interval = \"300ms\", timeout = \"300ms\" }}"))
    };
    let stack = Stack::start(&config("")).await;
    stack.container("web-2").set_health(BROKEN);
    eventually!(is(&stack, "web-2", "down"));
    stack.reload(&config("max_in_flight = 100")).await;
    assert!(is(&stack, "web-2", "down"));
    assert!(!stack.answers(6).await.contains(&"web-2".to_owned()));
    for (state, count) in [("up", 1.0), ("down", 1.0), ("checking", 0.0)] {
        let series = format!(r#"waypost_health_transitions_total{{endpoint="web-2",service="shop",state="{state}"}}"#);
        assert_eq!(stack.metric(&series), count, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_when_all_are_down_answers_503_no_endpoint_with_retry_after() {
    let stack = Stack::start(&shop(CHECKED)).await;
    for container in stack.fleet.containers() {
        container.set_health(BROKEN);
    }
    eventually!(stack.metric("waypost_service_endpoints_available") == 0.0);
    let reply = stack.get("/").await;
    assert_eq!((reply.status, reply.reason()), (StatusCode::SERVICE_UNAVAILABLE, "no_endpoint"));
    assert!(!reply.header("retry-after").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn open_when_all_are_down_tries_them_all_the_same() {
    let stack = Stack::start(&shop(&format!("on_all_down = \"open\"\n{CHECKED}"))).await;
    for container in stack.fleet.containers() {
        container.set_health(BROKEN);
    }
    eventually!(["web-1", "web-2", "web-3"].iter().all(|endpoint| is(&stack, endpoint, "down")));
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_check_applies_after_a_reload() {
    let config = |path: &str| {
        shop(&format!(
            "health_check = {{ path = \"{path}\", interval = \"200ms\", timeout = \"200ms\", fall = 2, rise = 1 }}"
        ))
    };
    let stack = Stack::start(&config("/health")).await;
    stack.reload(&config("/status/500")).await;
    eventually!(stack.metric("waypost_service_endpoints_available") == 0.0);
    stack.reload(&config("/health")).await;
    eventually!(stack.metric("waypost_service_endpoints_available") == 3.0);
    stack.reload(&shop("")).await;
    let probes = stack.container("web-1").probes();
    let begun = Instant::now();
    eventually!(begun.elapsed() > Duration::from_millis(600));
    assert!(stack.container("web-1").probes() <= probes + 1, "nobody probes without a check");
}
