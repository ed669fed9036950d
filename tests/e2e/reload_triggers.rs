//! Whichever way a new config comes into its place, it serves; the same config again does nothing.

use std::fs;
use std::os::unix::fs::symlink;

use http::StatusCode;
use waypost_tests::{Stack, eventually};

const BEFORE: &str = r#"
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

fn after() -> String {
    BEFORE.replace("web-1", "web-2")
}

async fn becomes_visible(stack: &Stack) {
    eventually!(stack.get("/").await.upstream() == "web-2");
    assert_eq!(stack.metric("waypost_config_generation"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_renamed_into_place_serves() {
    let stack = Stack::start(BEFORE).await;
    assert_eq!(stack.get("/").await.upstream(), "web-1");
    stack.write(&after());
    becomes_visible(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_written_in_place_serves() {
    let stack = Stack::start(BEFORE).await;
    fs::write(stack.config(), stack.filled(&after())).unwrap();
    becomes_visible(&stack).await;
}

/// On one thread nothing but the start has run when it returns: not even the watcher has begun.
#[tokio::test]
async fn file_written_during_the_start_serves() {
    let stack = Stack::start(BEFORE).await;
    fs::write(stack.config(), stack.filled(&after())).unwrap();
    becomes_visible(&stack).await;
}

#[tokio::test]
async fn file_deleted_during_the_start_is_told_of() {
    let stack = Stack::start(BEFORE).await;
    fs::remove_file(stack.config()).unwrap();
    eventually!(stack.metric("waypost_config_last_reload_success") == 0.0);
    assert_eq!(stack.get("/").await.upstream(), "web-1");
}

/// As Kubernetes mounts a `ConfigMap`: the file is a link into `..data`, which is a link to a folder, and that link
/// is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_symlink_of_a_folder_serves() {
    let stack = Stack::start(BEFORE).await;
    let at = |name: &str| stack.folder().join(name);
    for (folder, config) in [("..v1", BEFORE), ("..v2", &after())] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join("waypost.toml"), stack.filled(config)).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/waypost.toml", at("link")).unwrap();
    fs::rename(at("link"), stack.config()).unwrap();
    assert_eq!(stack.waypost.reload().await.unwrap().generation, 1, "the content is the same");

    symlink("..v2", at("..data.next")).unwrap();
    fs::rename(at("..data.next"), at("..data")).unwrap();
    becomes_visible(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_call_answers_when_the_new_generation_serves() {
    let stack = Stack::start(BEFORE).await;
    stack.write(&after());
    let answer = stack.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["generation"], 2);
    assert_eq!(stack.get("/").await.upstream(), "web-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_is_no_new_generation() {
    let stack = Stack::start(BEFORE).await;
    stack.write(BEFORE);
    let answer = stack.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["changes"], serde_json::json!([]));
    stack.write(&BEFORE.replace("version = 1", "# a comment changes nothing\nversion = 1"));
    assert_eq!(stack.waypost.reload().await.unwrap().generation, 1);
    assert_eq!(stack.metric("waypost_config_generation"), 1.0);
    assert!(stack.metric(r#"waypost_reloads_total{result="unchanged"}"#) >= 2.0);
    assert_eq!(stack.metric(r#"waypost_reloads_total{result="applied"}"#), 1.0, "only the first config was applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_all_get_an_answer() {
    let stack = Stack::start(BEFORE).await;
    stack.write(&after());
    let calls = (0..20).map(|_| stack.waypost.reload());
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().generation, 2);
    }
}
