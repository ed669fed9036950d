//! `redirect`: another place for URLs that match a regular expression.
//!
//! Decides on the whole URL as the client wrote it (`https://host:port/path?query`, the scheme's own port left out) and
//! answers with a `Location` that is one line of visible ASCII, whatever the request contains.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Response, StatusCode, request};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::{Captures, Regex};
use waypost_config::middleware as config;

use super::{Flow, Middleware, Problem};
use crate::context::RequestContext;

/// What may not stand in a URL, and the backslash, which browsers take for a slash.
const ILLEGAL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');

#[derive(Debug)]
pub(super) struct Redirect {
    regex: Regex,
    to: String,
    status: StatusCode,
}

impl Redirect {
    pub(super) fn new(config: &config::Redirect) -> Result<Redirect, Problem> {
        let status = match config.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(config.status),
            other => return Err(Problem::Status(other)),
        };
        let status = status.map_err(|_| Problem::Status(config.status))?;
        Ok(Redirect { regex: config.regex.get().clone(), to: config.to.clone(), status })
    }

    /// The target, made of the groups; safe as a `Location`.
    fn target(&self, groups: &Captures<'_>) -> String {
        let mut target = String::new();
        groups.expand(&self.to, &mut target);
        // `/x` made of a path `//evil.example` must not become another host (RFC 3986 section 4.2).
        let relative = if self.to.starts_with("//") { None } else { target.strip_prefix("//") };
        if let Some(rest) = relative {
            target = format!("/{}", rest.trim_start_matches('/'));
        }
        utf8_percent_encode(&target, ILLEGAL).to_string()
    }
}

impl Middleware for Redirect {
    fn on_request(&self, head: &mut request::Parts, context: &RequestContext) -> Flow {
        let url = url(head, context);
        let Some(groups) = self.regex.captures(&url) else { return Flow::Continue };
        let target = self.target(&groups);
        // A redirect to itself would never end.
        if target == url {
            return Flow::Continue;
        }
        Flow::Reply(reply(self.status, target))
    }
}

fn reply(status: StatusCode, target: String) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::from(format!("{target}\n")));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(LOCATION, HeaderValue::try_from(target).expect("control characters are escaped"));
    reply
}

fn url(head: &request::Parts, context: &RequestContext) -> String {
    let (scheme, own_port) = if context.secure { ("https", "443") } else { ("http", "80") };
    let mut url = format!("{scheme}://{}", context.host);
    if let Some(port) = port(head).filter(|port| *port != own_port) {
        url.extend([":", port]);
    }
    url.push_str(head.uri.path());
    if let Some(query) = head.uri.query() {
        url.extend(["?", query]);
    }
    url
}

/// As the client wrote it, in the target or in `Host`.
fn port(head: &request::Parts) -> Option<&str> {
    let host = || head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let (_, port) = head.uri.authority().map(http::uri::Authority::as_str).or_else(host)?.rsplit_once(':')?;
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Flow;
    use super::super::tests::{context, lines, member, request};

    /// Where a client goes that asked for `url`; the request is in origin form, as over HTTP/1.
    #[track_caller]
    fn check(regex: &str, to: &str, url: &str, expected: Option<&str>) {
        let member = member(json!({ "redirect": { "regex": regex, "to": to } })).unwrap();
        let uri: http::Uri = url.parse().unwrap();
        let host = uri.authority().unwrap().as_str();
        let mut head = request(uri.path_and_query().unwrap().as_str(), &[("host", host)]);
        match member.on_request(&mut head, &context(url)) {
            Flow::Continue => assert_eq!(None, expected, "{url} by {regex}"),
            Flow::Reply(reply) => assert_eq!(lines(reply.headers(), "location"), Vec::from_iter(expected), "{url}"),
        }
    }

    #[test]
    fn groups_of_the_whole_url_make_the_target() {
        let www = ("^https://www\\.(.*)", "https://$1");
        check(www.0, www.1, "https://www.a.example/b?c=d", Some("https://a.example/b?c=d"));
        check(www.0, www.1, "http://www.a.example/b", None);
        check("^http://(?<rest>.*)", "https://${rest}", "http://a.example/b?c", Some("https://a.example/b?c"));
        check("/old/([^?]*)", "/new/$1/", "http://a.example/old/x/y?q", Some("/new/x/y/"));
        check("x=(\\d+)", "/$$/$1$2", "http://a.example/?x=12", Some("/$/12"));
        check("never", "/", "http://a.example/", None);
    }

    #[test]
    fn a_port_is_seen_unless_it_is_the_schemes_own() {
        check("^(.*)/a$", "$1/b", "http://a.example:8080/a", Some("http://a.example:8080/b"));
        check("^(.*)/a$", "$1/b", "http://a.example:80/a", Some("http://a.example/b"));
        check("^(.*)/a$", "$1/b", "https://a.example:443/a", Some("https://a.example/b"));
        check("^(.*)/a$", "$1/b", "https://a.example:80/a", Some("https://a.example:80/b"));
        check("^(.*)/a$", "$1/b", "http://[::1]:8080/a", Some("http://[::1]:8080/b"));
        check("^(.*)/a$", "$1/b", "http://[::1]/a", Some("http://[::1]/b"));
    }

    #[test]
    fn a_request_in_absolute_form_is_seen_the_same() {
        let member = member(json!({ "redirect": { "regex": "^(.*)/a$", "to": "$1/b" } })).unwrap();
        let mut head = request("https://a.example:8443/a", &[]);
        let Flow::Reply(reply) = member.on_request(&mut head, &context("https://a.example:8443/a")) else {
            panic!("no reply")
        };
        assert_eq!(lines(reply.headers(), "location"), ["https://a.example:8443/b"]);
    }

    #[test]
    fn a_redirect_to_itself_is_none() {
        check("^https?://(.*)", "https://$1", "https://a.example/b", None);
        check("^https?://(.*)", "https://$1", "http://a.example/b", Some("https://a.example/b"));
    }

    #[test]
    fn a_target_is_one_line_of_visible_ascii() {
        check("x=(.*)", "/$1", "http://a.example/?x=é\\`", Some("/%C3%A9%5C%60"));
        check("x=(.*)", "/$1", "http://a.example/?x=%0d%0aa:b", Some("/%0d%0aa:b"));
        check("^", "/a\r\nset-cookie: b", "http://a.example/", Some("/a%0D%0Aset-cookie:%20b"));
    }

    #[test]
    fn a_path_cannot_become_a_host() {
        check("/old(/.*)", "$1", "http://a.example/old//evil.example/", Some("/evil.example/"));
        check("/old/(.*)", "/$1", "http://a.example/old////evil.example/", Some("/evil.example/"));
        check("/old(/.*)", "//b.example$1", "http://a.example/old/x", Some("//b.example/x"));
    }

    #[test]
    fn the_reply_has_the_status_and_a_small_text() {
        for status in [301, 302, 303, 307, 308] {
            let member = member(json!({ "redirect": { "regex": "", "to": "/b", "status": status } })).unwrap();
            let Flow::Reply(reply) = member.on_request(&mut request("/a", &[]), &context("http://a.example")) else {
                panic!("no reply")
            };
            assert_eq!(reply.status(), status);
            assert_eq!(lines(reply.headers(), "content-type"), ["text/plain; charset=utf-8"]);
            assert_eq!(reply.body(), "/b\n");
        }
    }

    #[test]
    fn a_status_that_does_not_redirect_is_refused() {
        for status in [200, 300, 304, 305, 306, 404] {
            assert!(member(json!({ "redirect": { "regex": "", "to": "/b", "status": status } })).is_err());
        }
    }
}
