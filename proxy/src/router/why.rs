//! Why a request belongs to one route and not to the others: for people who ask.
//!
//! Reads the same plans and precedences as the [`Router`](super::Router), route by route, and puts into words what they
//! say. Decides nothing, and is never asked by a request.

use std::cmp::Reverse;

use waypost_config::Route;
use waypost_config::value::HostPattern;

use super::condition::{Condition, Expected, Place, Plan, cookies, form_decoded, is_prefix, parameters};
use super::precedence::{HostRank, Precedence};
use super::{Lookup, RouteError, RouteProblem, canonical, parent};

/// What becomes of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request belongs to it.
    Taken,
    /// All its conditions hold, but another route goes first.
    Outranked {
        /// The place of the one that goes first.
        by: usize,
        /// The rule that decides between them.
        rule: String,
    },
    /// The first of its conditions that does not hold.
    Fails(String),
}

/// A verdict for each of a listener's routes, in the order given, which is that of the file.
pub fn verdicts(routes: &[&Route], request: &Lookup<'_>) -> Result<Vec<Verdict>, RouteError> {
    let one = |(index, route): (usize, &&Route)| {
        let wrong = |problem| RouteError { route: index, problem };
        held(index, route, request).map_err(wrong)
    };
    let held = routes.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
    let best = held.iter().filter_map(|held| held.as_ref().ok()).max().copied();
    let verdict = |held: Result<Precedence, String>| match (held, best) {
        (Err(failure), _) => Verdict::Fails(failure),
        (Ok(own), Some(best)) if own != best => Verdict::Outranked { by: best.route.0, rule: rule(best, own) },
        (Ok(_), _) => Verdict::Taken,
    };
    Ok(held.into_iter().map(verdict).collect())
}

/// What the route is worth if all its conditions hold, or else the first that does not.
fn held(index: usize, route: &Route, request: &Lookup<'_>) -> Result<Result<Precedence, String>, RouteProblem> {
    let plan = Plan::of(route)?;
    let Some(host) = host_rank(&route.hosts, request.host) else { return Ok(Err(other_host(route, request))) };
    if let Some(failure) = other_path(&plan.place, request.path) {
        return Ok(Err(failure));
    }
    if let Some(condition) = plan.conditions.iter().find(|condition| !condition.holds(request)) {
        return Ok(Err(condition.failure(request)));
    }
    let Plan { path, weight, .. } = plan;
    let precedence = Precedence { priority: route.priority, host, path, conditions: weight, route: Reverse(index) };
    Ok(Ok(precedence))
}

fn host_rank(hosts: &[HostPattern], host: &str) -> Option<HostRank> {
    let host = canonical(host);
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (canonical(name) == host).then_some(HostRank::Exact),
        HostPattern::Wildcard(under) => (parent(host) == Some(under.as_str())).then_some(HostRank::Wildcard),
    };
    if hosts.is_empty() { Some(HostRank::Any) } else { hosts.iter().filter_map(rank).max() }
}

fn other_host(route: &Route, request: &Lookup<'_>) -> String {
    let wanted = any_of(&route.hosts);
    if request.host.is_empty() {
        return format!("the request has no host; it wants {wanted}");
    }
    format!("the host `{}` is not {wanted}", request.host)
}

fn other_path(place: &Place, path: &str) -> Option<String> {
    match place {
        Place::Exact(exact) if exact != path => Some(format!("the path `{path}` is not `{exact}`")),
        Place::Prefix(prefix) if !is_prefix(prefix, path) => Some(other_prefix(prefix, path)),
        _ => None,
    }
}

fn other_prefix(prefix: &str, path: &str) -> String {
    if !prefix.is_empty() && path.starts_with(prefix) {
        return format!("the path `{path}` goes on after `{prefix}` within a segment");
    }
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    format!("the path `{path}` does not begin with `{prefix}`")
}

/// By which rule the winner goes first: that of the first field in which they differ.
fn rule(winner: Precedence, loser: Precedence) -> String {
    if winner.priority != loser.priority {
        format!("its priority is {} and not {}", winner.priority, loser.priority)
    } else if winner.host != loser.host {
        "it names the host more closely".to_owned()
    } else if winner.path != loser.path {
        "it names the path more closely".to_owned()
    } else if winner.conditions != loser.conditions {
        "it has more conditions".to_owned()
    } else {
        "it comes first in the file".to_owned()
    }
}

impl Condition {
    /// Why it does not hold.
    fn failure(&self, request: &Lookup<'_>) -> String {
        match self {
            Condition::Methods(methods) => format!("the method {} is not {}", request.method, any_of(methods)),
            Condition::ClientIps(networks) => {
                format!("the client {} is not in {}", request.client_ip, any_of(networks))
            }
            Condition::Header(name, expected) => {
                let lines = request.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec());
                named("header", name.as_str(), expected, lines)
            }
            Condition::Cookie(name, expected) => {
                let lines = cookies(request.headers).filter(|(key, _)| *key == name.as_bytes());
                named("cookie", name, expected, lines.map(|(_, value)| value.to_vec()))
            }
            Condition::Query(name, expected) => {
                let lines = parameters(request.query).filter(|(key, _)| form_decoded(key).eq(name.bytes()));
                named("query parameter", name, expected, lines.map(|(_, value)| form_decoded(value).collect()))
            }
            Condition::PathPrefix(prefix) => other_prefix(prefix, request.path),
            Condition::PathRegex(regex) => {
                format!("the path `{}` does not match `{}`", request.path, unanchored(regex.as_str()))
            }
        }
    }
}

