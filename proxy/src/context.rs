//! All that is known about one request beside its head.
//!
//! Owns the client's identity: address, scheme and request id, as the pipeline found them through trusted proxies.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use http::HeaderValue;

/// What a middleware, the router and the telemetry may ask about a request.
#[derive(Debug)]
pub struct RequestContext {
    /// When the head was complete.
    pub started: Instant,
    /// Name of the listener it came in on.
    pub listener: std::sync::Arc<str>,
    /// The socket's other end (after PROXY protocol).
    pub peer: SocketAddr,
    /// The client, through trusted proxies.
    pub client_ip: IpAddr,
    /// Whether the client came over TLS, through trusted proxies.
    pub secure: bool,
    /// Host without port, lower case; empty when the request has none (HTTP/1.0).
    pub host: String,
    /// `X-Request-Id`.
    pub request_id: HeaderValue,
}
