//! What a container answers: the two pages of every load test at once, everything else in one straight line.
//!
//! Decides which page answers a path and in which order a request is taken in, booked and failed. Never touches a socket
//! itself: faults go through the connection's line.

mod body;
mod echo;
mod query;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::body::Body;
use crate::container::Container;
use crate::ledger;
use crate::socket::Line;

/// Says which container answered.
const X_UPSTREAM: HeaderName = HeaderName::from_static("x-upstream");
/// Says how many requests the container had received, this one included.
const X_SERVED_COUNT: HeaderName = HeaderName::from_static("x-served-count");
/// Asks for a fault.
const X_MOCK_FAULT: HeaderName = HeaderName::from_static("x-mock-fault");
/// Names the only container that a fault is meant for.
const X_MOCK_ON: HeaderName = HeaderName::from_static("x-mock-on");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a handler knows about the connection on which a request came.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) container: Container,
    pub(crate) line: Arc<Line>,
    pub(crate) peer: SocketAddr,
    pub(crate) connections: TaskTracker,
    pub(crate) draining: CancellationToken,
}

type Answered = Result<Response<Body>, Infallible>;

/// The service of one connection.
pub(crate) struct Answering(pub(crate) Arc<Visit>);

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(response) = at_once(&self.0, &request) {
            return Either::Left(ready(Ok(response)));
        }
        let visit = self.0.clone();
        Either::Right(Box::pin(async move { Ok(full(visit, request).await) }))
    }
}

/// The answer to what can be answered without waiting, reading a body or boxing a future.
fn at_once(visit: &Visit, request: &Request<Incoming>) -> Option<Response<Body>> {
    match request.uri().path() {
        "/" if is_plain(visit, request) => Some(home(visit)),
        "/health" if is_plain(visit, request) && visit.container.health().delay.is_zero() => Some(health(visit)),
        _ => None,
    }
}

/// A request without a body, a key or a fault: nothing to take in, to book or to break.
fn is_plain(visit: &Visit, request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    matches!(*request.method(), Method::GET | Method::HEAD)
        && !visit.container.is_faulty()
        && !headers.contains_key(X_MOCK_FAULT)
        && !ledger::announces_body(headers)
        && ledger::key_of(headers).is_none()
}

fn home(visit: &Visit) -> Response<Body> {
    let served = visit.container.count_request();
    signed(visit, served, text(StatusCode::OK, visit.container.greeting()))
}

fn health(visit: &Visit) -> Response<Body> {
    let served = visit.container.count_probe();
    let status = visit.container.health().status;
    let word = if status.as_u16() < 400 { "healthy\n" } else { "unhealthy\n" };
    signed(visit, served, text(status, Bytes::from_static(word.as_bytes())))
}

async fn full(visit: Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == "/health" {
        tokio::time::sleep(visit.container.health().delay).await;
        return health(&visit);
    }
    let served = visit.container.count_request();
    let (head, body) = request.into_parts();
    let Ok(collected) = body.collect().await else {
        return signed(&visit, served, text(StatusCode::BAD_REQUEST, Bytes::from_static(b"the body broke off\n")));
    };
    if let Some(key) = ledger::key_of(&head.headers) {
        visit.container.record(key);
    }
    let response = match path.as_str() {
        "/" => text(StatusCode::OK, visit.container.greeting()),
        "/echo" => echo::echo(&visit, &head, &collected.to_bytes()),
        _ => text(StatusCode::NOT_FOUND, Bytes::from(format!("{path} is no page of this container\n"))),
    };
    signed(&visit, served, response)
}

/// Adds what every answer carries.
fn signed(visit: &Visit, served: u64, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(X_UPSTREAM, visit.container.identity());
    headers.insert(X_SERVED_COUNT, HeaderValue::from(served));
    if visit.draining.is_cancelled() && response.version() == Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn text(status: StatusCode, body: Bytes) -> Response<Body> {
    page(status, TEXT, body)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    page(status, JSON, Bytes::from(value.to_string()))
}

fn page(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
