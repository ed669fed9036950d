//! A process that is told to stop finishes what it has, and goes as soon as that is done.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waypost::drain::Tunnels;
use waypost_tests::client::get;
use waypost_tests::{Connection, Conversation, Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

fn with(server: &str) -> String {
    CONFIG.replace("workers = 1", &format!("workers = 1\n{server}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_process_stops_at_once() {
    let stack = Stack::start(CONFIG).await;
    let mut idle = [Connection::http1(stack.address("web")).await, Connection::http2(stack.address("web")).await];
    for client in &mut idle {
        client.send(get("/")).await.unwrap();
    }
    let begun = Instant::now();
    stack.waypost.drain(Tunnels::EndLast).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for client in idle {
        eventually!(client.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_draining_before_listeners_close() {
    let stack = Stack::start(&with("drain_delay = \"400ms\"")).await;
    assert_eq!(stack.admin("GET", "/ready").await.status, StatusCode::OK);
    let web = stack.address("web");
    let watched = async {
        eventually!(stack.admin("GET", "/ready").await.status == StatusCode::SERVICE_UNAVAILABLE);
        assert!(stack.admin("GET", "/ready").await.text().contains("draining"));
        assert_eq!(stack.get("/").await.status, StatusCode::OK, "listeners are open for the delay");
        eventually!(TcpStream::connect(web).await.is_err());
    };
    let begun = Instant::now();
    tokio::join!(stack.waypost.drain(Tunnels::EndLast), watched);
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_period_counts_from_the_signal_the_delay_included() {
    let stack = Stack::start(&with("drain_delay = \"1s\"\ngrace_period = \"1s\"")).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let begun = Instant::now();
    let cut = client.send(get("/delay/9s"));
    let drain = async {
        eventually!(stack.container("web-1").requests() == 1);
        let begun = Instant::now();
        stack.waypost.drain(Tunnels::EndLast).await;
        begun.elapsed()
    };
    tokio::select! {
        _ = cut => panic!("answered after {:?}", begun.elapsed()),
        taken = drain => assert!(taken < Duration::from_millis(1900), "{taken:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answer_is_whole_and_the_last_of_its_connection() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let answer = async { client.send(get("/delay/600ms")).await.unwrap() };
    let drain = async {
        eventually!(stack.container("web-1").requests() == 1);
        stack.waypost.drain(Tunnels::EndLast).await;
    };
    let (reply, ()) = tokio::join!(answer, drain);
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("connection"), "close");
    eventually!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn download_in_flight_is_whole() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let head = client.open(get("/trickle?bytes=40&every=20ms")).await.unwrap();
    let (body, ()) = tokio::join!(head.into_body().collect(), stack.waypost.drain(Tunnels::EndLast));
    assert_eq!(body.unwrap().to_bytes().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_streams_finish_and_no_new_one_begins() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    let mut client = Connection::http2(web).await;
    let head = client.open(get("/trickle?bytes=40&every=20ms")).await.unwrap();
    let body = tokio::spawn(head.into_body().collect());
    let refused = async {
        eventually!(TcpStream::connect(web).await.is_err());
        // GOAWAY came with the end of the listener, or comes soon after it.
        eventually!(client.send(get("/")).await.is_err());
    };
    tokio::join!(refused, stack.waypost.drain(Tunnels::EndLast));
    assert_eq!(body.await.unwrap().unwrap().to_bytes().len(), 40);
    eventually!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_had_connected_before_is_served() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    let connected = join_all((0..50).map(|_| TcpStream::connect(web))).await;
    let mut clients: Vec<_> = connected.into_iter().map(Result::unwrap).collect();
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\nhost: test.example\r\n\r\n").await.unwrap();
    }
    stack.waypost.drain(Tunnels::EndLast).await;
    // Nothing is left to do: what has not been answered now never will be.
    stack.waypost.end().await;
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_has_not_spoken_yet_may_do_so() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    let mut client = TcpStream::connect(web).await.unwrap();
    let request = async {
        eventually!(TcpStream::connect(web).await.is_err());
        client.write_all(b"GET / HTTP/1.1\r\nhost: test.example\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        assert!(answer.contains("connection: close"), "{answer:?}");
    };
    tokio::join!(stack.waypost.drain(Tunnels::EndLast), request);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_never_speaks_is_not_waited_for() {
    let stack = Stack::start(CONFIG).await;
    let mut client = TcpStream::connect(stack.address("web")).await.unwrap();
    let begun = Instant::now();
    stack.waypost.drain(Tunnels::EndLast).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_told_to_go_when_all_else_is_done() {
    let stack = Stack::start(CONFIG).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let begun = Instant::now();
    let conversation = async {
        eventually!(stack.container("web-1").requests() == 2);
        assert!(socket.echoes("others are still at it").await);
        let code = socket.ended().await;
        (code, begun.elapsed())
    };
    let answer = async {
        let reply = client.send(get("/delay/600ms")).await.unwrap();
        (reply.status, begun.elapsed())
    };
    let drain = async {
        eventually!(stack.container("web-1").requests() == 2);
        stack.waypost.drain(Tunnels::EndLast).await;
    };
    let ((code, closed), (status, answered), ()) = tokio::join!(conversation, answer, drain);
    assert_eq!((status, code), (StatusCode::OK, Some(1001)));
    assert!(closed >= Duration::from_millis(600), "{closed:?} is before the answer, {answered:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_period_is_the_latest_end() {
    let stack = Stack::start(&with("grace_period = \"500ms\"")).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let begun = Instant::now();
    let hangs = client.send(get("/delay/1m"));
    let drain = async {
        eventually!(stack.container("web-1").requests() == 2);
        stack.waypost.drain(Tunnels::EndLast).await;
    };
    tokio::select! {
        answer = hangs => panic!("{answer:?}"),
        () = drain => {}
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(socket.ended().await, Some(1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_hand_over_websockets_live_on() {
    let stack = Stack::start(&with("grace_period = \"1s\"")).await;
    let mut socket = Conversation::open(stack.address("web")).await;
    let web = stack.address("web");
    let begun = Instant::now();
    let conversation = async {
        eventually!(TcpStream::connect(web).await.is_err());
        assert!(socket.echoes("still there").await);
        assert_eq!(socket.ended().await, Some(1001));
        assert!(begun.elapsed() >= Duration::from_secs(1));
    };
    tokio::join!(stack.waypost.drain(Tunnels::LiveOn), conversation);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_opens_nothing_again() {
    let stack = Stack::start(CONFIG).await;
    stack.waypost.drain(Tunnels::EndLast).await;
    let refusal = stack.refusal(&CONFIG.replace("[listeners.web]", "[listeners.more]")).await;
    assert_eq!(refusal.to_string(), "the process is stopping");
    assert!(stack.waypost.addresses().is_empty());
}
