//! The moment when a fault strikes: before a request is taken in, or in place of its answer.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::body::{BodyError, Broken, Exceeding, boxed};
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

/// Pieces of a slow body that a pause comes before.
const PAUSES: u32 = 8;

/// Never returns while the container swallows whatever comes, `/health` included.
pub(super) async fn swallowed(visit: &Visit) {
    if visit.container.fault() == Some(Fault::Blackhole) {
        unanswered::<()>(visit, Fault::Blackhole).await;
    }
}

/// Until the container is rid of this fault: then it knows nothing any more of those whom it has not answered. A request
/// that has brought the fault itself waits for ever.
async fn unanswered<T>(visit: &Visit, fault: Fault) -> T {
    const GLANCE: Duration = Duration::from_millis(50);
    if visit.container.fault() == Some(fault) {
        while visit.container.fault() == Some(fault) {
            tokio::time::sleep(GLANCE).await;
        }
        visit.line.end(Fate::Reset);
    }
    pending().await
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
        Fault::Blackhole => unanswered(visit, fault).await,
        Fault::Freeze | Fault::Health(_) | Fault::FlapHealth { .. } => container.set_fault(fault).await,
        // A container that flaps answers normally while it is up.
        Fault::Flap { .. } if container.fault() != Some(fault) => container.set_fault(fault).await,
        _ => {}
    }
}

/// What a fault makes of the answer to an executed request. May never return.
pub(super) async fn after(
    visit: &Visit,
    fault: Fault,
    (version, response): (Version, Response<Body>),
) -> Response<Body> {
    match fault {
        Fault::ResetAfterExecution => vanish(visit, Fate::Reset).await,
        Fault::Garbage => vanish(visit, Fate::Garbage).await,
        Fault::Hang => unanswered(visit, fault).await,
        Fault::Slow(time) => {
            tokio::time::sleep(time).await;
            response
        }
        Fault::Status(status) => super::text(status, Bytes::from(format!("{status}, as asked\n"))),
        Fault::ResetInBody => broken_off(visit, response, (Fate::Reset, Promise::IfKnown)).await,
        Fault::TruncatedChunked => broken_off(visit, response, (Fate::Close, Promise::None)).await,
        Fault::WrongLength => broken_off(visit, response, (Fate::Close, Promise::Always)).await,
        Fault::SlowBody(pause) => slowed(response, pause),
        Fault::Excess if version < Version::HTTP_2 => {
            response.map(|body| boxed(Exceeding::new(body, visit.line.clone())))
        }
        _ => response,
    }
}

async fn vanish(visit: &Visit, fate: Fate) -> Response<Body> {
    visit.line.end(fate);
    pending().await
}

/// Whether a body that will break off has a content-length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    None,
    IfKnown,
    Always,
}

/// Half of a whole body, or the first piece of a stream; then the end of the connection.
///
/// A reset breaks a body with a content-length, a close a body without one (chunked in HTTP/1.1) or a false promise.
async fn broken_off(visit: &Visit, response: Response<Body>, (fate, promise): (Fate, Promise)) -> Response<Body> {
    let (mut head, mut body) = response.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    let first = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    let part = first.slice(..first.len() / 2);
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.remove(CONTENT_LENGTH);
    let promised = match promise {
        Promise::None => None,
        Promise::IfKnown => length,
        Promise::Always => Some(length.unwrap_or(first.len() as u64)),
    };
    if let Some(length) = promised {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, boxed(Broken::new(part, visit.line.clone(), fate)))
}

/// The same body in pieces (eight at most, if it says how long it is), with a pause before each of the first eight.
fn slowed(response: Response<Body>, pause: Duration) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    if let Some(length) = length {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let piece = length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX).div_ceil(8).max(1));
    let slow = Slow { body, rest: Bytes::new(), piece, pauses: PAUSES, pause };
    let frames = stream::unfold(slow, |mut slow| async move { Some((slow.next().await?, slow)) });
    Response::from_parts(head, boxed(StreamBody::new(frames)))
}

struct Slow {
    body: Body,
    rest: Bytes,
    piece: usize,
    pauses: u32,
    pause: Duration,
}

impl Slow {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if self.rest.is_empty() {
            match self.body.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => self.rest = data,
                Ok(Err(other)) => return Some(Ok(other)),
                Err(error) => return Some(Err(error)),
            }
        }
        if self.pauses > 0 {
            self.pauses -= 1;
            tokio::time::sleep(self.pause).await;
        }
        Some(Ok(Frame::data(self.rest.split_to(self.piece.min(self.rest.len())))))
    }
}
