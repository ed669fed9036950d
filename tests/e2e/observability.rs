//! What docs/observability ships can be taken as it is: rules and dashboard ask for what there is, every alert fires
//! when it should and is silent when it should be, and a real Prometheus sees, works out and tells what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;
use serde_json::Value;
use waypost::telemetry::metrics::definitions;
use waypost_tests::connection::Connection;
use waypost_tests::tls::{Authority, Client};
use waypost_tests::{Stack, client, eventually, installed};

use expression::Expression;
use prometheus::Prometheus;
use shipped::{Dashboard, Query};

mod expression;
mod fitted;
mod prometheus;
mod shipped;
mod traefik;

const TOKEN: &str = "open sesame, please";

/// Something of everything that is counted.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    token = "open sesame, please"
    [listeners.web]
    address = "127.0.0.1:0"
    max_connections = 60
    [listeners.secure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }
    [routes.all]
    hosts = ["test.example"]
    service = "shop"
    [services.shop]
    sticky = { cookie = "lb" }
    health_check = { path = "/health", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
    ]
"#;

async fn stack() -> Stack {
    let pair = Authority::new("authority").site("test.example");
    Stack::with_files(CONFIG, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await
}

/// The labels that a text names as `{{ $labels.name }}` or `{{name}}`.
fn named_labels(text: &str) -> BTreeSet<String> {
    let label = Regex::new(r"\{\{\s*(?:\$labels\.)?([a-z_]+)[^}]*\}\}").unwrap();
    label.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn rules_ask_for_metrics_and_labels_that_exist() {
    let known = shipped::known();
    let rules = shipped::rules();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        let expression = Expression::read(&rule.expr);
        assert!(expression.metrics().next().is_some(), "{rule:?}");
        assert_eq!(known.unknown(&expression), [""; 0], "{rule:?}");
        let has = known.left_by(&expression);
        for text in rule.annotations.values() {
            assert!(named_labels(text).is_subset(&has), "{text} names labels beside {has:?}");
        }
    }
}

/// `waypost_…` in a text that is read by people.
fn metrics_in(text: &str) -> Vec<String> {
    let metric = Regex::new(r"`(waypost_\w+)`").unwrap();
    metric.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    for rule in shipped::rules().into_iter().filter(|rule| rule.alert.is_some()) {
        let text = |name: &str| rule.annotations.get(name).map_or("", String::as_str);
        assert!(["critical", "warning"].contains(&rule.labels["severity"].as_str()), "{rule:?}");
        assert!(!text("summary").is_empty() && !text("summary").ends_with('.'), "{rule:?}");
        assert!(text("description").len() > 80 && text("description").ends_with('.'), "{rule:?}");
        for metric in metrics_in(text("description")) {
            assert!(definitions().any(|definition| definition.name == metric), "{metric}: {rule:?}");
        }
    }
}

#[test]
fn every_alert_is_proven_to_fire_and_to_be_silent() {
    let mut proven: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for proof in shipped::proofs() {
        let name = proof.expr.strip_prefix("ALERTS{alertname=\"").and_then(|rest| rest.split('"').next());
        if let Some(name) = name.filter(|_| proof.expr.ends_with(r#"alertstate="firing"}"#)) {
            proven.entry(name.to_owned()).or_default().insert(!proof.exp_samples.is_empty());
        }
    }
    for alert in shipped::rules().into_iter().filter_map(|rule| rule.alert) {
        assert_eq!(proven.get(&alert), Some(&[false, true].into()), "{alert}");
    }
}

#[test]
fn alertmanager_speaks_of_alerts_that_exist() {
    let alerts: Vec<_> = shipped::rules().into_iter().filter_map(|rule| rule.alert).collect();
    let config = shipped::text("alertmanager.yml");
    let pattern = Regex::new(r#"alertname =~? "([^"]+)""#).unwrap();
    let named: Vec<_> = pattern.captures_iter(&config).map(|found| found[1].to_owned()).collect();
    assert!(named.len() >= 8, "{named:?}");
    for name in named.iter().flat_map(|pattern| pattern.split('|')) {
        let whole = Regex::new(&format!("^(?:{name})$")).unwrap();
        assert!(alerts.iter().any(|alert| whole.is_match(alert)), "there is no {name}");
    }
}

/// It asks for metrics and labels that exist.
#[track_caller]
fn knows(dashboard: &Dashboard) {
    let known = shipped::known();
    for Query { title, expr, legend } in dashboard.queries() {
        let expression = Expression::read(&expr);
        assert!(expression.metrics().next().is_some(), "{title}: {expr}");
        assert_eq!(known.unknown(&expression), [""; 0], "{title}: {expr}");
        let has = known.left_by(&expression);
        assert!(named_labels(&legend).is_subset(&has), "{title}: {legend} names labels beside {has:?}");
    }
}

#[test]
fn dashboard_asks_for_metrics_and_labels_that_exist() {
    let (known, dashboard) = (shipped::known(), Dashboard::read());
    knows(&dashboard);
    let variables = dashboard.variables();
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["instance", "listener", "route", "service"]);
    for (metric, label) in variables.values() {
        assert!(known.has(metric, label), "{metric} has no {label}");
    }
}

#[test]
fn dashboard_shows_every_metric() {
    let queries = Dashboard::read().queries();
    let shown: BTreeSet<String> = queries
        .iter()
        .flat_map(|query| Expression::read(&query.expr).metrics().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let is_shown = |name: &str| shown.iter().any(|shown| shown == name || *shown == format!("{name}_bucket"));
    let missing: Vec<_> = definitions().map(|definition| definition.name).filter(|name| !is_shown(name)).collect();
    assert_eq!(missing, [""; 0]);
}

/// What Grafana needs and does not say: numbers of their own, places of their own, a data source that is chosen.
#[track_caller]
fn in_order(dashboard: &Dashboard) {
    assert!(dashboard.0["schemaVersion"].as_u64() >= Some(38), "Grafana 10 and later");
    let mut numbers = BTreeSet::new();
    for panel in dashboard.all_panels() {
        let title = &panel["title"];
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{title}");
        let sources =
            panel["targets"].as_array().into_iter().flatten().chain([panel]).map(|one| &one["datasource"]["uid"]);
        assert!(panel["type"] == "row" || sources.into_iter().all(|source| source == "${datasource}"), "{title}");
    }
    beside_each_other(dashboard.panels());
    // What is in a closed row is over the others only while it is open, and they make room for it then.
    dashboard.panels().iter().filter_map(|row| row["panels"].as_array()).for_each(|panels| beside_each_other(panels));
}

#[track_caller]
fn beside_each_other(panels: &[Value]) {
    let mut cells = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is beyond the edge");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies over another");
        }
    }
}

