//! A removed endpoint gets nothing new, and time for what it has.

use std::time::{Duration, Instant};

use http::StatusCode;
use waypost_tests::client::get;
use waypost_tests::{Connection, Conversation, Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    grace_period = "700ms"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

fn without_web_1() -> String {
    CONFIG.replace("web-1", "web-2")
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_flight_is_finished_and_no_other_follows() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let download = tokio::spawn(async move { client.send(get("/trickle?bytes=50&every=20ms")).await });
    eventually!(stack.container("web-1").requests() == 1);
    stack.reload(&without_web_1()).await;
    assert_eq!(stack.answers(10).await, ["web-2"; 10]);
    let reply = download.await.unwrap().unwrap();
    assert_eq!((reply.upstream().as_str(), reply.body.len()), ("web-1", 50));
    assert_eq!(stack.container("web-1").requests(), 1);
    eventually!(!stack.metrics().contains(r#"endpoint="web-1""#));
    eventually!(stack.container("web-1").connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_websockets_get_the_drain_time_and_then_1001() {
    let stack = Stack::start(CONFIG).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    let removed = Instant::now();
    stack.reload(&without_web_1()).await;
    assert!(socket.echoes("goes on for now").await);
    let unhurried = tokio::time::timeout(Duration::from_secs(10), socket.ended()).await;
    assert_eq!(unhurried.expect("it is closed"), Some(1001));
    assert!(removed.elapsed() >= Duration::from_millis(700), "{:?}", removed.elapsed());
    let mut next = Conversation::open(stack.address("web")).await;
    assert_eq!(next.upstream, "web-2");
    assert!(next.echoes("hello").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_others_stay() {
    let both = CONFIG.replace("endpoints = [", "endpoints = [{ name = \"web-3\", url = \"http://{web-3}\" }, ");
    let stack = Stack::start(&both).await;
    let mut sockets = [Conversation::open(stack.address("web")).await, Conversation::open(stack.address("web")).await];
    sockets.sort_by(|one, other| one.upstream.cmp(&other.upstream));
    stack.reload(&both.replace(", { name = \"web-1\", url = \"http://{web-1}\" }", "")).await;
    let [gone, stays] = &mut sockets;
    assert_eq!(gone.ended().await, Some(1001));
    assert!(stays.echoes("still there").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_service_finishes_what_it_has() {
    let two = format!(
        "{CONFIG}[services.blog]\nendpoints = [{{ name = \"web-3\", url = \"http://{{web-3}}\" }}]\n\
         [routes.blog]\npath_prefix = \"/trickle\"\nservice = \"blog\"\n"
    );
    let stack = Stack::start(&two).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let download = tokio::spawn(async move { client.send(get("/trickle?bytes=20&every=20ms")).await });
    eventually!(stack.container("web-3").requests() == 1);
    stack.reload(CONFIG).await;
    let reply = download.await.unwrap().unwrap();
    assert_eq!((reply.status, reply.upstream().as_str(), reply.body.len()), (StatusCode::OK, "web-3", 20));
}
