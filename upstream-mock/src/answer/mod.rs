//! What a container answers: the two pages of every load test at once, everything else in one straight line.
//!
//! Decides which page answers a path and in which order a request is taken in, booked and failed. Never touches a socket
//! itself: faults go through the connection's line.

mod body;
mod echo;
mod failing;
mod hub;
mod pages;
pub(crate) mod query;
mod upload;
mod websocket;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::body::{Body, boxed};
pub(crate) use self::hub::Hub;
pub use self::upload::checksum;
use crate::container::Container;
use crate::grpc;
use crate::ledger;
use crate::socket::Line;

/// Says which container answered.
const X_UPSTREAM: HeaderName = HeaderName::from_static("x-upstream");
/// Says how many requests the container had received, this one included.
const X_SERVED_COUNT: HeaderName = HeaderName::from_static("x-served-count");
/// Asks for a fault.
const X_MOCK_FAULT: HeaderName = HeaderName::from_static("x-mock-fault");
/// Names the only containers that a fault is meant for.
const X_MOCK_ON: HeaderName = HeaderName::from_static("x-mock-on");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a handler knows about the connection on which a request came.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) container: Container,
    pub(crate) line: Arc<Line>,
    pub(crate) peer: SocketAddr,
    pub(crate) hub: Arc<Hub>,
    pub(crate) connections: TaskTracker,
    pub(crate) draining: CancellationToken,
}

type Answered = Result<Response<Body>, Infallible>;

/// The client stopped in the middle of its request: nobody is left to read an answer, and nothing was executed.
struct BrokenOff;

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
        Either::Right(Box::pin(async move { Ok(in_full(visit, request).await) }))
    }
}

/// The answer to what can be answered without waiting, reading a body or boxing a future.
fn at_once(visit: &Visit, request: &Request<Incoming>) -> Option<Response<Body>> {
    let page: fn(&Visit) -> _ = match request.uri().path() {
        "/" if is_plain(visit, request) => home,
        "/health" if is_plain(visit, request) && visit.container.health().delay.is_zero() => health,
        _ => return None,
    };
    Some(signed(visit, request.version(), page(visit)))
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
    counted(visit.container.count_request(), text(StatusCode::OK, visit.container.greeting()))
}

fn health(visit: &Visit) -> Response<Body> {
    let status = visit.container.health().status;
    let word = if status.as_u16() < 400 { "healthy\n" } else { "unhealthy\n" };
    counted(visit.container.count_probe(), text(status, Bytes::from_static(word.as_bytes())))
}

async fn in_full(visit: Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    let version = request.version();
    failing::swallowed(&visit).await;
    let response = if request.uri().path() == "/health" {
        tokio::time::sleep(visit.container.health().delay).await;
        health(&visit)
    } else if grpc::is_probe(&request) {
        let served = visit.container.count_probe();
        counted(served, grpc::probe(&visit, request).await)
    } else {
        let served = visit.container.count_request();
        counted(served, with_faults(&visit, request).await)
    };
    signed(&visit, version, response)
}

async fn with_faults(visit: &Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    let fault = match failing::fault_of(visit, request.headers()) {
        Ok(fault) => fault,
        Err(error) => return text(StatusCode::BAD_REQUEST, Bytes::from(format!("{error}\n"))),
    };
    let Some(fault) = fault else { return paged(visit, request).await };
    failing::before(visit, fault).await;
    let version = request.version();
    let response = paged(visit, request).await;
    failing::after(visit, fault, (version, response)).await
}

async fn paged(visit: &Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    match page(visit, request).await {
        Ok(response) => response,
        Err(BrokenOff) => text(StatusCode::BAD_REQUEST, Bytes::from_static(b"the body broke off\n")),
    }
}

/// First the pages that take the request in by their own means, then those that have it whole.
async fn page(visit: &Arc<Visit>, request: Request<Incoming>) -> Result<Response<Body>, BrokenOff> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/ws" => return Ok(websocket::echo(visit, request)),
        "/upload" => return upload::upload(visit, request).await,
        "/early" => return Ok(upload::early(visit, request)),
        _ if grpc::is_echo(&request) => return Ok(grpc::echo(visit, request).await),
        _ if path == "/hub" || path.starts_with("/hub/") => {
            return Ok(hub::hub(visit, request).await?.unwrap_or_else(|| missing(&path)));
        }
        _ => {}
    }
    let received = receive(visit, request).await?;
    if path == "/echo" {
        return Ok(echo::echo(visit, &received));
    }
    let query = query::Query::of(&received.head.uri);
    Ok(pages::page(visit, &path, &query).await.unwrap_or_else(|| missing(&path)))
}

fn missing(path: &str) -> Response<Body> {
    text(StatusCode::NOT_FOUND, Bytes::from(format!("{path} is no page of this container\n")))
}

/// A request of which everything has arrived.
struct Received {
    head: Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// Waits for the whole request and books it as executed.
async fn receive(visit: &Visit, request: Request<Incoming>) -> Result<Received, BrokenOff> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await.map_err(|_| BrokenOff)?;
    book(visit, &head.headers);
    let trailers = collected.trailers().cloned();
    Ok(Received { head, body: collected.to_bytes(), trailers })
}

/// Books a request as executed, if it has a key.
pub(crate) fn book(visit: &Visit, headers: &HeaderMap) {
    if let Some(key) = ledger::key_of(headers) {
        visit.container.record(key);
    }
}

fn counted(served: u64, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(X_SERVED_COUNT, HeaderValue::from(served));
    response
}

/// Adds what every answer carries.
fn signed(visit: &Visit, version: Version, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(X_UPSTREAM, visit.container.identity());
    if version < Version::HTTP_2 && visit.draining.is_cancelled() && !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(crate) fn text(status: StatusCode, content: Bytes) -> Response<Body> {
    typed(status, TEXT, content)
}

pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    typed(status, JSON, Bytes::from(value.to_string()))
}

fn typed(status: StatusCode, content_type: HeaderValue, content: Bytes) -> Response<Body> {
    let mut response = Response::new(body::whole(content));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
