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