#[test]
fn dashboard_is_in_order() {
    in_order(&Dashboard::read());
}

/// Runs a program of this machine in the shipped folder; panics with what it says if it is not content.
#[track_caller]
fn check(program: &Path, arguments: &[&str]) {
    check_in(&shipped::path(""), program, arguments);
}

#[track_caller]
fn check_in(folder: &Path, program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_is_content_with_rules_and_config() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    check(&promtool, &["check", "config", "prometheus.yml"]);
    for file in shipped::files("rules", ".yml") {
        check(&promtool, &["check", "rules", file.to_str().unwrap()]);
    }
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    let files = shipped::files("rules/tests", ".yml");
    let files = files.iter().map(|file| file.to_str().unwrap());
    check(&promtool, &["test", "rules"].into_iter().chain(files).collect::<Vec<_>>());
}

#[test]
fn amtool_is_content_with_the_routes() {
    let Some(amtool) = installed(&["amtool"]) else { return println!("skipped: amtool is not installed") };
    check(&amtool, &["check-config", "alertmanager.yml"]);
}

/// Requests that are answered, over TLS too, one that finds no route, and a config that is refused.
async fn use_everything(stack: &Stack) {
    stack.answers(6).await;
    let lost = http::Request::get("/").header("host", "nobody.example").body(http_body_util::Full::default()).unwrap();
    assert_eq!(stack.send(lost).await.reason(), "no_route");
    // The client does not believe whoever signed the certificate; that ends a handshake, too.
    assert!(Client::new(&Authority::new("stranger")).connect(stack.address("secure"), "test.example").await.is_err());
    stack.write("version = 1\n");
    assert!(stack.waypost.reload().await.is_err());
}

