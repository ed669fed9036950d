//! What stands on the page under Traefik's names.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use waypost_config::telemetry as config;

use super::*;
use crate::telemetry::metrics::{Finished, Health, ReloadResult, RouteMetrics};

const TLS: Option<Session> = Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256"));

fn wanted() -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.follow(&config::Metrics { traefik_names: true });
    metrics
}

fn finish(route: &RouteMetrics, (method, status): (&str, u16), manner: Manner) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = Finished { method: &method, status, elapsed: Duration::from_millis(400), bytes_in: 7, bytes_out: 11 };
    route.begin();
    route.finish(&request);
    route.tell_apart(&request, &manner);
}

fn http(millis: u64) -> Manner {
    Manner { protocol: Protocol::Http, tls: None, latency: Some(Duration::from_millis(millis)) }
}

/// The lines of the page with Traefik's names.
fn lines(metrics: &Metrics) -> Vec<String> {
    metrics.encode().lines().filter(|line| line.starts_with("traefik_")).map(str::to_owned).collect()
}

#[track_caller]
fn check(metrics: &Metrics, expected: &[&str]) {
    let lines = lines(metrics);
    for expected in expected {
        assert!(lines.iter().any(|line| line == expected), "no {expected} in\n{}", lines.join("\n"));
    }
}

#[test]
fn request_is_counted_for_listener_route_and_service() {
    let metrics = wanted();
    let route = metrics.route("web", "shop", "app");
    finish(&route, ("POST", 201), http(400));
    check(
        &metrics,
        &[
            r#"traefik_entrypoint_requests_total{code="201",method="POST",protocol="http",entrypoint="web"} 1"#,
            r#"traefik_router_requests_total{code="201",method="POST",protocol="http",router="shop@file",service="app@file"} 1"#,
            r#"traefik_service_requests_total{code="201",method="POST",protocol="http",service="app@file"} 1"#,
            r#"traefik_service_requests_bytes_total{code="201",method="POST",protocol="http",service="app@file"} 7"#,
            r#"traefik_service_responses_bytes_total{code="201",method="POST",protocol="http",service="app@file"} 11"#,
        ],
    );
}

#[test]
fn histograms_have_traefiks_buckets() {
    let metrics = wanted();
    let route = metrics.route("web", "shop", "app");
    for millis in [100, 300, 301, 1_200, 4_000, 6_000] {
        finish(&route, ("GET", 200), http(millis));
    }
    let of = |ending: &str| {
        let labels = r#"code="200",method="GET",protocol="http",service="app@file""#;
        let bucket =
            |bound: &str| format!("traefik_service_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}}");
        ending.split_once(' ').map(|(bound, count)| format!("{} {count}", bucket(bound))).unwrap()
    };
    let expected = ["0.1 1", "0.3 2", "1.2 4", "5 5", "+Inf 6"].map(of);
    check(&metrics, &expected.each_ref().map(String::as_str));
    assert_eq!(
        lines(&metrics).iter().filter(|line| line.starts_with("traefik_service_") && line.contains("le=")).count(),
        5
    );
    check(
        &metrics,
        &[
            r#"traefik_service_request_duration_seconds_sum{code="200",method="GET",protocol="http",service="app@file"} 11.901"#,
        ],
    );
}

#[test]
fn tls_and_protocols_are_told_apart() {
    let metrics = wanted();
    let route = metrics.route("secure", "chat", "app");
    finish(&route, ("GET", 101), Manner { protocol: Protocol::WebSocket, tls: TLS, latency: None });
    check(
        &metrics,
        &[
            r#"traefik_entrypoint_requests_total{code="101",method="GET",protocol="websocket",entrypoint="secure"} 1"#,
            r#"traefik_service_requests_tls_total{tls_version="1.3",tls_cipher="TLS_AES_128_GCM_SHA256",service="app@file"} 1"#,
        ],
    );
    assert!(!lines(&metrics).iter().any(|line| line.contains("duration")), "a lifetime is no latency");
}

#[test]
fn request_without_a_route_is_its_listeners_alone() {
    let metrics = wanted();
    let unrouted = metrics.route("web", "", "");
    finish(&unrouted, ("BREW", 404), http(1));
    let expected =
        r#"traefik_entrypoint_requests_total{code="404",method="EXTENSION_METHOD",protocol="http",entrypoint="web"} 1"#;
    check(&metrics, &[expected]);
    assert!(!lines(&metrics).iter().any(|line| line.contains("router") || line.contains("service")));
}

