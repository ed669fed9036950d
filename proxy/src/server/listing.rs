//! Listeners with their certificates, and routes with their conditions, as the admin API lists them.
//!
//! Owns the words for a route's conditions. Reads one snapshot and the open sockets.

use std::fmt::Display;

use super::Process;
use crate::admin::{CertificateView, ListenerView, RouteView};
use crate::snapshot::Snapshot;
use crate::telemetry::timestamp::Timestamp;
use crate::tls::CertificateInfo;

/// Every listener, in the order of the file.
pub(super) fn listeners(process: &Process) -> Vec<ListenerView> {
    let (snapshot, addresses, inside) =
        (process.shared.snapshot.load(), process.edge.addresses(), process.edge.inside());
    let view = |(name, listener): (&String, &waypost_config::Listener)| ListenerView {
        name: name.clone(),
        address: addresses.get(name.as_str()).copied().unwrap_or(listener.address),
        tls: listener.tls.is_some(),
        redirect_https: listener.redirect_https,
        proxy_protocol: listener.proxy_protocol,
        connections: inside.get(name.as_str()).copied().unwrap_or_default(),
        max_connections: listener.max_connections,
        certificates: certificates(&snapshot, name),
    };
    snapshot.config.listeners.iter().map(view).collect()
}

fn certificates(snapshot: &Snapshot, listener: &str) -> Vec<CertificateView> {
    let tls = snapshot.listeners.get(listener).and_then(|view| view.tls.as_ref());
    tls.map(|tls| tls.store.certificates().into_iter().map(certificate).collect()).unwrap_or_default()
}

fn certificate(info: CertificateInfo) -> CertificateView {
    CertificateView {
        file: info.cert.display().to_string(),
        subject: info.subject,
        names: info.names,
        serial: info.serial,
        not_before: Timestamp(info.not_before),
        not_after: Timestamp(info.not_after),
    }
}

/// Every route, in the order of the file.
pub(super) fn routes(snapshot: &Snapshot) -> Vec<RouteView> {
    let listeners = |route: &waypost_config::Route| {
        snapshot.config.listeners.keys().filter(|name| route.is_on(name)).cloned().collect()
    };
    let view = |(name, route): (&String, &waypost_config::Route)| RouteView {
        name: name.clone(),
        listeners: listeners(route),
        when: conditions(route),
        priority: route.priority,
        middlewares: route.middlewares.clone(),
        service: route.service.clone(),
    };
    snapshot.config.routes.iter().map(view).collect()
}

/// What must hold for a request to belong to it, one phrase each, in the order in which `explain` asks.
fn conditions(route: &waypost_config::Route) -> Vec<String> {
    let pairs = |kind: &str, name: &dyn Display, value: &str| match value {
        "*" => format!("{kind} {name}"),
        value => format!("{kind} {name} = {value}"),
    };
    let path = [("path", &route.path), ("path below", &route.path_prefix)];
    let path = path.into_iter().filter_map(|(what, path)| path.as_ref().map(|path| format!("{what} {path}")));
    let one_of = [any("host", &route.hosts), any("method", &route.methods), any("client", &route.client_ips)];
    let [host, method, client] = one_of;
    let headers = route.headers.iter().map(|(name, value)| pairs("header", name, value));
    let query = route.query.iter().map(|(name, value)| pairs("parameter", name, value));
    let cookies = route.cookies.iter().map(|(name, value)| pairs("cookie", name, value));
    let regex = route.path_regex.iter().map(|regex| format!("path like {regex}"));
    host.into_iter()
        .chain(path)
        .chain(regex)
        .chain(method)
        .chain(headers)
        .chain(query)
        .chain(cookies)
        .chain(client)
        .collect()
}

fn any(what: &str, alternatives: &[impl Display]) -> Option<String> {
    let words: Vec<_> = alternatives.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| format!("{what} {}", words.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let route: waypost_config::Route = toml::from_str(&format!("service = \"shop\"\n{keys}")).unwrap();
        assert_eq!(conditions(&route), expected);
    }

    #[test]
    fn conditions_are_said_in_words() {
        check("", &[]);
        check(
            r#"hosts = ["shop.example", "*.shop.example"]
            path_prefix = "/api"
            methods = ["GET", "POST"]
            client_ips = ["10.0.0.0/8"]"#,
            &["host shop.example or *.shop.example", "path below /api", "method GET or POST", "client 10.0.0.0/8"],
        );
        check(
            r#"path = "/cart"
            headers = { x-tenant = "blue" }
            query = { debug = "*" }
            cookies = { beta = "yes" }"#,
            &["path /cart", "header x-tenant = blue", "parameter debug", "cookie beta = yes"],
        );
        check(r#"path_regex = "/v[0-9]+""#, &["path like /v[0-9]+"]);
    }
}
