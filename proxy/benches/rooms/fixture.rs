//! What the benches have in common: two request heads, a client's connection, a generation of a config.

use std::sync::Arc;
use std::time::Instant;

use criterion::BatchSize;
use http::{HeaderValue, Request, request};
use waypost::context::RequestContext;
use waypost::downstream::{Activity, Downstream};
use waypost::drain::Lifecycle;
use waypost::snapshot::{Before, Ground, Snapshot, compile};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::sticky::ProcessKey;

/// So few heads made at once that they stay in the cache, as they do between two rooms.
pub(super) const FEW: BatchSize = BatchSize::NumIterations(16);

/// A browser's request for a page.
pub(super) fn browser() -> request::Parts {
    let fields = [
        ("host", "shop.example"),
        ("connection", "keep-alive"),
        ("sec-ch-ua", r#""Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99""#),
        ("sec-ch-ua-mobile", "?0"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("referer", "https://shop.example/catalogue"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
        ("cookie", "session=6f1c0f2b9a; theme=dark; consent=1"),
    ];
    head("/catalogue/shoes/running?page=2", &fields)
}

/// A load generator's request.
pub(super) fn tiny() -> request::Parts {
    head("/", &[("host", "127.0.0.1:8080"), ("accept", "*/*")])
}

/// The head of a request for `target` with these fields.
pub(super) fn head(target: &str, fields: &[(&'static str, &str)]) -> request::Parts {
    let builder = fields.iter().fold(Request::get(target), |builder, (name, value)| builder.header(*name, *value));
    builder.body(()).expect("the benches' heads are valid").into_parts().0
}

/// A connection from 192.0.2.7 in plain text.
pub(super) fn downstream() -> Arc<Downstream> {
    Arc::new(Downstream {
        listener: "web".into(),
        peer: "192.0.2.7:40000".parse().expect("a socket address"),
        local: "192.0.2.1:80".parse().expect("a socket address"),
        tls: None,
        certificates: None,
        peer_ip: HeaderValue::from_static("192.0.2.7"),
        local_port: HeaderValue::from_static("80"),
        tls_log: None,
        activity: Activity::new(Instant::now()),
        lifecycle: Lifecycle::new(),
    })
}

/// The context of a request over that connection.
pub(super) fn context(head: &request::Parts) -> RequestContext {
    let host = head.headers["host"].to_str().expect("a host is ASCII");
    RequestContext::identify(&downstream(), head, host, &[])
}

/// The generation that this config becomes: one listener, one route to one service `app`, which `service` (lines of
/// TOML) says more about.
pub(super) fn snapshot(service: &str) -> Snapshot {
    let text = format!(
        "version = 1\n[listeners.web]\naddress = \"127.0.0.1:8080\"\n[routes.all]\nservice = \"app\"\n\
         [services.app]\n{service}\n"
    );
    let config =
        waypost_config::parse(&text, "waypost.toml".as_ref(), &|_| None).expect("the benches' configs are valid");
    let ground = Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers: 2 };
    compile(config.config, Before::default(), &ground).expect("what is valid compiles")
}

/// `endpoints = […]` with so many of them.
pub(super) fn endpoints(count: usize) -> String {
    let endpoint = |index: usize| format!("{{ name = \"app-{index}\", url = \"http://127.0.0.1:{}\" }}", 9000 + index);
    format!("endpoints = [{}]", (0..count).map(endpoint).collect::<Vec<_>>().join(", "))
}
