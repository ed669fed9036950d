//! One request to one endpoint: over an idle connection or a new one, until the response's head is there.
//!
//! Decides what was sent and what was not, which is all that [`super::retry`] asks. Never chooses an endpoint and
//! never tries another.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connect::{self, ConnectError, Connected, Wanted};
use super::endpoint::Endpoint;
use super::pool::Lease;
use crate::body::{RequestBody, Upload};
use crate::reply::Cause;
use crate::tunnel;

/// A response head, and the connection its body comes over.
#[derive(Debug)]
pub struct Answer {
    /// The endpoint's response.
    pub response: Response<Incoming>,
    /// To be released when the body has ended.
    pub lease: Lease,
}

/// An attempt without a response head.
#[derive(Debug)]
pub struct Failure {
    /// What the client is told if this was the last attempt.
    pub cause: Cause,
    /// For the log.
    pub detail: String,
    /// Whether the endpoint may have begun to work on it.
    pub sent: bool,
    /// The request itself, if it came back whole.
    pub request: Option<Request<RequestBody>>,
}

/// When an attempt has taken too long.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the sent request to the response's head.
    pub response: Duration,
    /// When the whole exchange has to have its head.
    pub deadline: Option<Instant>,
}

/// Sends `request` to `endpoint` and waits for the head. `upload` is the request's body, if it has one.
pub async fn send(
    endpoint: &Endpoint,
    mut request: Request<RequestBody>,
    upload: Option<&Arc<Upload>>,
    patience: Patience,
) -> Result<Answer, Failure> {
    let wanted = if is_upgrade(&request) && !endpoint.target.is_h2c() { Wanted::Http1 } else { Wanted::Any };
    let terms = Terms { upload, patience, scheme: endpoint.target.scheme() };
    // An idle connection that the endpoint has just closed is no failure of the endpoint: the request was not sent,
    // and goes at once over the next one. Each round takes one connection out of the pool, so this ends.
    while let Some(lease) = take_idle(endpoint, wanted) {
        endpoint.live.metrics.connections_reused.inc();
        match over(lease, request, &terms).await {
            Err(Failure { request: Some(unsent), .. }) => request = unsent,
            result => return result,
        }
    }
    let lease = match open(endpoint, wanted, patience.deadline).await {
        Ok(lease) => lease,
        Err(error) => return Err(unconnected(&error, request, patience)),
    };
    over(lease, request, &terms).await
}

fn is_upgrade(request: &Request<RequestBody>) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

fn take_idle(endpoint: &Endpoint, wanted: Wanted) -> Option<Lease> {
    match wanted {
        Wanted::Any => endpoint.pool.take(),
        Wanted::Http1 => endpoint.pool.take_http1(),
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
        Connected::Http1(sender) => endpoint.pool.lease_http1(sender),
        Connected::Http2(sender) => endpoint.pool.lease_http2(sender),
    })
}

fn unconnected(error: &ConnectError, request: Request<RequestBody>, patience: Patience) -> Failure {
    let over = patience.deadline.is_some_and(|deadline| deadline <= Instant::now());
    let cause = if over { Cause::RequestTimeout } else { Cause::ConnectFailed };
    Failure { cause, detail: error.to_string(), sent: false, request: Some(request) }
}

/// What holds for an attempt, whichever connection it goes over.
struct Terms<'a> {
    upload: Option<&'a Arc<Upload>>,
    patience: Patience,
    scheme: Scheme,
}

async fn over(lease: Lease, request: Request<RequestBody>, terms: &Terms<'_>) -> Result<Answer, Failure> {
    let Terms { upload, patience, .. } = *terms;
    match lease {
        Lease::Http1 { mut sender, pool } => {
            let response = within(patience, upload, sender.try_send_request(request)).await?;
            Ok(Answer { response, lease: Lease::Http1 { sender, pool } })
        }
        Lease::Http2 { mut sender, stream } => {
            let (request, key) = to_http2(request, &terms.scheme);
            let response = within(patience, upload, sender.try_send_request(request)).await;
            let mut response = response.map_err(|failure| failure.back_to_http1(key.clone()))?;
            if let Some(key) = key {
                tunnel::from_extended_connect(&mut response, &key);
            }
            Ok(Answer { response, lease: Lease::Http2 { sender, stream } })
        }
    }
}

type TrySend = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

/// Waits for the head; an upload that still makes progress postpones the end of patience.
async fn within(
    patience: Patience,
    upload: Option<&Arc<Upload>>,
    sending: impl Future<Output = TrySend>,
) -> Result<Response<Incoming>, Failure> {
    let mut sending = std::pin::pin!(sending);
    let mut until = patience.until(Instant::now());
    loop {
        match tokio::time::timeout_at(until.0, sending.as_mut()).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(broken(error, upload)),
            Err(_) => match upload.map(|upload| patience.until(upload.last_progress())) {
                Some(later) if later.0 > until.0 => until = later,
                _ => {
                    return Err(Failure {
                        cause: until.1,
                        detail: until.1.token().to_owned(),
                        sent: true,
                        request: None,
                    });
                }
            },
        }
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

fn broken(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>, upload: Option<&Arc<Upload>>) -> Failure {
    let request = error.take_message();
    let error = error.into_error();
    let cause = match upload {
        Some(upload) if upload.timed_out() => Cause::BodyTimeout,
        Some(upload) if upload.broken() => Cause::BadRequest,
        _ if error.is_parse() => Cause::UpstreamInvalid,
        _ => Cause::UpstreamReset,
    };
    let sent = request.is_none() && !is_refused_stream(&error);
    Failure { cause, detail: chain(&error), sent, request }
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

impl Failure {
    /// Undoes [`to_http2`], for the next endpoint may speak HTTP/1.1.
    fn back_to_http1(mut self, key: Option<HeaderValue>) -> Failure {
        if let Some(request) = &mut self.request {
            let mut target = std::mem::take(request.uri_mut()).into_parts();
            let host = target.authority.take().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
            target.scheme = None;
            *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
            *request.version_mut() = Version::HTTP_11;
            if let Some(host) = host {
                request.headers_mut().insert(header::HOST, host);
            }
            if let Some(key) = key {
                tunnel::undo_extended_connect(request, key);
            }
        }
        self
    }
}
