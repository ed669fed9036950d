//! Requests are spread in turn, exactly.

use waypost_tests::Stack;

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}" },
    ]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn equal_weights_share_equally() {
    let stack = Stack::start(CONFIG).await;
    let answers = stack.answers(30).await;
    for name in ["web-1", "web-2", "web-3"] {
        assert_eq!(answers.iter().filter(|answer| *answer == name).count(), 10, "{answers:?}");
    }
}
