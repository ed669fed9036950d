//! Every response that Waypost invents: the closed list of reasons, their statuses and bodies.
//!
//! The same token is in the reply's `x-waypost-reason` header, the metric label, the access log and the docs.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// Why Waypost answered by itself, or could not pass an answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No route matches.
    NoRoute,
    /// No endpoint of the service is available.
    NoEndpoint,
    /// The endpoints that are available fail so often that they are not asked.
    CircuitOpen,
    /// No connection to any endpoint tried.
    ConnectFailed,
    /// The last attempt had no response head in time.
    AttemptTimeout,
    /// The route's time for the whole exchange was over.
    RequestTimeout,
    /// The connection ended before the response's head.
    UpstreamReset,
    /// The endpoint answered with something that is not HTTP, or not what it may be.
    UpstreamInvalid,
    /// The service has `max_in_flight` requests in flight, or Waypost itself has no descriptor left.
    Overloaded,
    /// The request cannot be read in one way only.
    BadRequest,
    /// The request target is longer than the listener's limit.
    UriTooLong,
    /// The request head is larger than the listener's limit.
    HeadersTooLarge,
    /// The request head took longer than the listener's `timeouts.header`.
    HeaderTimeout,
    /// The request body paused for longer than the listener's `timeouts.body_idle`.
    BodyTimeout,
    /// A `Transfer-Encoding` other than `chunked`.
    UnsupportedCoding,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// A method that Waypost does not forward (`CONNECT`, `TRACE`).
    MethodNotAllowed,
    /// A request for a host that the connection's certificate does not cover (RFC 9110 section 15.5.20).
    Misdirected,
    /// The listener is going away.
    Draining,
    /// A listener or a middleware sent the client elsewhere.
    Redirect,
    /// A middleware's own answer.
    Middleware,
}

impl Cause {
    /// Every cause, in the order of the docs.
    pub const ALL: [Cause; 21] = [
        Cause::NoRoute,
        Cause::NoEndpoint,
        Cause::CircuitOpen,
        Cause::ConnectFailed,
        Cause::AttemptTimeout,
        Cause::RequestTimeout,
        Cause::UpstreamReset,
        Cause::UpstreamInvalid,
        Cause::Overloaded,
        Cause::BadRequest,
        Cause::UriTooLong,
        Cause::HeadersTooLarge,
        Cause::HeaderTimeout,
        Cause::BodyTimeout,
        Cause::UnsupportedCoding,
        Cause::ExpectationFailed,
        Cause::MethodNotAllowed,
        Cause::Misdirected,
        Cause::Draining,
        Cause::Redirect,
        Cause::Middleware,
    ];

