//! The spans of a request, in the words of OpenTelemetry's conventions for HTTP.
//!
//! Pure. Decides names, attributes and what counts as a failure. Queries are left out: they hold what nobody meant to tell.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::Version;

use super::otlp::{KeyValue, Span, SpanKind, Status, StatusCode, Value};
use super::{Attempt, Finished, Served, SpanId};

/// How an attempt ended whose client did not wait for it.
const CLIENT_LEFT: &str = "client_left";

/// One of the request, then one of each attempt.
pub(super) fn spans(finished: &Finished) -> impl Iterator<Item = Span> {
    let attempts = finished.told.attempts.iter().enumerate();
    [server(finished)].into_iter().chain(attempts.map(|(number, attempt)| client(finished, number, attempt)))
}

fn server(finished: &Finished) -> Span {
    let Finished { served, told, span, .. } = finished;
    let failure = failure_of(served);
    let mut attributes = Attributes::default();
    attributes.request(served);
    attributes.put("http.response.status_code", i64::from(served.status));
    attributes.maybe("error.type", failure.clone());
    attributes.maybe("waypost.route", served.route.as_deref());
    attributes.maybe("waypost.service", served.service.as_deref());
    attributes.maybe("waypost.reason", served.reason);
    attributes.put("waypost.listener", &*served.listener);
    attributes.put("waypost.generation", i64::try_from(told.generation).unwrap_or(i64::MAX));
    attributes.put("waypost.request_id", served.request_id.as_str());
    Span {
        parent_span_id: told.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        name: named(served),
        kind: SpanKind::Server.into(),
        attributes: attributes.0,
        status: failure.map(failed),
        flags: if told.parent.is_some() { SAMPLED | PARENT_KNOWN | PARENT_REMOTE } else { SAMPLED | PARENT_KNOWN },
        ..over(finished, *span, (served.started, served.ended))
    }
}

fn client(finished: &Finished, number: usize, attempt: &Attempt) -> Span {
    let Finished { served, span, .. } = finished;
    let status = attempt.end.and_then(|end| end.status);
    let outcome = attempt.end.map_or(CLIENT_LEFT, |end| end.outcome);
    let failure = match status {
        Some(status) if status.as_u16() < 400 => None,
        Some(status) => Some(status.as_str().to_owned()),
        None => Some(outcome.to_owned()),
    };
    let mut attributes = Attributes::default();
    attributes.method(&served.method);
    attributes.put("server.address", attempt.url.host.as_str());
    attributes.put("server.port", i64::from(attempt.url.port));
    attributes.put("url.full", format!("{}{}", attempt.url, attempt.path));
    let resent = i64::try_from(number).ok().filter(|number| *number > 0);
    attributes.maybe("http.request.resend_count", resent);
    attributes.maybe("http.response.status_code", status.map(|status| i64::from(status.as_u16())));
    attributes.maybe("error.type", failure.clone());
    attributes.maybe("waypost.service", served.service.as_deref());
    attributes.put("waypost.endpoint", &*attempt.endpoint);
    attributes.put("waypost.outcome", outcome);
    Span {
        parent_span_id: span.to_bytes().to_vec(),
        name: method(&served.method).unwrap_or(OTHER_METHOD).to_owned(),
        kind: SpanKind::Client.into(),
        attributes: attributes.0,
        status: failure.map(failed),
        flags: SAMPLED | PARENT_KNOWN,
        ..over(finished, attempt.span, (attempt.begun, attempt.end.map_or(served.ended, |end| end.at)))
    }
}

/// W3C's flag, and OTLP's for whether the parent is on the other side of a connection.
const SAMPLED: u32 = 0x001;
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Identity and time of a span.
fn over(finished: &Finished, span: SpanId, (begun, ended): (Instant, Instant)) -> Span {
    let Finished { id, served, told, .. } = finished;
    let start = served.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let after = |moment: Instant| nanos(start + moment.saturating_duration_since(served.started));
    Span {
        trace_id: id.to_bytes().to_vec(),
        span_id: span.to_bytes().to_vec(),
        trace_state: told.state.clone(),
        start_time_unix_nano: after(begun),
        end_time_unix_nano: after(ended),
        ..Span::default()
    }
}

fn nanos(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

fn failed(kind: String) -> Status {
    Status { message: kind, code: StatusCode::Error.into() }
}

/// What has failed on our side of a request; what the client did wrong is not among it.
fn failure_of(served: &Served) -> Option<String> {
    let failed = served.status >= 500 || served.broke_off;
    failed.then(|| served.reason.map_or_else(|| served.status.to_string(), str::to_owned))
}

/// What a span of an unknown method is called.
const OTHER_METHOD: &str = "HTTP";

/// `GET /api/*`, or, of a route that is for all paths, `GET shop`.
fn named(served: &Served) -> String {
    let method = method(&served.method).unwrap_or(OTHER_METHOD);
    let route: Option<&Arc<str>> = served.pattern.as_ref().or(served.route.as_ref());
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

/// Methods are in names and are counted; so strangers do not invent them.
fn method(method: &str) -> Option<&str> {
    let known = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
    Some(method).filter(|method| known.contains(method))
}

fn version(protocol: Version) -> &'static str {
    match protocol {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn method(&mut self, asked: &str) {
        self.put("http.request.method", method(asked).unwrap_or("_OTHER"));
        if method(asked).is_none() {
            self.put("http.request.method_original", asked);
        }
    }

    /// What the client asked, and how.
    fn request(&mut self, served: &Served) {
        self.method(&served.method);
        self.put("url.scheme", if served.secure { "https" } else { "http" });
        self.put("url.path", served.path.as_str());
        self.maybe("http.route", served.pattern.as_deref());
        self.maybe("server.address", Some(served.host.as_str()).filter(|host| !host.is_empty()));
        self.maybe("server.port", served.port.to_str().ok().and_then(|port| port.parse::<i64>().ok()));
        self.put("client.address", served.client_ip.to_string());
        self.put("network.protocol.version", version(served.protocol));
        self.maybe("user_agent.original", served.user_agent.as_deref());
    }
}
