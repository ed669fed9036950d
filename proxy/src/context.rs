//! All that is known about one request beside its head.
//!
//! Owns the client's identity: address, scheme and request id, found through trusted proxies. Never changes a head.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, request};
use uuid::Uuid;
use waypost_config::value::Cidr;

use crate::downstream::Downstream;

/// What a middleware, the router and the telemetry may ask about a request.
#[derive(Debug)]
pub struct RequestContext {
    /// When the head was complete.
    pub started: Instant,
    /// Name of the listener it came in on.
    pub listener: Arc<str>,
    /// The socket's other end (after PROXY protocol).
    pub peer: SocketAddr,
    /// Whether the peer's forwarded fields are believed.
    pub trusted: bool,
    /// The client, through trusted proxies.
    pub client_ip: IpAddr,
    /// Whether the client came over TLS, through trusted proxies.
    pub secure: bool,
    /// Host without port, lower case, IPv6 in brackets; empty when the request has none (HTTP/1.0).
    pub host: String,
    /// `X-Request-Id`.
    pub request_id: HeaderValue,
}

impl RequestContext {
    /// Finds out who asks. `host` is the authority as the client sent it, port and all.
    pub fn identify(downstream: &Downstream, head: &request::Parts, host: &str, believed: &[Cidr]) -> RequestContext {
        let peer = downstream.peer.ip().to_canonical();
        let trusted = believed.iter().any(|network| network.contains(peer));
        let headers = &head.headers;
        let over_tls = downstream.tls.is_some();
        RequestContext {
            started: Instant::now(),
            listener: Arc::clone(&downstream.listener),
            peer: downstream.peer,
            trusted,
            client_ip: if trusted { client_behind(headers, peer, believed) } else { peer },
            secure: if trusted { is_https(headers).unwrap_or(over_tls) } else { over_tls },
            host: without_port(host).to_ascii_lowercase(),
            request_id: request_id(headers, trusted),
        }
    }
}

/// The last address in `X-Forwarded-For` that is not itself a trusted proxy: all before it may be invented.
fn client_behind(headers: &HeaderMap, peer: IpAddr, believed: &[Cidr]) -> IpAddr {
    let fields = headers.get_all("x-forwarded-for").into_iter().filter_map(|field| field.to_str().ok());
    let hops: Vec<&str> = fields.flat_map(|field| field.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Some(address) = hop_address(hop) else { break };
        client = address;
        if !believed.iter().any(|network| network.contains(address)) {
            break;
        }
    }
    client
}

/// An address with or without port, IPv6 with or without brackets: all are seen in the wild.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']').parse().ok();
    bare.or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip())).map(|ip: IpAddr| ip.to_canonical())
}

fn is_https(headers: &HeaderMap) -> Option<bool> {
    let proto = headers.get("x-forwarded-proto")?.to_str().ok()?;
    let first = proto.split(',').next().unwrap_or(proto).trim();
    Some(first.eq_ignore_ascii_case("https") || first.eq_ignore_ascii_case("wss"))
}

/// `example.com:8080` without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.find(']') {
        Some(end) => &host[..=end],
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// A trusted peer's own, or a new UUID (version 7, RFC 9562: it sorts by time).
fn request_id(headers: &HeaderMap, trusted: bool) -> HeaderValue {
    let theirs = if trusted { headers.get("x-request-id") } else { None };
    theirs.filter(|id| !id.is_empty() && id.len() <= 128).cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).expect("a UUID is hexadecimal digits and hyphens")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: &str, forwarded: &[&'static str]) {
        let believed: Vec<Cidr> = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into();
        let mut headers = HeaderMap::new();
        for field in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(field));
        }
        let client = client_behind(&headers, "10.0.0.1".parse().unwrap(), &believed);
        assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{forwarded:?}");
    }

    #[test]
    fn client_is_the_last_hop_that_is_not_trusted() {
        check("10.0.0.1", &[]);
        check("192.0.2.7", &["192.0.2.7"]);
        check("192.0.2.7", &["203.0.113.9, 192.0.2.7"]);
        check("192.0.2.7", &["203.0.113.9, 192.0.2.7, 10.1.1.1"]);
        check("192.0.2.7", &["203.0.113.9", "192.0.2.7, 10.1.1.1", "fd00::1"]);
        check("10.9.9.9", &["10.9.9.9, 10.1.1.1"]);
        check("192.0.2.7", &["192.0.2.7:4711, [fd00::1]:80"]);
        check("10.1.1.1", &["192.0.2.7, nonsense, 10.1.1.1"]);
        check("192.0.2.7", &["::ffff:192.0.2.7"]);
    }

    #[test]
    fn host_loses_its_port() {
        let cases = ["a.example", "a.example:8080", "[::1]:80", "[::1]", ""];
        assert_eq!(cases.map(without_port), ["a.example", "a.example", "[::1]", "[::1]", ""]);
    }
}