    /// The reason token: lower case, stable.
    pub const fn token(self) -> &'static str {
        match self {
            Cause::NoRoute => "no_route",
            Cause::NoEndpoint => "no_endpoint",
            Cause::CircuitOpen => "circuit_open",
            Cause::ConnectFailed => "connect_failed",
            Cause::AttemptTimeout => "attempt_timeout",
            Cause::RequestTimeout => "request_timeout",
            Cause::UpstreamReset => "upstream_reset",
            Cause::UpstreamInvalid => "upstream_invalid",
            Cause::Overloaded => "overloaded",
            Cause::BadRequest => "bad_request",
            Cause::UriTooLong => "uri_too_long",
            Cause::HeadersTooLarge => "headers_too_large",
            Cause::HeaderTimeout => "header_timeout",
            Cause::BodyTimeout => "body_timeout",
            Cause::UnsupportedCoding => "unsupported_coding",
            Cause::ExpectationFailed => "expectation_failed",
            Cause::MethodNotAllowed => "method_not_allowed",
            Cause::Misdirected => "misdirected",
            Cause::Draining => "draining",
            Cause::Redirect => "redirect",
            Cause::Middleware => "middleware",
        }
    }

    /// The status of the reply.
    pub const fn status(self) -> StatusCode {
        match self {
            Cause::NoRoute => StatusCode::NOT_FOUND,
            Cause::NoEndpoint | Cause::CircuitOpen | Cause::Overloaded | Cause::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Cause::ConnectFailed | Cause::UpstreamReset | Cause::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Cause::AttemptTimeout | Cause::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
            Cause::BadRequest => StatusCode::BAD_REQUEST,
            Cause::UriTooLong => StatusCode::URI_TOO_LONG,
            Cause::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Cause::HeaderTimeout | Cause::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Cause::UnsupportedCoding => StatusCode::NOT_IMPLEMENTED,
            Cause::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Cause::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Cause::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Cause::Redirect => StatusCode::PERMANENT_REDIRECT,
            Cause::Middleware => StatusCode::OK,
        }
    }

    /// One sentence for the person at the other end.
    pub const fn explanation(self) -> &'static str {
        match self {
            Cause::NoRoute => "no route matches this request",
            Cause::NoEndpoint => "no endpoint of the service is available",
            Cause::CircuitOpen => "the service's endpoints fail too often to be asked now",
            Cause::ConnectFailed => "no connection to an endpoint",
            Cause::AttemptTimeout => "the endpoint did not answer in time",
            Cause::RequestTimeout => "the time for this request is over",
            Cause::UpstreamReset => "the endpoint closed the connection before it answered",
            Cause::UpstreamInvalid => "the endpoint's answer is not valid HTTP",
            Cause::Overloaded => "the service has as many requests in flight as it may",
            Cause::BadRequest => "the request is malformed or ambiguous",
            Cause::UriTooLong => "the request target is too long",
            Cause::HeadersTooLarge => "the request's header fields are too large",
            Cause::HeaderTimeout => "the request's head did not arrive in time",
            Cause::BodyTimeout => "the request's body did not arrive in time",
            Cause::UnsupportedCoding => "the only transfer coding understood is chunked",
            Cause::ExpectationFailed => "the only expectation understood is 100-continue",
            Cause::MethodNotAllowed => "this method is not forwarded",
            Cause::Misdirected => "this connection's certificate does not cover the host",
            Cause::Draining => "this listener is going away",
            Cause::Redirect => "see the location",
            Cause::Middleware => "answered on the way",
        }
    }

    /// The gRPC status code that says the same: 4 deadline exceeded, 8 resource exhausted, 12 unimplemented, 14
    /// unavailable, 3 invalid argument.
    const fn grpc_status(self) -> &'static str {
        match self {
            Cause::AttemptTimeout | Cause::RequestTimeout => "4",
            Cause::Overloaded => "8",
            Cause::NoRoute => "12",
            Cause::BadRequest | Cause::UriTooLong | Cause::HeadersTooLarge => "3",
            _ => "14",
        }
    }
}

/// The field that carries the reason token.
pub const REASON: HeaderName = HeaderName::from_static("x-waypost-reason");

/// A reply of our own. A gRPC client gets its error as trailers in the head, with status 14, "unavailable", so that
/// it understands (gRPC over HTTP/2, "Responses").
pub fn invent(cause: Cause, speaks_grpc: GrpcClient) -> Response<Bytes> {
    match speaks_grpc {
        GrpcClient::Yes => grpc_reply(cause),
        GrpcClient::No => plain_reply(cause),
    }
}

/// Whether the client expects gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcClient {
    /// The request's content type is `application/grpc`.
    Yes,
    /// It is something else.
    No,
}

impl GrpcClient {
    /// Reads the request's content type.
    pub fn of(headers: &HeaderMap) -> GrpcClient {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
            GrpcClient::Yes
        } else {
            GrpcClient::No
        }
    }
}

/// Sends the client to the same URL over https.
pub fn redirect_to_https(location: HeaderValue) -> Response<Bytes> {
    let mut response = plain_reply(Cause::Redirect);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The body of a plain reply: one line of text.
pub fn explained(cause: Cause) -> String {
    format!("{} {}: {}\n", cause.status().as_u16(), cause.token(), cause.explanation())
}

fn plain_reply(cause: Cause) -> Response<Bytes> {
    let status = cause.status();
    let mut response = Response::new(Bytes::from(explained(cause)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REASON, HeaderValue::from_static(cause.token()));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // A probe may bring an endpoint back within seconds.
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn grpc_reply(cause: Cause) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(cause.grpc_status()));
    headers.insert("grpc-message", HeaderValue::from_static(cause.token()));
    headers.insert(REASON, HeaderValue::from_static(cause.token()));
    response
}
