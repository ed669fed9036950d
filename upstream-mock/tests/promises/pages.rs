//! What each page answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{fleet, get, get_h2, h1, plain, request, send};

fn alphabet(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

#[tokio::test]
async fn echo_keeps_duplicated_headers_in_order() {
    let fleet = fleet().await;
    let asked = request("PUT", "/echo?a=1&a=2").header("x-twice", "first").header("x-twice", "second");
    let seen = send(&fleet.containers()[0], asked.body(Full::from("body")).unwrap()).await.unwrap().json();
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["path"], "/echo");
    assert_eq!(seen["query"], "a=1&a=2");
    assert_eq!(seen["arguments"], json!([["a", "1"], ["a", "2"]]));
    assert_eq!(seen["version"], "HTTP/1.1");
    assert_eq!(seen["container"], "web-1");
    assert_eq!((&seen["length"], &seen["body"]), (&json!(4), &json!("body")));
    let headers = seen["headers"].as_array().unwrap();
    let twice: Vec<_> = headers.iter().filter(|pair| pair[0] == "x-twice").map(|pair| &pair[1]).collect();
    assert_eq!(twice, ["first", "second"]);
}

#[tokio::test]
async fn echo_writes_bytes_that_are_no_text_as_base64() {
    let fleet = fleet().await;
    let asked = request("POST", "/echo").body(Full::from(vec![0xff, 0x00])).unwrap();
    let seen = send(&fleet.containers()[0], asked).await.unwrap().json();
    assert_eq!((&seen["body"], &seen["body_base64"]), (&json!(null), &json!("/wA=")));
}

#[tokio::test]
async fn echo_sees_http2_with_its_authority() {
    let fleet = fleet().await;
    let seen = get_h2(&fleet.containers()[0], "/echo").await.json();
    assert_eq!((&seen["version"], &seen["authority"]), (&json!("HTTP/2.0"), &json!("mock")));
}

#[tokio::test]
async fn bytes_have_a_content_length() {
    let fleet = fleet().await;
    for length in [0, 1, 100_000] {
        let path = format!("/bytes/{length}");
        for answer in [get(&fleet.containers()[0], &path).await, get_h2(&fleet.containers()[0], &path).await] {
            assert_eq!(answer.header("content-length"), length.to_string());
            assert_eq!(answer.body, alphabet(length));
        }
    }
}

#[tokio::test]
async fn chunks_are_as_large_as_asked() {
    let fleet = fleet().await;
    let asked = plain("/chunked/100?chunk=30");
    let mut body = h1(fleet.containers()[0].address()).await.send_request(asked).await.unwrap().into_body();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(all, alphabet(100));
    let (raw, _) = crate::client::exchange(
        fleet.containers()[0].address(),
        "GET /chunked/100?chunk=64 HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n",
    )
    .await;
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.contains("\r\n\r\n40\r\nabc") && raw.contains("\r\n24\r\n"), "{raw}");
}

#[tokio::test]
async fn trickled_bytes_arrive_one_by_one() {
    let fleet = fleet().await;
    let start = Instant::now();
    let asked = plain("/trickle?bytes=3&every=20ms");
    let mut body = h1(fleet.containers()[0].address()).await.send_request(asked).await.unwrap().into_body();
    for (count, letter) in [b"a", b"b", b"c"].into_iter().enumerate() {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), letter.as_slice());
        assert!(start.elapsed() >= Duration::from_millis(20) * u32::try_from(count + 1).unwrap());
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn delay_answers_late() {
    let fleet = fleet().await;
    let start = Instant::now();
    assert_eq!(get(&fleet.containers()[0], "/delay/30ms").await.text(), "hello from web-1\n");
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn status_is_answered_with_retry_after() {
    let fleet = fleet().await;
    let answer = get(&fleet.containers()[0], "/status/503?retry_after=1").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    let answer = get(&fleet.containers()[0], "/status/204").await;
    assert_eq!((answer.status.as_u16(), answer.body), (204, Bytes::new()));
}

#[tokio::test]
async fn arguments_that_cannot_be_read_are_explained() {
    let fleet = fleet().await;
    for path in ["/bytes/many", "/chunked/", "/delay/soon", "/status/20", "/status/101", "/headers?a%20b=1"] {
        let answer = get(&fleet.containers()[0], path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.text().starts_with("wanted"), "{path}: {}", answer.text());
    }
    assert_eq!(get(&fleet.containers()[0], "/nowhere").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn asked_headers_are_set_with_duplicates() {
    let fleet = fleet().await;
    let answer = get(&fleet.containers()[0], "/headers?set-cookie=a%3D1&set-cookie=b%3D2&x-other=c").await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(answer.header("x-other"), "c");
}

#[tokio::test]
async fn trailers_follow_the_body() {
    let fleet = fleet().await;
    let asked = request("GET", "/trailers").header("te", "trailers").body(Full::default()).unwrap();
    let over_h1 = send(&fleet.containers()[0], asked).await.unwrap();
    for answer in [over_h1, get_h2(&fleet.containers()[0], "/trailers").await] {
        assert_eq!(answer.trailers.unwrap()["x-mock-trailer"], "the end");
    }
}

#[tokio::test]
async fn early_answer_comes_before_the_end_of_the_upload() {
    let fleet = fleet().await;
    let mut stream = TcpStream::connect(fleet.containers()[0].address()).await.unwrap();
    stream
        .write_all(b"POST /early?status=413 HTTP/1.1\r\nhost: mock\r\ncontent-length: 10\r\n\r\nhalf-")
        .await
        .unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 413 "));
    stream.write_all(b"ways!GET / HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n").await.unwrap();
    let (next, end) = crate::client::read_out(&mut stream).await;
    end.unwrap();
    assert!(next.ends_with(b"hello from web-1\n"), "the connection goes on");
}

#[tokio::test]
async fn upload_is_weighed() {
    let fleet = fleet().await;
    let body = alphabet(300_000);
    let asked = request("POST", "/upload").body(Full::from(body.clone())).unwrap();
    let weighed = send(&fleet.containers()[0], asked).await.unwrap().json();
    assert_eq!(weighed["length"], 300_000);
    assert_eq!(weighed["checksum"], upstream_mock::checksum(&body));
    assert_eq!(weighed["container"], "web-1");
}

#[tokio::test]
async fn clock_ticks_as_server_sent_events() {
    let fleet = fleet().await;
    let answer = get(&fleet.containers()[0], "/sse?every=1ms&count=3").await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events: Vec<_> = answer.text().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2], "id: 3\ndata: {\"container\":\"web-1\",\"tick\":3}");
}
