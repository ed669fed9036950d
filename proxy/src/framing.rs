//! May this head be read in one way only?
//!
//! Refuses what two parties could understand differently (RFC 9112 sections 2-7 and 11, RFC 9113 section 8) and what
//! is over the listener's limits, as far as the parsers of HTTP/1.1 and HTTP/2 let it through. Owns nothing.

use std::net::Ipv6Addr;

use http::uri::{Authority, PathAndQuery};
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
    target_form(head)?;
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
/// field in HTTP/1.1 (section 3.2.2), which must be there nevertheless; in HTTP/2 they must agree (RFC 9113 section
/// 8.3.1).
fn one_host(head: &mut request::Parts) -> Result<(), Cause> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let (field, second) = (fields.next(), fields.next());
    let target = head.uri.authority().map(Authority::as_str);
    let mut named = field.map(HeaderValue::as_bytes).into_iter().chain(target.map(str::as_bytes));
    if second.is_some() || !named.all(is_authority) {
        return Err(Cause::BadRequest);
    }
    match (target, field, head.version) {
        (None, None, Version::HTTP_10) | (None, Some(_), _) => Ok(()),
        (None, None, _) | (Some(_), None, Version::HTTP_11) => Err(Cause::BadRequest),
        (Some(target), Some(field), Version::HTTP_2) if field != target => Err(Cause::BadRequest),
        (Some(target), ..) => {
            let host = HeaderValue::from_str(target).map_err(|_| Cause::BadRequest)?;
            head.headers.insert(header::HOST, host);
            Ok(())
        }
    }
}

/// Host and port (RFC 9110 section 7.2), and nothing that a log, a redirect or an endpoint could trip over. Nothing at
/// all is how a client says that its target has no host (RFC 9112 section 3.2).
fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(text) else { return false };
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
    }
    let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    name.bytes().all(is_of_a_name) && is_port(port) && name.is_empty() == text.is_empty()
}

/// RFC 3986 section 3.2.2, without escapes: no name that can be looked up has any.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Nothing, or a colon and a number, which need not be there.
fn is_port(text: &str) -> bool {
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    text.is_empty() || text.strip_prefix(':').is_some_and(|digits| digits.is_empty() || number(digits))
}

/// A host alone is a target for CONNECT only, and `*` for OPTIONS only (RFC 9112 sections 3.2.3 and 3.2.4). In HTTP/2 there
/// is always a scheme and a path (RFC 9113 section 8.3.1).
fn target_form(head: &request::Parts) -> Result<(), Cause> {
    let schemeless = head.uri.authority().is_some() && head.uri.scheme_str().is_none_or(str::is_empty);
    let asterisk = head.uri.path() == "*" && head.method != Method::OPTIONS;
    if schemeless || asterisk || head.uri.path().is_empty() { Err(Cause::BadRequest) } else { Ok(()) }
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
    let mut fields = headers.get_all(header::EXPECT).iter();
    let understood = fields.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if understood { Ok(()) } else { Err(Cause::ExpectationFailed) }
}

fn target_length(uri: &Uri, limits: &Limits) -> Result<(), Cause> {
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length as u64 > limits.uri_bytes.0 { Err(Cause::UriTooLong) } else { Ok(()) }
}
