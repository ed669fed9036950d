//! The moment when a fault strikes: before a request is taken in, or in place of its answer.

use std::future::pending;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;

use super::body::{Broken, boxed};
use super::{Body, Visit, X_MOCK_FAULT, X_MOCK_ON};
use crate::fault::{Fault, FaultError};
use crate::socket::Fate;

/// The fault that this request meets: its own, if it is meant for this container, else the container's.
pub(super) fn fault_of(visit: &Visit, headers: &HeaderMap) -> Result<Option<Fault>, FaultError> {
    if is_meant_here(visit, headers)
        && let Some(fault) = headers.get(X_MOCK_FAULT)
    {
        return String::from_utf8_lossy(fault.as_bytes()).parse().map(Some);
    }
    Ok(visit.container.fault())
}

fn is_meant_here(visit: &Visit, headers: &HeaderMap) -> bool {
    headers.get(X_MOCK_ON).is_none_or(|names| {
        let name = visit.container.name();
        names.to_str().is_ok_and(|names| names.split(',').any(|other| other.trim() == name))
    })
}

/// What a fault does when the head of a request has arrived. May never return.
pub(super) async fn before(visit: &Visit, fault: Fault) {
    let container = visit.container.clone();
    match fault {
        Fault::ResetBeforeHead => {
            visit.line.end(Fate::Reset);
            pending::<()>().await;
        }
        Fault::Crash => {
            // In its own task, because the crash waits for this one to end.
            tokio::spawn(async move { container.crash().await });
            pending::<()>().await;
        }
        Fault::Refuse => container.refuse().await,
        // A container that flaps answers normally while it is up.
        Fault::Flap { .. } if container.fault() != Some(fault) => container.set_fault(fault).await,
        _ => {}
    }
}

/// What a fault makes of the answer to an executed request. May never return.
pub(super) async fn after(visit: &Visit, fault: Fault, response: Response<Body>) -> Response<Body> {
    match fault {
        Fault::ResetAfterExecution => vanish(visit, Fate::Reset).await,
        Fault::Garbage => vanish(visit, Fate::Garbage).await,
        Fault::Hang => pending().await,
        Fault::Slow(time) => {
            tokio::time::sleep(time).await;
            response
        }
        Fault::Status(status) => super::text(status, Bytes::from(format!("{status}, as asked\n"))),
        Fault::ResetInBody => broken_off(visit, response, Fate::Reset).await,
        Fault::TruncatedChunked => broken_off(visit, response, Fate::Close).await,
        Fault::ResetBeforeHead | Fault::Refuse | Fault::Crash | Fault::Flap { .. } => response,
    }
}

async fn vanish(visit: &Visit, fate: Fate) -> Response<Body> {
    visit.line.end(fate);
    pending().await
}

/// Half of a whole body, or the first piece of a stream; then the end of the connection.
///
/// A reset breaks a body with a content-length, a close a body without one (chunked in HTTP/1.1).
async fn broken_off(visit: &Visit, response: Response<Body>, fate: Fate) -> Response<Body> {
    let (mut head, mut body) = response.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    let first = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    let part = first.slice(..first.len() / 2);
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.remove(CONTENT_LENGTH);
    if let (Fate::Reset, Some(length)) = (fate, length) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, boxed(Broken::new(part, visit.line.clone(), fate)))
}
