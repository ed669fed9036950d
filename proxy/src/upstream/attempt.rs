//! One request to one endpoint: over an idle connection or a new one, until the response's head is there.
//!
//! Decides what was sent and what was not, which is all that [`super::retry`] asks. Never chooses an endpoint and
//! never tries another.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header, request};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::{self, ConnectError, Connected, Wanted};
use super::endpoint::Endpoint;
use super::incoming::Incoming;
use super::pool::{Http1, Http2, Lease, StreamGuard};
use crate::body::{RequestBody, Upload};
use crate::http1;
use crate::http1::client::Broken;
use crate::reply::Cause;
use crate::tunnel;

/// An attempt without a response head.
#[derive(Debug)]
pub struct Failure {
    /// What the client is told if this was the last attempt.
    pub cause: Cause,
    /// For the log.
    pub detail: String,
    /// Whether the endpoint may have begun to work on it.
    pub sent: bool,
    /// Whether a connection that had served before ended without a byte of an answer, as one does that was idle for too
    /// long (RFC 9112 section 9.3.1).
    pub faded: bool,
}

impl Failure {
    /// Of a new connection, or of one that did not fade.
    pub fn new(cause: Cause, detail: String, sent: bool) -> Failure {
        Failure { cause, detail, sent, faded: false }
    }
}

/// Why a connection brought no response.
enum Lapse {
    /// It was closed before anything was sent: another connection may do.
    Stale,
    Failed(Failure),
}

/// When an attempt has taken too long.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the sent request to the response's head.
    pub response: Duration,
    /// When the whole exchange has to have its head.
    pub deadline: Option<Instant>,
}

/// What is sent: a head as it goes to the endpoint, the client's body, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// In HTTP/1.1's form.
    pub head: &'a request::Parts,
    /// The request's body, if it has one.
    pub upload: Option<&'a Arc<Upload>>,
    /// When the attempt has taken too long.
    pub patience: Patience,
    /// When it began.
    pub begun: Instant,
    /// Over a connection of its own, not one that was idle.
    pub fresh: bool,
}

/// Sends a request to `endpoint` and waits for the head of the response.
pub async fn send(endpoint: &Endpoint, parcel: &Parcel<'_>) -> Result<Response<Incoming>, Failure> {
    let upgrade = parcel.head.headers.contains_key(header::UPGRADE);
    let wanted = if upgrade && !endpoint.target.is_h2c() { Wanted::Http1 } else { Wanted::Any };
    // An idle connection that the endpoint has just closed is no failure of the endpoint: the request was not sent,
    // and goes at once over the next one. Each round takes one connection out of the pool, so this ends.
    while !parcel.fresh
        && let Some(lease) = take_idle(endpoint, wanted, parcel.begun)
    {
        endpoint.live.metrics.connections_reused.inc();
        match over(endpoint, lease, parcel).await {
            Err(Lapse::Stale) => {}
            Err(Lapse::Failed(failure)) => return Err(failure),
            Ok(response) => return Ok(response),
        }
    }
    // Boxed: it is rare, and a handshake's state would make every exchange as large as itself.
    let opened = Box::pin(open(endpoint, wanted, parcel.patience.deadline)).await;
    let lease = opened.map_err(|error| unconnected(&error, parcel.patience))?;
    let parcel = Parcel { begun: Instant::now(), ..*parcel };
    over(endpoint, lease, &parcel).await.map_err(|lapse| match lapse {
        Lapse::Failed(failure) => Failure { faded: false, ..failure },
        Lapse::Stale => Failure::new(Cause::UpstreamReset, "closed at once".to_owned(), false),
    })
}

fn take_idle(endpoint: &Endpoint, wanted: Wanted, now: Instant) -> Option<Lease> {
    match wanted {
        Wanted::Any => endpoint.pool.take(now.into_std()),
        Wanted::Http1 => endpoint.pool.take_http1(now.into_std()),
    }
}

async fn open(endpoint: &Endpoint, wanted: Wanted, deadline: Option<Instant>) -> Result<Lease, ConnectError> {
    let connecting = connect::connect(&endpoint.target, wanted, &endpoint.live.metrics.connections);
    let connected = match deadline {
        None => connecting.await?,
        Some(deadline) => match tokio::time::timeout_at(deadline, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(ConnectError::Timeout(endpoint.target.connect_timeout)),
        },
    };
    endpoint.live.metrics.connections_created.inc();
    Ok(match connected {
        Connected::Http1(connection) => Lease::Http1(connection),
        Connected::Http2(sender) => endpoint.pool.lease_http2(sender),
    })
}

fn unconnected(error: &ConnectError, patience: Patience) -> Failure {
    let over = patience.deadline.is_some_and(|deadline| deadline <= Instant::now());
    let cause = match error {
        _ if over => Cause::RequestTimeout,
        ConnectError::Shortage(_) => Cause::Overloaded,
        _ => Cause::ConnectFailed,
    };
    Failure::new(cause, error.to_string(), false)
}

async fn over(endpoint: &Endpoint, lease: Lease, parcel: &Parcel<'_>) -> Result<Response<Incoming>, Lapse> {
    match lease {
        Lease::Http1(connection) => over_http1(endpoint, connection, parcel).await,
        Lease::Http2 { sender, stream } => Box::pin(over_http2(endpoint, (sender, stream), parcel)).await,
    }
}

