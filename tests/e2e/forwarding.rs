//! What an endpoint learns about the client, what it never sees, and what comes back.

use std::net::SocketAddr;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use waypost_tests::client::{self, Reply, Request, get, request, with};
use waypost_tests::{Stack, raw, shop, trusting};

/// GET of `/echo` with these fields.
fn echo(fields: &[(&'static str, &str)]) -> Request {
    fields.iter().fold(get("/echo"), |request, (name, value)| with(request, name, value))
}

#[track_caller]
fn assert_echoed(reply: &Reply, name: &str, expected: &[&str]) {
    assert_eq!(reply.echoed(name), expected, "{name}");
}

/// An endpoint that answers one request with exactly this text, and returns what it was sent.
async fn scripted(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, served)
}

/// A stack whose only endpoint is at this address.
async fn before(address: SocketAddr) -> Stack {
    let config: String = shop("").split_inclusive('\n').filter(|line| !line.contains("{web-2}")).collect();
    let config: String = config.split_inclusive('\n').filter(|line| !line.contains("{web-3}")).collect();
    Stack::start(&config.replace("{web-1}", &address.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_learns_client_scheme_host_and_port() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack.get("/echo").await;
    assert_echoed(&reply, "x-forwarded-for", &["127.0.0.1"]);
    assert_echoed(&reply, "x-real-ip", &["127.0.0.1"]);
    assert_echoed(&reply, "x-forwarded-proto", &["http"]);
    assert_echoed(&reply, "x-forwarded-host", &["test.example"]);
    assert_echoed(&reply, "x-forwarded-port", &[&stack.address("web").port().to_string()]);
    assert_echoed(&reply, "forwarded", &["for=127.0.0.1;proto=http;host=\"test.example\""]);
    assert_echoed(&reply, "host", &["test.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_strangers_are_dropped_however_they_are_spelled() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack
        .send(echo(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/evil"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded-client-cert", "evil"),
            ("x-real-ip", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-request-id", "evil"),
            ("x_forwarded_for", "192.0.2.1"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "192.0.2.1"),
            ("x_request_id", "evil"),
        ]))
        .await;
    assert_echoed(&reply, "x-forwarded-for", &["127.0.0.1"]);
    assert_echoed(&reply, "x-forwarded-proto", &["http"]);
    assert_echoed(&reply, "x-forwarded-host", &["test.example"]);
    assert_echoed(&reply, "x-real-ip", &["127.0.0.1"]);
    assert!(!reply.text().contains("192.0.2."), "{}", reply.text());
    assert!(!reply.text().contains("evil"), "{}", reply.text());
    for gone in ["x-forwarded-ssl", "x_forwarded_for", "x-forwarded_proto", "x_real_ip", "x_request_id"] {
        assert_echoed(&reply, gone, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_trusted_proxies_are_kept_and_extended() {
    let stack = Stack::start(&trusting(&shop(""))).await;
    let reply = stack
        .send(echo(&[
            ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=192.0.2.7"),
            ("x-request-id", "theirs"),
        ]))
        .await;
    assert_echoed(&reply, "x-forwarded-for", &["203.0.113.9, 192.0.2.7, 127.0.0.1"]);
    assert_echoed(&reply, "x-real-ip", &["192.0.2.7"]);
    assert_echoed(&reply, "x-forwarded-proto", &["https"]);
    assert_echoed(&reply, "x-forwarded-host", &["shop.example"]);
    assert_echoed(&reply, "x-forwarded-port", &["443"]);
    assert_echoed(&reply, "x-request-id", &["theirs"]);
    let forwarded = reply.echoed("forwarded").concat();
    assert!(forwarded.starts_with("for=192.0.2.7, for=127.0.0.1;"), "{forwarded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_id_is_made_anew_for_each_request() {
    let stack = Stack::start(&shop("")).await;
    let first = stack.get("/echo").await.echoed("x-request-id");
    let second = stack.get("/echo").await.echoed("x-request-id");
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert_eq!(first[0].as_bytes()[14], b'7', "a UUID of version 7: {first:?}");
    assert!(first < second, "they sort by time");
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack
        .send(echo(&[
            ("connection", "x-one, close"),
            ("connection", "x-two"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "gzip"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]))
        .await;
    for gone in ["x-one", "x-two", "keep-alive", "proxy-connection", "proxy-authorization", "te", "connection"] {
        assert_echoed(&reply, gone, &[]);
    }
    assert_echoed(&reply, "x-three", &["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_take_away_what_addresses_the_request() {
    let stack = Stack::start(&shop("")).await;
    let named = "host, content-length, x-forwarded-for, x-real-ip, forwarded, x-request-id";
    let sent = with(request("POST", "/echo", "text"), "connection", named);
    let reply = stack.send(sent).await;
    assert_eq!(reply.json()["body"], "text");
    assert_echoed(&reply, "host", &["test.example"]);
    assert_echoed(&reply, "x-forwarded-for", &["127.0.0.1"]);
    assert_echoed(&reply, "x-real-ip", &["127.0.0.1"]);
    assert_eq!(reply.echoed("x-request-id").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_of_an_answer_stay_on_their_hop() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-one\r\nConnection: x-two\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\nok";
    let (address, served) = scripted(answer).await;
    let reply = before(address).await.get("/").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "ok"));
    for gone in ["x-one", "x-two", "keep-alive", "proxy-authenticate"] {
        assert_eq!(reply.header(gone), "", "{gone}");
    }
    assert_eq!(reply.header("x-three"), "3");
    served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn te_trailers_reaches_the_endpoint_and_its_trailers_the_client() {
    let stack = Stack::start(&shop("")).await;
    assert_echoed(&stack.send(echo(&[("te", "gzip, trailers")])).await, "te", &["trailers"]);
    let request = "GET /trailers HTTP/1.1\r\nHost: test.example\r\nTE: trailers\r\nConnection: close, te\r\n\r\n";
    let answer = raw::exchange(stack.address("web"), request).await;
    let (_, end) = answer.split_once("\r\n0\r\n").expect("the body is chunked");
    assert!(end.to_lowercase().contains("x-mock-trailer:"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicated_fields_keep_their_order() {
    let stack = Stack::start(&shop("")).await;
    let sent = echo(&[("x-list", "one"), ("x-other", "between"), ("x-list", "two"), ("x-list", "three")]);
    assert_echoed(&stack.send(sent).await, "x-list", &["one", "two", "three"]);
    let reply = stack.get("/headers?x-list=one&x-other=between&x-list=two").await;
    assert_eq!(reply.all("x-list"), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_goes_upstream_as_it_came_port_and_all() {
    let stack = Stack::start(&shop("")).await;
    let mut sent = get("/echo");
    sent.headers_mut().insert("host", "Test.Example:8080".parse().unwrap());
    assert_echoed(&stack.send(sent).await, "host", &["Test.Example:8080"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn absolute_target_wins_over_the_host_field() {
    let stack = Stack::start(&shop("")).await;
    let request = "GET http://target.example/echo?a=b HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
    let answer = raw::exchange(stack.address("web"), request).await;
    assert!(answer.contains(r#"["host","target.example"]"#), "{answer}");
    assert!(answer.contains(r#""uri":"/echo?a=b""#), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn query_and_body_pass_byte_for_byte() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack.send(request("POST", "/echo?a=%2f&b=+%20&&c", "text\r\n")).await;
    assert_eq!(reply.json()["query"], "a=%2f&b=+%20&&c");
    assert_eq!(reply.json()["body"], "text\r\n");
    let long = client::send(stack.address("web"), get("/bytes/1000000")).await.unwrap();
    assert_eq!(long.body.len(), 1_000_000);
    assert!(long.body.iter().zip((b'a'..=b'z').cycle()).all(|(got, sent)| *got == sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_204_and_304_have_no_body() {
    let stack = Stack::start(&shop("")).await;
    let head = stack.send(request("HEAD", "/bytes/10", "")).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (StatusCode::OK, 0, "10"));
    for status in ["204", "304"] {
        let reply = stack.get(&format!("/status/{status}")).await;
        assert_eq!((reply.status.as_str(), reply.body.len()), (status, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn split_cookies_reach_the_endpoint_as_one_field() {
    let stack = Stack::start(&shop("")).await;
    let reply = stack.send(echo(&[("cookie", "a=1"), ("cookie", "b=2")])).await;
    assert_echoed(&reply, "cookie", &["a=1; b=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_is_told_the_same_as_the_first_attempt() {
    let stack = Stack::start(&shop("sticky = { cookie = \"lb\" }")).await;
    let cookie = stack.get("/").await.cookie();
    let fields =
        [("x-mock-fault", "reset_before_head"), ("x-mock-on", "web-1"), ("cookie", &cookie), ("cookie", "a=1")];
    let reset = stack.send(echo(&fields)).await;
    stack.container("web-2").crash().await;
    stack.container("web-3").crash().await;
    let refused = [stack.get("/echo").await, stack.get("/echo").await, stack.get("/echo").await];
    assert_echoed(&reset, "cookie", &["a=1"]);
    for reply in std::iter::once(&reset).chain(&refused) {
        assert_echoed(reply, "x-forwarded-for", &["127.0.0.1"]);
        assert_echoed(reply, "host", &["test.example"]);
        assert_eq!(reply.echoed("x-request-id").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_is_spoken_to_in_our_own_version() {
    let stack = Stack::start(&shop("")).await;
    let answer = raw::exchange(stack.address("web"), "GET /echo HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.replace(' ', "").contains(r#""version":"HTTP/1.1""#), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_gets_a_host_although_an_http10_client_has_none() {
    let stack = Stack::start(&shop("")).await;
    let answer = raw::exchange(stack.address("web"), "GET /echo HTTP/1.0\r\n\r\n").await.replace(' ', "");
    assert!(answer.contains(r#""host","""#) && !answer.contains("x-forwarded-host"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_sees_where_the_body_of_an_http10_endpoint_ends() {
    let (address, served) = scripted("HTTP/1.0 200 OK\r\n\r\nhello").await;
    let stack = before(address).await;
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw::exchange(stack.address("web"), head).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(raw::field(&answer, "transfer-encoding"), "chunked", "{answer}");
    assert!(answer.ends_with("hello\r\n0\r\n\r\n"), "{answer}");
    served.await.unwrap();
}
