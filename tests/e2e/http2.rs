//! HTTP/2 on both sides: how it is chosen, what becomes of its head, and which failures were never sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waypost_tests::connection::{Connection, empty};
use waypost_tests::{Stack, client, tls};

const PLAIN: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

const TLS: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

async fn behind_tls(authority: &tls::Authority) -> Stack {
    let pair = authority.pair("site", &["test.example", "127.0.0.1"]);
    Stack::with_files(TLS, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_http2_over_tls() {
    let authority = tls::Authority::new("authority");
    let stack = behind_tls(&authority).await;
    let stream = tls::Client::new(&authority).http2().connect(stack.address("web"), "test.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let reply = Connection::http2_over(stream).await.send(client::get("/")).await.unwrap();
    assert_eq!(reply.upstream(), "web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_http1_for_who_offers_no_more() {
    let authority = tls::Authority::new("authority");
    let stack = behind_tls(&authority).await;
    let stream = tls::Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let reply = Connection::http1_over(stream).await.send(client::get("/")).await.unwrap();
    assert_eq!(reply.upstream(), "web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn prior_knowledge_works_beside_http1_on_a_plain_listener() {
    let stack = Stack::start(PLAIN).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    assert_eq!(connection.send(client::get("/")).await.unwrap().upstream(), "web-1");
    assert_eq!(stack.get("/").await.upstream(), "web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_becomes_the_host_and_cookies_become_one_field() {
    let stack = Stack::start(PLAIN).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let request = Request::get("http://shop.example:81/echo?q=1").version(Version::HTTP_2);
    let request = request.header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
    let seen = connection.send(request.body(empty()).unwrap()).await.unwrap().json();
    let fields = |name: &str| -> Vec<String> {
        let all = seen["headers"].as_array().unwrap().iter();
        all.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen["version"], "HTTP/1.1");
    assert_eq!(seen["uri"], "/echo?q=1");
    assert_eq!(fields("host"), ["shop.example:81"]);
    assert_eq!(fields("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_contradicts_the_authority_is_refused() {
    let stack = Stack::start(PLAIN).await;
    let mut connection = Connection::http2(stack.address("web")).await;
    let ask = |host| {
        let request = Request::get("http://one.example/").version(Version::HTTP_2).header("host", host);
        request.body(empty()).unwrap()
    };
    let reply = connection.send(ask("two.example")).await.unwrap();
    assert_eq!((reply.status, reply.reason()), (StatusCode::BAD_REQUEST, "bad_request"));
    let reply = connection.send(ask("one.example")).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection() {
    let stack = Stack::start(PLAIN).await;
    let connection = Connection::http2(stack.address("web")).await;
    let requests = (0..150).map(|number| {
        let mut connection = connection.share();
        async move {
            let reply = connection.send(client::request("POST", "/echo", number.to_string())).await.unwrap();
            assert_eq!(reply.json()["body"], number.to_string());
        }
    });
    join_all(requests).await;
    assert_eq!(stack.metric("waypost_connections_total{listener=\"web\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn h2c_upstream_carries_many_requests_over_one_connection() {
    let config = PLAIN.replace("[services.shop]", "[services.shop]\nprotocol = \"h2c\"");
    let stack = Stack::start(&config).await;
    for number in 0..20 {
        let seen = stack.send(client::request("POST", "/echo", number.to_string())).await.json();
        assert_eq!(seen["version"], "HTTP/2.0");
        assert_eq!(seen["authority"], "test.example");
        assert_eq!(seen["body"], number.to_string());
    }
    assert_eq!(stack.container("web-1").accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_upstream_that_offers_http2_gets_http2() {
    let authority = tls::Authority::new("authority");
    let inner = behind_tls(&authority).await;
    let config = PLAIN
        .replace("http://{web-1}", &format!("https://{}", inner.address("web")))
        .replace("[services.shop]", "[services.shop]\ntls = { ca = \"{dir}/ca.pem\", server_name = \"test.example\" }");
    let outer = Stack::with_files(&config, &[("ca.pem", &authority.pem())]).await;
    for _ in 0..5 {
        assert_eq!(outer.get("/").await.upstream(), "web-1");
    }
    let seen = outer.get("/echo").await.json();
    let fields = seen["headers"].as_array().unwrap();
    assert!(fields.iter().any(|pair| pair[0] == "x-forwarded-proto" && pair[1] == "https"), "{fields:?}");
    assert_eq!(inner.metric("waypost_connections_total{listener=\"web\"}"), 1.0);
}

/// Servers that answer `later` to every stream but the first that any of them gets; that one is `turned_away`.
struct TurningAway {
    streams: AtomicUsize,
    how: How,
}

/// How a stream is told that it was not processed (RFC 9113 section 8.7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    RefusedStream,
    /// GOAWAY with a last stream before it.
    GoAway,
}

impl TurningAway {
    async fn server(self: &Arc<TurningAway>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let this = Arc::clone(&this);
                tokio::spawn(async move { this.serve(tcp).await });
            }
        });
        address
    }

    async fn serve(&self, tcp: TcpStream) {
        let first_connection = self.streams.load(Ordering::SeqCst) == 0;
        if self.how == How::GoAway && first_connection {
            self.streams.fetch_add(1, Ordering::SeqCst);
            return go_away(tcp).await.unwrap();
        }
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if self.streams.fetch_add(1, Ordering::SeqCst) == 0 {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"later"), true).unwrap();
            }
        }
    }
}

/// Speaks just enough HTTP/2 to wait for the first stream and to say that none was processed.
async fn go_away(mut tcp: TcpStream) -> std::io::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    tcp.write_all(&SETTINGS).await?;
    tcp.read_exact(&mut [0; 24]).await?;
    loop {
        let mut frame = [0; 9];
        tcp.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        tcp.read_exact(&mut vec![0; length as usize]).await?;
        if frame[3] == HEADERS {
            break;
        }
    }
    tcp.write_all(&GOAWAY).await?;
    // Until the client has understood and closes.
    tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn check_not_sent(how: How) {
    let fleet = Arc::new(TurningAway { streams: AtomicUsize::new(0), how });
    let (a, b) = (fleet.server().await, fleet.server().await);
    let endpoints = format!("[{{ name = \"a\", url = \"http://{a}\" }}, {{ name = \"b\", url = \"http://{b}\" }}]");
    let config = PLAIN
        .replace("[services.shop]", "[services.shop]\nprotocol = \"h2c\"")
        .replace("[{ name = \"web-1\", url = \"http://{web-1}\" }]", &endpoints);
    let stack = Stack::start(&config).await;
    let reply = stack.send(client::request("POST", "/", "an order")).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "later"));
    assert_eq!(fleet.streams.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_stream_is_not_sent_so_a_post_goes_elsewhere() {
    check_not_sent(How::RefusedStream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_beyond_a_goaway_is_not_sent_so_a_post_goes_elsewhere() {
    check_not_sent(How::GoAway).await;
}
