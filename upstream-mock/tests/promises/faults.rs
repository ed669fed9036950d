//! How a container fails when it is asked to.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use upstream_mock::{Container, Fault};

use crate::client::{eventually, exchange, failing, fleet, get, h1, plain, request, send, send_h2};

async fn raw(container: &Container, path: &str, fault: &str) -> (String, std::io::Result<()>) {
    let text = format!("GET {path} HTTP/1.1\r\nhost: mock\r\nx-mock-fault: {fault}\r\n\r\n");
    let (bytes, end) = exchange(container.address(), &text).await;
    (String::from_utf8_lossy(&bytes).into_owned(), end)
}

#[tokio::test]
async fn resets_without_an_answer_are_real_resets() {
    let fleet = fleet().await;
    for fault in ["reset_before_head", "reset_after_execution", "crash"] {
        let (answer, end) = raw(&fleet.containers()[0], "/", fault).await;
        assert_eq!(answer, "", "{fault}");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "{fault}");
    }
}

#[tokio::test]
async fn reset_in_body_comes_after_half_of_it() {
    let fleet = fleet().await;
    let (answer, end) = raw(&fleet.containers()[0], "/bytes/1000", "reset_in_body").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 1000"), "{head}");
    assert_eq!(body.len(), 500);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn truncated_chunked_body_lacks_its_last_chunk() {
    let fleet = fleet().await;
    let (answer, end) = raw(&fleet.containers()[0], "/", "truncated_chunked").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!body.is_empty() && !body.ends_with("0\r\n\r\n"), "{body}");
    end.unwrap();
}

#[tokio::test]
async fn garbage_is_no_http() {
    let fleet = fleet().await;
    let (answer, end) = raw(&fleet.containers()[0], "/", "garbage").await;
    assert!(!answer.is_empty() && !answer.starts_with("HTTP"), "{answer}");
    end.unwrap();
}

#[tokio::test]
async fn faults_over_http2_break_the_connection() {
    let fleet = fleet().await;
    for fault in
        ["reset_before_head", "reset_after_execution", "reset_in_body", "truncated_chunked", "garbage", "crash"]
    {
        // Often, because the fault and the writing of HTTP/2 happen in two tasks.
        for _ in 0..20 {
            let web1 = &fleet.containers()[0];
            let answered = tokio::time::timeout(crate::client::DEADLINE, send_h2(web1, failing("/bytes/1000", fault)));
            assert!(answered.await.expect("the connection ends").is_err(), "{fault}");
            web1.recover().await.unwrap();
        }
    }
}

#[tokio::test]
async fn http2_gets_half_a_body_too() {
    let fleet = fleet().await;
    let mut sender = crate::client::h2(fleet.containers()[0].address()).await;
    let asked = request("GET", "http://mock/bytes/1000").header("x-mock-fault", "reset_in_body");
    let mut body = sender.send_request(asked.body(Full::<Bytes>::default()).unwrap()).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 500);
    let rest = tokio::time::timeout(crate::client::DEADLINE, body.collect()).await.expect("the connection ends");
    rest.unwrap_err();
}

#[tokio::test]
async fn hanging_container_never_answers() {
    let fleet = fleet().await;
    let mut sender = h1(fleet.containers()[0].address()).await;
    let answer = sender.send_request(failing("/", "hang"));
    assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err());
}

#[tokio::test]
async fn slow_container_answers_late_and_right() {
    let fleet = fleet().await;
    let start = Instant::now();
    let answer = send(&fleet.containers()[0], failing("/", "slow=50ms")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(answer.text(), "hello from web-1\n");
}

#[tokio::test]
async fn asked_status_replaces_the_answer() {
    let fleet = fleet().await;
    let answer = send(&fleet.containers()[0], failing("/echo", "status=503")).await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("x-upstream"), "web-1");
}

#[tokio::test]
async fn fault_meant_for_another_container_is_ignored() {
    let fleet = fleet().await;
    for (container, status) in [("web-1", 503), ("web-2", 200), ("web-3", 503)] {
        let asked = request("GET", "/").header("x-mock-fault", "status=503").header("x-mock-on", "web-1, web-3");
        let answer = send(fleet.container(container).unwrap(), asked.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status, status, "{container}");
    }
}

#[tokio::test]
async fn unknown_fault_is_explained() {
    let fleet = fleet().await;
    let answer = send(&fleet.containers()[0], failing("/", "explode")).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("`explode` is no fault"), "{}", answer.text());
}

