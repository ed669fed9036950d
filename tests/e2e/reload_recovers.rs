//! Trouble with files and ports that comes from outside: everybody is served meanwhile, it can be seen, and when it is
//! over nobody has to ask.
//!
//! Half-written files and a swap of Kubernetes' `..data` are in [`super::reload_refused`] and
//! [`super::reload_triggers`], a full disk in [`super::full_disk`].

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures_util::future::join;
use waypost_tests::tls::{self, Authority, Client, Pair};
use waypost_tests::{Stack, eventually};

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

const SECURE: &str = r#"
    [listeners.secure]
    address = "127.0.0.1:0"
    [listeners.secure.tls]
    certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }]
"#;

fn after() -> String {
    CONFIG.replace("web-1", "web-2")
}

/// Whether it can be seen that the file does not serve.
fn is_refused(stack: &Stack) -> bool {
    stack.metric("waypost_config_last_reload_success") == 0.0
}

const REFUSALS: &str = r#"waypost_reloads_total{result="refused"}"#;

/// Everybody is served, and it can be seen, for longer than the watcher, who has seen the file too, needs to look at it:
/// from then on nobody has a reason to.
async fn stays_refused(stack: &Stack) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(stack.get("/").await.upstream(), "web-1");
        assert!(is_refused(stack));
    }
}

/// The watcher looks by itself, and what was refused is tried again.
async fn is_mended(stack: &Stack, generation: f64) {
    eventually!(!is_refused(stack));
    assert_eq!(stack.metric("waypost_config_generation"), generation);
    assert_eq!(stack.admin("GET", "/api/config").await.json()["refused"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_file_is_told_of_and_its_return_is_enough() {
    let stack = Stack::start(CONFIG).await;
    fs::remove_file(stack.config()).unwrap();
    eventually!(is_refused(&stack));
    let refused = stack.admin("GET", "/api/config").await.json()["refused"].to_string();
    assert!(refused.contains("waypost.toml"), "{refused}");
    assert_eq!(stack.get("/").await.upstream(), "web-1");

    stack.write(CONFIG);
    is_mended(&stack, 1.0).await;
    fs::remove_file(stack.config()).unwrap();
    eventually!(is_refused(&stack));
    stack.write(&after());
    is_mended(&stack, 2.0).await;
    assert_eq!(stack.get("/").await.upstream(), "web-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_moved_away_with_another_in_its_place_serves() {
    let stack = Stack::start(CONFIG).await;
    let elsewhere = tempfile::tempdir().unwrap();
    for config in [after(), CONFIG.to_owned()] {
        let next = elsewhere.path().join("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("waypost.toml"), stack.filled(&config)).unwrap();
        fs::rename(stack.folder(), elsewhere.path().join(format!("before-{}", config.len()))).unwrap();
        assert_eq!(stack.get("/").await.status, 200);
        fs::rename(next, stack.folder()).unwrap();
        let upstream = if config == CONFIG { "web-1" } else { "web-2" };
        eventually!(stack.get("/").await.upstream() == upstream);
        eventually!(!is_refused(&stack));
        fs::remove_dir_all(elsewhere.path().join(format!("before-{}", config.len()))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn port_that_is_taken_is_tried_again() {
    let stack = Stack::start(CONFIG).await;
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let extra = format!("[listeners.extra]\naddress = \"{}\"\n", somebody.local_addr().unwrap());
    stack.refusal(&format!("{}{extra}", after())).await;
    stays_refused(&stack).await;
    drop(somebody);
    is_mended(&stack, 2.0).await;
    assert_eq!(stack.get("/").await.upstream(), "web-2");
    assert!(stack.metric(REFUSALS) <= 2.0, "the call and the watcher; that it was still taken is no news");
}

fn renew(stack: &Stack, name: &str, text: &str) {
    let next = stack.folder().join("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, stack.folder().join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_comes_after_the_config_that_names_it_is_waited_for() {
    let stack = Stack::start(CONFIG).await;
    let pair = Authority::new("authority").pair("site", &["test.example"]);
    stack.refusal(&format!("{CONFIG}{SECURE}")).await;
    stays_refused(&stack).await;
    renew(&stack, "site.pem", &pair.cert);
    assert!(is_refused(&stack));
    renew(&stack, "site.key", &pair.key);
    is_mended(&stack, 2.0).await;
    assert!(stack.waypost.address("secure").is_some());
}

/// What a new client is shown; a certificate that is not its key's would fail the handshake.
async fn shown(stack: &Stack, authority: &Authority) -> Vec<u8> {
    let stream = Client::new(authority).connect(stack.address("secure"), "test.example").await;
    tls::shown(&stream.unwrap_or_else(|error| panic!("handshake: {error}")))
}

async fn with_pair(authority: &Authority) -> (Stack, Pair) {
    let pair = authority.pair("site", &["test.example"]);
    let files = [("site.pem", pair.cert.as_str()), ("site.key", &pair.key)];
    (Stack::with_files(&format!("{CONFIG}{SECURE}"), &files).await, pair)
}

const KEPT: &str = r#"waypost_certificates_kept{listener="secure"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn half_renewed_certificate_is_told_of_until_it_is_whole() {
    let authority = Authority::new("authority");
    let (stack, old) = with_pair(&authority).await;
    let new = authority.pair("site", &["test.example"]);
    renew(&stack, "site.pem", &new.cert);
    eventually!(stack.metric(KEPT) == 1.0);
    assert_eq!(shown(&stack, &authority).await, tls::der(&old));
    fs::remove_file(stack.folder().join("site.key")).unwrap();
    eventually!(is_refused(&stack));
    assert_eq!(shown(&stack, &authority).await, tls::der(&old));
    renew(&stack, "site.key", &new.key);
    eventually!(shown(&stack, &authority).await == tls::der(&new));
    is_mended(&stack, 1.0).await;
    assert_eq!(stack.metric(KEPT), 0.0);
}

/// On one thread nothing but the start has run when it returns: not even the watcher has begun.
#[tokio::test]
async fn certificate_renewed_during_the_start_is_shown() {
    let authority = Authority::new("authority");
    let (stack, _) = with_pair(&authority).await;
    let new = authority.pair("site", &["test.example"]);
    renew(&stack, "site.pem", &new.cert);
    renew(&stack, "site.key", &new.key);
    eventually!(shown(&stack, &authority).await == tls::der(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_renewed_in_two_steps_never_fail_a_handshake() {
    let authority = Authority::new("authority");
    let (stack, mut served) = with_pair(&authority).await;
    for number in 0..12 {
        let next = authority.pair("site", &["test.example"]);
        let [first, second] = [("site.pem", &next.cert), ("site.key", &next.key)];
        let (first, second) = if number % 2 == 0 { (first, second) } else { (second, first) };
        let renewal = async {
            renew(&stack, first.0, first.1);
            // The file is looked at for certain while it is half renewed.
            stack.waypost.reload().await.unwrap();
            renew(&stack, second.0, second.1);
            stack.waypost.reload().await.unwrap();
        };
        let clients = async {
            for _ in 0..10 {
                let shown = shown(&stack, &authority).await;
                assert!([&served, &next].iter().any(|pair| shown == tls::der(pair)));
            }
        };
        join(renewal, clients).await;
        assert_eq!(shown(&stack, &authority).await, tls::der(&next));
        served = next;
    }
}
