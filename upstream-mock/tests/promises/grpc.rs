//! gRPC over HTTP/2 with prior knowledge.

use futures_util::{StreamExt, stream};
use http::StatusCode;
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use upstream_mock::Container;
use upstream_mock::grpc::{EchoClient, EchoReply, EchoRequest};

use crate::client::fleet;

async fn client(container: &Container) -> EchoClient {
    EchoClient::connect(format!("http://{}", container.address())).await.unwrap()
}

fn saying(text: &str, count: u32) -> EchoRequest {
    EchoRequest { text: text.to_owned(), count }
}

fn failing(request: EchoRequest) -> Request<EchoRequest> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-mock-grpc-status", "14".parse().unwrap());
    request
}

#[tokio::test]
async fn say_is_answered_by_name() {
    let fleet = fleet().await;
    let response = client(&fleet.containers()[0]).await.say(saying("hi", 0)).await.unwrap();
    assert_eq!(response.metadata().get("x-upstream").unwrap(), "web-1");
    let reply = EchoReply { text: "hi".to_owned(), container: "web-1".to_owned(), number: 1 };
    assert_eq!(response.into_inner(), reply);
}

#[tokio::test]
async fn stream_replies_as_often_as_asked() {
    let fleet = fleet().await;
    let replies = client(&fleet.containers()[0]).await.stream(saying("hi", 3)).await.unwrap().into_inner();
    let numbers: Vec<_> = replies.map(|reply| reply.unwrap().number).collect().await;
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn chat_replies_while_the_client_goes_on() {
    let fleet = fleet().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let requests = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let mut replies = client(&fleet.containers()[0]).await.chat(Box::pin(requests)).await.unwrap().into_inner();
    for (number, text) in [(1, "one"), (2, "two")] {
        sender.send(saying(text, 0)).unwrap();
        let reply = replies.next().await.unwrap().unwrap();
        assert_eq!((reply.number, reply.text.as_str()), (number, text));
    }
    drop(sender);
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn asked_status_comes_in_headers_or_after_the_stream() {
    let fleet = fleet().await;
    let mut client = client(&fleet.containers()[0]).await;
    let unary = client.say(failing(saying("hi", 0))).await.unwrap_err();
    assert_eq!(unary.code(), Code::Unavailable);
    assert_eq!(unary.metadata().get("x-upstream").unwrap(), "web-1");
    let mut replies = client.stream(failing(saying("hi", 1))).await.unwrap().into_inner();
    assert_eq!(replies.next().await.unwrap().unwrap().text, "hi");
    assert_eq!(replies.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn keyed_calls_are_counted() {
    let fleet = fleet().await;
    let mut client = client(&fleet.containers()[0]).await;
    for _ in 0..2 {
        let mut request = Request::new(saying("hi", 0));
        request.metadata_mut().insert("x-request-key", "call".parse().unwrap());
        client.say(request).await.unwrap();
    }
    assert_eq!(fleet.executions("call"), 2);
}

#[tokio::test]
async fn health_service_follows_the_health_page() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let channel = Endpoint::from_shared(format!("http://{}", web1.address())).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let mut watched = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let checked = client.check(HealthCheckRequest { service: "mock.Echo".to_owned() }).await.unwrap();
    assert_eq!(checked.into_inner().status(), ServingStatus::Serving);

    web1.set_health(StatusCode::INTERNAL_SERVER_ERROR);

    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let checked = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(checked.into_inner().status(), ServingStatus::NotServing);
    let unknown = client.check(HealthCheckRequest { service: "mock.Nothing".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!((web1.requests(), web1.probes()), (0, 4));
}
