//! All that is known about one request beside its head.
//!
//! Owns the client's identity: address, scheme and request id, found through trusted proxies. Never changes a head.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, request};
use uuid::Uuid;
use waypost_config::value::Cidr;

use crate::downstream::Downstream;

/// What a middleware, the router and the telemetry may ask about a request.
#[derive(Debug)]
pub struct RequestContext {
    /// When the head was complete.
    pub started: Instant,
    /// The same moment by the clock on the wall.
    pub time: SystemTime,
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
        let time = SystemTime::now();
        RequestContext {
            // tokio's clock, which tests pause: the budget of retries and the route's limit count from here.
            started: tokio::time::Instant::now().into_std(),
            time,
            listener: Arc::clone(&downstream.listener),
            peer: downstream.peer,
            trusted,
            client_ip: if trusted { client_behind(headers, peer, believed) } else { peer },
            secure: if trusted { is_https(headers).unwrap_or(over_tls) } else { over_tls },
            host: without_port(host).to_ascii_lowercase(),
            request_id: request_id(headers, trusted, time),
        }
    }
}

/// The last address in `X-Forwarded-For` that is not itself a trusted proxy: all before it may be invented.
fn client_behind(headers: &HeaderMap, peer: IpAddr, believed: &[Cidr]) -> IpAddr {
    // Bytes: a field that is no text must not hide what a trusted proxy has added to it.
    let fields = headers.get_all("x-forwarded-for").into_iter();
    let hops: Vec<&[u8]> = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).collect();
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

/// What the peer has added to `X-Forwarded-For`, if it is an address.
pub fn last_hop(headers: &HeaderMap) -> Option<IpAddr> {
    let field = headers.get_all("x-forwarded-for").into_iter().next_back()?;
    hop_address(field.as_bytes().rsplit(|byte| *byte == b',').next()?)
}

/// An address with or without port, IPv6 with or without brackets: all are seen in the wild.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop.trim_ascii()).ok()?;
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

/// A trusted peer's own, or a new one.
fn request_id(headers: &HeaderMap, trusted: bool, time: SystemTime) -> HeaderValue {
    let theirs = if trusted { headers.get("x-request-id") } else { None };
    theirs.filter(|id| !id.is_empty() && id.len() <= 128).cloned().unwrap_or_else(|| new_request_id(time))
}

thread_local! {
    /// Seeded by the system, once for each thread. An id has to be unique, not secret.
    static RANDOM: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::with_seed(Uuid::new_v4().as_u64_pair().1));
}

/// A UUID of version 7 (RFC 9562): it sorts by time. Made without the counter that the crate's own have in common, for
/// workers would wait for each other there.
fn new_request_id(time: SystemTime) -> HeaderValue {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let [random @ .., _, _, _, _, _, _] = RANDOM.with_borrow_mut(|rng| rng.u128(..)).to_ne_bytes();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let mut buffer = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer)).expect("a UUID is hexadecimal digits and hyphens")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Debug;
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check<F: AsRef<[u8]> + Debug>(expected: &str, forwarded: &[F]) {
        let believed: Vec<Cidr> = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into();
        let mut headers = HeaderMap::new();
        for field in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(field.as_ref()).unwrap());
        }
        let client = client_behind(&headers, "10.0.0.1".parse().unwrap(), &believed);
        assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{forwarded:?}");
    }

    #[test]
    fn client_is_the_last_hop_that_is_not_trusted() {
        check::<&str>("10.0.0.1", &[]);
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
    fn bytes_that_are_no_text_hide_no_hop() {
        // What a client sent, and what the proxy in front has added to it.
        check("192.0.2.7", &[b"\xe9, 192.0.2.7"]);
        check("192.0.2.7", &[&b"203.0.113.9"[..], b"\xe9, 192.0.2.7"]);
        check("10.1.1.1", &[b"203.0.113.9, \xe9, 10.1.1.1"]);
    }

    #[test]
    fn new_request_ids_are_uuids_of_version_7_that_sort_by_time_and_never_repeat() {
        let at = |millis| new_request_id(UNIX_EPOCH + Duration::from_millis(millis));
        let ids: Vec<_> = (0..1000).map(|round| at(1_800_000_000_000 + round / 100)).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.chunks(100).collect::<Vec<_>>().windows(2).all(|pair| pair[0][0] < pair[1][0]));
        let id: Uuid = ids[0].to_str().unwrap().parse().unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_800_000_000);
    }

    #[test]
    fn host_loses_its_port() {
        let cases = ["a.example", "a.example:8080", "[::1]:80", "[::1]", ""];
        assert_eq!(cases.map(without_port), ["a.example", "a.example", "[::1]", "[::1]", ""]);
    }
}
