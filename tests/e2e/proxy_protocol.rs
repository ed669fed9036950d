//! The address that a load balancer in front announces is the client's.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use waypost_tests::connection::Connection;
use waypost_tests::raw::{self, Raw};
use waypost_tests::{Stack, client, eventually, tls};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    proxy_protocol = true
    timeouts = { handshake = "300ms" }
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 50000 80\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    header.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    header.extend([0xC3, 0x50, 0, 80]);
    header
}

async fn after(stack: &Stack, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(stack.address("web")).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

async fn forwarded_for(connection: &mut Connection) -> String {
    let seen = connection.send(client::get("/echo")).await.unwrap().json();
    let fields = seen["headers"].as_array().unwrap();
    let field = fields.iter().find(|pair| pair[0] == "x-forwarded-for").unwrap();
    field[1].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_address_is_the_clients() {
    let stack = Stack::start(CONFIG).await;
    for (header, client) in [(V1.to_vec(), "203.0.113.7"), (v2(), "2001:db8::7")] {
        let mut http1 = Connection::http1_over(after(&stack, &header).await).await;
        assert_eq!(forwarded_for(&mut http1).await, client);
        assert_eq!(forwarded_for(&mut http1).await, client, "it holds for the whole connection");
        let mut http2 = Connection::http2_over(after(&stack, &header).await).await;
        assert_eq!(forwarded_for(&mut http2).await, client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn announcement_comes_before_tls() {
    let authority = tls::Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let tls =
        "proxy_protocol = true\n    tls = { certificates = [{ cert = \"{dir}/site.pem\", key = \"{dir}/site.key\" }] }";
    let config = CONFIG.replace("proxy_protocol = true", tls);
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    for (header, client) in [(V1.to_vec(), "203.0.113.7"), (v2(), "2001:db8::7")] {
        let stream = after(&stack, &header).await;
        let stream = tls::Client::new(&authority).over(stream, "test.example").await.unwrap();
        assert_eq!(forwarded_for(&mut Connection::http1_over(stream).await).await, client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_check_of_the_sender_itself_has_its_own_address() {
    let stack = Stack::start(CONFIG).await;
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut connection = Connection::http1_over(after(&stack, header).await).await;
        assert_eq!(forwarded_for(&mut connection).await, "127.0.0.1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_an_announcement_is_closed() {
    let stack = Stack::start(CONFIG).await;
    for (number, bytes) in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PROXY TCP4 nonsense\r\n"].into_iter().enumerate() {
        assert_eq!(raw::exchange(stack.address("web"), bytes).await, "");
        let refused = r#"waypost_connections_refused_total{listener="web",reason="proxy_protocol"}"#;
        eventually!(stack.metric(refused) == (number + 1) as f64);
    }
    assert_eq!(stack.container("web-1").requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn announcement_that_does_not_end_is_timed_out() {
    let stack = Stack::start(CONFIG).await;
    let mut raw = Raw::over(after(&stack, &V1[..20]).await);
    assert_eq!(raw.rest().await, "");
    let refused = r#"waypost_connections_refused_total{listener="web",reason="handshake_timeout"}"#;
    eventually!(stack.metric(refused) == 1.0);
}
