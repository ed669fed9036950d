//! The responder for benchmarks.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use upstream_mock::Bare;

use crate::client::{exchange, h1, plain, read, request};

async fn bare() -> Bare {
    Bare::start("web-1", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

#[tokio::test]
async fn bare_answers_many_requests_on_one_connection() {
    let bare = bare().await;
    let mut sender = h1(bare.address()).await;
    for _ in 0..3 {
        let small = read(sender.send_request(plain("/")).await.unwrap()).await.unwrap();
        assert_eq!((small.text(), small.header("x-upstream")), ("hello from web-1\n", "web-1"));
        sender.ready().await.unwrap();
        let large = read(sender.send_request(plain("/1m")).await.unwrap()).await.unwrap();
        assert_eq!(large.body.len(), 1 << 20);
        sender.ready().await.unwrap();
        let upload = request("POST", "/").body(Full::from(Bytes::from(vec![b'x'; 200_000]))).unwrap();
        let posted = read(sender.send_request(upload).await.unwrap()).await.unwrap();
        assert_eq!(posted.status, 200);
        sender.ready().await.unwrap();
    }
}

#[tokio::test]
async fn bare_answers_each_of_pipelined_requests() {
    let bare = bare().await;
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody";
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let (answers, end) = exchange(bare.address(), &[get, post, get, chunked].concat()).await;
    end.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert!(answers.contains("HTTP/1.1 411 "), "{answers}");
}