#[test]
fn counters_of_what_remains_never_fall_when_a_route_goes() {
    let metrics = wanted();
    let (stays, goes) = (metrics.route("web", "a", "app"), metrics.route("web", "b", "app"));
    for route in [&stays, &goes] {
        finish(route, ("GET", 200), http(1));
    }
    let of = |name: &str| format!("traefik_{name}_requests_total{{code=\"200\",method=\"GET\",protocol=\"http\",");
    let (web, app) = (of("entrypoint") + "entrypoint=\"web\"} 2", of("service") + "service=\"app@file\"} 2");
    check(&metrics, &[&web, &app]);
    drop(goes);
    check(&metrics, &[&web, &app]);
    assert!(!lines(&metrics).iter().any(|line| line.contains("b@file")));
}

#[test]
fn listeners_endpoints_retries_certificates_and_configs_are_told() {
    let metrics = wanted();
    let listener = metrics.listener("web");
    listener.connections_open.set(3);
    let service = metrics.service("app");
    service.retried("connect_failed");
    service.retried("timeout");
    let (one, two) = (metrics.endpoint("app", "app-1"), metrics.endpoint("app", "app-2"));
    for (endpoint, port, health) in [(&one, 1, Health::Up), (&two, 2, Health::Down)] {
        endpoint.at(format!("http://10.0.0.1:{port}"));
        endpoint.health(health);
    }
    let certificates = ["web", "secure"].map(|listener| metrics.certificate(listener, "CN=shop.example", "0a:ff"));
    for certificate in &certificates {
        certificate.not_after.set(2_000_000_000);
        let names = CertificateNames {
            common: "shop.example".to_owned(),
            serial: "2815".to_owned(),
            hosts: "*.shop.example,shop.example".to_owned(),
        };
        certificate.names.set(names).unwrap();
    }
    metrics.config_generation.set(4);
    metrics.reloaded(ReloadResult::Applied);
    metrics.families.config_timestamp.cell(&[]).set(1_800_000_000);
    assert_eq!(
        lines(&metrics),
        [
            "traefik_config_reloads_total 4",
            "traefik_config_last_reload_success 1800000000",
            r#"traefik_open_connections{entrypoint="web",protocol="TCP"} 3"#,
            r#"traefik_tls_certs_not_after{cn="shop.example",serial="2815",sans="*.shop.example,shop.example"} 2000000000"#,
            r#"traefik_service_retries_total{service="app@file"} 2"#,
            r#"traefik_service_server_up{service="app@file",url="http://10.0.0.1:1"} 1"#,
            r#"traefik_service_server_up{service="app@file",url="http://10.0.0.1:2"} 0"#,
        ]
    );
}

#[test]
fn without_the_key_there_is_none_of_it() {
    let metrics = wanted();
    let listener = metrics.listener("web");
    assert!(!lines(&metrics).is_empty());
    metrics.follow(&config::Metrics::default());
    assert_eq!(lines(&metrics), [""; 0]);
    drop(listener);
}

#[test]
fn every_definition_is_exported_under_its_name() {
    let metrics = wanted();
    let route = metrics.route("web", "shop", "app");
    finish(&route, ("GET", 200), Manner { tls: TLS, ..http(1) });
    let (_listener, _service, endpoint) =
        (metrics.listener("web"), metrics.service("app"), metrics.endpoint("app", "1"));
    endpoint.at("http://10.0.0.1:1".to_owned());
    let certificate = metrics.certificate("web", "CN=shop.example", "0a");
    let names = CertificateNames { common: String::new(), serial: String::new(), hosts: String::new() };
    certificate.names.set(names).unwrap();
    let page = metrics.encode();
    for Definition { name, kind, labels, .. } in definitions() {
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        let suffix = if *kind == "histogram" { "_count" } else { "" };
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{suffix}"))).unwrap();
        let shown: Vec<&str> = line.split([',', '{']).filter_map(|part| Some(part.split_once("=\"")?.0)).collect();
        assert_eq!(shown, *labels, "{name}");
    }
}
