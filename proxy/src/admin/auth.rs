//! Who may use the admin API.
//!
//! The token opens everything from everywhere. Without it only somebody on this machine may come in, and "on this
//! machine" takes more than a loopback address: a browser can be made to send requests there by any page it shows
//! (cross-site requests, DNS rebinding), and a proxy beside Waypost passes on those of strangers.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use waypost_config::value::Secret;

/// What a request may show to be let in.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    token: Option<Secret>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// From elsewhere, without a token.
    #[error("send the admin token as `Authorization: Bearer …`")]
    TokenMissing,
    /// With a token that is not ours.
    #[error("this is not the admin token")]
    TokenWrong,
    /// From elsewhere, and there is no token that could help.
    #[error("only loopback may do this while `admin.token` is not set")]
    NotLoopback,
    /// From loopback, but not for a name of this machine.
    #[error("without the token, the host must be localhost or a loopback address")]
    ForeignHost,
    /// From loopback, but on behalf of a web page.
    #[error("without the token, requests of web pages are refused")]
    CrossSite,
    /// From loopback, but on behalf of somebody behind a proxy.
    #[error("without the token, requests that a proxy passes on are refused")]
    Proxied,
}

impl Denied {
    /// The stable word in the answer.
    pub const fn token(self) -> &'static str {
        match self {
            Denied::TokenMissing => "token_missing",
            Denied::TokenWrong => "token_wrong",
            Denied::NotLoopback => "not_loopback",
            Denied::ForeignHost => "foreign_host",
            Denied::CrossSite => "cross_site",
            Denied::Proxied => "proxied",
        }
    }

    /// 401 where a token helps that is not there, 403 otherwise.
    pub const fn status(self) -> StatusCode {
        match self {
            Denied::TokenMissing | Denied::TokenWrong => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl Auth {
    /// With the configured token, or without one. An empty token is none: it must not open the door to an empty word.
    pub fn new(token: Option<Secret>) -> Auth {
        Auth { token: token.filter(|token| !token.reveal().is_empty()) }
    }

    /// Whether this request may do what is not open to all. An unknown peer counts as one from elsewhere.
    pub(super) fn check(&self, peer: Option<SocketAddr>, request: &Parts) -> Result<(), Denied> {
        if let (Some(token), Some(shown)) = (&self.token, bearer(&request.headers)) {
            return if same(token.reveal().as_bytes(), shown) { Ok(()) } else { Err(Denied::TokenWrong) };
        }
        let loopback = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        match (loopback, &self.token) {
            (true, _) => local(request),
            (false, Some(_)) => Err(Denied::TokenMissing),
            (false, None) => Err(Denied::NotLoopback),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

/// In a time that tells neither where the two differ nor, by comparing digests, how long ours is.
fn same(ours: &[u8], shown: &[u8]) -> bool {
    verify_slices_are_equal(digest(&SHA256, ours).as_ref(), digest(&SHA256, shown).as_ref()).is_ok()
}

/// Whether somebody on this machine sent it, not a web page and not a proxy on somebody's behalf.
fn local(request: &Parts) -> Result<(), Denied> {
    const PROXIED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    if PROXIED.iter().any(|name| request.headers.contains_key(*name)) {
        return Err(Denied::Proxied);
    }
    if from_foreign_page(request) {
        return Err(Denied::CrossSite);
    }
    if names_this_machine(request) { Ok(()) } else { Err(Denied::ForeignHost) }
}

/// Any page but our own, which the browser got from the very name and port that it sends the request to. `same-site` is
/// refused too, because to a browser every port of localhost is the same site.
fn from_foreign_page(request: &Parts) -> bool {
    let allowed = |value: &HeaderValue| value == "none" || value == "same-origin";
    let ours = |origin: &HeaderValue| {
        let authority = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        authority.is_some_and(|origin| names(request).all(|name| name.is_some_and(|name| name == origin)))
    };
    !request.headers.get_all(header::ORIGIN).iter().all(ours)
        || !request.headers.get_all("sec-fetch-site").iter().all(allowed)
}

/// Every name the request gives for its target, at least one, is of this machine.
fn names_this_machine(request: &Parts) -> bool {
    let mut names = names(request).peekable();
    names.peek().is_some() && names.all(|name| name.is_some_and(|name| is_local(name.host())))
}

/// The names the request gives for its target; `None` for one that is no name.
fn names(request: &Parts) -> impl Iterator<Item = Option<Authority>> {
    let hosts = request.headers.get_all(header::HOST).iter();
    let hosts = hosts.map(|value| value.to_str().ok().and_then(|text| text.parse::<Authority>().ok()));
    hosts.chain(request.uri.authority().cloned().map(Some))
}

fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:50000";
    const ELSEWHERE: &str = "10.0.0.9:50000";

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let start = Request::post(uri);
        let built = headers.iter().fold(start, |request, (name, value)| request.header(*name, *value));
        built.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(token: Option<&str>, peer: &str, headers: &[(&str, &str)], expected: Result<(), Denied>) {
        let auth = Auth::new(token.map(Secret::from));
        let verdict = auth.check(Some(peer.parse().unwrap()), &request("/api/reload", headers));
        assert_eq!(verdict, expected, "token {token:?}, peer {peer}, {headers:?}");
    }

    #[test]
    fn loopback_needs_no_token() {
        for host in ["localhost", "LOCALHOST:9900", "127.0.0.1:9900", "127.9.9.9", "[::1]:9900", "[::ffff:127.0.0.1]"] {
            check(None, LOOPBACK, &[("host", host)], Ok(()));
            check(Some("t0ken"), LOOPBACK, &[("host", host)], Ok(()));
        }
        check(None, "[::1]:50000", &[("host", "localhost")], Ok(()));
        check(None, "[::ffff:127.0.0.1]:50000", &[("host", "localhost")], Ok(()));
        let same_origin = [("host", "localhost"), ("sec-fetch-site", "same-origin")];
        check(None, LOOPBACK, &same_origin, Ok(()));
        check(None, LOOPBACK, &[("host", "localhost"), ("sec-fetch-site", "none")], Ok(()));
    }

    #[test]
    fn elsewhere_needs_the_token() {
        let shown = |value| [("host", "proxy.example"), ("authorization", value)];
        check(Some("t0ken"), ELSEWHERE, &shown("Bearer t0ken"), Ok(()));
        check(Some("t0ken"), ELSEWHERE, &shown("bearer  t0ken "), Ok(()));
        check(Some("t0ken"), ELSEWHERE, &shown("Bearer t0ke"), Err(Denied::TokenWrong));
        check(Some("t0ken"), ELSEWHERE, &shown("Bearer t0ken2"), Err(Denied::TokenWrong));
        check(Some("t0ken"), ELSEWHERE, &shown("Bearer "), Err(Denied::TokenWrong));
        check(Some("t0ken"), ELSEWHERE, &shown("Basic t0ken"), Err(Denied::TokenMissing));
        check(Some("t0ken"), ELSEWHERE, &[("host", "localhost")], Err(Denied::TokenMissing));
        check(None, ELSEWHERE, &[("host", "localhost")], Err(Denied::NotLoopback));
        check(None, ELSEWHERE, &shown("Bearer t0ken"), Err(Denied::NotLoopback));
        check(Some(""), ELSEWHERE, &shown("Bearer "), Err(Denied::NotLoopback));
        check(
            Some("t0ken"),
            LOOPBACK,
            &[("host", "localhost"), ("authorization", "Bearer no")],
            Err(Denied::TokenWrong),
        );
    }

    #[test]
    fn unknown_peer_is_from_elsewhere() {
        let verdict = Auth::new(None).check(None, &request("/api/reload", &[("host", "localhost")]));
        assert_eq!(verdict, Err(Denied::NotLoopback));
    }

    #[test]
    fn web_page_cannot_use_the_loopback_of_its_reader() {
        for site in ["cross-site", "same-site", "strange"] {
            check(None, LOOPBACK, &[("host", "localhost"), ("sec-fetch-site", site)], Err(Denied::CrossSite));
        }
        for origin in ["https://evil.example", "http://localhost:3000", "https://localhost", "localhost", "null", ""] {
            check(None, LOOPBACK, &[("host", "localhost"), ("origin", origin)], Err(Denied::CrossSite));
        }
    }

    #[test]
    fn own_page_may_do_on_loopback_what_its_reader_may() {
        for host in ["localhost:9900", "127.0.0.1:9900", "[::1]:9900"] {
            let origin = format!("http://{host}");
            let own = [("host", host), ("origin", &*origin), ("sec-fetch-site", "same-origin")];
            check(None, LOOPBACK, &own, Ok(()));
            check(None, LOOPBACK, &[own[0], own[1], ("sec-fetch-site", "same-site")], Err(Denied::CrossSite));
            check(None, LOOPBACK, &[own[0], own[1], ("origin", "http://evil.example")], Err(Denied::CrossSite));
            check(None, ELSEWHERE, &own, Err(Denied::NotLoopback));
        }
        let rebound = [("host", "evil.example:9900"), ("origin", "http://evil.example:9900")];
        check(None, LOOPBACK, &rebound, Err(Denied::ForeignHost));
        check(
            None,
            LOOPBACK,
            &[("host", "localhost:9900"), ("origin", "http://localhost:9901")],
            Err(Denied::CrossSite),
        );
    }

    #[test]
    fn rebound_name_is_refused() {
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1:9900", "127.0.0.1.evil.example", "", "a b"] {
            check(None, LOOPBACK, &[("host", host)], Err(Denied::ForeignHost));
        }
        check(None, LOOPBACK, &[], Err(Denied::ForeignHost));
        check(None, LOOPBACK, &[("host", "localhost"), ("host", "evil.example")], Err(Denied::ForeignHost));
        let authority = |uri| Auth::new(None).check(Some(LOOPBACK.parse().unwrap()), &request(uri, &[]));
        assert_eq!(authority("http://localhost:9900/api/reload"), Ok(()));
        assert_eq!(authority("http://evil.example/api/reload"), Err(Denied::ForeignHost));
    }

    #[test]
    fn proxy_on_the_same_machine_does_not_lend_its_address() {
        for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            check(None, LOOPBACK, &[("host", "localhost"), (name, "203.0.113.7")], Err(Denied::Proxied));
            let with_token = [("host", "localhost"), (name, "203.0.113.7"), ("authorization", "Bearer t0ken")];
            check(Some("t0ken"), LOOPBACK, &with_token, Ok(()));
        }
    }
}
