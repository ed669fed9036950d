//! Which route?
//!
//! Decides which of a listener's routes a request belongs to. Pure: no socket, no clock, no state, and no allocation
//! in [`Router::find`].
//!
//! The tables narrow a request down by host, then by path; only the routes at those places are asked for their other
//! conditions. So many routes cost about as much as few, as long as they differ in host or path. An explicit priority
//! crosses hosts and paths, hence every place is visited and the best precedence is kept;
//! but places and routes that can't beat what is already found are passed over.

mod condition;
#[cfg(test)]
mod naive;
mod precedence;
#[cfg(test)]
mod shadowed;
mod table;
pub mod why;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use waypost_config::Route;
use waypost_config::value::HostPattern;

use condition::Plan;
use precedence::{HostRank, Precedence};
use table::{PathTable, Search};

/// The routes of one listener, compiled.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, PathTable>,
    /// By what follows the wildcard's dot.
    wildcard: HashMap<Box<str>, PathTable>,
    any: PathTable,
}

/// What the router looks at.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// Lower case, without port; empty when the request has none.
    pub host: &'a str,
    /// In its [normal form](crate::path::normalise).
    pub path: &'a str,
    /// Without its question mark, as it was sent.
    pub query: Option<&'a str>,
    /// Compared as it is: `HEAD` is not `GET`.
    pub method: &'a http::Method,
    /// All fields of the request.
    pub headers: &'a http::HeaderMap,
    /// The client's address, through trusted proxies.
    pub client_ip: IpAddr,
}

/// A route that can't be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route {route}: {problem}")]
pub struct RouteError {
    /// The route's index, as it was given.
    pub route: usize,
    /// What is wrong with it.
    #[source]
    pub problem: RouteProblem,
}

/// What is wrong with a route.
#[derive(Debug, thiserror::Error)]
pub enum RouteProblem {
    /// Its path or prefix is one that no request can have.
    #[error("`{path}` is not a path: {source}")]
    Path {
        /// As it was written.
        path: String,
        /// Why it is none.
        source: crate::path::PathError,
    },
    /// Its regular expression compiles alone but not between anchors.
    #[error(transparent)]
    Regex(#[from] Box<regex::Error>),
    /// A header field name that is too long.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderName),
}

impl Router {
    /// Compiles the routes of one listener. The index of a route is its place in the file, and the answer of
    /// [`find`](Router::find).
    pub fn new<'a>(routes: impl IntoIterator<Item = (usize, &'a Route)>) -> Result<Router, RouteError> {
        let mut built = Router::default();
        for (index, route) in routes {
            built.insert(index, route).map_err(|problem| RouteError { route: index, problem })?;
        }
        Ok(built)
    }

    /// Index of the route that the request belongs to.
    pub fn find(&self, request: &Lookup<'_>) -> Option<usize> {
        let host = canonical(request.host);
        let mut search = Search::new(request);
        let exact = self.exact.get(host);
        let wildcard = parent(host).and_then(|parent| self.wildcard.get(parent));
        for table in exact.into_iter().chain(wildcard).chain([&self.any]) {
            table.visit(&mut search);
        }
        search.found()
    }

    fn insert(&mut self, index: usize, route: &Route) -> Result<(), RouteProblem> {
        let plan = Plan::of(route)?;
        let under = |host| Precedence {
            priority: route.priority,
            host,
            path: plan.path,
            conditions: plan.weight,
            route: Reverse(index),
        };
        if route.hosts.is_empty() {
            self.any.insert(&plan, under(HostRank::Any));
        }
        for host in &route.hosts {
            let (table, rank) = match host {
                HostPattern::Exact(name) => (self.exact.entry(canonical(name).into()).or_default(), HostRank::Exact),
                HostPattern::Wildcard(parent) => {
                    (self.wildcard.entry(parent.as_str().into()).or_default(), HostRank::Wildcard)
                }
            };
            table.insert(&plan, under(rank));
        }
        Ok(())
    }
}

/// Without the brackets of an IPv6 address, and without the dot that ends a fully qualified name.
fn canonical(host: &str) -> &str {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.unwrap_or_else(|| host.strip_suffix('.').unwrap_or(host))
}

