//! What changes in a head when it passes: hop-by-hop fields go, forwarded fields are rebuilt.
//!
//! Decides nothing about where a request goes. Rules: RFC 9110 section 7.6, RFC 7239, RFC 9113 section 8.2.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Version, request, response};

use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::http1;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Drops what a peer claims of its client, unless it is trusted. Before anything else reads or extends such a field.
pub fn distrust(headers: &mut HeaderMap, context: &RequestContext) {
    if !context.trusted {
        drop_claims(headers);
    }
}

/// Removes what the client meant for this hop. Before middlewares add fields, for it may name any in `Connection`.
pub fn strip(headers: &mut HeaderMap) {
    let trailers = http1::takes_trailers(headers);
    remove_hop_by_hop(headers);
    if trailers {
        // The one such field that gRPC needs at the other end, too; we pass trailers, so we may say so.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes a client's head fit for an endpoint. Strangers' claims and what belonged to the client's connection are gone
/// already.
pub fn prepare(head: &mut request::Parts, context: &RequestContext, downstream: &Downstream) {
    // A proxy speaks its own version, whatever the other side speaks (RFC 9110 section 2.5).
    head.version = Version::HTTP_11;
    join_cookies(&mut head.headers);
    rebuild_forwarded(&mut head.headers, context, downstream);
    head.headers.insert(REQUEST_ID, context.request_id.clone());
    // HTTP/1.0 has requests without one, HTTP/1.1 has none; empty says that there is no host (RFC 9112 section 3.2).
    head.headers.entry(header::HOST).or_insert(HeaderValue::from_static(""));
}

/// Makes an endpoint's head fit for the client.
pub fn prepare_response(head: &mut response::Parts) {
    // To say HTTP/1.0 in an endpoint's name would end the body with the connection, and hide a loss.
    head.version = Version::HTTP_11;
    remove_hop_by_hop(&mut head.headers);
}

/// Removes what belongs to one connection: the fixed list, and whatever `Connection` names (RFC 9110 section 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // One look over the few names that are there costs less than asking for each that could be.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str())).cloned() {
        if name == header::CONNECTION {
            remove_connection(headers);
        } else {
            headers.remove(name);
        }
    }
}

fn remove_connection(headers: &mut HeaderMap) {
    let fields = headers.get_all(header::CONNECTION).iter();
    let naming: Vec<HeaderValue> = fields.filter(|field| !is_harmless(field.as_bytes())).cloned().collect();
    headers.remove(header::CONNECTION);
    for field in naming {
        remove_named(headers, &field);
    }
}

/// A word of `Connection` that names no field.
fn is_harmless(word: &[u8]) -> bool {
    word.is_empty() || word.eq_ignore_ascii_case(b"keep-alive") || word.eq_ignore_ascii_case(b"close")
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn remove_named(headers: &mut HeaderMap, connection: &HeaderValue) {
    let names = connection.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    for name in names.filter_map(|name| str::from_utf8(name).ok()) {
        // What frames or addresses the message is not the client's to take away.
        let ours = ["host", "content-length", "x-forwarded-for"].iter().any(|kept| name.eq_ignore_ascii_case(kept));
        if !is_harmless(name.as_bytes()) && !ours {
            headers.remove(name);
        }
    }
}

/// Forwarded fields of a stranger, however they are spelled.
fn drop_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// All of `X-Forwarded-*`, for endpoints believe more of them than we make, and `X-Forwarded_For` and its kin: CGI and
/// WSGI cannot tell underscores from hyphens. `X-Request-Id` is not claimed but replaced.
fn is_claim(name: &str) -> bool {
    match name.as_bytes() {
        [b'f', ..] => name == "forwarded",
        [b'x', ..] => {
            let ours = matches!(name, "x-real-ip" | "x-waypost-trace");
            ours || name.starts_with("x-forwarded-") || is_disguised_claim(name)
        }
        _ => false,
    }
}

fn is_disguised_claim(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let dashed = name.replace('_', "-");
    dashed.starts_with("x-forwarded-") || matches!(dashed.as_str(), "x-real-ip" | "x-request-id")
}

/// HTTP/2 may split cookies into several fields; HTTP/1 endpoints want one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let fields = headers.get_all(header::COOKIE);
    if fields.iter().nth(1).is_none() {
        return;
    }
    let cookies = fields.iter().map(HeaderValue::as_bytes).filter(|field| !field.is_empty());
    let joined = cookies.collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

fn rebuild_forwarded(headers: &mut HeaderMap, context: &RequestContext, downstream: &Downstream) {
    let host = headers.get(header::HOST).filter(|host| !host.is_empty()).cloned();
    headers.insert(REAL_IP, real_ip(context, downstream));
    append(headers, FORWARDED_FOR, downstream.peer_ip.clone());
    append(headers, header::FORWARDED, forwarded_element(context, downstream, host.as_ref()));
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto(context)));
    headers.entry(FORWARDED_PORT).or_insert_with(|| downstream.local_port.clone());
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

fn proto(context: &RequestContext) -> &'static str {
    if context.secure { "https" } else { "http" }
}

fn real_ip(context: &RequestContext, downstream: &Downstream) -> HeaderValue {
    if context.client_ip == context.peer.ip().to_canonical() {
        return downstream.peer_ip.clone();
    }
    address_value(context.client_ip)
}

/// An address as a field value.
pub fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is digits, letters, dots and colons")
}

/// Adds to the list in the first field of this name, as a proxy does (RFC 9110 section 5.3 allows joining).
fn append(headers: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    match headers.entry(name) {
        header::Entry::Vacant(place) => drop(place.insert(element)),
        header::Entry::Occupied(mut fields) => {
            let list = fields.iter().chain([&element]).map(HeaderValue::as_bytes).collect::<Vec<_>>();
            if let Ok(joined) = HeaderValue::from_bytes(&list.join(&b", "[..])) {
                fields.insert(joined);
            }
        }
    }
}

/// One element of RFC 7239's `Forwarded`.
fn forwarded_element(context: &RequestContext, downstream: &Downstream, host: Option<&HeaderValue>) -> HeaderValue {
    let [open, close]: [&[u8]; 2] =
        if context.peer.ip().to_canonical().is_ipv6() { [b"\"[", b"]\""] } else { [b""; 2] };
    let host = host.map(HeaderValue::as_bytes).filter(|host| host.iter().all(|byte| may_be_quoted(*byte)));
    let [name, host, end]: [&[u8]; 3] = host.map_or([b""; 3], |host| [b";host=\"", host, b"\""]);
    let (peer, proto) = (downstream.peer_ip.as_bytes(), proto(context).as_bytes());
    let text = [b"for=", open, peer, close, b";proto=", proto, name, host, end].concat();
    // Not copied once more: the vector is exactly as long as it has to be.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

/// What needs no backslash in a quoted string (RFC 9110 section 5.6.4).
fn may_be_quoted(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}
