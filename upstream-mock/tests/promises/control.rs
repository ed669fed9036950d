//! The control port does what the library does.

use http::StatusCode;
use http_body_util::Full;
use serde_json::json;
use upstream_mock::{Fault, Fleet};

use crate::client::{Answer, fleet, get, h1, read, request, send};

async fn control(fleet: &Fleet, method: &str, path: &str) -> Answer {
    let asked = request(method, path).body(Full::default()).unwrap();
    let mut sender = h1(fleet.control_address().unwrap()).await;
    read(sender.send_request(asked).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn containers_are_listed_as_they_are() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    get(web1, "/").await;
    let listed = control(&fleet, "GET", "/containers").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(listed[0]["name"], "web-1");
    assert_eq!(listed[0]["address"], web1.address().to_string());
    assert_eq!(listed[0]["listening"], true);
    assert_eq!(listed[0]["health"], json!({ "status": 200, "delay_ms": 0 }));
    assert_eq!(listed[0]["fault"], json!(null));
    assert_eq!(listed[0]["requests"], 1);
    assert_eq!(control(&fleet, "GET", "/containers/web-2").await.json(), listed[1]);
}

#[tokio::test]
async fn control_crashes_and_recovers() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    for action in ["crash", "refuse"] {
        let after = control(&fleet, "POST", &format!("/containers/web-2/{action}")).await.json();
        assert_eq!(after["listening"], false);
        assert!(!web2.is_listening());
        let after = control(&fleet, "POST", "/containers/web-2/recover").await.json();
        assert_eq!(after["listening"], true);
        get(web2, "/").await;
    }
}

#[tokio::test]
async fn control_sets_and_clears_faults() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    for (query, fault) in [
        ("kind=hang", "hang"),
        ("kind=slow&value=500ms", "slow=500ms"),
        ("kind=status=503", "status=503"),
        ("kind=flap&value=up:1h,down:1h", "flap=up:1h,down:1h"),
    ] {
        let after = control(&fleet, "POST", &format!("/containers/web-2/fault?{query}")).await.json();
        assert_eq!(after["fault"], fault);
        assert_eq!(web2.fault(), Some(fault.parse::<Fault>().unwrap()));
    }
    control(&fleet, "DELETE", "/containers/web-2/fault").await;
    assert_eq!(web2.fault(), None);
}

#[tokio::test]
async fn control_switches_health_and_drains() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    control(&fleet, "POST", "/containers/web-2/health?status=500").await;
    assert_eq!(get(web2, "/health").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    let after = control(&fleet, "POST", "/containers/web-2/health?delay=2s").await.json();
    assert_eq!(after["health"], json!({ "status": 500, "delay_ms": 2000 }));
    control(&fleet, "POST", "/containers/web-2/recover").await;
    control(&fleet, "POST", "/containers/web-2/drain").await;
    assert_eq!(get(web2, "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn control_tells_and_forgets_executions() {
    let fleet = fleet().await;
    for (container, key) in [("web-1", "a"), ("web-1", "b"), ("web-3", "b")] {
        let asked = request("POST", "/").header("idempotency-key", key).body(Full::default()).unwrap();
        send(fleet.container(container).unwrap(), asked).await.unwrap();
    }
    let told = control(&fleet, "GET", "/executions").await.json();
    assert_eq!(told, json!({ "keys": 2, "executions": { "a": 1, "b": 2 }, "double": { "b": 2 } }));
    let told = control(&fleet, "GET", "/executions?key=b").await.json();
    assert_eq!(told, json!({ "key": "b", "executions": 2, "containers": { "web-1": 1, "web-3": 1 } }));
    control(&fleet, "POST", "/reset-counters").await;
    let told = control(&fleet, "GET", "/executions").await.json();
    assert_eq!(told, json!({ "keys": 0, "executions": {}, "double": {} }));
    assert_eq!(fleet.containers()[0].requests(), 0);
}

#[tokio::test]
async fn control_explains_what_it_refuses() {
    let fleet = fleet().await;
    for (method, path, status, why) in [
        ("POST", "/containers/web-9/crash", 404, "no container web-9"),
        ("POST", "/containers/web-1/explode", 404, "/containers/web-2/crash"),
        ("GET", "/nowhere", 404, "GET    /executions"),
        ("POST", "/containers/web-1/fault", 400, "kind is missing"),
        ("POST", "/containers/web-1/fault?kind=explode", 400, "`explode` is no fault"),
        ("POST", "/containers/web-1/health?status=9", 400, "status is no status"),
        ("POST", "/containers/web-1/health?delay=soon", 400, "delay is no time"),
    ] {
        let refused = control(&fleet, method, path).await;
        assert_eq!(refused.status, status, "{path}");
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(why), "{path}: {error}");
    }
}
