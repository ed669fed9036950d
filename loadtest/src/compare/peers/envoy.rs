//! Envoy, with a static config and one worker.

use serde_json::{Value, json};

use super::{Kind, Layout, Recipe, Setting, by_host};

/// Envoy from PATH.
pub(super) struct Envoy;

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

impl Recipe for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("envoy.json", config(setting).to_string())]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        let file = setting.folder.join("envoy.json").display().to_string();
        ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c", &file].map(str::to_owned).into()
    }

    fn remark(&self, kind: Kind) -> Option<&'static str> {
        (kind == Kind::Shipped).then_some("sticky by a cookie it makes and a hash ring; admin port on for the metrics")
    }

    fn bears(&self) -> f64 {
        0.4
    }
}

fn config(setting: &Setting<'_>) -> Value {
    let mut config = json!({
        "static_resources": {
            "listeners": [listener(setting, setting.plain, None), listener(setting, setting.tls, Some(tls(setting)))],
            "clusters": [cluster(setting)],
        },
    });
    if setting.layout == Layout::Shipped {
        config["admin"] = json!({ "address": address("127.0.0.1", setting.spare) });
    }
    config
}

fn address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn listener(setting: &Setting<'_>, port: u16, tls: Option<Value>) -> Value {
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connection_manager(setting),
    }] });
    if let Some(tls) = tls {
        chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls });
    }
    json!({ "name": format!("edge-{port}"), "address": address("127.0.0.1", port), "filter_chains": [chain] })
}

fn tls(setting: &Setting<'_>) -> Value {
    let file = |name: &str| json!({ "filename": setting.folder.join(name).display().to_string() });
    json!({
        "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{ "certificate_chain": file("site.pem"), "private_key": file("site.key") }],
        },
    })
}

fn connection_manager(setting: &Setting<'_>) -> Value {
    let mut manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "edge",
        "use_remote_address": true,
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": {
            "virtual_hosts": virtual_hosts(setting.layout),
            "request_headers_to_add": [
                header("X-Forwarded-Host", "%REQ(:AUTHORITY)%"),
                header("X-Forwarded-Port", "%DOWNSTREAM_LOCAL_PORT%"),
                header("X-Real-IP", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            ],
        },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
        }],
    });
    if setting.layout == Layout::Shipped {
        manager["access_log"] = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.access_loggers.file.v3.FileAccessLog"),
                "path": setting.folder.join("access.log").display().to_string(),
            },
        }]);
    }
    manager
}

fn header(name: &str, value: &str) -> Value {
    json!({ "header": { "key": name, "value": value }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
}

fn virtual_hosts(layout: Layout) -> Vec<Value> {
    let to_fleet = match layout {
        Layout::Shipped => {
            json!({ "cluster": "fleet", "hash_policy": [{ "cookie": { "name": "lb", "ttl": "3600s", "path": "/" } }] })
        }
        _ => json!({ "cluster": "fleet" }),
    };
    let host = |name: &str, routes: Vec<Value>| json!({ "name": name, "domains": [name], "routes": routes });
    if !matches!(layout, Layout::Routes(_)) {
        return vec![host("*", vec![json!({ "match": { "prefix": "/" }, "route": to_fleet })])];
    }
    let route = |path: &String| json!({ "match": { "path_separated_prefix": path }, "route": to_fleet });
    by_host(layout).iter().map(|(name, paths)| host(name, paths.iter().map(route).collect())).collect()
}

fn cluster(setting: &Setting<'_>) -> Value {
    let endpoint =
        |at: &std::net::SocketAddr| json!({ "endpoint": { "address": address(&at.ip().to_string(), at.port()) } });
    let endpoints: Vec<_> = setting.upstreams.iter().map(endpoint).collect();
    let mut cluster = json!({
        "name": "fleet",
        "connect_timeout": "1s",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }] },
        "load_assignment": { "cluster_name": "fleet", "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if setting.layout == Layout::Shipped {
        cluster["lb_policy"] = "RING_HASH".into();
        cluster["health_checks"] = json!([{
            "timeout": "1s", "interval": "1s", "unhealthy_threshold": 3, "healthy_threshold": 2,
            "http_health_check": { "path": "/health" },
        }]);
    }
    cluster
}
