//! A hub of negotiated connections, as `SignalR` has them: an id is good on the container that gave it, and nowhere else.
//!
//! Lost stickiness is seen at once: negotiate here, arrive there, get 404 with the name of the wrong container. Owns the
//! sessions of one life of the container; a crash forgets them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::body::streamed;
use super::pages::{event, events};
use super::query::Query;
use super::{Body, BrokenOff, Visit, empty, receive, text, websocket};

/// How long a poll waits for a message when it is not told.
const POLL: Duration = Duration::from_secs(10);

/// The sessions that one container negotiated.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// Messages on their way to one client.
#[derive(Debug)]
struct Session {
    sender: UnboundedSender<String>,
    receiver: tokio::sync::Mutex<UnboundedReceiver<String>>,
}

impl Hub {
    fn negotiate(&self) -> String {
        let id = Uuid::new_v4().simple().to_string();
        let (sender, receiver) = unbounded_channel();
        self.sessions.lock().insert(id.clone(), Arc::new(Session { sender, receiver: receiver.into() }));
        id
    }

    fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.lock().get(id).cloned()
    }
}

impl Session {
    async fn next(&self) -> String {
        self.receiver.lock().await.recv().await.expect("the session itself holds a sender")
    }
}

/// All that is below `/hub`; nothing for a path that is no page of it.
pub(super) async fn hub(visit: &Arc<Visit>, request: Request<Incoming>) -> Result<Option<Response<Body>>, BrokenOff> {
    let query = Query::of(request.uri());
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if (&method, path.as_str()) == (&Method::POST, "/hub/negotiate") {
        receive(visit, request).await?;
        return Ok(Some(negotiated(visit)));
    }
    let id = query.get("id").unwrap_or_default();
    let Some(session) = visit.hub.session(id) else {
        receive(visit, request).await?;
        return Ok(Some(stranger(visit, id)));
    };
    Ok(Some(match (method, path.as_str()) {
        (Method::GET | Method::CONNECT, "/hub") => converse(visit, request, session),
        (Method::GET, "/hub/sse") => listen(session),
        (Method::GET, "/hub/poll") => poll(&session, query.duration_or("timeout", POLL)).await,
        (Method::POST, "/hub/send") => {
            let received = receive(visit, request).await?;
            session.sender.send(String::from_utf8_lossy(&received.body).into_owned()).ok();
            empty(StatusCode::ACCEPTED)
        }
        _ => return Ok(None),
    }))
}

fn negotiated(visit: &Visit) -> Response<Body> {
    let id = visit.hub.negotiate();
    let terms = json!({
        "negotiateVersion": 1,
        "connectionId": id,
        "connectionToken": id,
        "container": visit.container.name(),
        "availableTransports": ["WebSockets", "ServerSentEvents", "LongPolling"],
    });
    super::json(StatusCode::OK, &terms)
}

fn stranger(visit: &Visit, id: &str) -> Response<Body> {
    let name = visit.container.name();
    text(StatusCode::NOT_FOUND, Bytes::from(format!("{name} never negotiated the connection id `{id}`\n")))
}

/// Echoes, and passes on what is sent to the session.
fn converse(visit: &Arc<Visit>, request: Request<Incoming>, session: Arc<Session>) -> Response<Body> {
    let draining = visit.draining.clone();
    websocket::open(visit, request, async move |mut socket: websocket::Conversation| {
        loop {
            let message = tokio::select! {
                () = draining.cancelled() => return websocket::goodbye(&mut socket, CloseCode::Away).await,
                sent = session.next() => Message::text(sent),
                received = socket.next() => match received.transpose()? {
                    Some(message @ (Message::Text(_) | Message::Binary(_))) => message,
                    Some(_) => continue,
                    None => return Ok(()),
                },
            };
            socket.send(message).await?;
        }
    })
}

fn listen(session: Arc<Session>) -> Response<Body> {
    events(streamed(stream::unfold((1, session), |(id, session)| async move {
        let message = session.next().await;
        Some((event(id, &message), (id + 1, session)))
    })))
}

async fn poll(session: &Session, timeout: Duration) -> Response<Body> {
    match tokio::time::timeout(timeout, session.next()).await {
        Ok(message) => text(StatusCode::OK, Bytes::from(message)),
        Err(_) => empty(StatusCode::NO_CONTENT),
    }
}
