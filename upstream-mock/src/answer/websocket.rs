//! The WebSocket handshake over HTTP/1.1 and over HTTP/2 (RFC 8441), and the echo at `/ws`.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::query::Query;
use super::{Body, Visit, book, empty, text};

/// An open WebSocket.
pub(super) type Conversation = WebSocketStream<TokioIo<Upgraded>>;

/// `/ws?close_after=3`: greets with the container's name, then echoes; closes after so many echoes, or as the container
/// drains (1001).
pub(super) fn echo(visit: &Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    let close_after = Query::of(request.uri()).parsed("close_after");
    let (name, draining) = (visit.container.name().to_owned(), visit.draining.clone());
    open(visit, request, async move |mut socket: Conversation| {
        socket.send(Message::text(name)).await?;
        let mut left: u64 = close_after.unwrap_or(u64::MAX);
        while left > 0 {
            let next = tokio::select! {
                next = socket.next() => next.transpose()?,
                () = draining.cancelled() => return goodbye(&mut socket, CloseCode::Away).await,
            };
            match next {
                Some(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await?,
                // tungstenite answers pings and closes itself, as long as it is read.
                Some(_) => continue,
                None => return Ok(()),
            }
            left -= 1;
        }
        goodbye(&mut socket, CloseCode::Normal).await
    })
}

/// Answers the handshake and lets `talk` have the WebSocket until the container dies.
pub(super) fn open<F, T>(visit: &Arc<Visit>, mut request: Request<Incoming>, talk: F) -> Response<Body>
where
    F: FnOnce(Conversation) -> T + Send + 'static,
    T: Future<Output = Result<(), Error>> + Send + 'static,
{
    let Some(response) = handshake(&request) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n".into());
    };
    book(visit, request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    visit.connections.spawn(converse(visit.clone(), upgrade, talk));
    response
}

async fn converse<F, T>(visit: Arc<Visit>, upgrade: OnUpgrade, talk: F)
where
    F: FnOnce(Conversation) -> T,
    T: Future<Output = Result<(), Error>>,
{
    let talking = async {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        // An error says that the client went away, which it may.
        drop(talk(socket).await);
    };
    tokio::select! {
        () = talking => {}
        () = visit.line.ended() => {}
    }
}

/// Closes with this code and waits for the other side to agree.
pub(super) async fn goodbye(socket: &mut Conversation, code: CloseCode) -> Result<(), Error> {
    socket.close(Some(CloseFrame { code, reason: "".into() })).await?;
    while socket.next().await.transpose()?.is_some() {}
    Ok(())
}

/// 101 for HTTP/1.1, 200 for extended CONNECT, nothing for what is no WebSocket.
fn handshake(request: &Request<Incoming>) -> Option<Response<Body>> {
    let mut response = if request.method() == Method::CONNECT {
        request.extensions().get::<Protocol>().filter(|protocol| protocol.as_str() == "websocket")?;
        empty(StatusCode::OK)
    } else {
        switching(request.headers())?
    };
    if let Some(offered) = request.headers().get(SEC_WEBSOCKET_PROTOCOL) {
        let first = offered.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
        let first = HeaderValue::from_bytes(first).ok()?;
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, first);
    }
    Some(response)
}

fn switching(headers: &HeaderMap) -> Option<Response<Body>> {
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let accept = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 fits into a header"));
    Some(response)
}
