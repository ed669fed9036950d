//! `headers`: fields of requests and responses removed, set and appended, in this order.
//!
//! Names and values are fixed when the chain is built. Never touches what frames a message or belongs to one
//! connection (RFC 9110 section 7.6.1): that is refused, for a wrong length is a way to smuggle a second request.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, request, response};
use indexmap::IndexMap;
use waypost_config::middleware as config;
use waypost_config::value;

use super::{Flow, Middleware, Problem};
use crate::context::RequestContext;

const UNTOUCHABLE: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[derive(Debug)]
pub(super) struct Headers {
    request: Changes,
    response: Changes,
}

impl Headers {
    pub(super) fn new(config: &config::Headers) -> Result<Headers, Problem> {
        Ok(Headers {
            request: Changes::new(&config.request_remove, &config.request_set, &config.request_append)?,
            response: Changes::new(&config.response_remove, &config.response_set, &config.response_append)?,
        })
    }
}

impl Middleware for Headers {
    fn on_request(&self, head: &mut request::Parts, _: &RequestContext) -> Flow {
        self.request.apply(&mut head.headers);
        Flow::Continue
    }

    fn on_response(&self, head: &mut response::Parts, _: &RequestContext) {
        self.response.apply(&mut head.headers);
    }
}

#[derive(Debug)]
struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    append: Vec<(HeaderName, HeaderValue)>,
}

type Fields = IndexMap<value::HeaderName, String>;

impl Changes {
    fn new(remove: &[value::HeaderName], set: &Fields, append: &Fields) -> Result<Changes, Problem> {
        Ok(Changes {
            remove: remove.iter().map(name).collect::<Result<_, _>>()?,
            set: set.iter().map(field).collect::<Result<_, _>>()?,
            append: append.iter().map(field).collect::<Result<_, _>>()?,
        })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.append {
            headers.append(name, value.clone());
        }
    }
}

fn field((key, text): (&value::HeaderName, &String)) -> Result<(HeaderName, HeaderValue), Problem> {
    let name = name(key)?;
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(Problem::HeaderValue(name)),
    }
}

fn name(name: &value::HeaderName) -> Result<HeaderName, Problem> {
    let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
    if UNTOUCHABLE.contains(&name) { Err(Problem::Framing(name)) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use serde_json::{Value, json};

    use super::super::tests::{context, lines, member, request};

    /// What becomes of `x-a: 1` and `x-b: 1` in a request, and in a response by the same changes.
    #[track_caller]
    fn check(changes: &[(&str, Value)], expected: [&[&str]; 2]) {
        let before = [("x-a", "1"), ("x-b", "1")];
        let changes = |side: &str| {
            let named = changes.iter().map(|(verb, fields)| (format!("{side}_{verb}"), fields.clone()));
            member(json!({ "headers": named.collect::<serde_json::Map<_, _>>() })).unwrap()
        };
        let context = context("http://a.example");
        let mut head = request("/", &before);
        changes("request").on_request(&mut head, &context);
        assert_eq!([lines(&head.headers, "x-a"), lines(&head.headers, "x-b")], expected);

        let mut response = Response::new(()).into_parts().0;
        response.headers = request("/", &before).headers;
        changes("response").on_response(&mut response, &context);
        assert_eq!([lines(&response.headers, "x-a"), lines(&response.headers, "x-b")], expected);
    }

    #[test]
    fn fields_are_removed_then_set_then_appended() {
        check(&[], [&["1"], &["1"]]);
        check(&[("remove", json!(["X-A", "x-missing"]))], [&[], &["1"]]);
        check(&[("set", json!({ "x-a": "2" }))], [&["2"], &["1"]]);
        check(&[("append", json!({ "x-a": "2", "x-b": "" }))], [&["1", "2"], &["1", ""]]);
        check(&[("append", json!({ "x-a": "3" })), ("set", json!({ "x-a": "2" }))], [&["2", "3"], &["1"]]);
        check(&[("set", json!({ "x-a": "2" })), ("remove", json!(["x-a", "x-b"]))], [&["2"], &[]]);
    }

    #[test]
    fn changes_of_one_side_leave_the_other_alone() {
        let member = member(json!({ "headers": { "response_set": { "x-a": "2" } } })).unwrap();
        let mut head = request("/", &[("x-a", "1")]);
        member.on_request(&mut head, &context("http://a.example"));
        assert_eq!(lines(&head.headers, "x-a"), ["1"]);
    }

    #[track_caller]
    fn check_refused(config: &Value, message: &str) {
        let error = member(json!({ "headers": config })).unwrap_err().to_string();
        assert_eq!(error, message);
    }

    #[test]
    fn what_frames_a_message_or_breaks_a_line_is_refused() {
        let connection = |name: &str| format!("`{name}` belongs to the connection and can't be changed");
        check_refused(&json!({ "request_set": { "Content-Length": "0" } }), &connection("content-length"));
        check_refused(&json!({ "response_append": { "transfer-encoding": "gzip" } }), &connection("transfer-encoding"));
        check_refused(&json!({ "request_remove": ["connection"] }), &connection("connection"));
        let value = "`x-a` has a value that no header field can have";
        check_refused(&json!({ "response_set": { "x-a": "1\r\nx-b: 2" } }), value);
        check_refused(&json!({ "request_append": { "x-a": "\u{0}" } }), value);
    }
}
