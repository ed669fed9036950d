//! TLS on both sides: which certificate is shown, who is let in, and how a renewed pair comes into use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, StatusCode};
use waypost_tests::connection::{Connection, empty};
use waypost_tests::raw::{self, Raw};
use waypost_tests::tls::{self, Authority, Client, Pair};
use waypost_tests::{Stack, client, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.web.tls]
    min_version = "1.2"
    certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }]
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

async fn behind(config: &str, authority: &Authority, pair: &Pair) -> Stack {
    let files = [("site.pem", pair.cert.as_str()), ("site.key", &pair.key), ("ca.pem", &authority.pem())];
    Stack::with_files(config, &files).await
}

fn site(authority: &Authority) -> Pair {
    authority.pair("site", &["test.example"])
}

#[tokio::test(flavor = "multi_thread")]
async fn sni_chooses_the_exact_name_then_the_wildcard_then_the_first() {
    let authority = Authority::new("authority");
    let first = authority.pair("first", &["first.example", "127.0.0.1"]);
    let exact = authority.pair("exact", &["a.wild.example"]);
    let wild = authority.pair("wild", &["*.wild.example"]);
    let config = CONFIG.replace(
        r#"[{ cert = "{dir}/site.pem", key = "{dir}/site.key" }]"#,
        r#"[
            { cert = "{dir}/first.pem", key = "{dir}/first.key" },
            { cert = "{dir}/wild.pem", key = "{dir}/wild.key" },
            { cert = "{dir}/exact.pem", key = "{dir}/exact.key" },
        ]"#,
    );
    let files = [
        ("first.pem", first.cert.as_str()),
        ("first.key", &first.key),
        ("wild.pem", &wild.cert),
        ("wild.key", &wild.key),
        ("exact.pem", &exact.cert),
        ("exact.key", &exact.key),
    ];
    let stack = Stack::with_files(&config, &files).await;
    let cases = [
        ("first.example", &first),
        ("a.wild.example", &exact),
        ("b.wild.example", &wild),
        ("127.0.0.1", &first), // an address is not sent as SNI
    ];
    for (name, pair) in cases {
        let stream = Client::new(&authority).connect(stack.address("web"), name).await.unwrap();
        assert!(tls::shown(&stream) == tls::der(pair), "{name} is shown the wrong certificate");
    }
    let stranger = Client::new(&authority).connect(stack.address("web"), "stranger.example").await.unwrap_err();
    assert!(stranger.to_string().contains("not valid for name"), "it is shown the first: {stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_listener_refuses_tls_12() {
    let authority = Authority::new("authority");
    let pair = site(&authority);
    let stack = behind(&CONFIG.replace("\"1.2\"", "\"1.3\""), &authority, &pair).await;
    Client::new(&authority).tls12().connect(stack.address("web"), "test.example").await.unwrap_err();
    eventually!(stack.metric(r#"waypost_connections_refused_total{listener="web",reason="tls_handshake"}"#) == 1.0);
    Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    let stack = behind(CONFIG, &authority, &pair).await;
    Client::new(&authority).tls12().connect(stack.address("web"), "test.example").await.unwrap();
}

/// Whether a request over this connection is answered.
async fn answers(client: &Client<'_>, stack: &Stack) -> bool {
    let Ok(stream) = client.connect(stack.address("web"), "test.example").await else { return false };
    let mut raw = Raw::over(stream);
    raw.send("GET / HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
    raw::status(&raw.head().await) == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_connection_is_told_from_its_loss() {
    let authority = Authority::new("authority");
    let stack = behind(CONFIG, &authority, &site(&authority)).await;
    let mut stream = Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    let request = b"GET /chunked/5000 HTTP/1.0\r\nhost: test.example\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
    let mut answer = Vec::new();
    // Without a close_notify this would be an unexpected end.
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
    assert!(answer.len() > 5000);
}

fn client_auth(mode: &str) -> String {
    let auth = format!("client_auth = {{ ca = \"{{dir}}/ca.pem\", mode = \"{mode}\" }}");
    let log = "[telemetry]\n    access_log = { path = \"{dir}/access.log\" }\n    [server]";
    CONFIG.replace("min_version = \"1.2\"", &auth).replace("[server]", log)
}

fn logged_subjects(stack: &Stack) -> Vec<String> {
    let log = std::fs::read_to_string(stack.folder().join("access.log")).unwrap_or_default();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["tls"]["client_subject"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn required_client_certificate_lets_only_its_owner_in() {
    let authority = Authority::new("authority");
    let stack = behind(&client_auth("require"), &authority, &site(&authority)).await;
    let (ours, theirs) = (authority.pair("alice", &[]), Authority::new("stranger").pair("mallory", &[]));
    assert!(!answers(&Client::new(&authority), &stack).await);
    assert!(!answers(&Client::new(&authority).identity(&theirs), &stack).await);
    assert!(answers(&Client::new(&authority).identity(&ours), &stack).await);
    assert!(answers(&Client::new(&authority).identity(&ours).tls12(), &stack).await);
    eventually!(logged_subjects(&stack).len() == 2);
    assert!(
        logged_subjects(&stack).iter().all(|subject| subject.contains("CN=alice")),
        "{:?}",
        logged_subjects(&stack)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_client_certificate_may_be_absent_but_not_wrong() {
    let authority = Authority::new("authority");
    let stack = behind(&client_auth("request"), &authority, &site(&authority)).await;
    let (ours, theirs) = (authority.pair("alice", &[]), Authority::new("stranger").pair("mallory", &[]));
    assert!(answers(&Client::new(&authority), &stack).await);
    assert!(!answers(&Client::new(&authority).identity(&theirs), &stack).await);
    assert!(answers(&Client::new(&authority).identity(&ours), &stack).await);
    eventually!(logged_subjects(&stack).len() == 2);
    assert_eq!(logged_subjects(&stack)[0], "null");
}

/// What new clients are shown.
async fn shows(stack: &Stack, authority: &Authority, pair: &Pair) -> bool {
    let stream = Client::new(authority).connect(stack.address("web"), "test.example").await.unwrap();
    tls::shown(&stream) == tls::der(pair)
}

fn renew(stack: &Stack, name: &str, text: &str) {
    let next = stack.folder().join("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, stack.folder().join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_pair_is_shown_to_new_clients_while_old_connections_go_on() {
    let authority = Authority::new("authority");
    let (old, new) = (site(&authority), site(&authority));
    let stack = behind(CONFIG, &authority, &old).await;
    let stream = Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    let mut connection = Connection::http1_over(stream).await;
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
    renew(&stack, "site.pem", &new.cert);
    renew(&stack, "site.key", &new.key);
    eventually!(shows(&stack, &authority, &new).await);
    assert_eq!(connection.send(client::get("/")).await.unwrap().status, StatusCode::OK);
    eventually!(stack.metrics().matches("waypost_certificate_not_after_timestamp_seconds{").count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_renewed_pair_keeps_the_old_one_until_it_is_whole() {
    let authority = Authority::new("authority");
    let (old, new) = (site(&authority), site(&authority));
    let stack = behind(CONFIG, &authority, &old).await;
    renew(&stack, "site.pem", &new.cert);
    // The reload looks at the files for certain; the watcher would only do so some time.
    stack.waypost.reload().await.unwrap();
    assert!(shows(&stack, &authority, &old).await);
    renew(&stack, "site.key", &new.key);
    eventually!(shows(&stack, &authority, &new).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_the_certificate_does_not_cover_is_misdirected_on_http2() {
    let authority = Authority::new("authority");
    let pair = authority.pair("site", &["test.example", "also.example"]);
    let stack = behind(CONFIG, &authority, &pair).await;
    let stream = Client::new(&authority).http2().connect(stack.address("web"), "test.example").await.unwrap();
    let mut connection = Connection::http2_over(stream).await;
    for (host, status) in [("test.example", 200), ("also.example", 200), ("other.example", 421), ("test.example", 200)]
    {
        let request = Request::get(format!("https://{host}/")).body(empty()).unwrap();
        let reply = connection.send(request).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{host}");
        assert_eq!(reply.reason(), if status == 421 { "misdirected" } else { "" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_validity_is_a_metric() {
    let authority = Authority::new("authority");
    let stack = behind(CONFIG, &authority, &site(&authority)).await;
    let ends = stack.metric(r#"waypost_certificate_not_after_timestamp_seconds{listener="web""#);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(ends > (now + Duration::from_mins(1)).as_secs_f64(), "{ends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_client_does_not_keep_a_handshake_open() {
    let authority = Authority::new("authority");
    let config = CONFIG.replace("[listeners.web]\n", "[listeners.web]\n    timeouts = { handshake = \"150ms\" }\n");
    let stack = behind(&config, &authority, &site(&authority)).await;
    assert_eq!(raw::exchange(stack.address("web"), "").await, "");
    eventually!(stack.metric(r#"waypost_connections_refused_total{listener="web",reason="handshake_timeout"}"#) == 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_listener_sends_clients_to_the_tls_listener() {
    let authority = Authority::new("authority");
    // The location names the configured port, so it has to be known before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = CONFIG.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")).replace(
        "[listeners.web]\n",
        "[listeners.plain]\n    address = \"127.0.0.1:0\"\n    redirect_https = true\n    [listeners.web]\n",
    );
    let stack = behind(&config, &authority, &site(&authority)).await;
    let request = client::request("POST", "/a%20b?q=1", "body");
    let reply = client::send(stack.address("plain"), request).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.reason()), (308, "redirect"));
    assert_eq!(reply.header("location"), format!("https://test.example:{port}/a%20b?q=1"));
    assert_eq!(stack.container("web-1").requests(), 0);
}

/// A stack that reaches `inner` over TLS with these settings.
async fn before(inner: &Stack, settings: &str, files: &[(&str, &str)]) -> Stack {
    let config = format!(
        r#"
        version = 1
        [server]
        workers = 1
        [listeners.web]
        address = "127.0.0.1:0"
        [routes.all]
        service = "inner"
        [services.inner]
        tls = {{ {settings} }}
        endpoints = [{{ name = "inner", url = "https://{}" }}]
        "#,
        inner.address("web")
    );
    Stack::with_files(&config, files).await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_must_prove_its_name_to_an_authority_that_is_believed() {
    let authority = Authority::new("authority");
    let inner = behind(CONFIG, &authority, &site(&authority)).await;
    let (ca, other) = (authority.pem(), Authority::new("stranger").pem());
    let files = [("ca.pem", ca.as_str()), ("other.pem", &other)];
    let cases = [
        (r#"ca = "{dir}/ca.pem", server_name = "test.example""#, 200, ""),
        (r#"ca = "{dir}/ca.pem", server_name = "wrong.example""#, 502, "connect_failed"),
        (r#"ca = "{dir}/ca.pem""#, 502, "connect_failed"), // the certificate is not for 127.0.0.1
        (r#"ca = "{dir}/other.pem", server_name = "test.example""#, 502, "connect_failed"),
        (r#"server_name = "test.example""#, 502, "connect_failed"),
    ];
    for (settings, status, reason) in cases {
        let reply = before(&inner, settings, &files).await.get("/").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (status, reason), "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_shown_to_an_endpoint_that_asks() {
    let authority = Authority::new("authority");
    let inner = behind(&client_auth("require"), &authority, &site(&authority)).await;
    let (ca, waypost) = (authority.pem(), authority.pair("waypost", &[]));
    let files = [("ca.pem", ca.as_str()), ("client.pem", &waypost.cert), ("client.key", &waypost.key)];
    let without = r#"ca = "{dir}/ca.pem", server_name = "test.example""#;
    assert_eq!(before(&inner, without, &files).await.get("/").await.status, StatusCode::BAD_GATEWAY);
    let with = format!(r#"{without}, client_cert = "{{dir}}/client.pem", client_key = "{{dir}}/client.key""#);
    assert_eq!(before(&inner, &with, &files).await.get("/").await.upstream(), "web-1");
    eventually!(logged_subjects(&inner).iter().any(|subject| subject.contains("CN=waypost")));
}
