//! gRPC through Waypost: every kind of call, trailers, and errors of the proxy that a client understands.

use futures_util::{StreamExt, stream};
use http::HeaderMap;
use tonic::{Code, Request};
use upstream_mock::grpc::{EchoClient, EchoRequest};
use waypost_tests::connection::Connection;
use waypost_tests::{Stack, client, tls};

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
    protocol = "h2c"
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

async fn start() -> (Stack, tls::Authority) {
    let authority = tls::Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let stack = Stack::with_files(CONFIG, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    (stack, authority)
}

async fn plain(stack: &Stack) -> EchoClient {
    EchoClient::connect(format!("http://{}", stack.address("web"))).await.unwrap()
}

fn say(text: &str, count: u32) -> EchoRequest {
    EchoRequest { text: text.to_owned(), count }
}

#[tokio::test(flavor = "multi_thread")]
async fn unary_call() {
    let (stack, _) = start().await;
    let reply = plain(&stack).await.say(say("hello", 0)).await.unwrap().into_inner();
    assert_eq!((reply.text.as_str(), reply.container.as_str()), ("hello", "web-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_streaming_call() {
    let (stack, _) = start().await;
    let replies = plain(&stack).await.stream(say("tick", 100)).await.unwrap().into_inner();
    let numbers: Vec<u32> = replies.map(|reply| reply.unwrap().number).collect().await;
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_chat_is_answered_before_the_next_is_said() {
    let (stack, _) = start().await;
    let (said, inbox) = tokio::sync::mpsc::channel::<EchoRequest>(1);
    let requests = stream::unfold(inbox, |mut inbox| async move { Some((inbox.recv().await?, inbox)) });
    let mut client = plain(&stack).await;
    said.send(say("0", 0)).await.unwrap();
    let mut replies = client.chat(requests.boxed()).await.unwrap().into_inner();
    for number in 1..=5 {
        assert_eq!(replies.next().await.unwrap().unwrap().text, (number - 1).to_string());
        said.send(say(&number.to_string(), 0)).await.unwrap();
    }
    drop(said);
    assert_eq!(replies.next().await.unwrap().unwrap().text, "5");
    assert!(replies.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_passes_in_trailers_and_in_headers() {
    let (stack, _) = start().await;
    let mut client = plain(&stack).await;
    let failing = |count| {
        let mut request = Request::new(say("x", count));
        request.metadata_mut().insert("x-mock-grpc-status", "9".parse().unwrap());
        request
    };
    let status = client.say(failing(0)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "as asked"));
    let mut replies = client.stream(failing(2)).await.unwrap().into_inner();
    assert_eq!(replies.next().await.unwrap().unwrap().number, 1);
    assert_eq!(replies.next().await.unwrap().unwrap().number, 2);
    assert_eq!(replies.next().await.unwrap().unwrap_err().code(), Code::FailedPrecondition);
}

/// A gRPC request without tonic: length-prefixed, the message is empty.
fn bare_call() -> client::Request {
    let mut request = client::request("POST", "/mock.Echo/Say", vec![0; 5]);
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn call_over_tls_ends_with_trailers() {
    use http_body_util::BodyExt;

    let (stack, authority) = start().await;
    let stream = tls::Client::new(&authority).http2().connect(stack.address("secure"), "test.example").await.unwrap();
    let response = Connection::http2_over(stream).await.open(bare_call()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let trailers: Option<HeaderMap> = response.into_body().collect().await.unwrap().trailers().cloned();
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_the_proxy_is_a_status_without_a_body() {
    let (stack, _) = start().await;
    stack.container("web-1").crash().await;
    let status = plain(&stack).await.say(say("hello", 0)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "connect_failed"));
    let mut connection = Connection::http2(stack.address("web")).await;
    let reply = connection.send(bare_call()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/grpc"));
    assert_eq!((reply.header("grpc-status"), reply.reason()), ("14", "connect_failed"));
    assert!(reply.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn call_without_a_route_is_unimplemented() {
    let config = CONFIG.replace("[routes.all]", "[routes.all]\npath_prefix = \"/other\"");
    let pair = tls::Authority::new("authority").pair("site", &["test.example"]);
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    let status = plain(&stack).await.say(say("hello", 0)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn call_that_takes_too_long_is_over_its_deadline() {
    let config = CONFIG.replace("[services.shop]", "[services.shop]\ntimeouts = { response = \"100ms\" }");
    let pair = tls::Authority::new("authority").pair("site", &["test.example"]);
    let stack = Stack::with_files(&config, &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await;
    let mut request = Request::new(say("x", 0));
    request.metadata_mut().insert("x-mock-fault", "hang".parse().unwrap());
    let status = plain(&stack).await.say(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "attempt_timeout"));
}
