//! Which fields may come after a body (RFC 9110 section 6.5.1).
//!
//! What frames, routes or authenticates a message, or tells an endpoint who the client is, has to be known before its
//! body, and is checked there: behind it, it would pass no rule. Pure.

use http::header::HeaderName;
use http::{HeaderMap, header};

const FORBIDDEN: [HeaderName; 11] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::FORWARDED,
];

/// Whether a field of this name is dropped from a trailer section.
pub fn is_forbidden(name: &HeaderName) -> bool {
    let text = name.as_str();
    FORBIDDEN.contains(name) || text.starts_with("x-forwarded") || matches!(text, "x-real-ip" | "x-request-id")
}

/// Drops them.
pub fn sift(fields: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> = fields.keys().filter(|name| is_forbidden(name)).cloned().collect();
    for name in forbidden {
        fields.remove(name);
    }
}
