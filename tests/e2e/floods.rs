//! Hostile clients are ended within the times that the config promises, and counted; users beside them notice nothing.

use std::time::Duration;

use loadtest::Plan;
use loadtest::flood::{Attack, Kind, Tally};
use loadtest::plan::{Opening, Protocol, Trust};
use waypost_tests::{Stack, eventually, tls};

/// Room for 60 connections; who says nothing for 600 ms, or is 300 ms late with anything, is ended.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    max_connections = 60
    timeouts = { handshake = "300ms", header = "300ms", body_idle = "300ms", idle = "600ms" }
    limits = { concurrent_streams = 40 }
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

const CERTIFICATE: &str = r#"tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }"#;

/// Of a flood: long enough for every limit to be reached.
const LENGTH: Duration = Duration::from_millis(1_500);
const CLIENTS: u64 = 50;

/// Downloads that nobody takes fill the kernel's buffers first, of which a busy machine makes seconds.
fn length(kind: Kind) -> Duration {
    if matches!(kind, Kind::SlowReader | Kind::H2ZeroWindow) { LENGTH * 4 } else { LENGTH }
}

/// A flood, and what is left of it.
struct Flooded {
    stack: Stack,
    tally: Tally,
}

impl Flooded {
    fn refused(&self, reason: &str) -> f64 {
        self.stack.metric(&format!(r#"waypost_connections_refused_total{{listener="web",reason="{reason}"}}"#))
    }

    /// Every client was ended at least once, and none was let be.
    #[track_caller]
    fn all_were_ended(&self) {
        assert!(self.tally.closed >= CLIENTS, "{:?}", self.tally);
    }
}

/// What the clients and the users beside them speak.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Tcp,
    Tls,
}

/// So many clients beside users, none of whose requests may fail; afterwards nothing is left open.
async fn flooded_by(kind: Kind, over: Over, path: &str, clients: u64) -> Flooded {
    let pair = tls::Authority::new("authority").pair("site", &["test.example"]);
    let files = [("site.pem", &*pair.cert), ("site.key", &*pair.key)];
    let (certificate, scheme) = if over == Over::Tls { (CERTIFICATE, "https") } else { ("", "http") };
    let config = CONFIG.replace("max_connections", &format!("{certificate}\n    max_connections"));
    let stack = Stack::with_files(&config, &files).await;
    let address = stack.address("web");
    let trust = Trust { insecure: true, ..Trust::default() };
    let users = Plan::new(&format!("{scheme}://{address}/")).unwrap().rate(100.0).connections(4);
    let users = Plan { opening: Opening::AllAtOnce, trust: trust.clone(), ..users.duration(length(kind) * 3 / 2) };
    let users = loadtest::start(users).await.unwrap();
    users.reached(10).await;
    let clients = usize::try_from(clients).unwrap();
    let attack = Attack::new(kind, address, clients, length(kind)).dripping(Duration::from_millis(50));
    let attack = attack.asking("test.example", path);
    let attack = if over == Over::Tls { attack.over_tls(&trust, "test.example").unwrap() } else { attack };
    let tally = attack.run().await.unwrap();
    let seen = users.finish().await;
    assert_eq!((seen.failed, seen.completed), (0, seen.requests), "{seen}");
    eventually!(stack.metric("waypost_connections_open{listener=\"web\"}") == 0.0);
    eventually!(stack.metric("waypost_requests_in_flight{") == 0.0);
    Flooded { stack, tally }
}

async fn flooded(kind: Kind, path: &str) -> Flooded {
    flooded_by(kind, if kind.needs_tls() { Over::Tls } else { Over::Tcp }, path, CLIENTS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_end_are_timed_out() {
    let flooded = flooded(Kind::SlowHeaders, "/").await;
    flooded.all_were_ended();
    assert!(flooded.tally.statuses[&408] >= CLIENTS, "{:?}", flooded.tally);
    assert!(flooded.refused("header_timeout") >= CLIENTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_end_are_timed_out() {
    let flooded = flooded(Kind::SlowBody, "/upload").await;
    flooded.all_were_ended();
    assert!(flooded.tally.statuses[&408] >= CLIENTS, "{:?}", flooded.tally);
    let replies = r#"waypost_replies_total{listener="web",reason="body_timeout",route="all",service="shop"}"#;
    assert!(flooded.stack.metric(replies) >= CLIENTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_nobody_reads_are_cut() {
    let flooded = flooded(Kind::SlowReader, "/bytes/67108864").await;
    flooded.all_were_ended();
    assert!(flooded.refused("send_timeout") >= CLIENTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_and_silent_ones_within_it_later() {
    let flooded = flooded_by(Kind::Connections, Over::Tcp, "/", 2 * CLIENTS).await;
    flooded.all_were_ended();
    assert!(flooded.refused("max_connections") >= CLIENTS as f64);
    assert!(flooded.tally.longest_life() >= Duration::from_millis(600), "{:?}", flooded.tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused() {
    let flooded = flooded(Kind::HeaderBomb, "/").await;
    flooded.all_were_ended();
    assert!(flooded.refused("headers_too_large") >= CLIENTS as f64);
}

/// A kind of HTTP/2 that nobody needs: every client's connection is ended and counted as such.
async fn check_http2(kind: Kind, path: &str) {
    for over in [Over::Tcp, Over::Tls] {
        let flooded = flooded_by(kind, over, path, CLIENTS).await;
        flooded.all_were_ended();
        // One may have been ended by the flood's own end before it was counted.
        assert!(flooded.refused("http2_flood") >= CLIENTS as f64, "{:?}", flooded.tally);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_taken_back_at_once_are_a_flood() {
    check_http2(Kind::H2RapidReset, "/delay/10s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_heads_that_do_not_end_are_a_flood() {
    check_http2(Kind::H2Continuation, "/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_again_and_again_are_a_flood() {
    check_http2(Kind::H2Settings, "/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_again_and_again_are_a_flood() {
    check_http2(Kind::H2Ping, "/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_nothing_are_a_flood() {
    check_http2(Kind::H2EmptyFrames, "/upload").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_without_a_window_are_reset() {
    for over in [Over::Tcp, Over::Tls] {
        let flooded = flooded_by(Kind::H2ZeroWindow, over, "/bytes/1000000", 5).await;
        assert!(flooded.tally.streams_reset >= 5 * 100, "{:?}", flooded.tally);
        assert!(flooded.refused("send_timeout") >= 5.0 * 40.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_left_or_not_gone_on_with_are_counted() {
    let flooded = flooded(Kind::TlsHandshakes, "/").await;
    assert!(flooded.tally.closed >= CLIENTS / 3 && flooded.tally.left >= CLIENTS / 3, "{:?}", flooded.tally);
    assert!(flooded.refused("handshake_timeout") >= (CLIENTS / 3) as f64);
    assert!(flooded.refused("tls_handshake") >= (CLIENTS / 3) as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_handshake_on_a_connection_ends_it() {
    let flooded = flooded(Kind::TlsRenegotiation, "/").await;
    flooded.all_were_ended();
    assert!(flooded.refused("tls_broken") >= CLIENTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_users_of_http2_are_no_flood() {
    let stack = Stack::start(CONFIG).await;
    let users = Plan::new(&format!("http://{}/", stack.address("web"))).unwrap().connections(2).requests(5_000);
    let users = Plan { streams: 20, ..users.protocol(Protocol::H2c) };
    let seen = loadtest::run(users).await.unwrap();
    assert_eq!((seen.failed, seen.completed), (0, 5_000), "{seen}");
    assert_eq!(stack.total("waypost_connections_refused_total"), 0.0);
}
