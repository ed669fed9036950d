//! A draining endpoint takes no new clients and keeps the pinned ones, by the file and by an operator.

use http::StatusCode;
use waypost_tests::client::{self, Reply, get, with};
use waypost_tests::{Stack, shop, shop_of};

const STICKY: &str = r#"sticky = { cookie = "lb" }"#;

/// An operator's order to the admin API.
async fn order(stack: &Stack, endpoint: &str, what: &str) -> Reply {
    let address = stack.waypost.admin_address().expect("the config has an admin address");
    let path = format!("/api/services/shop/endpoints/{endpoint}/{what}");
    let mut request = client::request("POST", &path, "");
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    client::send(address, request).await.unwrap()
}

fn with_admin(config: &str) -> String {
    format!("{config}\n[admin]\naddress = \"127.0.0.1:0\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_drained_in_the_file_takes_no_new_clients() {
    let stack = Stack::start(&shop_of(["", "drain = true", ""], "")).await;
    assert_eq!(stack.answers(4).await, ["web-1", "web-3", "web-1", "web-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_endpoint_keeps_pinned_clients() {
    let stack = Stack::start(&shop(STICKY)).await;
    let first = stack.get("/").await;
    assert_eq!(first.upstream(), "web-1");
    stack.reload(&shop_of(["drain = true", "", ""], STICKY)).await;
    for _ in 0..3 {
        let reply = stack.send(with(get("/"), "cookie", &first.cookie())).await;
        assert_eq!((reply.upstream().as_str(), reply.header("set-cookie")), ("web-1", ""));
    }
    assert!(!stack.answers(6).await.contains(&"web-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_drains_an_endpoint_and_ends_that() {
    let stack = Stack::start(&with_admin(&shop(STICKY))).await;
    let pinned = stack.get("/").await;
    assert_eq!(pinned.upstream(), "web-1");
    assert!(order(&stack, "web-1", "drain").await.status.is_success());
    assert!(!stack.answers(6).await.contains(&"web-1".to_owned()));
    let again = stack.send(with(get("/"), "cookie", &pinned.cookie())).await;
    assert_eq!(again.upstream(), "web-1");
    assert!(stack.metrics().contains(r#"waypost_endpoint_draining{endpoint="web-1",service="shop"} 1"#));
    assert!(order(&stack, "web-1", "undrain").await.status.is_success());
    assert!(stack.answers(3).await.contains(&"web-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_drain_survives_a_reload() {
    let stack = Stack::start(&with_admin(&shop(""))).await;
    assert!(order(&stack, "web-2", "drain").await.status.is_success());
    stack.reload(&with_admin(&shop("max_in_flight = 100"))).await;
    assert!(!stack.answers(6).await.contains(&"web-2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_an_unknown_endpoint_is_404() {
    let stack = Stack::start(&with_admin(&shop(""))).await;
    assert_eq!(order(&stack, "web-9", "drain").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_that_drains_as_a_whole_answers_new_clients_503_and_serves_the_pinned() {
    let stack = Stack::start(&shop(STICKY)).await;
    let pinned = stack.get("/").await;
    stack.reload(&shop_of(["drain = true"; 3], STICKY)).await;
    let new = stack.get("/").await;
    assert_eq!((new.status, new.reason()), (StatusCode::SERVICE_UNAVAILABLE, "no_endpoint"));
    let again = stack.send(with(get("/"), "cookie", &pinned.cookie())).await;
    assert_eq!(again.upstream(), pinned.upstream());
}
