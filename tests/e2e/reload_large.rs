//! A config of thousands of routes and endpoints is exchanged while everybody is served, and as fast as before.
//!
//! In a debug build the budget is generous; what the binary takes is measured by `just soak`.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use loadtest::{Load, Plan};
use tokio::time::{Instant, sleep_until};
use waypost_tests::{Stack, client};

const SERVICES: usize = 500;
const ROUTES_OF_A_SERVICE: usize = 10;
const ENDPOINTS_OF_A_SERVICE: usize = 10;

const HEAD: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
    [middlewares.paint]
    headers = { response_set = { x-generation = "{number}" } }
"#;

/// 5 000 routes and 5 000 endpoints in 500 services, each endpoint with a health check of its own.
fn large(number: usize) -> String {
    let mut config = HEAD.replace("{number}", &number.to_string());
    for service in 0..SERVICES {
        let endpoint = |index: usize| {
            let weight = 1 + (number + index) % 3;
            format!("    {{ name = \"e-{index}\", url = \"http://{{web-{}}}\", weight = {weight} }},\n", 1 + index % 3)
        };
        let endpoints: String = (0..ENDPOINTS_OF_A_SERVICE).map(endpoint).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            config,
            "[services.s-{service}]\nendpoints = [\n{endpoints}]\n\
             health_check = {{ path = \"/health\", interval = \"30s\", timeout = \"5s\" }}\n"
        );
        for route in 0..ROUTES_OF_A_SERVICE {
            let _ = write!(
                config,
                "[routes.r-{service}-{route}]\nhosts = [\"host-{service}.example\"]\npath_prefix = \"/r-{route}\"\n\
                 service = \"s-{service}\"\nmiddlewares = [\"paint\"]\n"
            );
        }
    }
    config
}

/// What a reload may take: from the call until the new generation serves.
const BUDGET: Duration = Duration::from_millis(if cfg!(debug_assertions) { 4_000 } else { 200 });

/// Reloads in which every endpoint's weight changes; how long each took until it served.
async fn reloads(stack: &Stack, numbers: Range<usize>, every: Duration) -> Vec<Duration> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    for (turn, number) in (1..).zip(numbers) {
        stack.write(&large(number));
        let asked = Instant::now();
        stack.waypost.reload().await.unwrap_or_else(|refusal| panic!("{refusal}"));
        took.push(asked.elapsed());
        sleep_until(begun + every * turn).await;
    }
    took
}

async fn load(stack: &Stack, rate: f64, duration: Duration) -> Load {
    let plan = Plan::new(&format!("http://{}/", stack.address("web"))).unwrap();
    loadtest::start(plan.rate(rate).duration(duration)).await.unwrap()
}

async fn served(load: Load) {
    let report = load.finish().await;
    assert_eq!((report.failed, report.completed), (0, report.requests), "{report}");
}

/// The route at the far end of the file leads where it should.
async fn the_last_route_serves(stack: &Stack, number: usize) {
    let mut request = client::get("/r-9");
    request.headers_mut().insert("host", "host-499.example".parse().unwrap());
    let reply = stack.send(request).await;
    assert_eq!(reply.header("x-generation"), number.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_routes_and_endpoints_are_exchanged_in_time() {
    let stack = Stack::start(HEAD).await;
    let load = load(&stack, 100.0, Duration::from_secs(5)).await;
    let took = reloads(&stack, 1..4, Duration::from_millis(500)).await;
    the_last_route_serves(&stack, 3).await;
    served(load).await;
    // Other tests may be running: the best of them is what a reload takes.
    assert!(took.iter().min() < Some(&BUDGET), "{took:?}");
    // Each endpoint once, however many reloads there were: what stays is not probed anew.
    stack.checked().await;
    assert!(stack.total("waypost_probes_total") <= 5_500.0, "{} probes", stack.total("waypost_probes_total"));
}
