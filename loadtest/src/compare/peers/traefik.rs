//! Traefik, with one core's worth of Go, configured by files.
//!
//! Its YAML files are written as JSON, which is YAML too.

use serde_json::{Map, Value, json};

use super::{Kind, Layout, Recipe, Setting, WAYPOST_ONLY};

/// Traefik from PATH.
pub(super) struct Traefik;

impl Recipe for Traefik {
    fn name(&self) -> &'static str {
        "traefik"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("traefik.yml", fixed(setting).to_string()), ("dynamic.yml", dynamic(setting).to_string())]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        vec![format!("--configFile={}", setting.folder.join("traefik.yml").display())]
    }

    fn environment(&self, _setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("GOMAXPROCS", "1".to_owned())]
    }

    fn excuse(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            kind if kind.is_of_waypost() => Some(WAYPOST_ONLY),
            Kind::Routes10k => Some("tries its rules one after the other and does not bear the rate"),
            _ => None,
        }
    }

    fn remark(&self, kind: Kind) -> Option<&'static str> {
        (kind == Kind::H1Small).then_some("sends no X-Request-Id")
    }

    fn bears(&self) -> f64 {
        0.4
    }
}

/// What it reads once.
fn fixed(setting: &Setting<'_>) -> Value {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let file = |name: &str| setting.folder.join(name).display().to_string();
    let mut fixed = json!({
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
        "log": { "level": "ERROR" },
        "entryPoints": { "web": { "address": at(setting.plain) }, "websecure": { "address": at(setting.tls) } },
        "providers": { "file": { "filename": file("dynamic.yml"), "watch": false } },
        "serversTransport": { "maxIdleConnsPerHost": 256 },
    });
    if setting.layout == Layout::Shipped {
        fixed["entryPoints"]["metrics"] = json!({ "address": at(setting.spare) });
        fixed["metrics"] = json!({ "prometheus": { "entryPoint": "metrics" } });
        fixed["accessLog"] = json!({ "filePath": file("access.log"), "format": "json", "bufferingSize": 100 });
    }
    fixed
}

/// What it could reload.
fn dynamic(setting: &Setting<'_>) -> Value {
    let file = |name: &str| setting.folder.join(name).display().to_string();
    let servers: Vec<_> = setting.upstreams.iter().map(|at| json!({ "url": format!("http://{at}") })).collect();
    let mut balancer = json!({ "servers": servers });
    if setting.layout == Layout::Shipped {
        balancer["sticky"] = json!({ "cookie": { "name": "lb", "httpOnly": true } });
        balancer["healthCheck"] = json!({ "path": "/health", "interval": "1s", "timeout": "1s" });
    }
    json!({
        "http": { "routers": routers(setting.layout), "services": { "fleet": { "loadBalancer": balancer } } },
        "tls": { "stores": { "default": { "defaultCertificate": {
            "certFile": file("site.pem"), "keyFile": file("site.key"),
        } } } },
    })
}

fn routers(layout: Layout) -> Map<String, Value> {
    let router = |rule: String| json!({ "rule": rule, "service": "fleet", "entryPoints": ["web"] });
    if !matches!(layout, Layout::Routes(_)) {
        let mut secure = router("PathPrefix(`/`)".to_owned());
        secure["entryPoints"] = json!(["websecure"]);
        secure["tls"] = json!({});
        return [("all".to_owned(), router("PathPrefix(`/`)".to_owned())), ("secure".to_owned(), secure)]
            .into_iter()
            .collect();
    }
    let rule = |(host, path): (String, String)| format!("Host(`{host}`) && PathPrefix(`{path}`)");
    layout.routes().enumerate().map(|(n, route)| (format!("r{n}"), router(rule(route)))).collect()
}
