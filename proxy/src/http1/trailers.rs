//! Which fields may come after a body (RFC 9110 section 6.5.1).
//!
//! What frames, routes or authenticates a message, or tells an endpoint who the client is, has to be known before its
//! body, and is checked there: behind it, it would pass no rule. Pure.

use http::header::HeaderName;
use http::{HeaderMap, header};

const FORBIDDEN: [HeaderName; 13] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::FORWARDED,
];

/// Whether a field of this name is dropped from a trailer section.
pub fn is_forbidden(name: &HeaderName) -> bool {
    let text = name.as_str();
    // Some servers cannot tell underscores from hyphens.
    let disguised = || text.contains('_') && is_claim(&text.replace('_', "-"));
    FORBIDDEN.contains(name) || is_claim(text) || disguised()
}

/// Fields without a constant: of the connection, or of who the client is.
fn is_claim(name: &str) -> bool {
    name.starts_with("x-forwarded") || matches!(name, "x-real-ip" | "x-request-id" | "keep-alive" | "proxy-connection")
}

/// Drops them.
pub fn sift(fields: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> = fields.keys().filter(|name| is_forbidden(name)).cloned().collect();
    for name in forbidden {
        fields.remove(name);
    }
}
