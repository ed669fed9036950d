//! Which route?
//!
//! Decides which of a listener's routes a request belongs to. Pure: no socket, no clock, no state, and no allocation
//! in [`Router::find`].
//!
//! The tables narrow a request down by host, then by path; only the routes at those places are asked for their other
//! conditions. So many routes cost about as much as few, as long as they differ in host or path. An explicit priority
//! crosses hosts and paths, hence every place is visited and the best [precedence](precedence::Precedence) is kept;
//! but places and routes that can't beat what is already found are passed over.

pub mod path;

mod condition;
mod precedence;
mod table;

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
    /// In its [normal form](path::normalise).
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
        source: path::PathError,
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
        let mut router = Router::default();
        for (index, route) in routes {
            router.insert(index, route).map_err(|problem| RouteError { route: index, problem })?;
        }
        Ok(router)
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
