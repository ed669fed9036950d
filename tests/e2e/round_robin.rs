//! Requests are spread in turn, exactly.

use waypost_tests::client::{self, Reply};
use waypost_tests::{Stack, routed, shop, shop_of, with_workers};

/// How many of the answers came from each container, by number.
fn counts(answers: &[String]) -> [usize; 3] {
    ["web-1", "web-2", "web-3"].map(|name| answers.iter().filter(|answer| *answer == name).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_weights_take_turns() {
    let stack = Stack::start(&shop("")).await;
    let answers = stack.answers(30).await;
    assert_eq!(counts(&answers), [10, 10, 10]);
    for turn in answers.windows(4) {
        assert_eq!(turn[0], turn[3], "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_within_one_of_the_weights_at_any_time() {
    let weights = [5.0, 1.0, 2.0];
    let stack = Stack::start(&shop_of(["weight = 5", "", "weight = 2"], "")).await;
    let answers = stack.answers(32).await;
    assert_eq!(counts(&answers), [20, 4, 8]);
    for length in 1..=answers.len() {
        for (count, weight) in counts(&answers[..length]).into_iter().zip(weights) {
            let ideal = length as f64 * weight / 8.0;
            assert!((count as f64 - ideal).abs() <= 1.0, "{count} after {length} of weight {weight}: {answers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn position_survives_a_reload() {
    let config = shop("");
    let stack = Stack::start(&config).await;
    assert_eq!(stack.answers(1).await, ["web-1"]);
    stack.reload(&routed(&config, "timeouts = { request = \"7s\" }")).await;
    assert_eq!(stack.answers(3).await, ["web-2", "web-3", "web-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_exact_however_many_workers_there_are() {
    let stack = Stack::start(&with_workers(4, &shop("retry = { max_attempts = 1 }"))).await;
    let replies = stack.send_all((0..120).map(|_| client::get("/"))).await;
    let answers: Vec<String> = replies.iter().map(Reply::upstream).collect();
    assert_eq!(counts(&answers), [40, 40, 40]);
    stack.reload(&with_workers(4, &shop_of(["weight = 3", "weight = 2", ""], ""))).await;
    let replies = stack.send_all((0..120).map(|_| client::get("/"))).await;
    let answers: Vec<String> = replies.iter().map(Reply::upstream).collect();
    assert_eq!(counts(&answers), [60, 40, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn position_survives_drains_and_their_end() {
    let stack = Stack::start(&shop("")).await;
    assert_eq!(stack.answers(2).await, ["web-1", "web-2"]);
    stack.reload(&shop_of(["", "drain = true", ""], "")).await;
    assert_eq!(counts(&stack.answers(8).await), [4, 0, 4]);
    stack.reload(&shop("")).await;
    assert_eq!(counts(&stack.answers(9).await), [3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_0_takes_no_new_clients() {
    let stack = Stack::start(&shop_of(["", "weight = 0", ""], "")).await;
    assert_eq!(counts(&stack.answers(10).await), [5, 0, 5]);
}
