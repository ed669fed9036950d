//! Everything that may change while the process runs does, from the next request on.

use std::fs;

use http::StatusCode;
use tokio::net::TcpStream;
use waypost_tests::client::{self, get};
use waypost_tests::{Connection, Stack, eventually};

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
    ]
"#;

fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn route_comes_and_goes() {
    let stack = Stack::start(&CONFIG.replace("[routes.all]", "[routes.all]\npath_prefix = \"/a\"")).await;
    assert_eq!(stack.get("/").await.status, StatusCode::NOT_FOUND);
    stack.reload(CONFIG).await;
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    stack.reload(&CONFIG.replace("[routes.all]", "[routes.all]\npath = \"/echo\"")).await;
    assert_eq!(stack.get("/").await.reason(), "no_route");
    assert_eq!(stack.get("/echo").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connection_follows_the_new_generation() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Connection::http1(stack.address("web")).await;
    assert_eq!(client.send(get("/")).await.unwrap().status, StatusCode::OK);
    stack.reload(&CONFIG.replace("[routes.all]", "[routes.all]\npath = \"/echo\"")).await;
    assert_eq!(client.send(get("/")).await.unwrap().status, StatusCode::NOT_FOUND);
    assert!(!client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn service_comes_and_goes() {
    let stack = Stack::start(CONFIG).await;
    let more = format!(
        "{CONFIG}[services.blog]\nendpoints = [{{ name = \"web-3\", url = \"http://{{web-3}}\" }}]\n\
         [routes.blog]\npath_prefix = \"/echo\"\nservice = \"blog\"\n"
    );
    stack.reload(&more).await;
    assert_eq!(stack.get("/echo").await.upstream(), "web-3");
    assert!(stack.metrics().contains(r#"service="blog""#));
    stack.reload(CONFIG).await;
    assert_ne!(stack.get("/echo").await.upstream(), "web-3");
    eventually!(!stack.metrics().contains(r#"service="blog""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_comes_and_goes() {
    let stack = Stack::start(CONFIG).await;
    let line = r#"{ name = "web-2", url = "http://{web-2}" },"#;
    stack.reload(&CONFIG.replace(line, &format!("{line}{}", line.replace("web-2", "web-3")))).await;
    let answers = stack.answers(30).await;
    assert_eq!((count(&answers, "web-1"), count(&answers, "web-2"), count(&answers, "web-3")), (10, 10, 10));
    stack.reload(&CONFIG.replace(line, "")).await;
    assert_eq!(count(&stack.answers(10).await, "web-1"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_of_the_same_name_moves() {
    let stack = Stack::start(CONFIG).await;
    stack.reload(&CONFIG.replace("http://{web-2}", "http://{web-3}")).await;
    let answers = stack.answers(10).await;
    assert_eq!((count(&answers, "web-1"), count(&answers, "web-3")), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_changes() {
    let stack = Stack::start(CONFIG).await;
    assert_eq!(count(&stack.answers(20).await, "web-1"), 10);
    stack.reload(&CONFIG.replace(r#""http://{web-1}""#, r#""http://{web-1}", weight = 3"#)).await;
    assert_eq!(count(&stack.answers(20).await, "web-1"), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_mark_in_the_file_stops_new_clients() {
    let stack = Stack::start(CONFIG).await;
    stack.reload(&CONFIG.replace(r#""http://{web-1}""#, r#""http://{web-1}", drain = true"#)).await;
    assert_eq!(count(&stack.answers(10).await, "web-2"), 10);
    stack.reload(CONFIG).await;
    assert_eq!(count(&stack.answers(10).await, "web-1"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn middleware_changes() {
    let stack = Stack::start(CONFIG).await;
    let with = |colour: &str| {
        let chained = CONFIG.replace("[routes.all]", "[routes.all]\nmiddlewares = [\"paint\"]");
        format!("{chained}[middlewares]\npaint = {{ headers = {{ response_set = {{ x-colour = \"{colour}\" }} }} }}\n")
    };
    stack.reload(&with("red")).await;
    assert_eq!(stack.get("/").await.header("x-colour"), "red");
    stack.reload(&with("blue")).await;
    assert_eq!(stack.get("/").await.header("x-colour"), "blue");
    stack.reload(CONFIG).await;
    assert_eq!(stack.get("/").await.header("x-colour"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_opens_and_closes() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    stack.reload(&format!("{CONFIG}[listeners.extra]\naddress = \"127.0.0.1:0\"\n")).await;
    let extra = stack.address("extra");
    assert_eq!(client::send(extra, get("/")).await.unwrap().status, StatusCode::OK);
    let mut stays = Connection::http1(extra).await;
    stays.send(get("/")).await.unwrap();

    stack.reload(CONFIG).await;
    eventually!(TcpStream::connect(extra).await.is_err());
    eventually!(stays.is_closed());
    assert_eq!(stack.waypost.address("extra"), None);
    assert_eq!(stack.address("web"), web, "the other one is not touched");
    let other = CONFIG.replace("[routes.all]", "[routes.every]");
    stack.reload(&other).await;
    eventually!(!stack.metrics().contains(r#"listener="extra""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_a_closed_listener_may_ask_once_more_however_many_reloads_followed() {
    let stack = Stack::start(CONFIG).await;
    stack.reload(&format!("{CONFIG}[listeners.extra]\naddress = \"127.0.0.1:0\"\n")).await;
    let mut client = Connection::http1(stack.address("extra")).await;
    client.send(get("/")).await.unwrap();
    stack.reload(CONFIG).await;
    stack.reload(&CONFIG.replace("[routes.all]", "[routes.every]")).await;
    let last = client.send(get("/")).await.unwrap();
    assert_eq!((last.status, last.header("connection")), (StatusCode::OK, "close"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_moves() {
    let stack = Stack::start(CONFIG).await;
    let before = stack.address("web");
    let mut slow = Connection::http1(before).await;
    let answer = tokio::spawn(async move { slow.send(get("/delay/500ms")).await });
    eventually!(stack.figure("waypost_requests_in_flight", &[("route", "all")]) == 1.0);
    stack.reload(&CONFIG.replace("127.0.0.1:0", "127.0.0.2:0")).await;
    assert_eq!(stack.address("web").ip().to_string(), "127.0.0.2");
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    eventually!(TcpStream::connect(before).await.is_err());
    assert_eq!(answer.await.unwrap().unwrap().status, StatusCode::OK, "what was in flight is finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_is_renamed_without_closing_its_port() {
    let stack = Stack::start(CONFIG).await;
    // A socket without a fixed port belongs to its name: this one has to be told its port to be recognised.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fixed = CONFIG.replace("127.0.0.1:0", &free.to_string());
    stack.reload(&fixed).await;
    let requests = async {
        for _ in 0..200 {
            assert_eq!(client::send(free, get("/")).await.unwrap().status, StatusCode::OK);
        }
    };
    let renamings = async {
        for name in ["[listeners.www]", "[listeners.web]", "[listeners.front]"] {
            stack.reload(&fixed.replace("[listeners.web]", name)).await;
        }
    };
    tokio::join!(requests, renamings);
    assert_eq!(stack.address("front"), free);
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_comes_back_at_the_port_it_had() {
    let stack = Stack::start(CONFIG).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!("{CONFIG}[listeners.extra]\naddress = \"{free}\"\n");
    for _ in 0..50 {
        stack.reload(&more).await;
        let mut client = Connection::http1(free).await;
        assert_eq!(client.send(get("/")).await.unwrap().status, StatusCode::OK);
        stack.reload(CONFIG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_of_a_listener_changes_for_open_connections_too() {
    let stack = Stack::start(CONFIG).await;
    let long = format!("/{}", "x".repeat(2000));
    let mut client = Connection::http1(stack.address("web")).await;
    assert_eq!(client.send(get(&long)).await.unwrap().status, StatusCode::NOT_FOUND, "the container has no such page");
    stack.reload(&CONFIG.replace("[listeners.web]", "[listeners.web]\nlimits = { uri_bytes = \"1KiB\" }")).await;
    assert_eq!(client.send(get(&long)).await.unwrap().status, StatusCode::URI_TOO_LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeout_changes() {
    let stack = Stack::start(CONFIG).await;
    assert_eq!(stack.get("/delay/400ms").await.status, StatusCode::OK);
    let short = "[services.shop]\ntimeouts = { response = \"100ms\" }\nretry = { max_attempts = 1 }";
    stack.reload(&CONFIG.replace("[services.shop]", short)).await;
    assert_eq!(stack.get("/delay/10s").await.status, StatusCode::GATEWAY_TIMEOUT);
    let route = "[routes.all]\ntimeouts = { request = \"100ms\" }";
    stack.reload(&CONFIG.replace("[routes.all]", route)).await;
    assert_eq!(stack.get("/delay/10s").await.status, StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_begins_moves_and_ends() {
    let stack = Stack::start(CONFIG).await;
    let to =
        |name: &str| format!("{CONFIG}[telemetry]\naccess_log = {{ path = \"{{dir}}/{name}\", format = \"json\" }}\n");
    let has =
        |name: &str, path: &str| fs::read_to_string(stack.folder().join(name)).is_ok_and(|lines| lines.contains(path));
    stack.reload(&to("one.log")).await;
    stack.get("/status/201").await;
    eventually!(has("one.log", "/status/201"));
    stack.reload(&to("two.log")).await;
    stack.get("/status/202").await;
    eventually!(has("two.log", "/status/202"));
    assert!(!has("one.log", "/status/202"));
    stack.reload(CONFIG).await;
    stack.get("/status/203").await;
    stack.reload(&to("two.log")).await;
    stack.get("/status/204").await;
    eventually!(has("two.log", "/status/204"));
    assert!(!has("two.log", "/status/203"), "nothing was written while there was no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_check_begins_changes_and_ends() {
    let stack = Stack::start(CONFIG).await;
    let check = |path: &str| {
        format!(
            "{CONFIG}[services.shop.health_check]\npath = \"{path}\"\ninterval = \"50ms\"\ntimeout = \"50ms\"\nfall = 3\n"
        )
    };
    assert_eq!(stack.container("web-1").probes(), 0);
    stack.reload(&check("/health")).await;
    eventually!(stack.container("web-1").probes() > 2);
    assert_eq!(count(&stack.answers(10).await, "web-1"), 5);
    stack.reload(&check("/status/500")).await;
    eventually!(stack.metric(r#"waypost_service_endpoints_available{service="shop"}"#) == 0.0);
    assert_eq!(stack.get("/").await.reason(), "no_endpoint");
    stack.reload(CONFIG).await;
    assert_eq!(count(&stack.answers(10).await, "web-1"), 5);
    let before = stack.container("web-1").requests();
    assert_eq!(count(&stack.answers(100).await, "web-1"), 50);
    assert_eq!(stack.container("web-1").requests() - before, 50, "nobody is probed any more");
}
