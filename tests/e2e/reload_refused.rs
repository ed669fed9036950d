//! A config that cannot serve changes nothing, and everybody who looks can see why.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use http::StatusCode;
use waypost_tests::{Stack, eventually};

const GOOD: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

async fn old_one_serves(stack: &Stack) {
    assert_eq!(stack.get("/").await.upstream(), "web-1");
    assert_eq!(stack.metric("waypost_config_generation"), 1.0);
}

async fn refused_config_is_visible_until_mended(broken: &str) {
    let stack = Stack::start(GOOD).await;
    fs::write(stack.config(), stack.filled(broken)).unwrap();
    eventually!(stack.metric("waypost_config_last_reload_success") == 0.0);
    assert!(stack.metric(r#"waypost_reloads_total{result="refused"}"#) >= 1.0);
    old_one_serves(&stack).await;

    // The watcher may have seen the file half-way; what it says in the end is what the call says.
    let answer = stack.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["error"], "config_refused");
    let view = stack.admin("GET", "/api/config").await.json();
    assert_eq!(view["generation"], 1);
    let problem = &view["refused"]["problems"][0];
    assert!(problem["line"].as_u64() >= Some(1) && problem["column"].as_u64() >= Some(1), "{view}");
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("waypost.toml")), "{view}");
    assert_eq!(answer.json()["problems"][0], *problem);

    stack.write(&GOOD.replace("web-1", "web-2"));
    eventually!(stack.metric("waypost_config_last_reload_success") == 1.0);
    assert_eq!(stack.get("/").await.upstream(), "web-2");
    assert_eq!(stack.admin("GET", "/api/config").await.json()["refused"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_file_keeps_the_old_generation() {
    refused_config_is_visible_until_mended("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_of_comments_keeps_the_old_generation() {
    refused_config_is_visible_until_mended("# nothing\n\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_file_keeps_the_old_generation() {
    let half = GOOD.find("{ name").unwrap() + 4;
    refused_config_is_visible_until_mended(&GOOD[..half]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_without_its_last_lines_keeps_the_old_generation() {
    refused_config_is_visible_until_mended(&GOOD[..GOOD.find("[services.shop]").unwrap()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistyped_key_keeps_the_old_generation() {
    refused_config_is_visible_until_mended(&GOOD.replace("service =", "sevrice =")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_say_line_and_column() {
    let stack = Stack::start(GOOD).await;
    let broken = GOOD.replace("workers = 1", "workers = 1\n    wrokers = 2");
    stack.write(&broken);
    let answer = stack.admin("POST", "/api/reload").await.json();
    let line = broken.lines().position(|line| line.contains("wrokers")).unwrap() + 1;
    assert_eq!(answer["problems"][0]["line"], line);
    assert_eq!(answer["problems"][0]["column"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_file_keeps_the_old_generation() {
    let stack = Stack::start(GOOD).await;
    fs::remove_file(stack.config()).unwrap();
    let answer = stack.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.json()["problems"][0]["message"].as_str().is_some_and(|text| text.contains("waypost.toml")));
    assert_eq!(stack.metric("waypost_config_last_reload_success"), 0.0);
    old_one_serves(&stack).await;

    stack.write(&GOOD.replace("web-1", "web-2"));
    eventually!(stack.get("/").await.upstream() == "web-2");
    assert_eq!(stack.metric("waypost_config_last_reload_success"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_port_refuses_all_of_the_change() {
    let stack = Stack::start(GOOD).await;
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = somebody.local_addr().unwrap();
    let changed = GOOD.replace("web-1", "web-2");
    let more = format!(
        "{changed}[listeners.free]\naddress = \"127.0.0.1:0\"\n[listeners.taken]\naddress = \"{taken}\"\n\
         [telemetry]\naccess_log = {{ path = \"{{dir}}/access.log\" }}\n"
    );
    let refusal = stack.refusal(&more).await.to_string();
    assert!(refusal.contains("taken") && refusal.contains(&taken.to_string()), "{refusal}");
    old_one_serves(&stack).await;
    assert_eq!(stack.waypost.addresses().len(), 1, "no other listener was opened");
    // The watcher has seen the file, too, and may be on its way to the same refusal.
    eventually!(!stack.metrics().contains(r#"listener="free""#));

    drop(somebody);
    stack.waypost.reload().await.unwrap();
    assert_eq!(stack.get("/").await.upstream(), "web-2");
    assert_eq!(stack.waypost.addresses().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn port_that_is_just_being_let_go_of_is_waited_for() {
    let stack = Stack::start(GOOD).await;
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("{GOOD}[listeners.extra]\naddress = \"{}\"\n", somebody.local_addr().unwrap());
    let lets_go = async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        drop(somebody);
    };
    tokio::join!(stack.reload(&more), lets_go);
    assert_eq!(stack.waypost.addresses().len(), 2);
}

async fn fixed_setting_is_refused_with_the_reason(from: &str, to: &str, name: &str) {
    let stack = Stack::start(GOOD).await;
    let changed = GOOD.replace("web-1", "web-2").replace(from, to);
    let refusal = stack.refusal(&changed).await.to_string();
    assert!(refusal.contains(&format!("`{name}` cannot change while the process runs")), "{refusal}");
    let answer = stack.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().contains(name), "{}", answer.text());
    old_one_serves(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fixed_at_start_is_refused_with_the_reason() {
    fixed_setting_is_refused_with_the_reason("workers = 1", "workers = 2", "server.workers").await;
    let socket = "workers = 1\nupgrade_socket = \"{dir}/upgrade.sock\"";
    fixed_setting_is_refused_with_the_reason("workers = 1", socket, "server.upgrade_socket").await;
    let ready = "[admin]\nready_needs_endpoints = true";
    fixed_setting_is_refused_with_the_reason("[admin]", ready, "admin").await;
    let format = "[telemetry]\nlog = { format = \"json\" }\n[admin]";
    fixed_setting_is_refused_with_the_reason("[admin]", format, "telemetry.log.format").await;
}
