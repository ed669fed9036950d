//! The request as the container saw it, as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::query::Query;
use super::{Body, Received, Visit};

/// Method, target, headers in their order with duplicates, body as text or base64, and who talks to whom.
pub(super) fn echo(visit: &Visit, received: &Received) -> Response<Body> {
    let Received { head, body, trailers } = received;
    let mut seen = json!({
        "container": visit.container.name(),
        "peer": visit.peer.to_string(),
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "authority": head.uri.authority().map(ToString::to_string),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "arguments": Query::of(&head.uri).pairs(),
        "version": format!("{:?}", head.version),
        "headers": headers(&head.headers),
        "trailers": trailers.as_ref().map(headers),
        "length": body.len(),
    });
    match std::str::from_utf8(body) {
        Ok(text) => seen["body"] = Value::from(text),
        Err(_) => seen["body_base64"] = Value::from(STANDARD.encode(body)),
    }
    super::json(StatusCode::OK, &seen)
}

/// Pairs of name and value. Values with bytes outside of UTF-8 have them replaced.
fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
