//! `strip_prefix`: the path without its first segments, for services that know nothing of where they are mounted.
//!
//! Works on the path in its normal form and by whole segments; the query stays. What was removed is told in
//! `X-Forwarded-Prefix`, after what an earlier proxy or middleware removed.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, request};

use super::{Flow, Middleware, Problem};
use crate::context::RequestContext;
use crate::router::path::{PathError, normalise};

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
    let target = match uri.query() {
        Some(query) => PathAndQuery::from_maybe_shared(bytes::Bytes::from(format!("{path}?{query}"))),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.expect("a path stays one when whole segments are cut off its front"));
    Uri::from_parts(parts).expect("a URI stays one when only its path changes for another")
}

fn extend_forwarded(headers: &mut HeaderMap, prefix: &str) {
    let earlier = headers.get(FORWARDED_PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let whole = format!("{}{prefix}", earlier.strip_suffix('/').unwrap_or(earlier));
    let value = HeaderValue::try_from(whole).expect("a path in normal form is visible ASCII, as the earlier value is");
    headers.insert(FORWARDED_PREFIX, value);
}
