//! A config that makes its routes fail is taken back by itself, and one that does not is left alone.

use waypost_tests::{Stack, client, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    guard = { window = "20s", max_error_ratio_increase = "5%", min_requests = 20 }
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.shop]
    path_prefix = "/echo"
    service = "shop"
    [routes.other]
    path_prefix = "/other"
    service = "nobody"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
    [services.nobody]
    endpoints = [{ name = "web-9", url = "http://127.0.0.1:1" }]
"#;

/// Whether each of so many requests is answered well.
async fn all_good(stack: &Stack, path: &str) -> bool {
    let replies = stack.send_all((0..30).map(|_| client::get(path))).await;
    replies.iter().all(|reply| reply.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn config_that_breaks_its_route_is_taken_back_and_no_other() {
    let stack = Stack::start(CONFIG).await;
    assert!(all_good(&stack, "/echo").await && !all_good(&stack, "/other").await);

    // The route `shop` is another one now, and well; `other` fails as it did.
    let harmless = CONFIG.replace("path_prefix = \"/echo\"", "path_prefix = \"/echo\"\n    methods = [\"GET\"]");
    stack.reload(&harmless).await;
    assert!(all_good(&stack, "/echo").await && !all_good(&stack, "/other").await);
    assert_eq!(stack.metric("waypost_config_generation"), 2.0);

    stack.reload(&harmless.replace("service = \"shop\"", "service = \"nobody\"")).await;
    assert!(!all_good(&stack, "/echo").await);
    eventually!(stack.metric("waypost_config_generation") > 3.0);
    assert!(all_good(&stack, "/echo").await);
    assert_eq!(stack.metric("waypost_config_generation"), 4.0);
    assert_eq!(stack.metric(r#"waypost_reloads_total{result="rolled_back"}"#), 1.0);
}
