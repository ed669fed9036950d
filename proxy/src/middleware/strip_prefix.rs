//! `strip_prefix`: the path without its first segments, for services that know nothing of where they are mounted.
//!
//! Works on the path in its normal form and by whole segments; the query stays. What was removed is told in
//! `X-Forwarded-Prefix`, after what an earlier proxy or middleware removed.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, request};

use super::{Flow, Middleware, Problem};
use crate::context::RequestContext;
use crate::path::{PathError, normalise, replace};

const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Prefixes in normal form, without a slash at the end.
#[derive(Debug)]
pub(super) struct StripPrefix(Vec<String>);

impl StripPrefix {
    pub(super) fn new(prefixes: &[String]) -> Result<StripPrefix, Problem> {
        prefixes.iter().map(|prefix| normal_form(prefix)).collect::<Result<_, _>>().map(StripPrefix)
    }

    /// The first prefix that the path begins with.
    fn prefix_of(&self, path: &str) -> Option<&str> {
        let begins = |prefix: &&String| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().find(begins).map(String::as_str)
    }
}

impl Middleware for StripPrefix {
    fn on_request(&self, head: &mut request::Parts, _: &RequestContext) -> Flow {
        if let Some(prefix) = self.prefix_of(head.uri.path()).filter(|prefix| !prefix.is_empty()) {
            head.uri = without(&head.uri, prefix);
            extend_forwarded(&mut head.headers, prefix);
        }
        Flow::Continue
    }
}

fn normal_form(prefix: &str) -> Result<String, Problem> {
    let invalid = |source| Problem::Prefix { path: prefix.to_owned(), source };
    if !prefix.starts_with('/') {
        return Err(invalid(PathError::NotAbsolute));
    }
    let normal = normalise(prefix).map_err(invalid)?;
    Ok(normal.strip_suffix('/').unwrap_or(&normal).to_owned())
}

fn without(uri: &Uri, prefix: &str) -> Uri {
    let rest = &uri.path()[prefix.len()..];
    let path = if rest.is_empty() { "/" } else { rest };
    replace(uri, path).expect("whole segments cut off the front of a path leave a shorter path")
}

fn extend_forwarded(headers: &mut HeaderMap, prefix: &str) {
    let earlier = headers.get(FORWARDED_PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let whole = format!("{}{prefix}", earlier.strip_suffix('/').unwrap_or(earlier));
    let value = HeaderValue::try_from(whole).expect("a path in normal form is visible ASCII, as the earlier value is");
    headers.insert(FORWARDED_PREFIX, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{context, lines, member, request};

    /// What becomes of a target, and what is told about it.
    #[track_caller]
    fn check(prefixes: &[&str], target: &str, expected: &str, forwarded: &[&str]) {
        let member = member(json!({ "strip_prefix": prefixes })).unwrap();
        let mut head = request(target, &[]);
        member.on_request(&mut head, &context("http://a.example"));
        assert_eq!(head.uri.to_string(), expected, "{target} without {prefixes:?}");
        assert_eq!(lines(&head.headers, "x-forwarded-prefix"), forwarded);
    }

    #[test]
    fn whole_segments_are_cut_off_and_told() {
        check(&["/api"], "/api/x/y", "/x/y", &["/api"]);
        check(&["/api/"], "/api/x", "/x", &["/api"]);
        check(&["/api"], "/api", "/", &["/api"]);
        check(&["/api"], "/api/", "/", &["/api"]);
        check(&["/api"], "/api//x", "//x", &["/api"]);
        check(&["/café"], "/caf%C3%A9/x", "/x", &["/caf%C3%A9"]);
    }

    #[test]
    fn the_query_and_the_authority_stay() {
        check(&["/api"], "/api?a=b", "/?a=b", &["/api"]);
        check(&["/api"], "/api/x?", "/x?", &["/api"]);
        check(&["/api"], "https://a.example:8443/api/x?a=/api", "https://a.example:8443/x?a=/api", &["/api"]);
    }

    #[test]
    fn other_paths_stay() {
        check(&["/api"], "/apifoo", "/apifoo", &[]);
        check(&["/api"], "/x/api", "/x/api", &[]);
        check(&["/api"], "/api%2Fx", "/api%2Fx", &[]);
        check(&["/"], "/x", "/x", &[]);
        check(&["/"], "*", "*", &[]);
        check(&[], "/x", "/x", &[]);
    }

    #[test]
    fn the_first_prefix_that_holds_is_cut_off_once() {
        check(&["/b", "/a", "/a/b"], "/a/b/c", "/b/c", &["/a"]);
        check(&["/a/b", "/a"], "/a/b/c", "/c", &["/a/b"]);
        check(&["/a"], "/a/a/a", "/a/a", &["/a"]);
    }

    #[test]
    fn an_earlier_prefix_is_extended() {
        let member = member(json!({ "strip_prefix": ["/v1"] })).unwrap();
        for (earlier, whole) in [("/api", "/api/v1"), ("/api/", "/api/v1"), ("/", "/v1")] {
            let mut head = request("/v1/x", &[("x-forwarded-prefix", earlier)]);
            member.on_request(&mut head, &context("http://a.example"));
            assert_eq!(lines(&head.headers, "x-forwarded-prefix"), [whole]);
        }
    }

    #[test]
    fn a_prefix_that_no_path_can_have_is_refused() {
        for prefix in ["api", "", "*", "/%zz", "/.."] {
            let error = member(json!({ "strip_prefix": [prefix] })).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{prefix}` is not a path: ")), "{error}");
        }
    }
}
