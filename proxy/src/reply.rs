//! Every response that Waypost invents: the closed list of reasons, their statuses and bodies.
//!
//! The same token is in the reply's `x-waypost-reason` header, the metric label, the access log and the docs.

use http::StatusCode;

/// Why Waypost answered by itself, or could not pass an answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No route matches.
    NoRoute,
    /// No endpoint of the service is available.
    NoEndpoint,
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
    /// The service has `max_in_flight` requests in flight.
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
    /// A method that Waypost does not forward (`CONNECT`).
    MethodNotAllowed,
    /// A request for a host that the connection's certificate does not cover (RFC 9110 section 15.5.20).
    Misdirected,
    /// A listener or a middleware sent the client elsewhere.
    Redirect,
    /// A middleware's own answer.
    Middleware,
}

impl Cause {
    /// Every cause, in the order of the docs.
    pub const ALL: [Cause; 19] = [
        Cause::NoRoute,
        Cause::NoEndpoint,
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
        Cause::Redirect,
        Cause::Middleware,
    ];

    /// The reason token: lower case, stable.
    pub const fn token(self) -> &'static str {
        match self {
            Cause::NoRoute => "no_route",
            Cause::NoEndpoint => "no_endpoint",
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
            Cause::Redirect => "redirect",
            Cause::Middleware => "middleware",
        }
    }

    /// The status of the reply.
    pub const fn status(self) -> StatusCode {
        match self {
            Cause::NoRoute => StatusCode::NOT_FOUND,
            Cause::NoEndpoint | Cause::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
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
}