/// A request over TLS.
async fn over_tls(stack: &Stack, authority: &Authority) {
    let stream = Client::new(authority).connect(stack.address("secure"), "test.example").await.unwrap();
    let mut connection = Connection::http1_over(stream).await;
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_is_content_with_the_page_of_metrics() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    let stack = stack().await;
    use_everything(&stack).await;
    let page = stack.folder().join("page");
    std::fs::write(&page, stack.metrics()).unwrap();
    let page = Stdio::from(std::fs::File::open(page).unwrap());
    let output = Command::new(promtool).args(["check", "metrics"]).stdin(page).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_of_connections_is_told_and_follows_a_reload() {
    let stack = stack().await;
    let limit = |listener: &str| stack.metric(&format!("waypost_connections_max{{listener=\"{listener}\"}}"));
    assert_eq!((limit("web"), limit("secure")), (60.0, 100_000.0));
    stack.reload(&CONFIG.replace("max_connections = 60", "max_connections = 70")).await;
    assert_eq!((limit("web"), limit("secure")), (70.0, 100_000.0));
}

/// Panels of which there is nothing to show while all is well.
const OF_TROUBLE: [&str; 6] = [
    "Replies of Waypost's own",
    "Failed attempts",
    "Failed requests by route",
    "Probes that did not pass",
    "Retries",
    "Refused or ended",
];

/// The expression with Grafana's variables filled in, as it does when all is chosen, for a short while.
fn window(expression: &str) -> String {
    let variable = Regex::new(r"\$(?:instance|listener|route|service)\b").unwrap();
    let window = Regex::new(r"\$__(?:rate_)?interval").unwrap();
    window.replace_all(&variable.replace_all(expression, ".*"), "10s").into_owned()
}

/// The panels to which Prometheus has no answer.
async fn unanswered(prometheus: &Prometheus, dashboard: &Dashboard) -> BTreeSet<String> {
    let (mut titles, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for query in dashboard.queries() {
        if !prometheus.ask(&window(&query.expr)).await.is_empty() {
            answered.insert(query.title.clone());
        }
        titles.insert(query.title);
    }
    titles.difference(&answered).filter(|title| !OF_TROUBLE.contains(&title.as_str())).cloned().collect()
}

/// What a rule has recorded of the service, which gets one more first.
async fn requests_per_second(prometheus: &Prometheus, stack: &Stack) -> f64 {
    assert_eq!(stack.get("/").await.status, 200);
    prometheus.value("service:waypost_requests:rate5m{service=\"shop\"}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_what_happens_and_tells_of_a_crash() {
    let Some(program) = installed(&["prometheus"]) else { return println!("skipped: prometheus is not installed") };
    let stack = stack().await;
    let admin = stack.waypost.admin_address().expect("admin is open");
    let prometheus = Prometheus::start(&program, admin, TOKEN).await;
    // It looks for targets every five seconds, and hands them on every five seconds.
    eventually!(within 30, prometheus.value("up{job=\"waypost\"}").await == 1.0);
    eventually!(within 30, requests_per_second(&prometheus, &stack).await > 0.0);
    let dashboard = Dashboard::read();
    eventually!(within 30, unanswered(&prometheus, &dashboard).await.is_empty());
    assert_eq!(prometheus.told().await, [""; 0]);
    stack.container("web-2").crash().await;
    let expected = format!("Endpoint web-2 of service shop is down for {admin}");
    eventually!(within 30, !prometheus.told().await.is_empty());
    assert_eq!(prometheus.told().await, [expected]);
    stack.container("web-2").recover().await.unwrap();
    eventually!(within 30, prometheus.told().await.is_empty());
}
