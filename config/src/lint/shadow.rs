//! Which routes are never taken? Those that another one always goes before, and that ask for no less than it does.
//!
//! Decides by the order in which the router ranks routes: priority, host, path, number of conditions, order in the
//! file. Sound, not complete: what one route hides alone is found, what several hide together is not. Looks at few pairs:
//! a route that hides another stands under the same host and path, or under wider ones.

use std::cmp::Reverse;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::asked;
use crate::value::HostPattern;
use crate::{Config, Route};

/// How many routes of one host and path are held against a route: a template may have made thousands of them.
const MOST_CANDIDATES: usize = 64;

/// The routes of a configuration, by where they are found.
pub(super) struct Shadows<'a> {
    routes: Vec<Shape<'a>>,
    by_key: HashMap<(Host<'a>, Path<'a>), Vec<usize>>,
}

/// What of a route decides whether it goes before another one.
struct Shape<'a> {
    route: &'a Route,
    /// None for all hosts, otherwise one for each.
    hosts: Vec<Host<'a>>,
    path: Path<'a>,
    /// The listeners on which requests come to it, by their number.
    listeners: Vec<usize>,
    /// How many conditions count.
    weight: usize,
    order: Reverse<usize>,
}

/// The hosts of a route, one at a time; the closest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host<'a> {
    Any,
    Wildcard(&'a str),
    Exact(&'a str),
}

/// The word of a route about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Path<'a> {
    Any,
    Regex(&'a str),
    /// Without the slash at its end.
    Prefix(&'a str),
    Exact(&'a str),
}

impl<'a> Shadows<'a> {
    pub(super) fn of(config: &'a Config) -> Shadows<'a> {
        let shapes = config.routes.values().enumerate();
        let routes: Vec<Shape<'a>> = shapes.map(|(index, route)| Shape::of(config, route, index)).collect();
        let mut by_key: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, shape) in routes.iter().enumerate() {
            for host in &shape.hosts {
                by_key.entry((*host, shape.path)).or_default().push(index);
            }
        }
        for found in by_key.values_mut() {
            found.sort_by_key(|index| Reverse((routes[*index].route.priority, routes[*index].order)));
        }
        Shadows { routes, by_key }
    }

    /// The number of each route that is never taken, and of one that goes before it.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let hidden = |(index, shape): (usize, &Shape<'a>)| Some((index, self.hider(shape)?));
        self.routes.iter().enumerate().filter_map(hidden).collect()
    }

    fn hider(&self, hidden: &Shape<'a>) -> Option<usize> {
        let (host, paths) = (*hidden.hosts.first()?, hidden.path.wider());
        let keys = host.wider().into_iter().flat_map(|host| paths.iter().map(move |path| (host, *path)));
        let candidates =
            keys.filter_map(|key| self.by_key.get(&key)).flat_map(|found| found.iter().take(MOST_CANDIDATES));
        candidates.copied().find(|index| self.routes[*index].hides(hidden))
    }
}

impl<'a> Shape<'a> {
    fn of(config: &'a Config, route: &'a Route, index: usize) -> Shape<'a> {
        let hosts = if route.hosts.is_empty() { vec![Host::Any] } else { route.hosts.iter().map(Host::of).collect() };
        let lists = usize::from(!route.methods.is_empty()) + usize::from(!route.client_ips.is_empty());
        Shape {
            route,
            hosts,
            path: Path::of(route),
            listeners: asked(config, route).map(|(index, _)| index).collect(),
            weight: lists + route.headers.len() + route.query.len() + route.cookies.len(),
            order: Reverse(index),
        }
    }

    /// Whether each request that the other one holds for comes to this one instead. That the path of this one is no
    /// narrower is known.
    fn hides(&self, other: &Shape<'_>) -> bool {
        let here = other.listeners.iter().all(|listener| self.listeners.contains(listener));
        // Requests that never come are hidden by nobody.
        here && !other.listeners.is_empty()
            && other.hosts.iter().all(|host| self.goes_before(other, *host))
            && asks_no_more(self.route, other.route)
    }

    /// Whether, for all that this host of the other one stands for, this route is worth more.
    fn goes_before(&self, other: &Shape<'_>, host: Host<'_>) -> bool {
        let wider = host.wider();
        let Some(own) = self.hosts.iter().filter(|own| wider.contains(own)).max() else { return false };
        self.worth(*own) > other.worth(host)
    }

    fn worth(&self, host: Host<'_>) -> (i64, u8, (u8, usize), usize, Reverse<usize>) {
        (self.route.priority, host.rank(), self.path.rank(), self.weight, self.order)
    }
}

impl<'a> Host<'a> {
    fn of(pattern: &'a HostPattern) -> Host<'a> {
        match pattern {
            HostPattern::Exact(name) => {
                let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                Host::Exact(address.unwrap_or(name))
            }
            HostPattern::Wildcard(parent) => Host::Wildcard(parent),
        }
    }

    /// Itself and all that stand for whatever it stands for, the closest first.
    fn wider(self) -> Vec<Host<'a>> {
        let wildcard = match self {
            Host::Exact(name) => name.split_once('.').map(|(_, parent)| Host::Wildcard(parent)),
            Host::Wildcard(_) | Host::Any => None,
        };
        let any = (self != Host::Any).then_some(Host::Any);
        [Some(self), wildcard, any].into_iter().flatten().collect()
    }

    fn rank(self) -> u8 {
        match self {
            Host::Any => 0,
            Host::Wildcard(_) => 1,
            Host::Exact(_) => 2,
        }
    }
}

impl<'a> Path<'a> {
    fn of(route: &'a Route) -> Path<'a> {
        match (&route.path, &route.path_prefix, &route.path_regex) {
            (Some(path), ..) => Path::Exact(path),
            (None, Some(prefix), _) => Path::Prefix(without_slash(prefix)),
            (None, None, Some(regex)) => Path::Regex(regex.get().as_str()),
            (None, None, None) => Path::Any,
        }
    }

    /// Itself and all that hold whenever it does.
    fn wider(self) -> Vec<Path<'a>> {
        let mut wider = vec![self];
        if let Path::Exact(path) | Path::Prefix(path) = self {
            let prefixes = prefixes(path).map(Path::Prefix);
            wider.extend(prefixes.filter(|prefix| *prefix != self));
        }
        wider.extend((self != Path::Any).then_some(Path::Any));
        wider
    }

    /// The greater, the closer; of two prefixes of one path the longer is.
    fn rank(self) -> (u8, usize) {
        match self {
            Path::Any => (0, 0),
            Path::Regex(_) => (1, 0),
            Path::Prefix(prefix) => (2, prefix.len()),
            Path::Exact(_) => (3, 0),
        }
    }
}

/// The prefixes of a path by segment, the longest first. Only the router knows how an escape is read, and `/a/%2e%2e/b`
/// does not lie under `/a`: a path with one has itself only.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let shorter = path.rmatch_indices('/').map(|(end, _)| &path[..end]);
    std::iter::once(path).chain(shorter.filter(move |_| !path.contains('%')))
}

