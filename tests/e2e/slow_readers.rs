//! Promise: whoever reads late reads the same bytes, in the same order.
//!
//! Large bodies go past our memory as long as they are large, and their last part through it. When a reader waits, one is
//! on its way while the other is there already: many lengths, so that this happens at every place where it can.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use waypost_tests::connection::Connection;
use waypost_tests::tls::{self, Authority};
use waypost_tests::{Stack, client};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.secure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }
    [routes.all]
    service = "shop"
    [services.shop]
    retry = { max_attempts = 1 }
    endpoints = [{ name = "web-1", url = "http://{upstream}" }]
"#;

/// Long enough for everything on the way to be full.
const LATE: Duration = Duration::from_millis(50);

/// From less to more than what the sockets between the two ends hold.
fn lengths() -> impl Iterator<Item = usize> {
    (0..200).map(|number| 1_000_000 + number * 20_011)
}

/// Each four bytes tell their place.
fn numbered(length: usize) -> &'static [u8] {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..1_500_000_u32).flat_map(u32::to_be_bytes).collect());
    &ALL[..length]
}

/// A socket that holds little.
fn narrow() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads nothing before everything on the way is full, and then takes all of it. Where the first wrong byte is.
async fn read_late(stream: &mut TcpStream, length: usize) -> Option<usize> {
    sleep(LATE).await;
    let mut body = vec![0; length];
    timeout(Duration::from_secs(10), stream.read_exact(&mut body)).await.expect("it comes in time").unwrap();
    first_wrong(&body, length)
}

/// Byte by byte only if it must be: this is slow without optimisation.
fn first_wrong(body: &[u8], length: usize) -> Option<usize> {
    assert_eq!(body.len(), length);
    if body == numbered(length) {
        None
    } else {
        body.iter().zip(numbered(length)).position(|(is, should)| is != should)
    }
}

/// The number in a request's path.
fn length_in(head: &str) -> usize {
    head.split(['/', ' ']).nth(2).unwrap().parse().unwrap()
}

struct Scene {
    stack: Stack,
    authority: Authority,
}

/// A stack before an upstream that does this with each connection.
async fn before<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Scene {
    // Those that are accepted are as narrow as the one that listens.
    let socket = narrow();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = CONFIG.replace("{upstream}", &socket.local_addr().unwrap().to_string());
    let listener = socket.listen(64).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let authority = Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let files = [("site.pem", pair.cert.as_str()), ("site.key", &pair.key)];
    Scene { stack: Stack::with_files(&config, &files).await, authority }
}

/// Some at a time: the proxy is to be done with what it can do while they wait.
async fn each<F: Future<Output = ()>>(lengths: impl Iterator<Item = usize>, exchange: impl Fn(usize) -> F) {
    stream::iter(lengths).for_each_concurrent(8, exchange).await;
}

/// An upstream that sends what it is asked for: whole, or in chunks.
async fn sender(mut stream: TcpStream) {
    let head = head(&mut stream).await;
    let length = length_in(&head);
    let answer = if head.contains("/chunked") {
        let chunks = numbered(length)
            .chunks(7_919)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        [b"transfer-encoding: chunked\r\n\r\n".to_vec(), chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()]
            .concat()
    } else {
        [format!("content-length: {length}\r\n\r\n").as_bytes(), numbered(length)].concat()
    };
    stream.write_all(&[b"HTTP/1.1 200 OK\r\nconnection: close\r\n", &answer[..]].concat()).await.unwrap();
}

