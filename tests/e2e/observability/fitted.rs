//! What `waypost generate` makes of a config for Prometheus and Grafana works as what is shipped does: alerts fire when
//! they should and only then, and every expression of every panel has an answer.

use std::fs;
use std::path::Path;

use http_body_util::Full;
use tempfile::TempDir;
use tokio::net::TcpStream;
use waypost::around;
use waypost_config::Config;
use waypost_tests::tls::{Authority, Client};
use waypost_tests::{Stack, client, eventually, installed};

use super::prometheus::Prometheus;
use super::shipped::{self, Dashboard};
use super::{TOKEN, check_in, in_order, knows, over_tls, window};

/// The services and listeners of the histories in rules/tests, with all that they are about.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    token = "open sesame, please"
    [telemetry]
    access_log = { path = "{dir}/access.log" }
    [listeners.web]
    address = "127.0.0.1:0"
    max_connections = 8
    [listeners.secure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }
    [routes.shop]
    hosts = ["test.example"]
    service = "shop"
    [routes.blog]
    hosts = ["blog.example"]
    service = "blog"
    [routes.docs]
    hosts = ["docs.example"]
    service = "docs"
    [routes.idle]
    hosts = ["idle.example"]
    service = "idle"
    [routes.report]
    hosts = ["report.example"]
    service = "report"
    timeouts = { request = "5s" }
    [services.shop]
    sticky = { cookie = "lb" }
    max_in_flight = 100
    health_check = { path = "/health", interval = "200ms", timeout = "200ms", rise = 1, fall = 1 }
    outlier = { consecutive = 1, eject_for = "1s" }
    circuit_breaker = { failure_ratio = "50%", min_requests = 1, open_for = "1s" }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
    ]
    [services.blog]
    endpoints = [{ name = "web-2", url = "http://{web-2}" }]
    [services.docs]
    endpoints = [{ name = "web-2", url = "http://{web-2}" }]
    [services.idle]
    endpoints = [{ name = "web-2", url = "http://{web-2}" }]
    [services.report]
    endpoints = [{ name = "web-2", url = "http://{web-2}" }]
"#;

/// As little as there can be.
const BARE: &str = r#"
    version = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop.eu"
    [services."shop.eu"]
    retry = { max_attempts = 1 }
    timeouts = { response = "1s" }
    endpoints = [{ name = "web-1", url = "http://127.0.0.1:9001" }]
"#;

const HOSTS: [&str; 6] =
    ["test.example", "blog.example", "docs.example", "idle.example", "report.example", "nobody.example"];

async fn stack(authority: &Authority) -> (Stack, Config) {
    let pair = authority.site("test.example");
    let stack = Stack::with_files(CONFIG, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    let config = waypost_config::load(&stack.config()).unwrap().config;
    (stack, config)
}

/// The line that gives a listener a certificate.
fn tls_line() -> &'static str {
    CONFIG.lines().find(|line| line.contains("tls = {")).unwrap()
}

fn bare() -> Config {
    waypost_config::parse(BARE, "waypost.toml".as_ref(), &|_| None).unwrap().config
}

/// A folder as the shipped one, with these alerts.
fn folder_with(alerts: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir_all(rules.join("tests")).unwrap();
    fs::write(rules.join("recording.yml"), shipped::text("rules/recording.yml")).unwrap();
    fs::write(rules.join("alerts.yml"), alerts).unwrap();
    for file in shipped::files("rules/tests", ".yml") {
        fs::copy(&file, rules.join("tests").join(file.file_name().unwrap())).unwrap();
    }
    folder
}

fn histories(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("rules/tests")).unwrap();
    files.map(|file| file.unwrap().path().to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_for_a_config_that_has_everything_pass_every_history() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    let (stack, _) = stack(&Authority::new("authority")).await;
    // The histories tell of certificates of `web`.
    stack.write(&CONFIG.replace("max_connections = 8", &format!("max_connections = 8\n{}", tls_line())));
    let config = waypost_config::load(&stack.config()).unwrap().config;
    let folder = folder_with(&around::alerts(&config));
    check_in(folder.path(), &promtool, &["check", "rules", "rules/alerts.yml"]);
    let histories = histories(folder.path());
    assert!(histories.len() >= 9, "{histories:?}");
    let arguments: Vec<_> = ["test", "rules"].into_iter().chain(histories.iter().map(String::as_str)).collect();
    check_in(folder.path(), &promtool, &arguments);
}

#[test]
fn promtool_is_content_with_the_alerts_for_a_config_that_has_next_to_nothing() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    let alerts = around::alerts(&bare());
    assert!(alerts.contains(r#"{service=~"shop\\.eu"} > 0.8"#), "{alerts}");
    check_in(folder_with(&alerts).path(), &promtool, &["check", "rules", "rules/alerts.yml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_for_configs_are_in_order_and_ask_for_what_there_is() {
    let (_stack, config) = stack(&Authority::new("authority")).await;
    for config in [config, bare()] {
        let dashboard = Dashboard::of(&around::dashboard(&config, "edge"));
        in_order(&dashboard);
        knows(&dashboard);
    }
}

/// A bit of everything that a panel may tell of, trouble too; and traffic for all services.
async fn use_everything(stack: &Stack) {
    for host in HOSTS {
        stack.send(http::Request::get("/").header("host", host).body(Full::default()).unwrap()).await;
    }
    stack.get("/status/500").await;
    let broken = client::with(client::get("/"), "x-mock-fault", "reset_before_head");
    stack.send(client::with(broken, "x-mock-on", "web-1")).await;
}

/// What need happen but once.
async fn trouble(stack: &Stack, authority: &Authority) {
    over_tls(stack, authority).await;
    let stranger = Authority::new("stranger");
    assert!(Client::new(&stranger).connect(stack.address("secure"), "test.example").await.is_err());
    stack.container("web-3").crash().await;
    let mut crowd = Vec::new();
    for _ in 0..12 {
        crowd.push(TcpStream::connect(stack.address("web")).await.unwrap());
    }
    eventually!(stack.metric("waypost_connections_refused_total{listener=\"web\"") > 0.0);
    drop(crowd);
    eventually!(stack.metric("waypost_connections_open{listener=\"web\"") == 0.0);
}

/// The expressions to which Prometheus has no answer.
async fn unanswered(prometheus: &Prometheus, dashboard: &Dashboard) -> Vec<String> {
    let mut unanswered = Vec::new();
    for query in dashboard.shown() {
        if prometheus.ask(&window(&query.expr)).await.is_empty() {
            unanswered.push(query.expr);
        }
    }
    unanswered
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_of_a_dashboard_for_a_config_has_an_answer() {
    let Some(program) = installed(&["prometheus"]) else { return println!("skipped: prometheus is not installed") };
    let authority = Authority::new("authority");
    let (stack, config) = stack(&authority).await;
    let prometheus = Prometheus::start(&program, stack.waypost.admin_address().expect("admin is open"), TOKEN).await;
    let dashboard = Dashboard::of(&around::dashboard(&config, "edge"));
    assert!(dashboard.shown().len() > 100);
    trouble(&stack, &authority).await;
    eventually!(within 60, {
        use_everything(&stack).await;
        unanswered(&prometheus, &dashboard).await.is_empty()
    });
}
