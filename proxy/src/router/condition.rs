//! What a route asks of a request, compiled: where its path puts it, and the conditions that are left to check.
//!
//! Never allocates while it checks, and never fails then: all that can be wrong is found by [`Plan::of`].

use std::sync::Arc;

use http::header::COOKIE;
use percent_encoding::percent_decode;
use waypost_config::value::{Cidr, Method};

use super::precedence::PathRank;
use super::{Lookup, RouteProblem};
use crate::path::{PathError, normalise};

/// A route, ready to be put into tables.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) place: Place,
    pub(super) path: PathRank,
    /// How many conditions count for the precedence: those on the path do not, they have their own rank.
    pub(super) weight: usize,
    /// Everything the place does not say already; the cheapest first.
    pub(super) conditions: Arc<[Condition]>,
}

/// The key under which a route is found.
#[derive(Debug)]
pub(super) enum Place {
    Exact(String),
    /// Without the slash at its end: the root is empty.
    Prefix(String),
    Anywhere,
}

impl Plan {
    pub(super) fn of(route: &waypost_config::Route) -> Result<Plan, RouteProblem> {
        let exact = route.path.as_deref().map(normal_form).transpose()?;
        let prefix = route.path_prefix.as_deref().map(prefix_form).transpose()?;
        let regex = route.path_regex.as_ref().map(anchored).transpose()?;
        let mut conditions = conditions(route)?;
        let weight = conditions.len();
        let (place, path) = match (exact, prefix) {
            (Some(exact), prefix) => {
                conditions.extend(prefix.map(Condition::PathPrefix));
                (Place::Exact(exact), PathRank::Exact)
            }
            (None, Some(prefix)) => {
                let rank = PathRank::Prefix(prefix.len());
                (Place::Prefix(prefix), rank)
            }
            (None, None) => (Place::Anywhere, if regex.is_some() { PathRank::Regex } else { PathRank::Any }),
        };
        conditions.extend(regex.map(Condition::PathRegex));
        Ok(Plan { place, path, weight, conditions: conditions.into() })
    }
}

fn conditions(route: &waypost_config::Route) -> Result<Vec<Condition>, RouteProblem> {
    let mut conditions = Vec::new();
    if !route.methods.is_empty() {
        conditions.push(Condition::Methods(route.methods.clone()));
    }
    if !route.client_ips.is_empty() {
        conditions.push(Condition::ClientIps(route.client_ips.clone()));
    }
    for (name, value) in &route.headers {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes())?;
        conditions.push(Condition::Header(name, Expected::new(value)));
    }
    conditions.extend(route.cookies.iter().map(|(name, value)| Condition::Cookie(name.clone(), Expected::new(value))));
    conditions.extend(route.query.iter().map(|(name, value)| Condition::Query(name.clone(), Expected::new(value))));
    Ok(conditions)
}

/// Paths are compared in the form that requests have when they are routed.
fn normal_form(path: &str) -> Result<String, RouteProblem> {
    match normalise(path) {
        Ok(normal) if path.starts_with('/') => Ok(normal.into_owned()),
        Ok(_) => Err(RouteProblem::Path { path: path.to_owned(), source: PathError::NotAbsolute }),
        Err(source) => Err(RouteProblem::Path { path: path.to_owned(), source }),
    }
}

/// `/api` and `/api/` are the same prefix.
fn prefix_form(path: &str) -> Result<String, RouteProblem> {
    let mut prefix = normal_form(path)?;
    prefix.truncate(prefix.strip_suffix('/').map_or(prefix.len(), str::len));
    Ok(prefix)
}

fn anchored(regex: &waypost_config::value::Regex) -> Result<regex::Regex, RouteProblem> {
    Ok(regex.anchored().map_err(Box::new)?)
}

/// One thing that must be so.
#[derive(Debug)]
pub(super) enum Condition {
    Methods(Vec<Method>),
    ClientIps(Vec<Cidr>),
    Header(http::HeaderName, Expected),
    Cookie(String, Expected),
    Query(String, Expected),
    PathPrefix(String),
    PathRegex(regex::Regex),
}

impl Condition {
    pub(super) fn holds(&self, request: &Lookup<'_>) -> bool {
        match self {
            Condition::Methods(methods) => methods.iter().any(|method| method.as_str() == request.method.as_str()),
            Condition::ClientIps(networks) => networks.iter().any(|network| network.contains(request.client_ip)),
            Condition::Header(name, expected) => {
                request.headers.get_all(name).iter().any(|value| expected.is(value.as_bytes().iter().copied()))
            }
            Condition::Cookie(name, expected) => cookies(request.headers)
                .any(|(key, value)| key == name.as_bytes() && expected.is(value.iter().copied())),
            Condition::Query(name, expected) => parameters(request.query)
                .any(|(key, value)| form_decoded(key).eq(name.bytes()) && expected.is(form_decoded(value))),
            Condition::PathPrefix(prefix) => is_prefix(prefix, request.path),
            Condition::PathRegex(regex) => regex.is_match(request.path),
        }
    }
}

/// The value that a named thing must have.
#[derive(Debug)]
pub(super) enum Expected {
    Any,
    Exactly(String),
}

impl Expected {
    fn new(text: &str) -> Expected {
        if text == "*" { Expected::Any } else { Expected::Exactly(text.to_owned()) }
    }

    fn is(&self, value: impl Iterator<Item = u8>) -> bool {
        match self {
            Expected::Any => true,
            Expected::Exactly(text) => value.eq(text.bytes()),
        }
    }
}

pub(super) fn is_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every cookie of every `Cookie` field (HTTP/2 may send several, RFC 9113 section 8.2.3), as it was sent.
pub(super) fn cookies(headers: &http::HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.map(|pair| split_pair(pair.trim_ascii()))
}

pub(super) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = query.into_iter().flat_map(|query| query.as_bytes().split(|byte| *byte == b'&'));
    pairs.filter(|pair| !pair.is_empty()).map(split_pair)
}

/// `name=value`; without `=` the value is empty.
fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, b""),
    }
}

/// As a form decodes it: `+` is a space, `%2B` a plus.
pub(super) fn form_decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let words = text.split(|byte| *byte == b'+').enumerate();
    words.flat_map(|(index, word)| (index > 0).then_some(b' ').into_iter().chain(percent_decode(word)))
}
