//! Under load: exact shares, faithful sticky users, and an endpoint that dies without anybody noticing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode};
use loadtest::plan::{Plan, Request};
use upstream_mock::Fault;
use waypost_tests::{Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 2
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
    ]
    [services.shop.health_check]
    path = "/health"
    interval = "200ms"
    timeout = "200ms"
    rise = 2
    fall = 2
"#;

/// How long a load lasts.
const LENGTH: Duration = Duration::from_secs(5);
/// Requests per second; debug builds on a small and busy machine cannot bear what is promised of the real one.
const RATE: f64 = if cfg!(debug_assertions) { 500.0 } else { 2_000.0 };

fn plan(stack: &Stack) -> Plan {
    Plan::new(&format!("http://{}/", stack.address("web"))).unwrap().rate(RATE).duration(LENGTH)
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_equal_to_a_tenth_of_a_percent() {
    let stack = Stack::start(CONFIG).await;
    let report = loadtest::run(plan(&stack)).await.unwrap();
    assert_eq!(report.failed, 0, "{report}");
    let ideal: BTreeMap<_, _> = ["web-1", "web-2", "web-3"].map(|name| (name.to_owned(), 1)).into();
    let skew = report.skew(&ideal).unwrap();
    assert!(skew <= 0.1, "{skew}: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sticky_users_stay_where_they_are() {
    let sticky = "[services.shop]\nsticky = { cookie = \"lb\", secrets = [\"a secret of thirty-two characters\"] }";
    let stack = Stack::start(&CONFIG.replace("[services.shop]", sticky)).await;
    let report = loadtest::run(plan(&stack).users(200)).await.unwrap();
    assert_eq!(report.failed, 0, "{report}");
    let users = report.users.unwrap();
    assert_eq!((users.sticky_percent, users.repins), (100.0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_costs_no_get_and_doubles_no_post() {
    let stack = Stack::start(CONFIG).await;
    let posts = Request::post("/upload", "some text").keyed(HeaderName::from_static("x-request-key"));
    let gets = loadtest::start(plan(&stack).rate(RATE * 0.8)).await.unwrap();
    let posts = loadtest::start(plan(&stack).rate(RATE * 0.2).mix(vec![posts])).await.unwrap();
    let web_2 = stack.container("web-2");
    gets.watch().passed(LENGTH / 4).await;
    web_2.crash().await;
    let crashed = web_2.requests();
    assert!(crashed > 0);
    gets.watch().passed(LENGTH / 2).await;
    web_2.recover().await.unwrap();
    eventually!(web_2.requests() > crashed);
    let gets = gets.finish().await;
    assert_eq!((gets.failed, gets.completed), (0, gets.requests), "{gets}");
    // A POST that was under way may be lost with its endpoint, one on every connection at most; never repeated.
    let posts = posts.finish().await;
    assert!(posts.completed > 0 && posts.failed <= 10, "{posts}");
    assert_eq!(stack.fleet.double_executions(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_health_check_ends_requests_in_time() {
    let stack = Stack::start(CONFIG).await;
    let load = loadtest::start(plan(&stack)).await.unwrap();
    load.reached(100).await;
    let web_2 = stack.container("web-2");
    let failing = Instant::now();
    web_2.set_health(StatusCode::INTERNAL_SERVER_ERROR);
    let (mut last, mut requests) = (failing, web_2.requests());
    while failing.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if requests != web_2.requests() {
            (last, requests) = (Instant::now(), web_2.requests());
        }
    }
    load.stop();
    let took = last - failing;
    assert!(took <= Duration::from_millis(200 * 2 + 200), "{took:?}");
    let report = load.finish().await;
    assert_eq!(report.failed, 0, "{report}");
}

/// Of one attempt.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a busy machine may add to any request.
const SLACK: Duration = Duration::from_millis(400);

/// Fails at one of three endpoints for good: no GET is lost, none waits for more than one attempt, the endpoint is left
/// alone after its first failures, and no POST is done twice.
async fn check(fault: Fault) {
    let rules = "[services.shop]\ntimeouts = { response = \"300ms\" }\n\
                 outlier = { consecutive = 5, eject_for = \"1m\" }";
    let stack = Stack::start(&CONFIG.replace("[services.shop]", rules)).await;
    let posts = Request::post("/upload", "some text").keyed(HeaderName::from_static("x-request-key"));
    let length = Duration::from_secs(3);
    let plan = || plan(&stack).duration(length);
    let gets = loadtest::start(plan().rate(400.0)).await.unwrap();
    let posts = loadtest::start(plan().rate(100.0).mix(vec![posts])).await.unwrap();
    let web_2 = stack.container("web-2");
    gets.watch().passed(length / 4).await;
    web_2.set_fault(fault).await;
    // What is on its way comes to its end, or to the end of its attempt.
    gets.watch().passed(length / 4 + Duration::from_secs(1)).await;
    let attempts = || {
        let series = stack.metrics();
        let of_web_2 = series.lines().filter(|line| line.starts_with("waypost_attempts_total{endpoint=\"web-2\""));
        of_web_2.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let left_alone = attempts();
    let (gets, posts) = (gets.finish().await, posts.finish().await);
    assert_eq!(gets.failed, 0, "{fault}: {gets}");
    let longest = gets.latency.max;
    assert!(longest < PATIENCE + SLACK, "{fault}: {longest:?} {gets}");
    assert!(attempts() <= left_alone, "{fault}: no request goes there any more");
    assert_eq!(stack.fleet.double_executions(), [], "{fault}");
    assert!(posts.failed <= 40, "{fault}: those that were sent to it before it was left alone: {posts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_in_any_way_costs_no_get_and_doubles_no_post() {
    for fault in [
        Fault::Crash,
        Fault::Freeze,
        Fault::Refuse,
        Fault::ResetBeforeHead,
        Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
    ] {
        check(fault).await;
    }
}
