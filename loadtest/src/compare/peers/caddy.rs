//! Caddy, with one core's worth of Go, no admin and no automatic HTTPS.

use serde_json::{Value, json};

use super::{Kind, Layout, Recipe, Setting, by_host};

/// Caddy from PATH.
pub(super) struct Caddy;

impl Recipe for Caddy {
    fn name(&self) -> &'static str {
        "caddy"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("caddy.json", config(setting).to_string())]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        vec!["run".into(), "--config".into(), setting.folder.join("caddy.json").display().to_string()]
    }

    fn environment(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        let folder = setting.folder.display().to_string();
        vec![
            ("GOMAXPROCS", "1".to_owned()),
            ("HOME", folder.clone()),
            ("XDG_DATA_HOME", folder.clone()),
            ("XDG_CONFIG_HOME", folder),
        ]
    }

    fn remark(&self, kind: Kind) -> Option<&'static str> {
        matches!(kind, Kind::Routes1000 | Kind::Routes10k).then_some("tries its hosts one after the other")
    }

    fn bears(&self) -> f64 {
        0.4
    }
}

fn config(setting: &Setting<'_>) -> Value {
    let file = |name: &str| setting.folder.join(name).display().to_string();
    let mut config = json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
        "apps": {
            "tls": { "certificates": { "load_files": [{ "certificate": file("site.pem"), "key": file("site.key") }] } },
            "http": { "servers": {
                "plain": server(setting, setting.plain, &["h1"]),
                "secure": server(setting, setting.tls, &["h1", "h2"]),
            } },
        },
    });
    config["apps"]["http"]["servers"]["secure"]["tls_connection_policies"] = json!([{ "default_sni": "localhost" }]);
    if setting.layout == Layout::Shipped {
        config["logging"]["logs"]["access"] = json!({
            "writer": { "output": "file", "filename": file("access.log"), "roll": false },
            "encoder": { "format": "json" },
            "include": ["http.log.access"],
        });
        config["apps"]["http"]["servers"]["metrics"] = json!({
            "listen": [format!("127.0.0.1:{}", setting.spare)],
            "automatic_https": { "disable": true },
            "routes": [{ "match": [{ "path": ["/metrics"] }], "handle": [{ "handler": "metrics" }] }],
        });
    }
    config
}

fn server(setting: &Setting<'_>, port: u16, protocols: &[&str]) -> Value {
    let mut server = json!({
        "listen": [format!("127.0.0.1:{port}")],
        "protocols": protocols,
        "automatic_https": { "disable": true },
        "routes": routes(setting),
    });
    if setting.layout == Layout::Shipped {
        server["logs"] = json!({});
        server["metrics"] = json!({});
    }
    server
}

/// Each route marks the request with its number and all end at one proxy, which keeps one pool of connections.
fn routes(setting: &Setting<'_>) -> Vec<Value> {
    let mut routes: Vec<_> = by_host(setting.layout)
        .into_iter()
        .map(|(host, paths)| {
            let path = |path: &String| {
                let mark = json!({ "handler": "vars", "route": format!("{host}{path}") });
                json!({ "group": "path", "match": [{ "path": [format!("{path}/*")] }], "handle": [mark] })
            };
            let paths: Vec<_> = paths.iter().map(path).collect();
            let inner = json!({ "handler": "subroute", "routes": paths });
            json!({ "group": "host", "match": [{ "host": [host] }], "handle": [inner] })
        })
        .collect();
    routes.push(json!({ "handle": [proxy(setting)] }));
    routes
}

fn proxy(setting: &Setting<'_>) -> Value {
    let upstreams: Vec<_> = setting.upstreams.iter().map(|at| json!({ "dial": at.to_string() })).collect();
    let mut proxy = json!({
        "handler": "reverse_proxy",
        "upstreams": upstreams,
        "load_balancing": { "selection_policy": { "policy": "round_robin" } },
        "headers": { "request": { "set": {
            "X-Forwarded-Port": ["{http.request.port}"],
            "X-Real-Ip": ["{http.request.remote.host}"],
            "X-Request-Id": ["{http.request.uuid}"],
        } } },
        "transport": { "protocol": "http", "keep_alive": { "enabled": true, "max_idle_conns_per_host": 128 } },
    });
    if setting.layout == Layout::Shipped {
        proxy["load_balancing"]["selection_policy"] = json!({ "policy": "cookie", "name": "lb" });
        proxy["health_checks"] = json!({ "active": { "uri": "/health", "interval": "1s", "timeout": "1s" } });
    }
    proxy
}
