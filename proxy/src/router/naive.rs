//! The router held against a scan that could hardly be wrong: try every route, sort the ones that match.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;
use waypost_config::Route;
use waypost_config::value::HostPattern;

use super::tests::route;
use super::why::{Verdict, verdicts};
use super::{Lookup, Router};

const HOSTS: [&str; 5] = ["a.example", "b.example", "*.example", "x.a.example", "*.a.example"];
const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b"];
const REGEXES: [&str; 4] = ["/a.*", "/[ab]", ".*/b", "/a|/a/b"];

#[derive(Debug, Clone)]
pub(super) struct Request {
    host: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    method: Method,
    headers: HeaderMap,
    client_ip: IpAddr,
}

impl Request {
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup {
            host: self.host,
            path: self.path,
            query: self.query,
            method: &self.method,
            headers: &self.headers,
            client_ip: self.client_ip,
        }
    }
}

pub(super) fn requests() -> impl Strategy<Value = Request> {
    let hosts = select(&["", "a.example", "b.example", "c.example", "x.a.example", "y.a.example", "z.x.a.example"][..]);
    let paths = select(&["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d", "/ab", "/b", "/c", "//a", "*"][..]);
    let queries = select(&[None, Some("k=1"), Some("k=2"), Some("j=1&k=1"), Some("k")][..]);
    let methods = select(vec![Method::GET, Method::POST, Method::HEAD]);
    let headers = vec(select(&[("x-t", "1"), ("x-t", "2"), ("cookie", "c=1"), ("cookie", "d=1; c=2")][..]), 0..3);
    let clients = select(&["10.0.0.1", "10.1.0.1", "::1"][..]);
    (hosts, paths, queries, methods, headers, clients).prop_map(|(host, path, query, method, fields, client)| {
        let headers = fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value): (http::HeaderName, http::HeaderValue)| _ = map.append(name, value));
        Request { host, path, query, method, headers: map, client_ip: client.parse().unwrap() }
    })
}

pub(super) fn routes() -> impl Strategy<Value = Vec<Route>> {
    let hosts = prop_oneof![Just(vec![]), subsequence(&HOSTS[..], 1..3)];
    let path = prop_oneof![
        2 => Just(json!({})),
        4 => select(&PATHS[..]).prop_map(|path| json!({ "path_prefix": path })),
        2 => select(&PATHS[..]).prop_map(|path| json!({ "path": path })),
        2 => select(&REGEXES[..]).prop_map(|regex| json!({ "path_regex": regex })),
        1 => (select(&PATHS[..]), select(&REGEXES[..]))
            .prop_map(|(path, regex)| json!({ "path_prefix": path, "path_regex": regex })),
    ];
    let priority = prop_oneof![4 => Just(0), 1 => -1..3_i64];
    let conditions = subsequence(
        vec![
            ("methods", json!(["GET", "POST"])),
            ("headers", json!({ "x-t": "1" })),
            ("query", json!({ "k": "1" })),
            ("cookies", json!({ "c": "*" })),
            ("client_ips", json!(["10.0.0.0/16"])),
        ],
        0..3,
    );
    let route = (hosts, path, priority, conditions).prop_map(|(hosts, mut all, priority, conditions)| {
        all["hosts"] = json!(hosts);
        all["priority"] = json!(priority);
        for (key, value) in conditions {
            all[key] = value;
        }
        route(all)
    });
    vec(route, 0..24)
}

fn naive(routes: &[Route], request: &Request) -> Option<usize> {
    let ranked = routes.iter().enumerate().filter_map(|(index, route)| {
        let host = host_rank(route, request.host)?;
        holds(route, request).then(|| (-route.priority, -host, path_rank(route), -weight(route), index))
    });
    ranked.min().map(|(.., index)| index)
}

fn host_rank(route: &Route, host: &str) -> Option<i64> {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(2),
        HostPattern::Wildcard(parent) => {
            let label = host.strip_suffix(parent.as_str()).and_then(|rest| rest.strip_suffix('.'))?;
            (!label.is_empty() && !label.contains('.')).then_some(1)
        }
    };
    if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(rank).max() }
}

/// The smaller, the closer: an exact path, then longer prefixes first, then a regex, then nothing.
fn path_rank(route: &Route) -> (u8, usize) {
    match (&route.path, &route.path_prefix, &route.path_regex) {
        (Some(_), ..) => (0, 0),
        (None, Some(prefix), _) => (1, usize::MAX - prefix.trim_end_matches('/').len()),
        (None, None, Some(_)) => (2, 0),
        (None, None, None) => (3, 0),
    }
}

fn weight(route: &Route) -> i64 {
    let lists = [!route.methods.is_empty(), !route.client_ips.is_empty()];
    let given = lists.iter().filter(|given| **given).count();
    i64::try_from(given + route.headers.len() + route.query.len() + route.cookies.len()).unwrap()
}

fn holds(route: &Route, request: &Request) -> bool {
    let path = request.path;
    let text = |name: &str| request.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
    let under = |prefix: &String| format!("{path}/").starts_with(&format!("{}/", prefix.trim_end_matches('/')));
    let whole = |regex: &str| regex::Regex::new(&format!("\\A(?:{regex})\\z")).unwrap().is_match(path);
    route.path.as_ref().is_none_or(|exact| exact == path)
        && route.path_prefix.as_ref().is_none_or(under)
        && (route.methods.is_empty() || route.methods.iter().any(|method| method.as_str() == request.method))
        && (route.client_ips.is_empty() || route.client_ips.iter().any(|network| network.contains(request.client_ip)))
        && route.headers.iter().all(|(name, value)| text(name.as_str()).any(|sent| sent == *value))
        && route.query.keys().all(|_| request.query.is_some_and(|query| query.split('&').any(|pair| pair == "k=1")))
        && route.cookies.keys().all(|_| text("cookie").any(|sent| sent.contains("c=")))
        && route.path_regex.as_ref().is_none_or(|regex| whole(regex.get().as_str()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_router_finds_what_a_scan_of_all_routes_finds(routes in routes(), requests in vec(requests(), 1..16)) {
        let router = Router::new(routes.iter().enumerate()).unwrap();
        for request in &requests {
            let found = router.find(&request.lookup());
            prop_assert_eq!(found, naive(&routes, request), "{:?}", request);
            let told = verdicts(&routes.iter().collect::<Vec<_>>(), &request.lookup()).unwrap();
            prop_assert_eq!(found, told.iter().position(|verdict| *verdict == Verdict::Taken), "{:?}", request);
        }
    }
}
