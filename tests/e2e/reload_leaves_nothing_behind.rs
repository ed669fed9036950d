//! Generations that are over leave no memory, no series and no descriptors behind.

use waypost_tests::client::get;
use waypost_tests::{Connection, Conversation, Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 2
    grace_period = "100ms"
    [telemetry]
    access_log = { path = "{dir}/access-{number}.log" }
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.extra-{number}]
    address = "127.0.0.1:0"
    [middlewares]
    paint = { headers = { response_set = { x-generation = "{number}" } } }
    [routes.all]
    service = "shop"
    middlewares = ["paint"]
    [routes.extra-{number}]
    path = "/extra-{number}"
    service = "extra-{number}"
    [services.shop]
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "extra-{number}", url = "http://{web-2}" },
    ]
    [services.shop.health_check]
    path = "/health"
    interval = "1s"
    timeout = "1s"
    [services.extra-{number}]
    endpoints = [{ name = "web-3", url = "http://{web-3}" }]
"#;

fn numbered(number: usize) -> String {
    CONFIG.replace("{number}", &number.to_string())
}

/// Descriptors of this process that are of these: other tests run in the same process.
fn descriptors(stack: &Stack) -> usize {
    let folder = stack.folder();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(folder))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_reloads_leave_one_generation() {
    let stack = Stack::start(&numbered(0)).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let series = stack.metrics().lines().count();
    for number in 1..=200 {
        stack.reload(&numbered(number)).await;
        let extra = stack.address(&format!("extra-{number}"));
        let reply = Connection::http1(extra).await.send(get(&format!("/extra-{number}"))).await.unwrap();
        assert_eq!(reply.upstream(), "web-3");
        let reply = client.send(get("/")).await.unwrap();
        assert_eq!(reply.header("x-generation"), number.to_string());
    }
    assert_eq!(socket.upstream, "web-1");
    assert!(socket.echoes("of the first generation").await);
    eventually!(!(0..=198).any(|number| stack.metrics().contains(&format!("extra-{number}\""))));
    // One more generation than is serving is known: the one before, for the last requests of its listeners.
    assert!(stack.metrics().lines().count() < 2 * series, "{series} at first\n{}", stack.metrics());
    eventually!(descriptors(&stack) <= 2);
    eventually!(stack.container("web-3").connections() <= 2);
    eventually!(stack.container("web-2").connections() <= 4);
}
