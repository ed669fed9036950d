//! May this head be read in one way only?
//!
//! Refuses what two parties could understand differently (RFC 9112 sections 2-7 and 11, RFC 9113 section 8) and what
//! is over the listener's limits, as far as the parsers of HTTP/1.1 and HTTP/2 let it through. Owns nothing.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, request};
use waypost_config::listener::Limits;

use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::http1;
use crate::path;
use crate::reply::Cause;

/// The checks that need the head alone; the host ends up in the `Host` field, whatever form the target had.
pub fn check(head: &mut request::Parts, limits: &Limits) -> Result<(), Cause> {
    one_host(head)?;
    method(head)?;
    coding(&head.headers)?;
    body_length(head)?;
    expectation(&head.headers)?;
    target_length(&head.uri, limits)
}

/// The authority as the client sent it; empty when there is none.
pub fn host(head: &request::Parts) -> &str {
    head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// A reused HTTP/2 connection must not reach hosts that its certificate does not cover (RFC 9110 section 15.5.20).
pub fn covered(downstream: &Downstream, head: &request::Parts, context: &RequestContext) -> Result<(), Cause> {
    let (Some(tls), Some(certificates)) = (&downstream.tls, &downstream.certificates) else { return Ok(()) };
    if head.version != Version::HTTP_2 || certificates.covers(tls.sni.as_deref(), &context.host) {
        Ok(())
    } else {
        Err(Cause::Misdirected)
    }
}

/// Brings the target into origin form and its path into the one form that is routed, authorised and sent.
pub fn normalise_target(head: &mut request::Parts) -> Result<(), Cause> {
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(target);
    }
    let normal = path::normalise(head.uri.path()).map_err(|_| Cause::BadRequest)?;
    if normal != head.uri.path() {
        // Escaping may make it longer than a target can be.
        head.uri = path::replace(&head.uri, &normal).map_err(|_| Cause::UriTooLong)?;
    }
    Ok(())
}

/// Exactly one host: of two, each party could believe another (RFC 9112 section 3.2). The target's wins over the
/// field in HTTP/1.1 (section 3.2.2); in HTTP/2 they must agree (RFC 9113 section 8.3.1).
fn one_host(head: &mut request::Parts) -> Result<(), Cause> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let (field, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Err(Cause::BadRequest);
    }
    match (head.uri.authority(), field) {
        (None, None) if head.version == Version::HTTP_10 => Ok(()),
        (None, None) => Err(Cause::BadRequest),
        (None, Some(field)) => {
            if is_authority(field) {
                Ok(())
            } else {
                Err(Cause::BadRequest)
            }
        }
        (Some(authority), _) if authority.as_str().contains('@') => Err(Cause::BadRequest),
        (Some(authority), Some(field)) if head.version == Version::HTTP_2 && field != authority.as_str() => {
            Err(Cause::BadRequest)
        }
        (Some(authority), _) => {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Cause::BadRequest)?;
            head.headers.insert(header::HOST, host);
            Ok(())
        }
    }
}

/// Host and port, and nothing that a log, a redirect or an endpoint could trip over.
fn is_authority(field: &HeaderValue) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    field.as_bytes().iter().all(allowed)
}

/// CONNECT asks for a forward proxy, unless it opens a WebSocket over HTTP/2 (RFC 8441).
fn method(head: &request::Parts) -> Result<(), Cause> {
    let websocket = head.extensions.get::<hyper::ext::Protocol>().is_some_and(|name| name.as_str() == "websocket");
    let tunnel = head.method == Method::CONNECT && !websocket;
    if tunnel || head.method == Method::TRACE { Err(Cause::MethodNotAllowed) } else { Ok(()) }
}

/// Of a list that ends with `chunked`, an endpoint may read what comes before it differently.
fn coding(headers: &HeaderMap) -> Result<(), Cause> {
    let mut fields = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Cause::UnsupportedCoding),
    }
}

/// Two lengths are a smuggler's (RFC 9112 section 6.3), even if they are equal, and in HTTP/2, too: an endpoint may speak
/// HTTP/1.1. That the one agrees with the frames is seen to by HTTP/2's parser.
fn body_length(head: &request::Parts) -> Result<(), Cause> {
    http1::request_length(head).map(|_| ()).map_err(|_| Cause::BadRequest)
}

fn expectation(headers: &HeaderMap) -> Result<(), Cause> {
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Cause::ExpectationFailed),
        _ => Ok(()),
    }
}

fn target_length(uri: &Uri, limits: &Limits) -> Result<(), Cause> {
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length as u64 > limits.uri_bytes.0 { Err(Cause::UriTooLong) } else { Ok(()) }
}