/// An upstream that reads late and says whether all was right.
async fn receiver(mut stream: TcpStream) {
    let length = length_in(&head(&mut stream).await);
    let answer = match read_late(&mut stream, length).await {
        None => "204 No Content".to_owned(),
        Some(place) => format!("400 wrong byte {place}"),
    };
    stream.write_all(format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn download_is_in_order_for_a_client_that_reads_late() {
    let scene = before(sender).await;
    let address = scene.stack.address("web");
    each(lengths(), async |length| {
        let mut client = narrow().connect(address).await.unwrap();
        let request = format!("GET /{length} HTTP/1.1\r\nhost: test.example\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(read_late(&mut client, length).await, None, "the first wrong byte of {length}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_is_in_order_for_an_endpoint_that_reads_late() {
    let scene = before(receiver).await;
    let address = scene.stack.address("web");
    each(lengths(), async |length| {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /{length} HTTP/1.1\r\nhost: test.example\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(&[request.as_bytes(), numbered(length)].concat()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{length}: {answer}");
    })
    .await;
}

/// Ways to the proxy that go through its memory, too.
#[derive(Debug, Clone, Copy)]
enum Over {
    Http1,
    Http2,
    Tls,
}

const EVERY: [Over; 3] = [Over::Http1, Over::Http2, Over::Tls];

impl Scene {
    async fn connect(&self, over: Over) -> Connection {
        let name = if matches!(over, Over::Tls) { "secure" } else { "web" };
        let stream = narrow().connect(self.stack.address(name)).await.unwrap();
        match over {
            Over::Http1 => Connection::http1_over(stream).await,
            Over::Http2 => Connection::http2_over(stream).await,
            Over::Tls => {
                let client = tls::Client::new(&self.authority);
                Connection::http1_over(client.over(stream, "test.example").await.unwrap()).await
            }
        }
    }
}

fn some_lengths() -> impl Iterator<Item = usize> {
    lengths().step_by(11)
}

#[tokio::test(flavor = "multi_thread")]
async fn download_is_in_order_whichever_way_it_comes() {
    let scene = before(sender).await;
    for (over, path) in EVERY.into_iter().flat_map(|over| ["whole", "chunked"].map(|path| (over, path))) {
        each(some_lengths(), async |length| {
            let mut connection = scene.connect(over).await;
            let response = connection.open(client::get(&format!("/{length}/{path}"))).await.unwrap();
            sleep(LATE).await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(first_wrong(&body, length), None, "the first wrong byte of {length}, {over:?}, {path}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_is_in_order_whichever_way_it_comes() {
    let scene = before(receiver).await;
    for over in EVERY {
        each(some_lengths(), async |length| {
            let request = client::request("POST", &format!("/{length}"), numbered(length));
            let reply = scene.connect(over).await.send(request).await.unwrap();
            assert_eq!(reply.status, StatusCode::NO_CONTENT, "{length}, {over:?}");
        })
        .await;
    }
}

/// A WebSocket's handshake as far as a proxy looks at it.
const UPGRADE: &str = "upgrade: websocket\r\nconnection: upgrade\r\n";

/// The head of a binary frame of this length; `mask` changes nothing.
fn frame(length: usize, mask: bool) -> Vec<u8> {
    let key: &[u8] = if mask { &[0; 4] } else { &[] };
    [&[0x82, 127 | u8::from(mask) << 7][..], &(length as u64).to_be_bytes(), key].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_is_in_order_both_ways_for_who_reads_late() {
    let scene = before(async |mut stream| {
        let length = length_in(&head(&mut stream).await);
        let switched = format!("HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}\r\n");
        stream.write_all(&[switched.as_bytes(), &frame(length, false), numbered(length)].concat()).await.unwrap();
        stream.read_exact(&mut frame(length, true)).await.unwrap();
        let answer = u8::from(read_late(&mut stream, length).await.is_none());
        stream.write_all(&[0x82, 1, answer]).await.unwrap();
    })
    .await;
    let address = scene.stack.address("web");
    each(some_lengths(), async |length| {
        let mut client = narrow().connect(address).await.unwrap();
        let key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = format!("GET /{length} HTTP/1.1\r\nhost: test.example\r\n{UPGRADE}{key}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        client.read_exact(&mut frame(length, false)).await.unwrap();
        assert_eq!(read_late(&mut client, length).await, None, "the first wrong byte of {length}");
        client.write_all(&[&frame(length, true), numbered(length)].concat()).await.unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x82, 1, 1], "{length}");
    })
    .await;
}
