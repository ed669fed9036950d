//! Reloads in quick succession, under load, cost no request, close no WebSocket and forget nothing.
//!
//! The quick form runs with every test; the whole one, a minute long, is for `just soak`.

use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderName, StatusCode};
use loadtest::plan::{Plan, Request, Reuse};
use loadtest::{Load, Report};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use waypost_tests::client::{self, Reply, get};
use waypost_tests::{Connection, Conversation, Stack, eventually};

/// What a change may touch, before what it may not: the service `steady` is the same in all generations.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 2
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [routes.chat]
    path = "/ws"
    service = "steady"
    [routes.files]
    path = "/trickle"
    service = "steady"
    [services.steady]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
    [services.shop]
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}", weight = {weight} },
        { name = "web-3", url = "http://{web-3}" },
        #endpoint
    ]
    [services.shop.health_check]
    path = "/health"
    interval = "200ms"
    timeout = "200ms"
    rise = 1
    fall = 1
"#;

/// How much of everything.
struct Soak {
    reloads: usize,
    every: Duration,
    rate: f64,
    websockets: usize,
    downloads: usize,
}

/// The config of generation `number`: a route, an endpoint and a listener come and go, and a weight changes.
fn generation(number: usize) -> String {
    let mut config = CONFIG.replace("{weight}", &(1 + number % 3).to_string());
    if number % 2 == 1 {
        config = config.replace("#endpoint", r#"{ name = "web-4", url = "http://{web-2}" }"#);
    }
    if number % 3 == 1 {
        config.push_str("[routes.echo]\npath = \"/echo\"\nservice = \"shop\"\n");
    }
    if number % 4 >= 2 {
        config.push_str("[listeners.extra]\naddress = \"127.0.0.1:0\"\n");
    }
    config
}

async fn begin_load(stack: &Stack, rate: f64, duration: Duration, reuse: Reuse) -> Load {
    let url = format!("http://{}/", stack.address("web"));
    let plan = Plan::new(&url).unwrap().rate(rate).duration(duration).mix(vec![
        Request { weight: 6, ..Request::get("/") },
        Request { weight: 2, ..Request::get("/bytes/20000") },
        Request { weight: 1, ..Request::get("/delay/30ms") },
        Request::post("/upload", "some text").keyed(HeaderName::from_static("x-request-key")),
    ]);
    loadtest::start(Plan { reuse, ..plan }).await.unwrap()
}

async fn begin_downloads(stack: &Stack, count: usize, length: Duration) -> Vec<JoinHandle<anyhow::Result<Reply>>> {
    let path = format!("/trickle?bytes={BYTES}&every={}ms", length.as_millis() / u128::from(BYTES));
    let clients = join_all((0..count).map(|_| Connection::http1(stack.address("web")))).await;
    let begin = |mut client: Connection| {
        let path = path.clone();
        tokio::spawn(async move { client.send(get(&path)).await })
    };
    let downloads = clients.into_iter().map(begin).collect();
    let in_flight = || stack.figure("waypost_requests_in_flight", &[("route", "files")]);
    eventually!(in_flight() == count as f64);
    downloads
}

/// Bytes of a slow download.
const BYTES: u64 = 100;

async fn soak(soak: Soak) -> (Report, Report) {
    let stack = Stack::start(&generation(0)).await;
    stack.container("web-3").set_health(StatusCode::INTERNAL_SERVER_ERROR);
    let down = [("service", "shop"), ("endpoint", "web-3"), ("state", "down")];
    let known_down = || stack.figure("waypost_endpoint_state", &down) == 1.0;
    eventually!(known_down());
    let requests_before = stack.container("web-3").requests();
    let mut sockets = join_all((0..soak.websockets).map(|_| Conversation::open(stack.address("web")))).await;
    let length = soak.every * u32::try_from(soak.reloads).unwrap();
    let downloads = begin_downloads(&stack, soak.downloads, length).await;
    let kept = begin_load(&stack, soak.rate * 0.9, length, Reuse::KeepAlive).await;
    let fresh = begin_load(&stack, soak.rate * 0.1, length, Reuse::Close).await;

    let begun = Instant::now();
    for number in 1..=soak.reloads {
        stack.reload(&generation(number)).await;
        assert!(known_down(), "known at once in generation {number}");
        if let Some(extra) = stack.waypost.address("extra") {
            assert_eq!(client::send(extra, get("/")).await.unwrap().status, StatusCode::OK);
        }
        let socket = number % sockets.len();
        assert!(sockets[socket].echoes("still there").await, "WebSocket {socket} in generation {number}");
        sleep_until(begun + soak.every * u32::try_from(number).unwrap()).await;
    }
    let reports = (kept.finish().await, fresh.finish().await);
    for report in [&reports.0, &reports.1] {
        assert_eq!((report.failed, report.completed), (0, report.requests), "{report}");
    }
    for download in downloads {
        assert_eq!(download.await.unwrap().unwrap().body.len() as u64, BYTES);
    }
    for socket in &mut sockets {
        assert!(socket.echoes("to the end").await);
    }
    assert_eq!(stack.container("web-3").requests(), requests_before, "an endpoint known down gets nothing");
    assert_eq!(stack.figure("waypost_health_transitions_total", &down), 1.0, "its health was never forgotten");
    assert_eq!(stack.fleet.double_executions(), []);
    assert_eq!(stack.metric(r#"waypost_reloads_total{result="refused"}"#), 0.0);
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_reloads_cost_no_request() {
    let rate = if cfg!(debug_assertions) { 400.0 } else { 1_000.0 };
    soak(Soak { reloads: 40, every: Duration::from_millis(200), rate, websockets: 10, downloads: 5 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and wants a release build: `just soak`"]
async fn hundred_reloads_within_a_minute_at_full_load_cost_no_request() {
    let whole = Soak { reloads: 100, every: Duration::from_millis(600), rate: 2_000.0, websockets: 50, downloads: 10 };
    let (kept, fresh) = soak(whole).await;
    println!("{kept}\n{fresh}");
}