#[tokio::test]
async fn set_fault_meets_every_request_but_health() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    web1.set_fault(Fault::Status(StatusCode::BAD_GATEWAY)).await;
    assert_eq!(get(web1, "/").await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(get(web1, "/health").await.status, StatusCode::OK);
    web1.clear_fault();
    assert_eq!(get(web1, "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn refuse_by_header_answers_and_then_closes_the_port() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    assert_eq!(send(web1, failing("/", "refuse")).await.unwrap().status, StatusCode::OK);
    assert!(!web1.is_listening());
}

#[tokio::test]
async fn flap_by_header_lets_the_container_come_and_go() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let answer = send(web1, failing("/", "flap=up:20ms,down:20ms")).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    eventually(|| !web1.is_listening()).await;
    eventually(|| web1.is_listening()).await;
    web1.recover().await.unwrap();
    assert!(send(web1, plain("/")).await.is_ok());
}

#[tokio::test]
async fn wrong_length_promises_twice_what_comes() {
    let fleet = fleet().await;
    let (answer, end) = raw(&fleet.containers()[0], "/bytes/1000", "wrong_length").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 1000"), "{head}");
    assert_eq!(body.len(), 500);
    end.unwrap();
}

#[tokio::test]
async fn excess_is_a_whole_answer_and_one_more() {
    let fleet = fleet().await;
    for path in ["/bytes/300", "/chunked/300", "/"] {
        let address = fleet.containers()[0].address();
        let text = format!("GET {path} HTTP/1.1\r\nhost: mock\r\nx-mock-fault: excess\r\nconnection: close\r\n\r\n");
        let (bytes, _) = exchange(address, &text).await;
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("nobody asked this"), "{answer}");
    }
}

#[tokio::test]
async fn slow_body_comes_in_pieces_and_whole() {
    let fleet = fleet().await;
    for (path, length) in [("/bytes/1000", 1000), ("/chunked/100000?chunk=10000", 100_000), ("/", 17)] {
        let start = Instant::now();
        let answer = send(&fleet.containers()[0], failing(path, "slow_body=10ms")).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50), "{path}");
        assert_eq!(answer.body.len(), length, "{path}");
    }
}

#[tokio::test]
async fn blackhole_takes_everything_and_answers_nothing() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    web1.set_fault(Fault::Blackhole).await;
    for path in ["/", "/health"] {
        let mut sender = h1(web1.address()).await;
        let answer = sender.send_request(plain(path));
        assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err(), "{path}");
    }
    assert_eq!(web1.requests(), 0);
    web1.clear_fault();
    assert_eq!(get(web1, "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn frozen_container_answers_nothing_and_goes_on_when_it_thaws() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let mut open = h1(web1.address()).await;
    open.send_request(plain("/")).await.unwrap().into_body().collect().await.unwrap();
    web1.set_fault(Fault::Freeze).await;
    let mut late = std::pin::pin!(open.send_request(plain("/")));
    assert!(tokio::time::timeout(Duration::from_millis(50), late.as_mut()).await.is_err());
    let accepted = web1.accepted();
    let mut new = h1(web1.address()).await;
    let probe = new.send_request(plain("/health"));
    assert!(tokio::time::timeout(Duration::from_millis(50), probe).await.is_err());
    assert_eq!(web1.accepted(), accepted);
    web1.recover().await.unwrap();
    assert_eq!(late.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn frozen_container_can_crash() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    web1.set_fault(Fault::Freeze).await;
    let mut open = h1(web1.address()).await;
    let asked = tokio::spawn(async move { open.send_request(plain("/")).await.map(|_| ()) });
    web1.crash().await;
    assert!(asked.await.unwrap().is_err());
    web1.recover().await.unwrap();
    assert_eq!(get(web1, "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn health_flaps_while_requests_are_answered() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let millis = Duration::from_millis;
    web1.set_fault(Fault::FlapHealth { up: millis(20), down: millis(20) }).await;
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        eventually(|| web1.health().status == status).await;
    }
    assert_eq!(get(web1, "/").await.status, StatusCode::OK);
    web1.recover().await.unwrap();
    tokio::time::sleep(millis(60)).await;
    assert_eq!(web1.health().status, StatusCode::OK);
}

#[tokio::test]
async fn script_is_played_in_its_order() {
    let fleet = fleet().await;
    let script: upstream_mock::Script = "[[steps]]\nat = \"0s\"\nendpoint = \"web-1\"\nfault = { kind = \"crash\" }\n\
         [[steps]]\nat = \"30ms\"\nendpoint = \"web-1\"\nrecover = true\n\
         [[steps]]\nat = \"40ms\"\nendpoint = \"web-2\"\nfault = { kind = \"hang\" }"
        .parse()
        .unwrap();
    let start = Instant::now();
    script.play(&fleet, tokio::time::Instant::now()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(40));
    assert!(fleet.containers()[0].is_listening());
    assert_eq!(fleet.containers()[1].fault(), Some(Fault::Hang));
}

#[tokio::test]
async fn script_about_a_stranger_is_not_begun() {
    let fleet = fleet().await;
    let script: upstream_mock::Script = "[[steps]]\nat = \"0s\"\nendpoint = \"web-9\"\nrecover = true".parse().unwrap();
    let error = script.play(&fleet, tokio::time::Instant::now()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no container web-9");
}
