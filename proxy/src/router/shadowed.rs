//! The lint `shadowed_route` held against the router: what it calls hidden is never found, whatever is asked.

use std::path::Path;

use indexmap::IndexMap;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use waypost_config::{Config, Lint, Route};

use super::Router;
use super::naive::{requests, routes};

const AROUND: &str = "version = 1\nlisteners.web.address = '127.0.0.1:0'\nroutes.all.service = 'any'\n\
                      services.any.endpoints = [{ name = 'any-1', url = 'http://127.0.0.1:9001' }]";

/// The config of these routes, and the text that says it.
fn config(routes: Vec<Route>) -> (Config, String) {
    let mut config = parsed(AROUND).config;
    let named = routes.into_iter().enumerate().map(|(index, route)| (format!("r-{index}"), route));
    config.routes = named.collect();
    let text = toml::to_string(&config).unwrap();
    (config, text)
}

fn parsed(text: &str) -> waypost_config::Loaded {
    waypost_config::parse(text, Path::new("x.toml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The routes that no request comes to, it is said.
fn shadowed((config, text): &(Config, String)) -> Vec<usize> {
    let loaded = parsed(text);
    let warnings = loaded.warnings.iter().filter(|warning| warning.lint == Some(Lint::ShadowedRoute));
    warnings.filter_map(|warning| config.routes.get_index_of(warning.path.strip_prefix("routes.")?)).collect()
}

/// Routes as a file may have them: one word about the path, here and there in another spelling; and kin of theirs.
fn written() -> impl Strategy<Value = Vec<Route>> {
    let spelling = select(&["/a", "/a", "/a", "/%61", "/a/%2e%2e", "/b/%2E%2e/a"][..]);
    let route = |(mut route, spelling, kin): (Route, &str, usize)| {
        let respelled = |path: String| path.replacen("/a", spelling, 1);
        route.path = route.path.map(respelled);
        route.path_prefix = route.path_prefix.map(respelled);
        route.path_regex = route.path_regex.filter(|_| route.path.is_none() && route.path_prefix.is_none());
        [kin_of(&route, kin), route]
    };
    let routes = routes().prop_filter("a file has a route", |routes| !routes.is_empty());
    (routes, vec((spelling, 0..8_usize), 24)).prop_map(move |(routes, changes)| {
        let changed = routes.into_iter().zip(changes);
        changed.flat_map(|(one, (spelling, kin))| route((one, spelling, kin))).collect()
    })
}

/// Much like the route, mostly wider, mostly before it.
fn kin_of(route: &Route, kin: usize) -> Route {
    let before = Route { priority: route.priority + 1, ..route.clone() };
    match kin {
        0 => route.clone(),
        1 => Route { hosts: Vec::new(), ..before },
        2 => Route { hosts: before.hosts.iter().take(1).cloned().collect(), ..before },
        3 => Route { path: None, path_prefix: None, path_regex: None, ..before },
        4 => Route { path: None, path_prefix: Some("/a".to_owned()), path_regex: None, ..before },
        5 => Route { methods: Vec::new(), headers: IndexMap::new(), ..before },
        6 => Route { client_ips: Vec::new(), query: IndexMap::new(), cookies: IndexMap::new(), ..before },
        _ => Route { hosts: Vec::new(), ..route.clone() },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_route_that_is_called_shadowed_is_never_found(routes in written(), requests in vec(requests(), 1..64)) {
        let config = config(routes);
        let router = Router::new(config.0.routes.values().enumerate()).unwrap();
        let shadowed = shadowed(&config);
        for request in &requests {
            let found = router.find(&request.lookup());
            prop_assert!(!found.is_some_and(|index| shadowed.contains(&index)), "{:?} for {:?} of {}", found, request, config.1);
        }
    }
}

#[test]
fn among_random_routes_many_are_shadowed() {
    let mut runner = TestRunner::deterministic();
    let count = |_| shadowed(&config(written().new_tree(&mut runner).unwrap().current())).len();
    assert!((0..50).map(count).sum::<usize>() > 100);
}