/// What follows the first label, if there is one.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use http::{HeaderMap, Method, Uri};
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn route(mut conditions: Value) -> Route {
        conditions["service"] = json!("any");
        serde_json::from_value(conditions).unwrap()
    }

    /// Routes are `conditions` as in the config; a request is `GET http://host/path?query` with fields.
    #[track_caller]
    fn find(conditions: &[Value], request: &str, fields: &[(&'static str, &str)]) -> Option<usize> {
        let all: Vec<Route> = conditions.iter().cloned().map(route).collect();
        let router = Router::new(all.iter().enumerate()).unwrap();
        let (method, uri) = request.split_once(' ').unwrap();
        let uri: Uri = uri.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        router.find(&Lookup {
            host: uri.host().unwrap_or_default(),
            path: uri.path(),
            query: uri.query(),
            method: &method.parse::<Method>().unwrap(),
            headers: &headers,
            client_ip: "192.0.2.7".parse().unwrap(),
        })
    }

    /// One route, and whether a plain request belongs to it.
    #[track_caller]
    fn check(conditions: &Value, request: &str, expected: bool) {
        assert_eq!(find(from_ref(conditions), request, &[]).is_some(), expected, "{request} for {conditions}");
    }

    /// One route, and whether a request with these fields belongs to it.
    #[track_caller]
    fn check_fields(conditions: &Value, fields: &[(&'static str, &str)], expected: bool) {
        assert_eq!(find(from_ref(conditions), "GET http://a.example/", fields).is_some(), expected, "{fields:?}");
    }

    #[test]
    fn a_host_is_exact_or_has_one_label_more_than_its_wildcard() {
        let exact = json!({ "hosts": ["Shop.example"] });
        check(&exact, "GET http://shop.example/", true);
        check(&exact, "GET http://shop.example./", true);
        check(&exact, "GET http://www.shop.example/", false);
        check(&exact, "GET /", false);
        let wildcard = json!({ "hosts": ["*.shop.example"] });
        check(&wildcard, "GET http://www.shop.example/", true);
        check(&wildcard, "GET http://shop.example/", false);
        check(&wildcard, "GET http://a.b.shop.example/", false);
        check(&wildcard, "GET http://.shop.example/", false);
        let address = json!({ "hosts": ["::1", "192.0.2.1"] });
        check(&address, "GET http://[::1]/", true);
        check(&address, "GET http://192.0.2.1/", true);
        check(&json!({}), "GET /", true);
    }

    #[test]
    fn a_prefix_holds_by_segment() {
        for prefix in ["/api", "/api/", "/%61pi"] {
            let under = json!({ "path_prefix": prefix });
            check(&under, "GET /api", true);
            check(&under, "GET /api/", true);
            check(&under, "GET /api/x/y", true);
            check(&under, "GET /apifoo", false);
            check(&under, "GET /api%2Fx", false);
            check(&under, "GET /x/api", false);
            check(&under, "GET /", false);
        }
        check(&json!({ "path_prefix": "/" }), "GET /api", true);
        check(&json!({ "path_prefix": "/" }), "OPTIONS *", false);
        check(&json!({ "path_prefix": "/a//b" }), "GET /a//b/c", true);
        check(&json!({ "path_prefix": "/a//b" }), "GET /a/b/c", false);
    }

    #[test]
    fn a_path_and_a_regex_hold_for_the_whole_path() {
        let exact = json!({ "path": "/a/b" });
        check(&exact, "GET /a/b?c=d", true);
        check(&exact, "GET /a/b/", false);
        check(&exact, "GET /a", false);
        check(&json!({ "path": "/café" }), "GET /caf%C3%A9", true);
        let regex = json!({ "path_regex": "/v[0-9]+|/v[0-9]+/users" });
        check(&regex, "GET /v2", true);
        check(&regex, "GET /v2/users", true);
        check(&regex, "GET /x/v2", false);
        check(&regex, "GET /v2/users/7", false);
    }

    #[test]
    fn several_words_about_the_path_must_all_hold() {
        let both = json!({ "path_prefix": "/api", "path_regex": ".*\\.json" });
        check(&both, "GET /api/x.json", true);
        check(&both, "GET /api/x", false);
        check(&both, "GET /x.json", false);
        check(&json!({ "path": "/a", "path_prefix": "/b" }), "GET /a", false);
    }

    #[test]
    fn a_method_is_taken_literally() {
        let route = json!({ "methods": ["GET", "PURGE"] });
        check(&route, "GET /", true);
        check(&route, "PURGE /", true);
        check(&route, "HEAD /", false);
    }

    #[test]
    fn a_header_holds_when_any_of_its_lines_does() {
        let blue = json!({ "headers": { "X-Tenant": "blue" } });
        check_fields(&blue, &[("x-tenant", "blue")], true);
        check_fields(&blue, &[("x-tenant", "red"), ("x-tenant", "blue")], true);
        check_fields(&blue, &[("x-tenant", "Blue")], false);
        check_fields(&blue, &[("x-tenant", "red, blue")], false);
        check_fields(&blue, &[], false);
        let any = json!({ "headers": { "x-tenant": "*" } });
        check_fields(&any, &[("x-tenant", "")], true);
        check_fields(&any, &[], false);
    }

    #[test]
    fn a_cookie_is_found_in_any_cookie_field() {
        let cookie = json!({ "cookies": { "beta": "yes" } });
        check_fields(&cookie, &[("cookie", "a=b; beta=yes;c=d")], true);
        check_fields(&cookie, &[("cookie", "a=b"), ("cookie", "beta=yes")], true);
        check_fields(&cookie, &[("cookie", "beta=no; beta=yes")], true);
        check_fields(&cookie, &[("cookie", "xbeta=yes")], false);
        check_fields(&cookie, &[("cookie", "beta=yes=")], false);
        check_fields(&cookie, &[("set-cookie", "beta=yes")], false);
        check_fields(&json!({ "cookies": { "beta": "*" } }), &[("cookie", "beta")], true);
    }

    #[test]
    fn a_query_parameter_is_compared_decoded() {
        let query = json!({ "query": { "full name": "a+b" } });
        check(&query, "GET /?full%20name=a%2Bb", true);
        check(&query, "GET /?x=y&full+name=a%2bb", true);
        check(&query, "GET /?full+name=a+b", false);
        check(&query, "GET /?full+name=c&full+name=a%2Bb", true);
        check(&query, "GET /", false);
        let any = json!({ "query": { "debug": "*" } });
        check(&any, "GET /?debug", true);
        check(&any, "GET /?debug=", true);
        check(&any, "GET /?debugger=1", false);
        check(&json!({ "query": { "": "*" } }), "GET /?&", false);
    }

    #[test]
    fn a_client_must_be_in_one_of_the_networks() {
        check(&json!({ "client_ips": ["10.0.0.0/8", "192.0.2.0/24"] }), "GET /", true);
        check(&json!({ "client_ips": ["10.0.0.0/8"] }), "GET /", false);
    }

    #[test]
    fn an_explicit_priority_crosses_hosts_and_paths() {
        let routes = [
            json!({ "hosts": ["a.example"], "path": "/x", "methods": ["GET"] }),
            json!({ "hosts": ["*.example"], "path_prefix": "/", "priority": 1 }),
            json!({ "path_regex": "/x", "priority": 2 }),
            json!({ "priority": 3, "methods": ["POST"] }),
        ];
        assert_eq!(find(&routes, "GET http://a.example/x", &[]), Some(2));
        assert_eq!(find(&routes, "POST http://a.example/x", &[]), Some(3));
        assert_eq!(find(&routes, "GET http://a.example/y", &[]), Some(1));
        assert_eq!(find(&routes[..1], "GET http://a.example/x", &[]), Some(0));
    }

    #[test]
    fn a_route_that_does_not_hold_leaves_the_request_to_the_next_best() {
        let routes = [
            json!({ "hosts": ["a.example"], "path_prefix": "/api/v1", "methods": ["POST"] }),
            json!({ "hosts": ["a.example"], "path_prefix": "/api" }),
            json!({ "path": "/api/v1" }),
        ];
        assert_eq!(find(&routes, "POST http://a.example/api/v1", &[]), Some(0));
        assert_eq!(find(&routes, "GET http://a.example/api/v1", &[]), Some(1));
        assert_eq!(find(&routes, "GET http://b.example/api/v1", &[]), Some(2));
        assert_eq!(find(&routes, "GET http://b.example/api", &[]), None);
    }

    #[test]
    fn of_equal_routes_the_first_in_the_file_wins_whatever_order_they_come_in() {
        let equal = [route(json!({ "path": "/a" })), route(json!({ "path": "/a" }))];
        let router = Router::new(equal.iter().enumerate().rev()).unwrap();
        let lookup = Lookup {
            host: "",
            path: "/a",
            query: None,
            method: &Method::GET,
            headers: &HeaderMap::new(),
            client_ip: "::1".parse().unwrap(),
        };
        assert_eq!(router.find(&lookup), Some(0));
    }

    #[test]
    fn a_route_that_no_request_can_reach_is_refused_with_its_index() {
        let cases = [
            (json!({ "path": "api" }), "route 1: `api` is not a path: a path begins with `/`"),
            (json!({ "path": "*" }), "route 1: `*` is not a path: a path begins with `/`"),
            (json!({ "path_prefix": "/%0a" }), "route 1: `/%0a` is not a path: control characters"),
            (json!({ "path_regex": "(?x) /a # c" }), "route 1: regex parse error"),
        ];
        for (conditions, message) in cases {
            let routes = [route(json!({})), route(conditions)];
            let error = Router::new(routes.iter().enumerate()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