async fn over_http1(
    endpoint: &Endpoint,
    mut http1: Box<Http1>,
    parcel: &Parcel<'_>,
) -> Result<Response<Incoming>, Lapse> {
    let Http1 { connection, alarm } = &mut *http1;
    connection.begin(parcel.head, parcel.upload.map(RequestBody::of));
    let mut limit = Limit::of(parcel);
    let answered = poll_fn(|cx| match connection.poll_head(cx) {
        Poll::Ready(answered) => Poll::Ready(Ok(answered)),
        Poll::Pending => limit.poll(alarm, cx).map(Err),
    });
    match answered.await.map_err(Lapse::Failed)? {
        Ok(head) => Ok(Response::from_parts(head, Incoming::http1(http1, &endpoint.pool))),
        Err(Broken::Connection(_)) if connection.is_unsent() => Err(Lapse::Stale),
        Err(error) => {
            let sent = !connection.is_unsent();
            let faded = matches!(error, Broken::Connection(_)) && connection.is_unanswered();
            let cause = if matches!(error, Broken::Invalid(_)) { Cause::UpstreamInvalid } else { Cause::UpstreamReset };
            let cause = blamed(cause, parcel.upload);
            Err(Lapse::Failed(Failure { faded, ..Failure::new(cause, error.to_string(), sent) }))
        }
    }
}

async fn over_http2(
    endpoint: &Endpoint,
    (mut sender, stream): (Http2, StreamGuard),
    parcel: &Parcel<'_>,
) -> Result<Response<Incoming>, Lapse> {
    let request = Request::from_parts(parcel.head.clone(), RequestBody::from_start(parcel.upload));
    let (request, key) = to_http2(request, &endpoint.target.scheme());
    let (mut sending, mut limit, mut alarm) =
        (pin!(sender.try_send_request(request)), Limit::of(parcel), Alarm::default());
    let answered = poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Ok(answered)),
        Poll::Pending => limit.poll(&mut alarm, cx).map(Err),
    });
    let mut response = match answered.await.map_err(Lapse::Failed)? {
        Ok(response) => response.map(|body| Incoming::Http2 { body, _stream: stream }),
        Err(error) => return Err(broken(error, parcel.upload)),
    };
    if http1::content_length(response.headers()).is_err() {
        let detail = "the length of the response is ambiguous".to_owned();
        return Err(Lapse::Failed(Failure::new(Cause::UpstreamInvalid, detail, true)));
    }
    if let Some(key) = key {
        tunnel::from_extended_connect(&mut response, &key);
    }
    Ok(response)
}

/// When the wait for a head is over: an upload that still makes progress postpones it.
struct Limit<'a> {
    patience: Patience,
    upload: Option<&'a Arc<Upload>>,
    until: (Instant, Cause),
}

impl Limit<'_> {
    fn of<'a>(parcel: &Parcel<'a>) -> Limit<'a> {
        let Parcel { upload, patience, begun, .. } = *parcel;
        Limit { patience, upload, until: patience.until(begun) }
    }

    fn poll(&mut self, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            ready!(alarm.poll(self.until.0, cx));
            match self.upload.map(|upload| self.patience.until(upload.last_progress())) {
                Some(later) if later.0 > self.until.0 => self.until = later,
                _ => return Poll::Ready(self.over()),
            }
        }
    }

    fn over(&self) -> Failure {
        let cause = self.until.1;
        Failure::new(cause, cause.token().to_owned(), true)
    }
}

impl Patience {
    /// When it ends if nothing happens after `since`, and what has run out then.
    fn until(self, since: Instant) -> (Instant, Cause) {
        let attempt = since + self.response;
        match self.deadline {
            Some(deadline) if deadline <= attempt => (deadline, Cause::RequestTimeout),
            _ => (attempt, Cause::AttemptTimeout),
        }
    }
}

fn broken(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>, upload: Option<&Arc<Upload>>) -> Lapse {
    if error.take_message().is_some() {
        return Lapse::Stale;
    }
    let error = error.into_error();
    let cause = if error.is_parse() { Cause::UpstreamInvalid } else { Cause::UpstreamReset };
    let sent = !is_refused_stream(&error);
    Lapse::Failed(Failure::new(blamed(cause, upload), chain(&error), sent))
}

/// A client that pauses or breaks off takes the connection to the endpoint with it.
fn blamed(cause: Cause, upload: Option<&Arc<Upload>>) -> Cause {
    match upload {
        Some(upload) if upload.timed_out() => Cause::BodyTimeout,
        Some(upload) if upload.broken() => Cause::BadRequest,
        _ => cause,
    }
}

/// RFC 9113 sections 8.7 and 6.8: `REFUSED_STREAM`, and streams beyond a graceful GOAWAY, were not processed.
fn is_refused_stream(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return false };
    let graceful_goaway = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    graceful_goaway || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// HTTP/2 has the authority in the target and no `Host` (RFC 9113 section 8.3.1), and extended CONNECT in place of
/// `Upgrade`: then the key of the WebSocket handshake is returned, too.
fn to_http2(mut request: Request<RequestBody>, scheme: &Scheme) -> (Request<RequestBody>, Option<HeaderValue>) {
    let key = tunnel::to_extended_connect(&mut request);
    *request.version_mut() = Version::HTTP_2;
    let authority = request.headers_mut().remove(header::HOST);
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(scheme.clone());
    target.authority = authority.and_then(|value| Authority::try_from(value.as_bytes()).ok());
    // Without a Host there is nothing to send as authority: hyper then refuses the target, as HTTP/2 does.
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    (request, key)
}
