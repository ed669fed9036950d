//! A client's address keeps it where it was.

use std::collections::HashSet;

use waypost_tests::client::{Reply, get, with};
use waypost_tests::{Stack, shop, shop_of, trusting};

const STICKY: &str = r#"sticky = { client_ip = "1h" }"#;

async fn from(stack: &Stack, client: &str) -> Reply {
    stack.send(with(get("/"), "x-forwarded-for", client)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_spread_and_then_stay() {
    let stack = Stack::start(&trusting(&shop(STICKY))).await;
    let mut seen = HashSet::new();
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::3"] {
        let first = from(&stack, client).await;
        assert_eq!(first.header("set-cookie"), "");
        for _ in 0..3 {
            assert_eq!(from(&stack, client).await.upstream(), first.upstream());
        }
        seen.insert(first.upstream());
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_strangers_move_nobody() {
    let stack = Stack::start(&shop(STICKY)).await;
    let first = from(&stack, "192.0.2.1").await.upstream();
    for number in 2..6 {
        assert_eq!(from(&stack, &format!("192.0.2.{number}")).await.upstream(), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_survive_a_reload_and_a_drain() {
    let stack = Stack::start(&trusting(&shop(STICKY))).await;
    assert_eq!(from(&stack, "192.0.2.1").await.upstream(), "web-1");
    stack.reload(&trusting(&shop_of(["drain = true", "", ""], STICKY))).await;
    for _ in 0..3 {
        assert_eq!(from(&stack, "192.0.2.1").await.upstream(), "web-1");
        assert_ne!(from(&stack, "192.0.2.2").await.upstream(), "web-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_moves_when_its_endpoint_fails_and_stays_there() {
    let stack = Stack::start(&trusting(&shop(STICKY))).await;
    assert_eq!(from(&stack, "192.0.2.1").await.upstream(), "web-1");
    stack.container("web-1").crash().await;
    let moved = from(&stack, "192.0.2.1").await.upstream();
    assert_ne!(moved, "web-1");
    stack.container("web-1").recover().await.unwrap();
    for _ in 0..3 {
        assert_eq!(from(&stack, "192.0.2.1").await.upstream(), moved);
    }
}
