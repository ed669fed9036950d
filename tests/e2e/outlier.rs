//! An endpoint that fails its requests is left alone for a while, whatever its probes say, and comes back slowly.

use std::time::Duration;

use http::StatusCode;
use upstream_mock::Fault;
use waypost_tests::client::{get, with};
use waypost_tests::{CHECKED, Stack, eventually, shop, shop_of};

const OUTLIER: &str = r#"outlier = { consecutive = 3, eject_for = "400ms" }"#;

const EJECTED: &str = r#"waypost_endpoint_ejected{endpoint="web-1",service="shop"}"#;
const EJECTIONS: &str = r#"waypost_ejections_total{endpoint="web-1",service="shop"}"#;

/// GETs until web-1 has failed so often.
async fn fail(stack: &Stack, times: u64) {
    let web = stack.container("web-1");
    web.set_fault(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)).await;
    let before = web.requests();
    while web.requests() < before + times {
        assert_eq!(stack.get("/").await.status, 200, "another endpoint answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_a_row_eject_and_it_comes_back() {
    let stack = Stack::start(&shop(OUTLIER)).await;
    fail(&stack, 3).await;
    assert_eq!((stack.metric(EJECTED), stack.metric(EJECTIONS)), (1.0, 1.0));
    let (web, before) = (stack.container("web-1"), stack.container("web-1").requests());
    web.clear_fault();
    let answers = stack.answers(6).await;
    assert!(!answers.contains(&"web-1".to_owned()), "{answers:?}");
    assert_eq!(web.requests(), before, "not even an attempt");
    eventually!(stack.get("/").await.upstream() == "web-1");
    assert_eq!(stack.metric(EJECTED), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_between_them_is_no_row() {
    let stack = Stack::start(&shop(OUTLIER)).await;
    for _ in 0..4 {
        fail(&stack, 2).await;
        stack.container("web-1").clear_fault();
        eventually!(stack.get("/").await.upstream() == "web-1");
    }
    assert_eq!(stack.metric(EJECTIONS), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_nobody_is_ejected() {
    let stack = Stack::start(&shop("")).await;
    // As many as the retry budget bears.
    fail(&stack, 9).await;
    assert_eq!(stack.metric(EJECTIONS), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_a_failure_although_its_head_was_good() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], OUTLIER)).await;
    for _ in 0..3 {
        let torn = with(get("/bytes/100000"), "x-mock-fault", "reset_in_body");
        let reply = waypost_tests::client::send(stack.address("web"), torn).await;
        assert!(reply.is_err(), "the client sees it broken: {reply:?}");
    }
    eventually!(stack.metric(EJECTIONS) == 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_breaks_off_does_not_count() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], OUTLIER)).await;
    for _ in 0..5 {
        let mut raw = waypost_tests::raw::Raw::connect(stack.address("web")).await;
        raw.send("GET /delay/10s HTTP/1.1\r\nhost: a\r\n\r\n").await;
        eventually!(stack.total("waypost_requests_in_flight") == 1.0);
        drop(raw);
        eventually!(stack.total("waypost_requests_in_flight") == 0.0);
    }
    assert_eq!(stack.metric(EJECTIONS), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_all_ejected_is_served_all_the_same() {
    let stack = Stack::start(&shop(&OUTLIER.replace("400ms", "1h"))).await;
    for container in stack.fleet.containers() {
        container.set_fault(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR)).await;
    }
    for _ in 0..12 {
        let reply = stack.get("/").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (500, ""), "the endpoint's own answer");
    }
    assert_eq!(stack.total("waypost_endpoint_ejected"), 3.0);
    stack.container("web-2").clear_fault();
    assert!(stack.answers(9).await.contains(&"web-2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_stand_in_for_who_is_ejected() {
    let stack = Stack::start(&shop_of(["", "backup = true", "weight = 0"], OUTLIER)).await;
    fail(&stack, 3).await;
    assert_eq!(stack.answers(4).await, ["web-2"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_client_leaves_an_ejected_endpoint() {
    let stack = Stack::start(&shop(&format!("{OUTLIER}\nsticky = {{ cookie = \"lb\" }}"))).await;
    let mut pinned = stack.get("/").await;
    while pinned.upstream() != "web-1" {
        pinned = stack.get("/").await;
    }
    let cookie = pinned.cookie();
    fail(&stack, 3).await;
    let reply = stack.send(with(get("/"), "cookie", &cookie)).await;
    assert_ne!(reply.upstream(), "web-1");
    assert!(reply.headers.contains_key("set-cookie"), "pinned to who answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_outlives_a_reload_and_ends_with_its_rule() {
    let long = OUTLIER.replace("400ms", "1h");
    let stack = Stack::start(&shop(&long)).await;
    fail(&stack, 3).await;
    stack.container("web-1").clear_fault();
    stack.reload(&shop_of(["weight = 5", "", ""], &long)).await;
    assert!(!stack.answers(6).await.contains(&"web-1".to_owned()));
    stack.reload(&shop("")).await;
    assert!(stack.answers(6).await.contains(&"web-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_begins_with_a_small_share() {
    let stack = Stack::start(&shop(&format!("{OUTLIER}\nslow_start = \"1h\""))).await;
    fail(&stack, 3).await;
    stack.container("web-1").clear_fault();
    eventually!(stack.get("/").await.upstream() == "web-1");
    has_a_small_share(&stack, "web-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_down_begins_with_a_small_share() {
    let stack = Stack::start(&shop(&format!("{CHECKED}\nslow_start = \"1h\""))).await;
    let web = stack.container("web-1");
    web.set_health(StatusCode::INTERNAL_SERVER_ERROR);
    eventually!(!stack.answers(6).await.contains(&"web-1".to_owned()));
    web.set_health(StatusCode::OK);
    eventually!(stack.get("/").await.upstream() == "web-1");
    has_a_small_share(&stack, "web-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_new_among_others_begins_with_a_small_share() {
    let slow = "slow_start = \"1h\"";
    let stack = Stack::start(&shop(slow).replace("\"web-1\"", "\"somebody\"")).await;
    stack.reload(&shop(slow)).await;
    has_a_small_share(&stack, "web-1").await;
}

/// A tenth of a third of 300 requests; a hundred if it were warm.
async fn has_a_small_share(stack: &Stack, name: &str) {
    let web = stack.container(name);
    let before = web.requests();
    stack.answers(300).await;
    let share = web.requests() - before;
    assert!((1..40).contains(&share), "{share}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_gets_nothing_while_somebody_warms_up() {
    let config = format!("{OUTLIER}\nslow_start = \"1h\"");
    let stack = Stack::start(&shop_of(["", "backup = true", "weight = 0"], &config)).await;
    fail(&stack, 3).await;
    stack.container("web-1").clear_fault();
    eventually!(stack.get("/").await.upstream() == "web-1");
    let answers = stack.answers(30).await;
    assert!(answers.iter().all(|name| name == "web-1"), "{answers:?}");
}

/// One endpoint, of which half the requests may fail.
const BREAKER: &str = r#"circuit_breaker = { failure_ratio = "50%", min_requests = 4, open_for = "300ms" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_sends_nothing_until_a_trial_has_passed() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], BREAKER)).await;
    let web = stack.container("web-1");
    web.set_fault(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR)).await;
    for _ in 0..4 {
        assert_eq!(stack.get("/").await.status, 500);
    }
    let before = web.requests();
    for _ in 0..5 {
        let reply = stack.get("/").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (503, "circuit_open"));
        assert_eq!(reply.headers["retry-after"], "1");
    }
    assert_eq!(web.requests(), before, "nothing is sent");
    // The trial fails: one request more, and the circuit is open again.
    eventually!(stack.get("/").await.status == 500);
    assert_eq!((stack.get("/").await.reason(), web.requests()), ("circuit_open", before + 1));
    web.clear_fault();
    eventually!(stack.get("/").await.status == 200);
    assert_eq!(stack.get("/").await.status, 200);
    let changes = |state| {
        stack
            .metric(&format!(r#"waypost_circuit_transitions_total{{endpoint="web-1",service="shop",state="{state}"}}"#))
    };
    assert_eq!((changes("open"), changes("closed")), (2.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_leaves_its_requests_to_the_others() {
    let stack = Stack::start(&shop(BREAKER)).await;
    fail(&stack, 4).await;
    let before = stack.container("web-1").requests();
    assert!(!stack.answers(6).await.contains(&"web-1".to_owned()));
    assert_eq!(stack.container("web-1").requests(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trial_at_a_time() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "weight = 0"], &BREAKER.replace("300ms", "1ms"))).await;
    let web = stack.container("web-1");
    web.set_fault(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR)).await;
    for _ in 0..4 {
        stack.get("/").await;
    }
    web.clear_fault();
    let before = web.requests();
    tokio::time::timeout(Duration::from_secs(20), async {
        let replies = stack.send_all((0..20).map(|_| get("/delay/300ms"))).await;
        let passed = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(passed as u64, web.requests() - before);
        assert_eq!(passed, 1, "the others were refused while the trial was waited for");
    })
    .await
    .unwrap();
}
