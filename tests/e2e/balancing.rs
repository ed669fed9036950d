//! Which endpoint a request gets beside its turn: backups, full endpoints, and the balancers other than round robin.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::StatusCode;
use waypost_tests::client::{Reply, get, with};
use waypost_tests::{CHECKED, Container, Stack, eventually, shop, shop_of, trusting};

#[tokio::test(flavor = "multi_thread")]
async fn backup_serves_only_when_no_other_is_available() {
    let stack = Stack::start(&shop_of(["", "", "backup = true"], CHECKED)).await;
    assert!(!stack.answers(10).await.contains(&"web-3".to_owned()));
    stack.container("web-1").set_health(StatusCode::INTERNAL_SERVER_ERROR);
    eventually!(!stack.answers(4).await.contains(&"web-1".to_owned()));
    assert_eq!(stack.answers(3).await, ["web-2"; 3]);
    stack.container("web-2").set_health(StatusCode::INTERNAL_SERVER_ERROR);
    eventually!(stack.answers(3).await == ["web-3"; 3]);
    stack.container("web-1").set_health(StatusCode::OK);
    eventually!(stack.answers(3).await == ["web-1"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_tried_when_all_others_have_failed() {
    let stack = Stack::start(&shop_of(["", "weight = 0", "backup = true"], "")).await;
    stack.container("web-1").crash().await;
    assert_eq!(stack.answers(3).await, ["web-3"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_serves_when_all_others_are_full() {
    let endpoints = ["max_in_flight = 1", "max_in_flight = 1", "backup = true"];
    let stack = Stack::start(&shop_of(endpoints, "")).await;
    let replies = stack.send_all((0..3).map(|_| get("/delay/300ms"))).await;
    let mut answers: Vec<String> = replies.iter().map(Reply::upstream).collect();
    answers.sort();
    assert_eq!(answers, ["web-1", "web-2", "web-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_endpoint_is_passed_over() {
    let stack = Stack::start(&shop_of(["max_in_flight = 1", "", ""], "")).await;
    let slow = stack.send(get("/delay/400ms"));
    let others = async {
        eventually!(stack.container("web-1").requests() == 1);
        stack.answers(6).await
    };
    let (slow, others) = tokio::join!(slow, others);
    assert_eq!(slow.upstream(), "web-1");
    assert!(!others.contains(&"web-1".to_owned()), "{others:?}");
    assert!(stack.answers(3).await.contains(&"web-1".to_owned()), "free again when its request is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_service_answers_503_overloaded_with_retry_after() {
    let stack = Stack::start(&shop("max_in_flight = 2")).await;
    let full = stack.send_all((0..2).map(|_| get("/delay/400ms")));
    let one_more = async {
        eventually!(stack.fleet.containers().iter().map(Container::requests).sum::<u64>() == 2);
        stack.get("/").await
    };
    let (full, one_more) = tokio::join!(full, one_more);
    assert!(full.iter().all(|reply| reply.status == StatusCode::OK));
    assert_eq!((one_more.status, one_more.reason()), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    assert!(!one_more.header("retry-after").is_empty());
    assert_eq!(stack.get("/").await.status, StatusCode::OK, "room again when the others are over");
}

#[tokio::test(flavor = "multi_thread")]
async fn least_request_avoids_the_busy_endpoint() {
    let stack = Stack::start(&shop(r#"balancer = "least_request""#)).await;
    let busy = stack.send(get("/delay/500ms"));
    let others = async {
        eventually!(stack.fleet.containers().iter().any(|container| container.requests() == 1));
        stack.answers(8).await
    };
    let (busy, others) = tokio::join!(busy, others);
    assert!(!others.contains(&busy.upstream()), "{} is busy: {others:?}", busy.upstream());
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reaches_every_endpoint_about_equally() {
    let stack = Stack::start(&shop(r#"balancer = "random""#)).await;
    let answers = stack.answers(150).await;
    for name in ["web-1", "web-2", "web-3"] {
        // The standard deviation is below 6: less than one run in a million falls out of these.
        let count = answers.iter().filter(|answer| *answer == name).count();
        assert!((19..=81).contains(&count), "{count} of 150 at {name}");
    }
}

/// The same key always gets the same endpoint, and twenty keys get all of them.
async fn check_hash(key: &str, field: &'static str, value: impl Fn(usize) -> String) {
    let config = trusting(&shop(&format!("balancer = \"hash\"\nhash_key = \"{key}\"")));
    let stack = Stack::start(&config).await;
    let mut seen = HashSet::new();
    for number in 0..20 {
        let request = || with(get("/"), field, &value(number));
        let first = stack.send(request()).await.upstream();
        assert_eq!(stack.send(request()).await.upstream(), first, "{key} {number}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_key_hashes_to_the_same_endpoint() {
    check_hash("header:x-tenant", "x-tenant", |number| format!("tenant-{number}")).await;
    check_hash("cookie:user", "cookie", |number| format!("a=b; user=u{number}")).await;
    check_hash("client_ip", "x-forwarded-for", |number| format!("192.0.2.{number}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_path_hashes_to_the_same_endpoint_whatever_the_query() {
    let stack = Stack::start(&shop("balancer = \"hash\"\nhash_key = \"path\"")).await;
    let mut seen = HashSet::new();
    for number in 0..20 {
        let first = stack.get(&format!("/bytes/{number}")).await.upstream();
        assert_eq!(stack.get(&format!("/bytes/{number}?a=b")).await.upstream(), first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_stay_when_an_endpoint_goes() {
    let hash = "balancer = \"hash\"\nhash_key = \"header:x-tenant\"";
    let stack = Stack::start(&shop(hash)).await;
    let place = async |stack: &Stack| {
        let mut places = HashMap::new();
        for number in 0..30 {
            let request = with(get("/"), "x-tenant", &format!("tenant-{number}"));
            places.insert(number, stack.send(request).await.upstream());
        }
        places
    };
    let before = place(&stack).await;
    stack.reload(&shop_of(["", "drain = true", ""], hash)).await;
    let after = place(&stack).await;
    for (number, endpoint) in before {
        assert!(endpoint == "web-2" || after[&number] == endpoint, "tenant-{number} left {endpoint}");
        assert_ne!(after[&number], "web-2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_full_answers_503_at_once() {
    let full = "max_in_flight = 1";
    let stack = Stack::start(&shop_of([full; 3], "")).await;
    let replies = stack.send_all((0..4).map(|_| get("/delay/300ms")));
    let replies = tokio::time::timeout(Duration::from_secs(5), replies).await.expect("nobody waits for a place");
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == StatusCode::SERVICE_UNAVAILABLE).collect();
    assert_eq!(refused.len(), 1);
    assert!(!refused[0].header("retry-after").is_empty());
}
