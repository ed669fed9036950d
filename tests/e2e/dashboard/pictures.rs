//! The pictures in docs/images: the dashboard above a fleet that has served for a while and lost an endpoint, and what
//! `waypost explain` says of it.
//!
//! Owns the fleet, its requests and what happens to it. Everything that is shown has really been.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Empty;
use serde_json::json;
use tokio::time::Instant;
use upstream_mock::{Fleet, FleetOptions};
use waypost::explain::Explanation;
use waypost_tests::tls::Authority;
use waypost_tests::{Connection, Stack, eventually};

use super::browser::{Browser, is_installed};
use super::logging;

const CONFIG: &str = r#"
    version = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.websecure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/shop.pem", key = "{dir}/shop.key" }, { cert = "{dir}/partners.pem", key = "{dir}/partners.key" }] }
    [routes.shop]
    hosts = ["shop.example", "*.shop.example"]
    service = "shop"
    [routes.api]
    hosts = ["shop.example"]
    path_prefix = "/api"
    methods = ["GET", "POST"]
    middlewares = ["strip"]
    service = "shop"
    [routes.search]
    hosts = ["shop.example"]
    path_prefix = "/search"
    middlewares = ["strip"]
    service = "search"
    [middlewares]
    strip = { strip_prefix = ["/api", "/search"] }
    [services.shop]
    balancer = "least_request"
    sticky = { cookie = "lb" }
    health_check = { path = "/health", interval = "1s", timeout = "500ms", rise = 1, fall = 3 }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
        { name = "web-4", url = "http://{web-4}" },
        { name = "web-5", url = "http://{web-5}", weight = 2 },
    ]
    [services.search]
    health_check = { path = "/health", interval = "1s", timeout = "500ms", rise = 1, fall = 3 }
    endpoints = [
        { name = "find-1", url = "http://{find-1}" },
        { name = "find-2", url = "http://{find-2}" },
    ]
"#;

/// How long the fleet is used before the pictures are taken; by default for as long as the page remembers.
fn length() -> Duration {
    let minutes = std::env::var("WAYPOST_PICTURES_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    Duration::from_secs_f64(60.0 * minutes.unwrap_or(15.5))
}

async fn fleet() -> Fleet {
    let web = (1..=5).map(|number| format!("web-{number}"));
    let names = web.chain((1..=2).map(|number| format!("find-{number}"))).collect();
    Fleet::start(FleetOptions { names, ..FleetOptions::default() }).await.unwrap()
}

/// A client that comes again and again, more often in some minutes than in others.
async fn client(address: SocketAddr, number: u32, until: Instant) {
    let (mut connection, begun) = (Connection::http1(address).await, Instant::now());
    let mut random = fastrand::Rng::with_seed(number.into());
    while Instant::now() < until {
        let tide = 1.0 + 0.45 * (TAU * begun.elapsed().as_secs_f64() / 600.0).sin();
        tokio::time::sleep(Duration::from_secs_f64(0.05 + random.f64() * 0.4 / tide)).await;
        if connection.send(request(&mut random)).await.is_err() {
            connection = Connection::http1(address).await;
        }
    }
}

fn request(random: &mut fastrand::Rng) -> http::Request<Empty<bytes::Bytes>> {
    let slow = 4 + random.u32(0..30) + if random.u32(0..40) == 0 { 150 } else { 0 };
    let target = match random.u32(0..200) {
        0 => "/status/500".to_owned(),
        1..=6 => "/status/404".to_owned(),
        7..=10 => "/status/304".to_owned(),
        11..=70 => format!("/search/delay/{}ms", 2 * slow),
        71..=100 => format!("/api/delay/{slow}ms"),
        _ => format!("/delay/{slow}ms"),
    };
    let host = if random.u32(0..150) == 0 { "nobody.example" } else { "shop.example" };
    http::Request::get(target).header("host", host).body(Empty::new()).unwrap()
}

/// What happens to it: two reloads, and near the end an endpoint that goes.
async fn history(stack: &Stack, length: Duration) {
    tokio::time::sleep(length / 4).await;
    let beta = "[routes.beta]\n hosts = [\"beta.shop.example\"]\n service = \"shop\"\n [middlewares]";
    stack.reload(&CONFIG.replace("[middlewares]", beta)).await;
    tokio::time::sleep(length / 4).await;
    stack.reload(&CONFIG.replace("[middlewares]", beta).replace("weight = 2", "weight = 3")).await;
    tokio::time::sleep(length / 3).await;
    stack.container("web-2").crash().await;
    tokio::time::sleep(length / 6).await;
}

fn images() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/images")
}

fn save(name: &str, picture: &[u8]) {
    std::fs::write(images().join(name), picture).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour: `just pictures`"]
async fn pictures_of_the_docs() {
    assert!(is_installed(), "chromium and chromium-driver are needed");
    let authority = Authority::new("authority");
    let (shop, partners) = (authority.site("shop.example"), authority.site("partners.example"));
    let files = [
        ("shop.pem", &*shop.cert),
        ("shop.key", &*shop.key),
        ("partners.pem", &*partners.cert),
        ("partners.key", &*partners.key),
    ];
    let stack = Stack::before(fleet().await, CONFIG, &files, Some(logging())).await;
    let (address, until) = (stack.address("web"), Instant::now() + length() + Duration::from_mins(2));
    let clients: Vec<_> = (0..12).map(|number| tokio::spawn(client(address, number, until))).collect();
    history(&stack, length()).await;
    draw_dashboard(&stack).await;
    draw_explain(&stack).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    for entry in std::fs::read_dir(images()).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() < 200_000, "{entry:?} is too large for a repository");
    }
}

async fn draw_dashboard(stack: &Stack) {
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", stack.waypost.admin_address().unwrap())).await;
    eventually!(browser.text("#verdict").await.contains("is down"));
    for (name, (width, height), scheme) in [
        ("dashboard-light.png", (1280, 890), "light"),
        ("dashboard-dark.png", (1280, 890), "dark"),
        ("dashboard-phone.png", (390, 844), "light"),
    ] {
        browser.is_sized(width, height).await;
        browser.prefers(scheme).await;
        save(name, &browser.picture().await);
    }
}

/// The request that `explain` is asked about: two routes would hold.
const ASKED: &str = "http://shop.example/api/cart";

/// What the command prints, in a window like a terminal's.
async fn draw_explain(stack: &Stack) {
    let reply = stack.admin("GET", &format!("/api/explain?method=GET&url={ASKED}")).await;
    let told: Explanation = serde_json::from_value(reply.json()).unwrap();
    let mut page = "<!doctype html><meta charset=utf-8><style>body { margin: 0; background: #10151c; color: #dbe2ea; }
        pre { margin: 0; padding: 18px 22px; width: max-content; font: 13px/1.5 monospace; } b { color: #86b4ff; }</style>"
        .to_owned();
    let told = told.to_string().replace('&', "&amp;").replace('<', "&lt;");
    write!(page, "<pre><b>$</b> waypost explain {ASKED}\n{told}</pre>").unwrap();
    let file = stack.folder().join("explain.html");
    std::fs::write(&file, page).unwrap();
    let browser = Browser::start().await;
    browser.open(&format!("file://{}", file.display())).await;
    let size =
        browser.eval("(({ width, height }) => [width, height])(document.querySelector('pre').getBoundingClientRect())");
    let size = size.await;
    let [width, height] = [&size[0], &size[1]].map(|side| side.as_f64().unwrap().ceil());
    let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    save("explain.png", &browser.picture().await);
}
