//! The admin API before a running Waypost: what it tells, what it does, and for whom.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use http::{Method, StatusCode};
use serde_json::Value;
use waypost_tests::client::{self, Reply};
use waypost_tests::{Connection, Stack, eventually, raw};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    token = "open sesame, please"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
"#;

type Fields<'a> = &'a [(&'static str, &'a str)];

async fn ask_with(stack: &Stack, method: Method, path: &str, headers: Fields<'_>) -> Reply {
    let request = written(method.as_str(), path, &[&[("host", "localhost")], headers].concat());
    client::send(stack.waypost.admin_address().expect("admin is open"), request).await.unwrap()
}

/// Each field at most once, the last one.
fn written(method: &str, path: &str, headers: Fields<'_>) -> client::Request {
    let mut request = client::request(method, path, "");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn get(stack: &Stack, path: &str) -> Reply {
    ask_with(stack, Method::GET, path, &[]).await
}

async fn post(stack: &Stack, path: &str) -> Reply {
    ask_with(stack, Method::POST, path, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_how_it_is_going() {
    let stack = Stack::start(CONFIG).await;
    assert_eq!(get(&stack, "/ping").await.text(), "pong\n");
    let ready = get(&stack, "/ready").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (StatusCode::OK, &true.into()));
    let metrics = get(&stack, "/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"), "{metrics:?}");
    assert!(metrics.text().contains("\nwaypost_config_generation 1\n"));
    assert!(metrics.text().contains("\nprocess_resident_memory_bytes "));
    assert_eq!(get(&stack, "/elsewhere").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&stack, "/api/reload").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_is_shown_without_its_secrets() {
    let stack = Stack::start(CONFIG).await;
    let config = get(&stack, "/api/config").await;
    assert_eq!(config.json()["generation"], 1);
    assert_eq!(config.json()["path"], stack.config().display().to_string());
    let text = config.json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[services.shop") && text.contains("***"), "{text}");
    assert!(!config.text().contains("open sesame, please"));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_show_each_endpoint_with_its_state() {
    let stack = Stack::start(CONFIG).await;
    let services = get(&stack, "/api/services").await.json();
    assert_eq!((&services[0]["name"], &services[0]["available"]), (&"shop".into(), &2.into()));
    let endpoint = &services[0]["endpoints"][1];
    assert_eq!(
        (&endpoint["name"], &endpoint["state"], &endpoint["draining"]),
        (&"web-2".into(), &"up".into(), &false.into())
    );
    assert!(endpoint["url"].as_str().unwrap().contains(&stack.container("web-2").address().to_string()));
}

/// All that the steps of something tell of it, added up.
fn sum(columns: &Value, name: &str) -> f64 {
    columns[name].as_array().unwrap().iter().filter_map(Value::as_f64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_counts_what_was_served_and_where_it_went() {
    let stack = Stack::start(CONFIG).await;
    let mut open = Connection::http1(stack.address("web")).await;
    open.send(client::get("/")).await.unwrap();
    stack.answers(18).await;
    stack.get("/status/500").await;
    let last = get(&stack, "/api/history").await.json()["last"].as_u64().unwrap();
    let mut told;
    // The step in which the last of them was may have begun before it.
    eventually!(within 30, {
        told = get(&stack, "/api/history").await.json();
        told["last"].as_u64().unwrap() > last
    });
    let whole = sum(&told["whole"], "requests");
    // Twenty in five seconds, or in a little more where the machine was busy.
    assert!(whole > 2.0 && whole < 5.0, "{told}");
    for columns in [&told["services"]["shop"], &told["routes"]["all"]] {
        assert!((sum(columns, "requests") - whole).abs() < 0.01, "{columns}");
        assert!(sum(columns, "failed") > 0.0 && sum(columns, "p99_ms") > 0.0, "{columns}");
    }
    let endpoints = &told["endpoints"]["shop"];
    assert!((sum(&endpoints["web-1"], "requests") - whole / 2.0).abs() < 0.3, "{endpoints}");
    assert!(sum(&told["whole"]["classes"], "2xx") > 10.0 * sum(&told["whole"]["classes"], "5xx"), "{told}");
    assert_eq!(told["whole"]["connections"].as_array().unwrap().last(), Some(&1.into()), "one is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_and_routes_are_listed_as_they_are() {
    let stack = Stack::start(&CONFIG.replace("[routes.all]", "[routes.all]\n    path_prefix = \"/\"")).await;
    let _open = Connection::http1(stack.address("web")).await;
    eventually!(get(&stack, "/api/listeners").await.json()[0]["connections"] == 1);
    let listener = &get(&stack, "/api/listeners").await.json()[0];
    assert_eq!((&listener["name"], &listener["tls"]), (&"web".into(), &false.into()));
    assert_eq!(listener["address"], stack.address("web").to_string());
    let route = &get(&stack, "/api/routes").await.json()[0];
    assert_eq!((&route["name"], &route["service"]), (&"all".into(), &"shop".into()));
    assert_eq!((&route["listeners"][0], &route["when"][0]), (&"web".into(), &"path below /".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn generation_says_what_a_return_to_it_would_change_and_changes_nothing() {
    let stack = Stack::start(CONFIG).await;
    let extra = "[routes.extra]\n    path_prefix = \"/x\"\n    service = \"shop\"\n    [routes.all]";
    stack.reload(&CONFIG.replace("[routes.all]", extra)).await;
    let preview = get(&stack, "/api/generations/1/diff").await;
    assert_eq!((preview.status, &preview.json()["changes"][0]), (StatusCode::OK, &"-route extra".into()));
    assert_eq!(get(&stack, "/api/generations/2/diff").await.json()["changes"], serde_json::json!([]));
    assert_eq!(get(&stack, "/api/status").await.json()["generation"], 2);
    let missing = get(&stack, "/api/generations/9/diff").await;
    assert_eq!(missing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(missing.json()["problems"][0]["message"], "generation 9 is not kept");
}

/// A browser that shows our page says where the page is from; what comes from there may do what its reader may.
#[tokio::test(flavor = "multi_thread")]
async fn own_page_may_change_things_and_that_of_another_port_may_not() {
    let stack = Stack::start(CONFIG).await;
    let own = stack.waypost.admin_address().expect("admin is open").to_string();
    let (origin, other) = (format!("http://{own}"), "http://127.0.0.1:1".to_owned());
    for (origin, status) in [(origin, 200), (other, 403)] {
        let headers = [("host", &*own), ("origin", &*origin), ("sec-fetch-site", "same-origin")];
        let reply = ask_with(&stack, Method::POST, "/api/services/shop/endpoints/web-1/drain", &headers).await;
        assert_eq!(reply.status, status, "{origin}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_publishes_the_next_generation_and_says_what_changed() {
    let stack = Stack::start(CONFIG).await;
    stack.write(&CONFIG.replace(
        "[routes.all]\n",
        "[routes.extra]\n    path_prefix = \"/x\"\n    service = \"shop\"\n    [routes.all]\n",
    ));
    let report = post(&stack, "/api/reload").await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text());
    assert_eq!(get(&stack, "/api/config").await.json()["generation"], 2);
    assert!(get(&stack, "/api/config").await.text().contains("routes.extra"));
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_of_what_serves_are_told_and_refuse_nothing() {
    let stack = Stack::start(CONFIG).await;
    let lints = async || -> Vec<String> {
        let told = get(&stack, "/api/config").await.json()["warnings"].clone();
        let whole = |one: &Value| one["line"].is_u64() && one["path"].is_string() && one["hint"].is_string();
        assert!(told.as_array().unwrap().iter().all(whole), "{told}");
        told.as_array().unwrap().iter().map(|one| one["lint"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(lints().await, ["plain_text_secret"]);
    let idle = "services.idle = { endpoints = [{ name = \"idle-1\", url = \"http://127.0.0.1:1\" }] }";
    stack.reload(&CONFIG.replace("version = 1", &format!("version = 1\n{idle}"))).await;
    assert_eq!(lints().await, ["unused_service", "plain_text_secret"]);
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    stack.reload(CONFIG).await;
    assert_eq!(lints().await, ["plain_text_secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_reload_leaves_everything_and_is_visible_everywhere() {
    let stack = Stack::start(CONFIG).await;
    stack.write(&CONFIG.replace("service = \"shop\"", "service = \"shoop\""));
    let refused = post(&stack, "/api/reload").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = &refused.json()["problems"][0];
    assert!(problem["line"].as_u64().is_some(), "{problem}");
    assert!(refused.text().contains("shoop"), "{}", refused.text());
    let config = get(&stack, "/api/config").await.json();
    assert_eq!(config["generation"], 1);
    assert_eq!(config["refused"]["problems"][0]["line"], problem["line"]);
    assert_eq!(stack.metric("waypost_config_last_reload_success"), 0.0);
    assert_eq!(stack.get("/").await.status, StatusCode::OK);
    stack.write(CONFIG);
    assert_eq!(post(&stack, "/api/reload").await.status, StatusCode::OK);
    assert_eq!(get(&stack, "/api/config").await.json()["refused"], Value::Null);
    assert_eq!(stack.metric("waypost_config_last_reload_success"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_endpoint_gets_no_new_clients_until_undrained() {
    let stack = Stack::start(CONFIG).await;
    let reply = post(&stack, "/api/services/shop/endpoints/web-2/drain").await;
    assert_eq!((reply.status, &reply.json()["draining"]), (StatusCode::OK, &true.into()));
    assert!(stack.answers(6).await.iter().all(|name| name == "web-1"));
    let draining = r#"waypost_endpoint_draining{endpoint="web-2",service="shop"}"#;
    assert_eq!(stack.metric(draining), 1.0);
    // The mark survives a reload that does not speak of it.
    stack.write(&format!("{CONFIG}\n    max_in_flight = 100"));
    assert_eq!(post(&stack, "/api/reload").await.status, StatusCode::OK);
    assert!(stack.answers(4).await.iter().all(|name| name == "web-1"));
    assert_eq!(post(&stack, "/api/services/shop/endpoints/web-2/undrain").await.status, StatusCode::OK);
    assert!(stack.answers(4).await.iter().any(|name| name == "web-2"));
    assert_eq!(stack.metric(draining), 0.0);
    assert_eq!(post(&stack, "/api/services/shop/endpoints/web-9/drain").await.status, StatusCode::NOT_FOUND);
    assert_eq!(post(&stack, "/api/services/shoop/endpoints/web-1/drain").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_needs_endpoints_if_the_file_says_so() {
    let checked = "ready_needs_endpoints = true\n    [listeners.web]";
    let config = CONFIG.replace("[listeners.web]", checked)
        + "\n    [services.shop.health_check]\n    interval = \"50ms\"\n    timeout = \"50ms\"\n    rise = 1\n    fall = 1";
    let stack = Stack::start(&config).await;
    eventually!(get(&stack, "/ready").await.status == StatusCode::OK);
    for name in ["web-1", "web-2"] {
        stack.container(name).crash().await;
    }
    eventually!(get(&stack, "/ready").await.status == StatusCode::SERVICE_UNAVAILABLE);
    assert!(get(&stack, "/ready").await.text().contains("service `shop`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_may_look_and_change() {
    let stack = Stack::start(CONFIG).await;
    let cases: [(Fields<'_>, u16, &str); 7] = [
        (&[], 200, ""),
        (&[("authorization", "Bearer open sesame, please"), ("host", "proxy.example")], 200, ""),
        (&[("authorization", "Bearer wrong")], 401, "token_wrong"),
        (&[("host", "rebound.example")], 403, "foreign_host"),
        (&[("origin", "http://evil.example")], 403, "cross_site"),
        (&[("sec-fetch-site", "cross-site")], 403, "cross_site"),
        (&[("x-forwarded-for", "203.0.113.7")], 403, "proxied"),
    ];
    for (headers, status, token) in cases {
        for (method, path) in [(Method::POST, "/api/reload"), (Method::GET, "/api/config"), (Method::GET, "/metrics")] {
            let reply = ask_with(&stack, method, path, headers).await;
            assert_eq!(reply.status.as_u16(), status, "{path} {headers:?}");
            if status != 200 {
                assert_eq!(reply.json()["error"], token, "{path} {headers:?}");
            }
        }
        assert_eq!(ask_with(&stack, Method::GET, "/ping", headers).await.status, StatusCode::OK, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_happens_for_a_web_page_a_rebound_name_or_a_stranger() {
    let stack = Stack::start(CONFIG).await;
    let address = stack.waypost.admin_address().expect("admin is open");
    let cases = [
        // No host of this machine: a name that was rebound to it.
        ("", 403),
        ("host: evil.example", 403),
        ("host: evil.example:9900", 403),
        ("host: localhost.evil.example", 403),
        ("host: 127.0.0.1.evil.example", 403),
        ("host: 10.0.0.1", 403),
        ("host: [2001:db8::1]", 403),
        ("host: localhost@evil.example", 403),
        ("host:", 403),
        ("host: localhost\r\nhost: evil.example", 403),
        ("host: evil.example\r\nhost: localhost", 403),
        // A page that posts across sites.
        ("host: localhost\r\norigin: http://evil.example", 403),
        ("host: localhost\r\norigin: https://localhost", 403),
        ("host: localhost\r\norigin: null", 403),
        ("host: localhost\r\norigin:", 403),
        ("host: localhost\r\nsec-fetch-site: cross-site", 403),
        ("host: localhost\r\nsec-fetch-site: same-site", 403),
        ("host: localhost\r\nsec-fetch-site: none\r\nsec-fetch-site: cross-site", 403),
        ("host: localhost\r\norigin: http://evil.example\r\ncontent-type: application/x-www-form-urlencoded", 403),
        // Somebody behind a proxy on this machine.
        ("host: localhost\r\nx-forwarded-for: 127.0.0.1", 403),
        ("host: localhost\r\nforwarded: for=127.0.0.1", 403),
        ("host: localhost\r\nx-real-ip: 127.0.0.1", 403),
        ("host: localhost\r\nvia: 1.1 evil", 403),
        // A token that is not ours.
        ("host: localhost\r\nauthorization: Bearer wrong", 401),
        ("host: localhost\r\nauthorization: Bearer open sesame, pleas", 401),
        ("host: localhost\r\nauthorization: Bearer open sesame, please!", 401),
        ("host: localhost\r\nauthorization: Bearer OPEN SESAME, PLEASE", 401),
        ("host: localhost\r\nauthorization: Bearer open sesame, please, please", 401),
        ("host: localhost\r\nauthorization: bearer \u{e9}", 401),
        ("host: evil.example\r\nauthorization: Basic open sesame, please", 403),
        ("host: evil.example\r\nx-token: open sesame, please", 403),
        ("host: evil.example\r\ncookie: token=open sesame, please", 403),
    ];
    let orders = [
        "POST /api/services/shop/endpoints/web-1/drain",
        "POST /api/reload",
        "POST /api/../api/reload",
        "GET /api/config?token=open%20sesame,%20please",
        "GET /metrics",
        "OPTIONS /api/reload",
    ];
    for (lines, status) in cases {
        for order in orders {
            let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
            let request = format!("{order} HTTP/1.1\r\n{lines}connection: close\r\ncontent-length: 0\r\n\r\n");
            let answer = raw::exchange(address, request).await;
            let shown = raw::status(&answer);
            assert_eq!(shown, status, "{order}: {lines:?}: {answer}");
            assert!(!answer.contains("access-control-"), "{answer}");
            assert!(!answer.contains("open sesame"), "{answer}");
        }
    }
    let config = get(&stack, "/api/config").await.json();
    assert_eq!(config["generation"], 1);
    let services = get(&stack, "/api/services").await.json();
    assert_eq!(services[0]["endpoints"][0]["draining"], false);
}

/// What a request over HTTP/2 calls its host is its authority, and it may be anybody's name.
#[tokio::test(flavor = "multi_thread")]
async fn rebound_name_is_refused_over_http2_too() {
    let stack = Stack::start(CONFIG).await;
    let mut client = Connection::http2(stack.waypost.admin_address().expect("admin is open")).await;
    for (host, status) in [("localhost", 200), ("evil.example", 403), ("localhost.evil.example:9900", 403)] {
        assert_eq!(
            client.send(written("POST", "/api/reload", &[("host", host)])).await.unwrap().status.as_u16(),
            status,
            "{host}"
        );
    }
}

/// Over an address of this machine that is not a loopback one, if it has any; nothing leaves the machine.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_elsewhere_needs_the_token_whatever_else_is_said() {
    let Some(elsewhere) = address_beyond_loopback() else { return println!("skipped: there is loopback only") };
    let stack = Stack::start(&CONFIG.replacen("127.0.0.1", "0.0.0.0", 1)).await;
    let admin = SocketAddr::new(elsewhere, stack.waypost.admin_address().expect("admin is open").port());
    let cases: [(Fields<'_>, u16); 6] = [
        (&[], 401),
        (&[("host", "localhost")], 401),
        (&[("host", "localhost"), ("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")], 401),
        (&[("authorization", "Bearer ")], 401),
        (&[("authorization", "Bearer open sesame")], 401),
        (&[("authorization", "Bearer open sesame, please")], 200),
    ];
    for (headers, status) in cases {
        for (method, path) in [("POST", "/api/reload"), ("GET", "/api/config"), ("GET", "/metrics")] {
            let reply = client::send(admin, written(method, path, headers)).await.unwrap();
            assert_eq!(reply.status.as_u16(), status, "{path} {headers:?}");
            assert_eq!(reply.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        }
    }
}

/// The address that this machine would use; to ask for it sends nothing.
fn address_beyond_loopback() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}
