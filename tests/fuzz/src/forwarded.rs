//! A request's fields from a peer that is trusted or not: what endpoints are told of the client is valid, and nothing a
//! stranger says of himself is believed.
//!
//! The first line is `PEER NETWORK,NETWORK,…` (the networks that are trusted), the others are field lines.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, request};
use waypost::context::RequestContext;
use waypost::downstream::{Activity, Downstream};
use waypost::drain::Lifecycle;
use waypost::{forwarding, framing};
use waypost_config::listener::Limits;
use waypost_config::value::Cidr;

/// Reads `data` as a peer and the head it sends.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (peer, believed) = scene(lines.next().unwrap_or_default());
    let downstream = downstream(peer);
    let mut head = head(lines);
    let checked = framing::check(&mut head, &Limits::default());
    let context = RequestContext::identify(&downstream, &head, framing::host(&head), &believed);
    let client = client(peer.ip().to_canonical(), &head.headers, &believed);
    assert_eq!(context.client_ip, client, "from {peer}, {:?}", head.headers);
    if checked.is_err() {
        return;
    }
    let claimed = head.headers.clone();
    forwarding::distrust(&mut head.headers, &context);
    forwarding::strip(&mut head.headers);
    nothing_of_this_hop_is_left(&claimed, &head.headers);
    let continued = head.headers.clone();
    forwarding::prepare(&mut head, &context, &downstream);
    says_who_asks(&head.headers, &continued, &context);
}

fn scene(line: &[u8]) -> (SocketAddr, Vec<Cidr>) {
    let line = str::from_utf8(line).unwrap_or_default();
    let (peer, networks) = line.split_once(' ').unwrap_or((line, ""));
    let peer = peer.parse().unwrap_or(IpAddr::from([192, 0, 2, 7]));
    (SocketAddr::new(peer, 40_000), networks.split(',').take(8).filter_map(|network| network.parse().ok()).collect())
}

fn downstream(peer: SocketAddr) -> Downstream {
    Downstream {
        listener: Arc::from("web"),
        peer,
        tls: None,
        certificates: None,
        peer_ip: forwarding::address_value(peer.ip().to_canonical()),
        local_port: HeaderValue::from_static("80"),
        tls_log: None,
        activity: Activity::new(Instant::now()),
        lifecycle: Lifecycle::new(),
    }
}

fn head<'a>(lines: impl Iterator<Item = &'a [u8]>) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            head.headers.append(name, value);
        }
    }
    head
}

/// The rule itself: from the end of the list, as long as who says it is trusted.
fn client(peer: IpAddr, headers: &HeaderMap, believed: &[Cidr]) -> IpAddr {
    let trusted = |address: IpAddr| believed.iter().any(|network| network.0.contains(&address));
    let mut client = peer;
    let fields: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    let list = fields.join(&b',');
    let mut hops = list.rsplit(|byte| *byte == b',');
    while let (true, Some(hop)) = (trusted(client), hops.next()) {
        match str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) {
            Some(address) => client = address,
            None => return client,
        }
    }
    client
}

fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = bare.or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip())).ok();
    address.map(|address| address.to_canonical())
}

const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

fn nothing_of_this_hop_is_left(before: &HeaderMap, after: &HeaderMap) {
    for name in HOP_BY_HOP {
        assert!(!after.contains_key(name), "{name}");
    }
    assert!(after.get_all("te").iter().all(|te| te == "trailers"));
    let named = before.get_all("connection").iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    for name in named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()) {
        let kept = ["host", "content-length", "x-forwarded-for", "te", "close", "keep-alive"];
        assert!(kept.contains(&name.as_str()) || !after.contains_key(&name), "named in Connection: {name}");
    }
}

fn says_who_asks(after: &HeaderMap, continued: &HeaderMap, context: &RequestContext) {
    let peer = context.peer.ip().to_canonical().to_string();
    assert_eq!(only(after, "x-real-ip"), context.client_ip.to_string().as_bytes());
    let list = listed(continued, "x-forwarded-for", &peer);
    assert_eq!(only(after, "x-forwarded-for").escape_ascii().to_string(), list.escape_ascii().to_string());
    let element = element(only(after, "forwarded"), continued.get_all("forwarded").iter().count() > 0);
    let bracketed = if peer.contains(':') { format!("[{peer}]") } else { peer };
    assert_eq!(element.iter().find(|(name, _)| name == "for").map(|(_, value)| value), Some(&bracketed));
    let host = after.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let told = element.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
    assert_eq!(told.filter(|host| !host.is_empty()), host);
    assert_eq!(after.get_all("x-request-id").iter().count(), 1);
    if !context.trusted {
        strangers_have_no_say(after);
    }
}

/// No field that an endpoint could take for one of these, but those made here, once each.
fn strangers_have_no_say(after: &HeaderMap) {
    const MADE: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];
    for name in after.keys().map(HeaderName::as_str) {
        let read = name.replace('_', "-");
        let claims = read.starts_with("x-forwarded-") || ["x-real-ip", "forwarded", "x-request-id"].contains(&&*read);
        assert!(!claims || read == name, "{name}");
        assert!(!read.starts_with("x-forwarded-") || MADE.contains(&name), "{name}");
        assert!(!claims || after.get_all(name).iter().count() == 1, "{name} twice");
    }
    assert_eq!(only(after, "x-forwarded-proto"), b"http");
    assert_eq!(only(after, "x-forwarded-port"), b"80");
    assert_eq!(after.get("x-forwarded-host"), after.get(header::HOST).filter(|host| !host.is_empty()));
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> &'a [u8] {
    let fields: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    assert_eq!(fields.len(), 1, "{name}: {fields:?}");
    fields[0].as_bytes()
}

fn listed(continued: &HeaderMap, name: &str, last: &str) -> Vec<u8> {
    let before = continued.get_all(name).iter().map(HeaderValue::as_bytes);
    before.chain([last.as_bytes()]).collect::<Vec<_>>().join(&b", "[..])
}

/// The last element of `Forwarded` (RFC 7239 section 4), read by its grammar. `continued`: there is text before it.
fn element(field: &[u8], continued: bool) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(field).into_owned();
    let start = if continued { text.rfind(", for=").expect("our element is the last") + 2 } else { 0 };
    let mut quoted = false;
    let pairs = text[start..].split(|character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    });
    pairs.map(pair).collect()
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or_else(|| panic!("no pair: {text:?}"));
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match quoted {
        Some(inner) => assert!(!inner.contains(['"', '\\']) && inner.is_ascii(), "quoted: {text:?}"),
        None => assert!(!value.is_empty() && value.bytes().all(is_token), "no token: {text:?}"),
    }
    (name.to_owned(), quoted.unwrap_or(value).to_owned())
}