/// `/api/` and `/api` are one prefix.
fn without_slash(prefix: &str) -> &str {
    if prefix.contains('%') { prefix } else { prefix.strip_suffix('/').unwrap_or(prefix) }
}

/// Whether the conditions beside host and path hold whenever those of the other one do.
fn asks_no_more(route: &Route, other: &Route) -> bool {
    let methods = || other.methods.iter().all(|method| route.methods.contains(method));
    let inside = |network: &ipnet::IpNet| route.client_ips.iter().any(|own| own.0.contains(network));
    let networks = || other.client_ips.iter().all(|network| inside(&network.0));
    (route.methods.is_empty() || !other.methods.is_empty() && methods())
        && (route.client_ips.is_empty() || !other.client_ips.is_empty() && networks())
        && wants_no_more(&route.headers, &other.headers)
        && wants_no_more(&route.cookies, &other.cookies)
        && wants_no_more(&route.query, &other.query)
}

fn wants_no_more<N: std::hash::Hash + Eq>(wanted: &IndexMap<N, String>, given: &IndexMap<N, String>) -> bool {
    wanted.iter().all(|(name, value)| given.get(name).is_some_and(|given| value == "*" || value == given))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Routes by their lines of TOML, in file order; the shadowed one and the one that hides it.
    fn pairs(routes: &[&str]) -> Vec<(usize, usize)> {
        let listeners = "listeners.web.address = '0.0.0.0:80'\nlisteners.other.address = '0.0.0.0:81'\n";
        let service = "services.app.endpoints = [{ name = 'app-1', url = 'http://127.0.0.1:9001' }]\n";
        let table = |(index, lines): (usize, &&str)| format!("[routes.r-{index}]\nservice = 'app'\n{lines}\n");
        let tables: String = routes.iter().enumerate().map(table).collect();
        let text = format!("version = 1\n{listeners}{service}{tables}");
        let loaded = crate::parse(&text, std::path::Path::new("x.toml"), &|_| None);
        Shadows::of(&loaded.unwrap_or_else(|problems| panic!("{problems}")).config).pairs()
    }

    #[track_caller]
    fn hidden(first: &str, second: &str) {
        assert_eq!(pairs(&[first, second]), [(1, 0)], "{first:?} hides {second:?}");
    }

    #[track_caller]
    fn open(first: &str, second: &str) {
        assert!(pairs(&[first, second]).is_empty(), "{first:?} and {second:?}");
    }

    #[test]
    fn of_two_equal_routes_the_second_is_hidden() {
        hidden("", "");
        hidden("hosts = ['a.example']", "hosts = ['A.example']");
        hidden("path_prefix = '/api/'", "path_prefix = '/api'");
        hidden("path_regex = '/a.*'", "path_regex = '/a.*'");
        hidden("headers = { a = '1', b = '2' }", "headers = { B = '2', A = '1' }");
    }

    #[test]
    fn a_wider_route_with_a_greater_priority_hides_a_closer_one() {
        hidden("priority = 1", "hosts = ['a.example']\npath = '/a'");
        hidden("priority = 1\npath_prefix = '/'", "path = '/a'");
        hidden("priority = 1\npath_prefix = '/a'", "path_prefix = '/a/b/'");
        hidden("priority = 1\nhosts = ['*.example']", "hosts = ['a.example', 'b.example']");
        hidden("priority = 1\nmethods = ['GET', 'HEAD']", "methods = ['GET']");
        hidden("priority = 1\nclient_ips = ['10.0.0.0/8']", "client_ips = ['10.1.0.0/16', '10.2.3.4']");
        hidden("priority = 1\ncookies = { c = '*' }", "cookies = { c = '1' }\nquery = { q = '1' }");
        hidden("priority = 1", "listeners = ['other']");
    }

    #[test]
    fn a_closer_route_is_not_hidden_by_a_wider_one_of_its_priority() {
        open("", "path = '/a'");
        open("hosts = ['*.example']", "hosts = ['a.example']");
        open("path_prefix = '/a'", "path_prefix = '/a/b'");
        open("path_prefix = '/a'", "path = '/a'");
        open("", "methods = ['GET']");
    }

    #[test]
    fn what_another_route_does_not_hold_for_is_not_hidden() {
        open("priority = 1\nhosts = ['a.example']", "hosts = ['a.example', 'b.example']");
        open("priority = 1\nhosts = ['*.example']", "hosts = ['example', 'a.example']");
        open("priority = 1\nhosts = ['*.example']", "hosts = ['x.a.example']");
        open("priority = 1\npath_prefix = '/a'", "path_prefix = '/ab'");
        open("priority = 1\npath_prefix = '/a'", "path = '/a/%2e%2e/b'");
        open("priority = 1\npath_prefix = '/'", "");
        open("priority = 1\npath_prefix = '/'", "path_regex = '.*'");
        open("priority = 1\nmethods = ['GET']", "");
        open("priority = 1\nmethods = ['GET']", "methods = ['GET', 'POST']");
        open("priority = 1\nclient_ips = ['10.1.0.0/16']", "client_ips = ['10.0.0.0/8']");
        open("priority = 1\nheaders = { a = '1' }", "headers = { a = '*' }");
        open("priority = 1\nlisteners = ['web']", "");
        open("priority = 1\nlisteners = ['web']", "listeners = ['other']");
    }

    #[test]
    fn order_decides_last() {
        assert_eq!(
            pairs(&["path = '/b'", "path = '/a'", "path = '/a'", "priority = 1\npath = '/a'"]),
            [(1, 3), (2, 3)]
        );
    }
}
