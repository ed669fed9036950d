//! What was done with a request, told to trusted clients that ask for it, and to nobody else.

use waypost_tests::client::{Reply, get, with};
use waypost_tests::{Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    trusted_proxies = ["127.0.0.0/8"]
    [routes.shop]
    path_prefix = "/echo"
    service = "fleet"
    [services.fleet]
    health_check = { path = "/health", interval = "1h", timeout = "1s" }
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
"#;

async fn asked(stack: &Stack, path: &str) -> Reply {
    stack.send(with(get(path), "x-waypost-trace", "1")).await
}

/// Without the times.
fn receipt(reply: &Reply) -> String {
    let parts = reply.header("x-waypost-trace").split(";ms=").enumerate();
    let without = parts
        .map(|(at, part)| if at == 0 { part } else { part.trim_start_matches(|c: char| "0123456789.".contains(c)) });
    without.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_client_learns_of_route_service_and_every_attempt() {
    let stack = Stack::start(CONFIG).await;
    let reply = asked(&stack, "/echo").await;
    let named = "route=\"shop\", service=\"fleet\", ";
    assert_eq!(receipt(&reply), format!("{named}attempts=(\"web-1\";outcome=response)"));
    assert!(reply.echoed("x-waypost-trace").is_empty(), "it is no business of the endpoint's");

    stack.container("web-2").crash().await;
    // One of the two is asked there first; a probe that the failure calls for takes web-2 out afterwards.
    let mut seen = Vec::new();
    eventually!({
        seen.push(receipt(&asked(&stack, "/echo").await));
        seen.iter().any(|receipt| receipt.contains("\"web-2\";outcome="))
    });
    let retried = seen.last().unwrap();
    assert!(retried.ends_with(" \"web-1\";outcome=response)"), "{retried}");
    assert_eq!(receipt(&asked(&stack, "/elsewhere").await), "attempts=()");
    assert_eq!(stack.send(with(get("/echo"), "x-waypost-trace", "0")).await.header("x-waypost-trace"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_learns_nothing() {
    let stack = Stack::start(&CONFIG.replace("127.0.0.0/8", "10.0.0.0/8")).await;
    let reply = asked(&stack, "/echo").await;
    assert_eq!(reply.header("x-waypost-trace"), "");
    assert!(reply.echoed("x-waypost-trace").is_empty());
}
