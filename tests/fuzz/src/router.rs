//! Routes and requests as lines of text: the router finds what a scan of all routes finds, and a path has one form.
//!
//! `route hosts=a.example,*.example prefix=/a methods=GET header=x-t:1 query=k:1 cookie=c:* net=10.0.0.0/8 priority=1`,
//! `ask GET a.example /a?k=1 10.0.0.1 x-t:1`; what cannot be read is passed over.

mod naive;

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use waypost::path;
use waypost::router::{Lookup, Router};
use waypost_config::Route;

/// Reads `data` as routes and requests.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let routes: Vec<Route> = text.lines().filter_map(route).filter(is_good).take(24).collect();
    let tables = Router::new(routes.iter().enumerate()).expect("each of them compiles alone");
    for request in text.lines().filter_map(Asked::read).take(24) {
        let Some(path) = one_form(request.path) else { continue };
        let lookup = request.lookup(&path);
        assert_eq!(tables.find(&lookup), naive::find(&routes, &lookup), "{lookup:?} among {routes:#?}");
    }
}

/// A path in its form, as both see it.
fn one_form(path: &str) -> Option<String> {
    let form = path::normalise(path).ok().map(Cow::into_owned);
    assert_eq!(form, naive::normalise(path), "the form of {path:?}");
    form
}

/// Whether the router takes it: what it refuses has a path that no request can have.
fn is_good(route: &Route) -> bool {
    let paths = [&route.path, &route.path_prefix].into_iter().flatten();
    let good = paths.into_iter().all(|path| path.starts_with('/') && naive::normalise(path).is_some())
        && route.path_regex.as_ref().is_none_or(|regex| regex.anchored().is_ok());
    let taken = Router::new([(0, route)]).is_ok();
    assert_eq!(taken, good, "{route:#?}");
    taken
}

fn route(line: &str) -> Option<Route> {
    let mut route = json!({ "service": "any" });
    for word in line.strip_prefix("route")?.split_whitespace() {
        let (key, value) = word.split_once('=')?;
        match key {
            "hosts" | "methods" => route[key] = value.split(',').collect(),
            "net" => route["client_ips"] = value.split(',').collect(),
            "path" => route["path"] = value.into(),
            "prefix" => route["path_prefix"] = value.into(),
            // Of a long one the compilation is all that would be measured.
            "regex" => route["path_regex"] = value.get(..value.len().min(48))?.into(),
            "header" => put(&mut route["headers"], value)?,
            "query" => put(&mut route["query"], value)?,
            "cookie" => put(&mut route["cookies"], value)?,
            "priority" => route["priority"] = value.parse::<i64>().ok()?.into(),
            _ => return None,
        }
    }
    serde_json::from_value(route).ok()
}

fn put(table: &mut Value, pair: &str) -> Option<()> {
    let (name, value) = pair.split_once(':')?;
    table[name] = value.into();
    Some(())
}

/// A request.
struct Asked<'a> {
    method: Method,
    host: String,
    path: &'a str,
    query: Option<&'a str>,
    client_ip: IpAddr,
    headers: HeaderMap,
}

impl Asked<'_> {
    fn read(line: &str) -> Option<Asked<'_>> {
        let mut words = line.strip_prefix("ask ")?.split(' ');
        let (method, host, target) = (words.next()?, words.next()?, words.next()?);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let client_ip = words.next()?.parse().ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in words.filter_map(|field| field.split_once(':')) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Asked { method, host: host.to_ascii_lowercase(), path, query, client_ip, headers })
    }

    fn lookup<'a>(&'a self, path: &'a str) -> Lookup<'a> {
        let Asked { method, host, query, client_ip, headers, .. } = self;
        Lookup { host, path, query: *query, method, headers, client_ip: *client_ip }
    }
}
