//! Negotiated connections belong to one container.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use upstream_mock::Container;

use crate::client::{fleet, get, h1, plain, request, send};

async fn negotiate(container: &Container) -> String {
    let negotiated = send(container, post("/hub/negotiate?negotiateVersion=1", "")).await.unwrap().json();
    assert_eq!(negotiated["container"], container.name());
    negotiated["connectionId"].as_str().unwrap().to_owned()
}

fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    request("POST", path).body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn id_of_another_container_is_not_found() {
    let fleet = fleet().await;
    let [web1, web2, _] = fleet.containers() else { panic!("three containers") };
    let id = negotiate(web1).await;
    for path in ["/hub/sse", "/hub/poll"] {
        let lost = get(web2, &format!("{path}?id={id}")).await;
        assert_eq!((lost.status, lost.header("x-upstream")), (StatusCode::NOT_FOUND, "web-2"), "{path}");
        assert!(lost.text().contains("web-2 never negotiated"), "{}", lost.text());
    }
    let lost = send(web2, post(&format!("/hub/send?id={id}"), "hi")).await.unwrap();
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    let lost = connect_async(format!("ws://{}/hub?id={id}", web2.address())).await.unwrap_err();
    assert!(matches!(lost, Error::Http(response) if response.status() == StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn sent_message_reaches_the_poll() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let id = negotiate(web1).await;
    let sent = send(web1, post(&format!("/hub/send?id={id}"), "hi")).await.unwrap();
    assert_eq!(sent.status, StatusCode::ACCEPTED);
    assert_eq!(get(web1, &format!("/hub/poll?id={id}")).await.text(), "hi");
    let nothing = get(web1, &format!("/hub/poll?id={id}&timeout=1ms")).await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn sent_message_reaches_the_event_stream() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let id = negotiate(web1).await;
    let asked = plain(&format!("/hub/sse?id={id}"));
    let mut body = h1(web1.address()).await.send_request(asked).await.unwrap().into_body();
    send(web1, post(&format!("/hub/send?id={id}"), "hi")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "id: 1\ndata: hi\n\n");
}

#[tokio::test]
async fn sent_message_reaches_the_websocket() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let id = negotiate(web1).await;
    let (mut socket, _) = connect_async(format!("ws://{}/hub?id={id}", web1.address())).await.unwrap();
    send(web1, post(&format!("/hub/send?id={id}"), "hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hi"));
    socket.send(Message::text("back")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("back"));
}

#[tokio::test]
async fn crash_forgets_sessions() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let id = negotiate(web1).await;
    web1.crash().await;
    web1.recover().await.unwrap();
    assert_eq!(get(web1, &format!("/hub/poll?id={id}")).await.status, StatusCode::NOT_FOUND);
}
