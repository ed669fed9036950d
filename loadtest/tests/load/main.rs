//! Loads against a small server in process.

#![allow(clippy::unwrap_used)]

mod command;
mod scenario;
mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderName, Method};
use loadtest::{
    Plan, Report,
    hold::{self, Layer},
    plan::{Handshakes, Opening, Pace, Phase, Protocol, Request, Reuse, Trust},
    report::ErrorKind,
    responder,
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use server::Server;
use tokio_rustls::TlsAcceptor;

fn plan(server: &Server, path: &str) -> Plan {
    Plan::new(&server.url(path)).unwrap()
}

#[tokio::test]
async fn closed_loop_sends_exactly_what_was_asked() {
    let server = Server::start(None).await;
    let report = loadtest::run(plan(&server, "/who").requests(300).connections(7)).await.unwrap();
    assert_eq!((report.requests, report.completed, report.failed), (300, 300, 0), "{report}");
    assert_eq!((report.connections, report.bytes_received), (7, 300 * 5), "{report}");
    assert_eq!(report.answers_of("b"), 100, "{report}");
    assert_eq!(report.statuses[&200], 300);
    assert_eq!(server.came().len(), 300);
}

#[tokio::test]
async fn open_loop_keeps_its_rate_with_as_few_connections_as_it_needs() {
    let server = Server::start(None).await;
    let report = loadtest::run(plan(&server, "/").rate(500.0).duration(Duration::from_secs(1))).await.unwrap();
    assert_eq!((report.requests, report.failed), (500, 0), "{report}");
    assert!(report.seconds > 0.99, "the last request is due just before the end: {report}");
    assert!(report.connections < 400, "idle connections are used again: {report}");
}

#[tokio::test]
async fn phases_follow_each_other() {
    let server = Server::start(None).await;
    let phase = |rate, millis| Phase { rate, duration: Duration::from_millis(millis) };
    let phases = Pace::Phases(vec![phase(100.0, 200), phase(1_000.0, 100)]);
    let report = loadtest::run(Plan { pace: phases, connections: 50, ..plan(&server, "/") }).await.unwrap();
    assert_eq!((report.requests, report.failed), (20 + 100, 0), "{report}");
}

#[tokio::test]
async fn a_stall_of_the_server_shows_in_full_in_the_open_loop() {
    let server = Server::start(None).await;
    let plan = plan(&server, "/").rate(200.0).duration(Duration::from_secs(2)).connections(1);
    let load = loadtest::start(plan).await.unwrap();
    load.reached(100).await;
    server.stall(Duration::from_millis(500)).await;
    let report = load.finish().await;
    // One connection, so a closed loop would have seen a single slow request. Here a hundred were due meanwhile.
    assert_eq!((report.requests, report.failed), (400, 0), "{report}");
    assert!(report.latency.p99 > Duration::from_millis(400), "{report}");
    assert!(report.latency.p90 > Duration::from_millis(200), "{report}");
    assert!(report.wait.p99 > Duration::from_millis(400), "they waited for the connection: {report}");
}

#[tokio::test]
async fn requests_that_wait_too_long_for_a_connection_are_told_apart() {
    let server = Server::raw(server::hang).await;
    let plan = plan(&server, "/").rate(2_000.0).duration(Duration::from_millis(200)).connections(1);
    let report = loadtest::run(Plan { timeout: Duration::from_millis(100), ..plan }).await.unwrap();
    assert_eq!((report.requests, report.completed, report.failed), (400, 0, 400), "{report}");
    assert!(report.errors_of(ErrorKind::Timeout) > 0, "{report}");
    assert!(report.errors_of(ErrorKind::NoConnection) > 0, "{report}");
    assert!(report.latency.p99 >= Duration::from_millis(100), "timeouts are in the latency: {report}");
}

#[tokio::test]
async fn users_keep_their_cookies_and_their_endpoint() {
    let server = Server::start(None).await;
    let report = loadtest::run(plan(&server, "/sticky").rate(1_000.0).requests(600).users(20)).await.unwrap();
    let users = report.users.unwrap();
    assert_eq!((users.users, users.repins, report.failed), (20, 0, 0), "{report}");
    assert!((users.sticky_percent - 100.0).abs() < f64::EPSILON, "{report}");
    let strangers = server.came().iter().filter(|came| came.cookie.is_none()).count();
    assert_eq!(strangers, 20, "each user comes without a cookie once");
}

#[tokio::test]
async fn users_without_a_pin_are_seen_to_wander() {
    let server = Server::start(None).await;
    let report = loadtest::run(plan(&server, "/who").requests(400).connections(4).users(4)).await.unwrap();
    let users = report.users.unwrap();
    assert!(users.sticky_percent < 80.0 && users.repins > 100, "{report}");
}

#[tokio::test]
async fn a_mix_is_drawn_by_weight_with_a_key_of_its_own_for_each_request() {
    let server = Server::start(None).await;
    let key = HeaderName::from_static("x-request-key");
    let post = Request { weight: 3, ..Request::post("/order", "12345678").keyed(key) };
    let plan = plan(&server, "/").requests(400).mix(vec![Request::get("/page"), post]);
    let report = loadtest::run(Plan { threads: 2, ..plan }).await.unwrap();
    assert_eq!((report.requests, report.failed), (400, 0), "{report}");
    let came = server.came();
    let posts: Vec<_> = came.iter().filter(|came| came.line == "POST HTTP/1.1 /order" && came.body == 8).collect();
    assert!((250..350).contains(&posts.len()), "three of four: {}", posts.len());
    assert_eq!(report.bytes_sent, posts.len() as u64 * 8);
    let keys: std::collections::BTreeSet<_> = posts.iter().map(|came| came.key.clone().unwrap()).collect();
    assert_eq!(keys.len(), posts.len(), "keys are unique over threads too");
}

#[tokio::test]
async fn without_keep_alive_every_request_has_its_connection() {
    let server = Server::start(None).await;
    let plan = plan(&server, "/").requests(30).connections(2);
    let report = loadtest::run(Plan { reuse: Reuse::Close, ..plan }).await.unwrap();
    assert_eq!((report.failed, report.connections), (0, 30), "{report}");
    assert_eq!(server.state.connections.load(std::sync::atomic::Ordering::Relaxed), 30);
}

#[tokio::test]
async fn h2c_shares_connections_between_streams() {
    let server = Server::start(None).await;
    let plan = plan(&server, "/who").requests(300).connections(2).protocol(Protocol::H2c);
    let report = loadtest::run(Plan { streams: 10, ..plan }).await.unwrap();
    assert_eq!((report.completed, report.failed, report.connections), (300, 0, 2), "{report}");
    assert!(server.came().iter().all(|came| came.line == "GET HTTP/2.0 /who"));
}

fn certificate() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn over_tls(protocol: Protocol, trust: Trust, acceptor: TlsAcceptor) -> Report {
    let server = Server::start(Some(acceptor)).await;
    let plan = Plan::new(&format!("https://{}/who", server.address)).unwrap().requests(40).connections(2);
    let plan = Plan { opening: Opening::AllAtOnce, trust, ..plan.protocol(protocol) };
    loadtest::run(plan).await.unwrap()
}

#[tokio::test]
async fn tls_believes_a_given_ca_by_the_name_it_asks_for() {
    let (pem, acceptor) = certificate();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let trust = |server_name: &str| Trust {
        insecure: false,
        ca: Some(file.path().to_owned()),
        server_name: Some(server_name.to_owned()),
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let report = over_tls(protocol, trust("shop.example"), acceptor.clone()).await;
        assert_eq!((report.completed, report.failed), (40, 0), "{report}");
    }
    let report = over_tls(Protocol::Http1, trust("other.example"), acceptor).await;
    assert_eq!((report.completed, report.errors_of(ErrorKind::Tls)), (0, 40), "{report}");
}

#[tokio::test]
async fn tls_believes_strangers_only_if_told() {
    let (_, acceptor) = certificate();
    let report = over_tls(Protocol::Http2, Trust::default(), acceptor.clone()).await;
    assert_eq!((report.completed, report.errors_of(ErrorKind::Tls)), (0, 40), "{report}");
    let report = over_tls(Protocol::Http2, Trust { insecure: true, ..Trust::default() }, acceptor).await;
    assert_eq!((report.completed, report.failed), (40, 0), "{report}");
}

#[tokio::test]
async fn tls_sessions_are_taken_up_again_unless_full_handshakes_are_asked_for() {
    let (_, acceptor) = certificate();
    let server = Server::start(Some(acceptor)).await;
    for (handshakes, resumed) in [(Handshakes::Full, 0..1), (Handshakes::Resumed, 15..20)] {
        let plan = Plan::new(&format!("https://{}/who", server.address)).unwrap().requests(20).connections(1);
        let trust = Trust { insecure: true, ..Trust::default() };
        let report = loadtest::run(Plan { reuse: Reuse::Close, handshakes, trust, ..plan }).await.unwrap();
        assert_eq!((report.failed, report.connections), (0, 20), "{report}");
        assert!(resumed.contains(&report.resumed), "{handshakes:?}: {report}");
    }
}

#[tokio::test]
async fn latencies_of_the_warm_up_are_not_recorded() {
    let server = Server::start(None).await;
    let plan = Plan::new(&server.url("/")).unwrap().rate(200.0).duration(Duration::from_millis(600));
    let load = loadtest::start(Plan { warm_up: Duration::from_millis(400), ..plan }).await.unwrap();
    server.stall(Duration::from_millis(150)).await;
    let report = load.finish().await;
    assert_eq!((report.completed, report.failed), (120, 0), "{report}");
    assert!(report.latency.max < Duration::from_millis(120), "the stall is over when it is measured: {report}");
    assert!(report.wait.max > Duration::ZERO, "{report}");
}

/// A responder on a port of its own.
async fn responder() -> SocketAddr {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    tokio::spawn(async move { responder::serve(&[address]).await });
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    address
}

#[tokio::test]
async fn websocket_messages_come_back_over_kept_connections() {
    let address = responder().await;
    for size in [0, 64, 300, 40_000] {
        let plan = Plan::new(&format!("http://{address}/ws")).unwrap().requests(50).connections(4);
        let plan = plan.protocol(Protocol::WebSocket).mix(vec![Request::post("/ws", vec![7; size])]);
        let report = loadtest::run(Plan { opening: Opening::AllAtOnce, ..plan }).await.unwrap();
        assert_eq!((report.completed, report.failed, report.connections), (50, 0, 4), "{report}");
        assert_eq!(report.bytes_received, 50 * size as u64, "{report}");
        assert_eq!(report.statuses.keys().collect::<Vec<_>>(), [&101], "{report}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_upgrade_fails_websocket_messages() {
    let server = Server::start(None).await;
    let plan = plan(&server, "/status/404").requests(10).connections(2).protocol(Protocol::WebSocket);
    check_all_failed(&loadtest::run(plan).await.unwrap(), ErrorKind::Status4xx);
}

#[tokio::test]
async fn idle_connections_are_opened_with_and_without_tls() {
    let (_, acceptor) = certificate();
    for (tls, layer) in [(None, Layer::Plain), (Some(acceptor), Layer::Tls)] {
        let server = Server::start(tls).await;
        let held = hold::open(server.address, layer, 12).await.unwrap();
        assert_eq!((held.count(), held.alive()), (12, 12), "{layer:?}");
        assert_eq!(server.came().len(), 12, "one request each");
        assert_eq!(server.state.connections.load(std::sync::atomic::Ordering::Relaxed), 12);
    }
}

#[track_caller]
fn check_all_failed(report: &Report, kind: ErrorKind) {
    assert_eq!((report.requests, report.errors_of(kind)), (10, 10), "{kind:?}: {report}");
}

#[tokio::test]
async fn failures_are_named() {
    for (server, kind) in [
        (Server::raw(server::close).await, ErrorKind::ClosedBeforeHead),
        (Server::raw(server::truncate).await, ErrorKind::TruncatedBody),
        (Server::raw(server::babble).await, ErrorKind::Invalid),
        (Server::raw(server::reset).await, ErrorKind::Reset),
        (Server::raw(server::hang).await, ErrorKind::Timeout),
    ] {
        let plan = Plan { timeout: Duration::from_millis(50), ..plan(&server, "/").requests(10) };
        check_all_failed(&loadtest::run(plan).await.unwrap(), kind);
    }
    let server = Server::start(None).await;
    for (path, kind) in [("/status/503", ErrorKind::Status5xx), ("/status/404", ErrorKind::Status4xx)] {
        let report = loadtest::run(plan(&server, path).requests(10)).await.unwrap();
        check_all_failed(&report, kind);
        assert_eq!(report.completed, 10, "an answer is an answer: {report}");
    }
    let accepting = Plan { accept: vec![http::StatusCode::NOT_FOUND], ..plan(&server, "/status/404").requests(10) };
    assert_eq!(loadtest::run(accepting).await.unwrap().failed, 0);
}

#[tokio::test]
async fn nobody_there_is_connect_refused() {
    let gone = {
        let server = Server::start(None).await;
        let url = server.url("/");
        drop(server);
        url
    };
    // The aborted task lets go of its socket when the runtime comes to it.
    while std::net::TcpStream::connect(gone.trim_start_matches("http://").trim_end_matches('/')).is_ok() {
        tokio::task::yield_now().await;
    }
    let report = loadtest::run(Plan::new(&gone).unwrap().requests(10)).await.unwrap();
    check_all_failed(&report, ErrorKind::ConnectRefused);
    let report = loadtest::run(Plan::new(&gone).unwrap().rate(100.0).requests(10)).await.unwrap();
    check_all_failed(&report, ErrorKind::ConnectRefused);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_no_failure() {
    /// Answers once as if to keep the connection, and closes it.
    async fn once(mut stream: tokio::net::TcpStream) {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    }
    let server = Server::raw(once).await;
    let report = loadtest::run(plan(&server, "/").rate(50.0).requests(10).connections(1)).await.unwrap();
    assert_eq!((report.completed, report.failed, report.connections), (10, 0, 10), "{report}");
}

#[tokio::test]
async fn a_stopped_load_reports_what_it_has_seen() {
    let server = Server::start(None).await;
    for plan in [plan(&server, "/"), plan(&server, "/").rate(1_000.0)] {
        let load = loadtest::start(plan.duration(Duration::from_mins(1))).await.unwrap();
        load.reached(50).await;
        assert!(load.done() >= 50 && !load.watch().over());
        load.stop();
        let report = load.finish().await;
        assert!(report.requests >= 50 && report.failed == 0, "{report}");
        assert_eq!(report.requests, report.completed, "what was in flight has ended: {report}");
        assert!(report.seconds < 30.0, "{report}");
    }
}

#[tokio::test]
async fn impossible_plans_do_not_start() {
    let server = Server::start(None).await;
    assert!(loadtest::run(plan(&server, "/").connections(0)).await.is_err());
    assert!(loadtest::run(plan(&server, "/").protocol(Protocol::Http2)).await.is_err());
    let no_ca = Trust { ca: Some("/nowhere.pem".into()), ..Trust::default() };
    let secure = Plan { trust: no_ca, ..Plan::new("https://127.0.0.1:1/").unwrap() };
    let error = loadtest::run(secure).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
    let methods = Request { method: Method::PUT, ..Request::get("no slash or space") };
    assert!(loadtest::run(plan(&server, "/").mix(vec![methods])).await.is_err());
}
