//! What counts as executed.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::client::{fleet, get, request, send};

fn post(path: &str, key: (&str, &str), fault: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = request("POST", path).header(key.0, key.1);
    if let Some(fault) = fault {
        request = request.header("x-mock-fault", fault);
    }
    request.body(Full::from("order 66")).unwrap()
}

#[tokio::test]
async fn keyed_request_executed_on_two_containers_is_seen() {
    let fleet = fleet().await;
    let [web1, web2, _] = fleet.containers() else { panic!("three containers") };
    for name in ["idempotency-key", "x-request-key"] {
        send(web1, post("/", (name, name), None)).await.unwrap();
        assert_eq!(fleet.executions(name), 1);
        send(web2, post("/echo", (name, name), None)).await.unwrap();
        assert_eq!((fleet.executions(name), web1.executions(name), web2.executions(name)), (2, 1, 1));
    }
    let doubled = [("idempotency-key".to_owned(), 2), ("x-request-key".to_owned(), 2)];
    assert_eq!(fleet.double_executions(), doubled);
    fleet.reset_counters();
    assert_eq!(fleet.double_executions(), []);
}

#[tokio::test]
async fn every_page_counts_its_execution() {
    let fleet = fleet().await;
    for path in ["/", "/echo", "/upload", "/bytes/10", "/status/404", "/hub/negotiate", "/nowhere"] {
        send(&fleet.containers()[0], post(path, ("x-request-key", path), None)).await.unwrap();
        assert_eq!(fleet.executions(path), 1, "{path}");
    }
}

#[tokio::test]
async fn execution_counts_even_if_the_answer_is_lost() {
    let fleet = fleet().await;
    for fault in ["reset_after_execution", "reset_in_body", "truncated_chunked", "garbage"] {
        let lost = send(&fleet.containers()[0], post("/", ("x-request-key", fault), Some(fault))).await;
        assert!(lost.is_err(), "{fault}");
        assert_eq!(fleet.executions(fault), 1, "{fault}");
    }
}

#[tokio::test]
async fn request_that_was_not_taken_in_is_not_executed() {
    let fleet = fleet().await;
    for fault in ["reset_before_head", "crash"] {
        let lost = send(&fleet.containers()[0], post("/", ("x-request-key", fault), Some(fault))).await;
        assert!(lost.is_err(), "{fault}");
        assert_eq!(fleet.executions(fault), 0, "{fault}");
    }
}

#[tokio::test]
async fn half_an_upload_is_not_executed() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    for path in ["/", "/upload"] {
        let half =
            format!("POST {path} HTTP/1.1\r\nhost: mock\r\nx-request-key: half\r\ncontent-length: 10\r\n\r\nhalf");
        let mut stream = tokio::net::TcpStream::connect(web1.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, half.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        crate::client::read_out(&mut stream).await.1.unwrap();
        assert_eq!(fleet.executions("half"), 0, "{path}");
    }
    get(web1, "/").await;
}