/// What is wrong with a thing that has a name and may be there several times.
fn named(kind: &str, name: &str, expected: &Expected, found: impl Iterator<Item = Vec<u8>>) -> String {
    let found: Vec<_> = found.map(|value| format!("`{}`", String::from_utf8_lossy(&value))).collect();
    match (expected, found.is_empty()) {
        (_, true) => format!("there is no {kind} `{name}`"),
        (Expected::Exactly(wanted), false) => format!("the {kind} `{name}` is {} and not `{wanted}`", found.join(", ")),
        (Expected::Any, false) => format!("the {kind} `{name}` is {}", found.join(", ")),
    }
}

/// As it stands in the file.
fn unanchored(regex: &str) -> &str {
    regex.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(regex)
}

/// `` `a` ``, or ``one of `a`, `b` ``.
fn any_of<T: ToString>(wanted: &[T]) -> String {
    let quoted: Vec<_> = wanted.iter().map(|one| format!("`{}`", one.to_string())).collect();
    if quoted.len() == 1 { quoted.concat() } else { format!("one of {}", quoted.join(", ")) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Uri};
    use serde_json::{Value, json};

    use super::super::tests::route;
    use super::*;

    fn verdicts_of(conditions: &[Value], method: &str, url: &str, fields: &[(&'static str, &str)]) -> Vec<Verdict> {
        let routes: Vec<Route> = conditions.iter().cloned().map(route).collect();
        let uri: Uri = url.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let lookup = Lookup {
            host: uri.host().unwrap_or_default(),
            path: uri.path(),
            query: uri.query(),
            method: &method.parse::<Method>().unwrap(),
            headers: &headers,
            client_ip: "192.0.2.7".parse().unwrap(),
        };
        verdicts(&routes.iter().collect::<Vec<_>>(), &lookup).unwrap()
    }

    /// One route that a GET of `http://a.example/api/x?k=1` with `x-tenant: red` and a cookie does not belong to.
    #[track_caller]
    fn check(conditions: Value, failure: &str) {
        let fields = [("x-tenant", "red"), ("cookie", "beta=no")];
        let seen = verdicts_of(&[conditions], "GET", "http://a.example/api/x?k=1", &fields);
        assert_eq!(seen, [Verdict::Fails(failure.to_owned())]);
    }

    #[test]
    fn first_condition_that_fails_is_named_with_what_came_instead() {
        check(json!({ "hosts": ["b.example"] }), "the host `a.example` is not `b.example`");
        check(
            json!({ "hosts": ["b.example", "*.a.example"], "path": "/x" }),
            "the host `a.example` is not one of `b.example`, `*.a.example`",
        );
        check(json!({ "path": "/api" }), "the path `/api/x` is not `/api`");
        check(json!({ "path_prefix": "/ap" }), "the path `/api/x` goes on after `/ap` within a segment");
        check(json!({ "path_prefix": "/admin" }), "the path `/api/x` does not begin with `/admin`");
        check(json!({ "path_regex": "/api/[0-9]+" }), "the path `/api/x` does not match `/api/[0-9]+`");
        check(json!({ "methods": ["POST", "PUT"] }), "the method GET is not one of `POST`, `PUT`");
        check(json!({ "client_ips": ["10.0.0.0/8"] }), "the client 192.0.2.7 is not in `10.0.0.0/8`");
        check(json!({ "headers": { "x-tenant": "blue" } }), "the header `x-tenant` is `red` and not `blue`");
        check(json!({ "headers": { "x-other": "*" } }), "there is no header `x-other`");
        check(json!({ "cookies": { "beta": "yes" } }), "the cookie `beta` is `no` and not `yes`");
        check(json!({ "query": { "k": "2" } }), "the query parameter `k` is `1` and not `2`");
        check(json!({ "query": { "j": "*" } }), "there is no query parameter `j`");
    }

    #[test]
    fn route_that_would_hold_says_who_goes_first_and_by_which_rule() {
        let routes = [
            json!({}),
            json!({ "path_prefix": "/a" }),
            json!({ "path_prefix": "/a", "methods": ["GET"] }),
            json!({ "hosts": ["a.example"] }),
            json!({ "hosts": ["a.example"], "priority": 1 }),
            json!({ "hosts": ["a.example"], "priority": 1 }),
        ];
        let rules = |count: usize| -> Vec<String> {
            let rule = |verdict: &Verdict| match verdict {
                Verdict::Taken => "taken".to_owned(),
                Verdict::Outranked { by, rule } => format!("{by}: {rule}"),
                Verdict::Fails(failure) => failure.clone(),
            };
            verdicts_of(&routes[..count], "GET", "http://a.example/a", &[]).iter().map(rule).collect()
        };
        assert_eq!(rules(2), ["1: it names the path more closely", "taken"]);
        assert_eq!(rules(3)[1], "2: it has more conditions");
        assert_eq!(rules(4)[2], "3: it names the host more closely");
        assert_eq!(rules(5)[3], "4: its priority is 1 and not 0");
        assert_eq!(rules(6)[5], "4: it comes first in the file");
    }
}
