//! The router and the form of paths as their documentation says them, and as slowly.

use std::cmp::Reverse;

use http::{HeaderMap, header};
use waypost::router::Lookup;
use waypost_config::Route;
use waypost_config::value::HostPattern;

/// The best of all routes that hold.
pub fn find(routes: &[Route], request: &Lookup<'_>) -> Option<usize> {
    let ranked = routes.iter().enumerate().filter_map(|(index, route)| {
        let host = host_rank(route, request.host)?;
        let rank = (route.priority, host, path_rank(route), conditions(route), Reverse(index));
        holds(route, request).then_some((rank, index))
    });
    ranked.max().map(|(_, index)| index)
}

/// 2 for the host itself, 1 for its wildcard, 0 if any host will do.
fn host_rank(route: &Route, host: &str) -> Option<u8> {
    let host = plain(host);
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (plain(name) == host).then_some(2),
        HostPattern::Wildcard(parent) => {
            let label = host.strip_suffix(parent.as_str()).and_then(|rest| rest.strip_suffix('.'))?;
            (!label.is_empty() && !label.contains('.')).then_some(1)
        }
    };
    if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(rank).max() }
}

/// An address without brackets, a name without its last dot.
fn plain(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address,
        None => host.strip_suffix('.').unwrap_or(host),
    }
}

/// An exact path, then longer prefixes before shorter ones, then a regular expression, then nothing.
fn path_rank(route: &Route) -> (u8, usize) {
    match (&route.path, &route.path_prefix, &route.path_regex) {
        (Some(_), ..) => (3, 0),
        (None, Some(prefix), _) => (2, prefix_form(prefix).len()),
        (None, None, Some(_)) => (1, 0),
        (None, None, None) => (0, 0),
    }
}

fn conditions(route: &Route) -> usize {
    let lists = usize::from(!route.methods.is_empty()) + usize::from(!route.client_ips.is_empty());
    lists + route.headers.len() + route.query.len() + route.cookies.len()
}

fn prefix_form(prefix: &str) -> String {
    let form = normalise(prefix).expect("a route that is taken has a path");
    form.strip_suffix('/').unwrap_or(&form).to_owned()
}

fn holds(route: &Route, request: &Lookup<'_>) -> bool {
    let path = request.path;
    let exactly = |exact: &String| normalise(exact).as_deref() == Some(path);
    let under = |prefix: &String| format!("{path}/").starts_with(&format!("{}/", prefix_form(prefix)));
    let whole = |regex: &str| {
        let anchored = regex::Regex::new(&format!(r"\A(?:{regex})\z"));
        anchored.expect("what is taken compiles between anchors").is_match(path)
    };
    route.path.as_ref().is_none_or(exactly)
        && route.path_prefix.as_ref().is_none_or(under)
        && route.path_regex.as_ref().is_none_or(|regex| whole(regex.get().as_str()))
        && (route.methods.is_empty() || route.methods.iter().any(|method| method.as_str() == request.method.as_str()))
        && (route.client_ips.is_empty() || route.client_ips.iter().any(|network| network.contains(request.client_ip)))
        && route
            .headers
            .iter()
            .all(|(name, value)| request.headers.get_all(name.as_str()).iter().any(|sent| is(value, sent.as_bytes())))
        && route.query.iter().all(|(name, value)| {
            parameters(request.query).iter().any(|(key, sent)| key == name.as_bytes() && is(value, sent))
        })
        && route.cookies.iter().all(|(name, value)| {
            cookies(request.headers).iter().any(|(key, sent)| key == name.as_bytes() && is(value, sent))
        })
}

fn is(wanted: &str, sent: &[u8]) -> bool {
    wanted == "*" || wanted.as_bytes() == sent
}

fn cookies(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fields: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
    fields.join(&b';').split(|byte| *byte == b';').map(|pair| split(pair.trim_ascii())).collect()
}

/// As a form has them.
fn parameters(query: Option<&str>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_encoding::percent_decode(&spaced).collect()
    };
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| split(pair.as_bytes())).map(|(key, value)| (decoded(&key), decoded(&value))).collect()
}

fn split(pair: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut parts = pair.splitn(2, |byte| *byte == b'=').map(<[u8]>::to_vec);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The one form of a path, `None` if it is refused.
pub fn normalise(path: &str) -> Option<String> {
    match path {
        "" => return Some("/".to_owned()),
        "*" => return Some("*".to_owned()),
        _ if !path.starts_with('/') => return None,
        _ => {}
    }
    let spelled = spelled(path.as_bytes())?;
    let segments: Vec<&str> = spelled[1..].split('/').collect();
    if segments.iter().any(|segment| hides_dots(segment)) {
        return None;
    }
    let mut kept = Vec::new();
    for segment in &segments {
        match *segment {
            "." => {}
            ".." => drop(kept.pop()?),
            other => kept.push(other),
        }
    }
    if segments.last().is_some_and(|last| is_dots(last)) {
        kept.push("");
    }
    Some(format!("/{}", kept.join("/")))
}

/// Every byte as it has to be written.
fn spelled(mut rest: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let [first, behind @ ..] = rest {
        let (byte, bare, behind) = match first {
            b'%' => {
                let digits = str::from_utf8(behind.get(..2)?).ok()?;
                let byte = u8::from_str_radix(digits.strip_prefix('+').map_or(digits, |_| "no"), 16).ok()?;
                (byte, is_unreserved(byte), &behind[2..])
            }
            byte => (*byte, is_unreserved(*byte) || b"/!$&'()*+,;=:@".contains(byte), behind),
        };
        if byte < 0x20 || byte == 0x7f {
            return None;
        }
        if bare {
            text.push(char::from(byte));
        } else {
            text.extend(format!("%{byte:02X}").chars());
        }
        rest = behind;
    }
    Some(text)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

/// A dot segment to whoever takes an encoded slash for a slash, a backslash for one, or cuts off parameters.
fn hides_dots(segment: &str) -> bool {
    let borders = segment.replace("%2F", "/").replace("%5C", "/");
    !is_dots(segment) && borders.split('/').any(|piece| is_dots(piece.split(';').next().unwrap_or_default()))
}
