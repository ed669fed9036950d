//! Bodies pass as they come, both ways, and messages without a body stay so.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waypost_tests::connection::{Connection, empty, fed};
use waypost_tests::raw::{self, Raw};
use waypost_tests::{Stack, client};

const CONFIG: &str = r#"
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

/// A stack before an upstream that the test plays itself.
async fn before_raw_upstream() -> (Stack, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = CONFIG.replace("{web-1}", &listener.local_addr().unwrap().to_string());
    (Stack::start(&config).await, listener)
}

async fn accept(listener: &TcpListener) -> Raw<TcpStream> {
    Raw::over(listener.accept().await.unwrap().0)
}

async fn next(body: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a frame comes in time");
        let data = frame?.unwrap().into_data().expect("data");
        // HTTP/2 may end with an empty frame.
        if !data.is_empty() {
            return Some(data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_event_arrives_before_the_second_is_sent() {
    for http2 in [false, true] {
        let (stack, listener) = before_raw_upstream().await;
        let address = stack.address("web");
        let upstream = tokio::spawn(async move {
            let mut upstream = accept(&listener).await;
            upstream.head().await;
            upstream
                .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            upstream.send("9\r\ndata: 1\n\n\r\n").await;
            upstream
        });
        let mut connection = if http2 { Connection::http2(address).await } else { Connection::http1(address).await };
        let mut body = connection.open(client::get("/sse")).await.unwrap().into_body();
        let mut upstream = upstream.await.unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "data: 1\n\n");
        upstream.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n").await;
        assert_eq!(next(&mut body).await.unwrap(), "data: 2\n\n");
        assert_eq!(next(&mut body).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trickled_body_is_not_gathered() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http1(stack.address("web")).await;
    let mut body = connection.open(client::get("/trickle?bytes=5&every=20ms")).await.unwrap().into_body();
    for letter in ["a", "b", "c", "d", "e"] {
        assert_eq!(next(&mut body).await.unwrap(), letter);
    }
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_sees_the_first_chunk_before_the_client_sends_the_last() {
    let (stack, listener) = before_raw_upstream().await;
    let (feed, body) = fed();
    let request = Request::post("/upload").header("host", "test.example").body(body).unwrap();
    let mut connection = Connection::http1(stack.address("web")).await;
    let answer = tokio::spawn(async move { connection.send(request).await.unwrap() });
    let mut upstream = accept(&listener).await;
    feed.send(Bytes::from_static(b"first")).await.unwrap();
    let head = upstream.head().await;
    assert_eq!(raw::field(&head, "transfer-encoding"), "chunked", "{head}");
    assert_eq!(upstream.body(10).await, "5\r\nfirst\r\n");
    feed.send(Bytes::from_static(b"last")).await.unwrap();
    drop(feed);
    assert_eq!(upstream.body(14).await, "4\r\nlast\r\n0\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(answer.await.unwrap().text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_before_the_end_of_the_upload_is_passed_on() {
    let stack = Stack::start(CONFIG).await;
    let (feed, body) = fed();
    let request = Request::post("/early?status=413").header("host", "test.example").body(body).unwrap();
    feed.send(Bytes::from_static(b"the beginning")).await.unwrap();
    let mut connection = Connection::http1(stack.address("web")).await;
    let response = tokio::time::timeout(Duration::from_secs(10), connection.open(request)).await;
    assert_eq!(response.expect("it does not wait for the upload").unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_to_a_client_that_wants_them() {
    let stack = Stack::start(CONFIG).await;
    for http2 in [false, true] {
        let address = stack.address("web");
        let mut connection = if http2 { Connection::http2(address).await } else { Connection::http1(address).await };
        let request = Request::get("/trailers").header("host", "test.example").header("te", "trailers");
        let response = connection.open(request.body(empty()).unwrap()).await.unwrap();
        let whole = response.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().expect("trailers")["x-mock-trailer"], "the end");
        let mut connection = Connection::http1(address).await;
        let whole = connection.open(client::get("/trailers")).await.unwrap().into_body().collect().await.unwrap();
        assert!(whole.trailers().is_none(), "nobody asked for them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_is_told_to_continue_only_when_an_endpoint_is_connected() {
    let (stack, listener) = before_raw_upstream().await;
    let mut client = Raw::connect(stack.address("web")).await;
    client
        .send("POST /upload HTTP/1.1\r\nhost: test.example\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await;
    let mut upstream = accept(&listener).await;
    assert!(upstream.head().await.starts_with("POST /upload"));
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(upstream.body(4).await, "body");
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(raw::status(&client.head().await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_is_not_told_to_continue_when_nobody_can_be_connected() {
    let stack = Stack::start(CONFIG).await;
    stack.container("web-1").refuse().await;
    let mut client = Raw::connect(stack.address("web")).await;
    client
        .send("POST /upload HTTP/1.1\r\nhost: test.example\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(raw::status(&client.head().await), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_stay_so() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Raw::connect(stack.address("web")).await;
    let cases = [
        ("HEAD", "/bytes/1000", 200, "1000"),
        ("GET", "/status/204", 204, ""),
        ("GET", "/status/304", 304, ""),
        ("GET", "/bytes/0", 200, "0"),
        ("HEAD", "/chunked/1000", 200, ""),
    ];
    for (method, path, status, length) in cases {
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: test.example\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!(raw::status(&head), status, "{method} {path}: {head}");
        assert_eq!(raw::field(&head, "content-length"), length, "{method} {path}: {head}");
    }
    client.send("GET /bytes/3 HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
    assert_eq!(raw::status(&client.head().await), 200);
    assert_eq!(client.body(3).await, "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_download_is_correct() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http1(stack.address("web")).await;
    let response = connection.open(client::get(&format!("/bytes/{LENGTH}"))).await.unwrap();
    assert_eq!(response.headers()["content-length"], LENGTH.to_string());
    let mut body = response.into_body();
    let alphabet: Vec<u8> = (b'a'..=b'z').cycle().take(1024 * 1024 + 26).collect();
    let mut place = 0;
    while let Some(bytes) = next(&mut body).await {
        let begin = place % 26;
        assert_eq!(bytes, alphabet[begin..begin + bytes.len()], "at {place}");
        place += bytes.len();
    }
    assert_eq!(place, LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_of_any_size_arrives_whole() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Raw::connect(stack.address("web")).await;
    for (method, length) in ["POST", "PUT"]
        .into_iter()
        .flat_map(|method| [1_u32, 9_000, 33_000, 70_000, 3_000_000].map(|length| (method, length)))
    {
        let body: Vec<u8> = (0..length).map(|place| b'a' + u8::try_from(place * 7 % 23).unwrap()).collect();
        let head = format!("{method} /upload HTTP/1.1\r\nhost: test.example\r\ncontent-length: {length}\r\n\r\n");
        // The socket's buffers hold less than the largest, so it is written while it is read.
        client.send([head.as_bytes(), &body].concat()).await;
        let answer = client.head().await;
        let told = client.body(raw::field(&answer, "content-length").parse().unwrap()).await;
        let weighed: serde_json::Value = serde_json::from_str(&told).unwrap();
        let expected = (Some(u64::from(length)), Some(upstream_mock::checksum(&body)));
        let seen = (weighed["length"].as_u64(), weighed["checksum"].as_str().map(str::to_owned));
        assert_eq!(seen, expected, "{method} {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_that_breaks_off_is_never_whole_upstream() {
    let (stack, listener) = before_raw_upstream().await;
    for length in [20_000, 200_000] {
        let mut client = Raw::connect(stack.address("web")).await;
        let head = format!("POST /upload HTTP/1.1\r\nhost: test.example\r\ncontent-length: {length}\r\n\r\n");
        client.send([head.as_bytes(), &vec![b'x'; length - 1]].concat()).await;
        let mut upstream = accept(&listener).await;
        assert!(upstream.head().await.starts_with("POST /upload"));
        assert_eq!(upstream.body(length - 1).await.len(), length - 1);
        drop(client);
        assert_eq!(upstream.rest().await, "", "the connection ends, and nothing stands for the missing byte");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn download_that_breaks_off_is_never_whole_downstream() {
    let (stack, listener) = before_raw_upstream().await;
    for length in [20_000, 200_000] {
        let mut client = Raw::connect(stack.address("web")).await;
        client.send("GET / HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
        let mut upstream = accept(&listener).await;
        upstream.head().await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        upstream.send([head.as_bytes(), &vec![b'x'; length - 1]].concat()).await;
        drop(upstream);
        assert_eq!(raw::status(&client.head().await), 200);
        assert_eq!(
            client.rest().await.len(),
            length - 1,
            "the connection ends, and nothing stands for the missing byte"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_sends_before_it_reads_does_not_wait_for_itself() {
    const LENGTH: usize = 20_000_000;
    let (stack, listener) = before_raw_upstream().await;
    let upstream = tokio::spawn(async move {
        let (mut reading, mut writing) = listener.accept().await.unwrap().0.into_split();
        let mut buffer = vec![0; 1 << 16];
        // The head is shorter than a buffer, and the body much longer.
        let mut taken = reading.read(&mut buffer).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        let answer = [head.as_bytes(), &vec![b'y'; LENGTH]].concat();
        let answering = tokio::spawn(async move { writing.write_all(&answer).await.map(|()| writing) });
        while taken < LENGTH {
            let read = reading.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "the upload ended after {taken} bytes");
            taken += read;
        }
        answering.await.unwrap().unwrap();
    });
    let mut client = Raw::connect(stack.address("web")).await;
    let head = format!("POST / HTTP/1.1\r\nhost: test.example\r\ncontent-length: {LENGTH}\r\n\r\n");
    let sending = async { client.send([head.as_bytes(), &vec![b'x'; LENGTH]].concat()).await };
    tokio::time::timeout(Duration::from_secs(20), sending).await.expect("the upload is taken");
    assert_eq!(raw::status(&client.head().await), 200);
    assert_eq!(client.body(LENGTH).await.len(), LENGTH);
    upstream.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn length_of_what_has_no_body_is_not_passed_on() {
    let (stack, listener) = before_raw_upstream().await;
    let mut client = Raw::connect(stack.address("web")).await;
    client.send("GET / HTTP/1.1\r\nhost: test.example\r\n\r\n").await;
    let mut upstream = accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((raw::status(&head), raw::field(&head, "content-length")), (204, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_interim_responses_are_no_answer() {
    let (stack, listener) = before_raw_upstream().await;
    let mut client = Raw::connect(stack.address("web")).await;
    client.send("POST / HTTP/1.1\r\nhost: test.example\r\ncontent-length: 0\r\n\r\n").await;
    let mut upstream = accept(&listener).await;
    upstream.head().await;
    for _ in 0..40 {
        upstream.send("HTTP/1.1 102 Processing\r\n\r\n").await;
        tokio::task::yield_now().await;
    }
    let head = client.head().await;
    assert_eq!((raw::status(&head), raw::field(&head, "x-waypost-reason")), (502, "upstream_invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_both_ways_is_whole() {
    let stack = Stack::start(CONFIG).await;
    let mut connection = Connection::http1(stack.address("web")).await;
    let (feed, body) = fed();
    let feeding = tokio::spawn(async move {
        for number in 0..200 {
            feed.send(Bytes::from(vec![number; 1000])).await.unwrap();
        }
    });
    let request = Request::post("/upload").header("host", "test.example").body(body).unwrap();
    let weighed = connection.send(request).await.unwrap().json();
    feeding.await.unwrap();
    let sent: Vec<u8> = (0..200).flat_map(|number| vec![number; 1000]).collect();
    assert_eq!(
        (weighed["length"].as_u64(), weighed["checksum"].as_str()),
        (Some(200_000), Some(&*upstream_mock::checksum(&sent)))
    );
    let reply = connection.send(client::get("/chunked/100000?chunk=777")).await.unwrap();
    assert_eq!(reply.header("content-length"), "");
    assert_eq!(reply.body.len(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn http10_client_gets_a_body_without_chunks() {
    let stack = Stack::start(CONFIG).await;
    let answer = raw::exchange(stack.address("web"), "GET /chunked/26 HTTP/1.0\r\nhost: test.example\r\n\r\n").await;
    assert_eq!(raw::status(&answer), 200);
    assert_eq!(raw::field(&answer, "transfer-encoding"), "");
    assert!(answer.ends_with("\r\n\r\nabcdefghijklmnopqrstuvwxyz"), "{answer}");
    let answer = raw::exchange(stack.address("web"), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw::status(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_answer_is_a_broken_transfer() {
    for (path, fault) in [("/bytes/100000", "reset_in_body"), ("/chunked/100000", "truncated_chunked")] {
        let stack = Stack::start(CONFIG).await;
        let mut request = client::get(path);
        request.headers_mut().insert("x-mock-fault", fault.parse().unwrap());
        let response = Connection::http1(stack.address("web")).await.open(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect_err("a part is not the whole");
    }
}
