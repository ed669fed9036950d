//! A request goes to the route whose conditions hold, the most specific first, and its path means one thing only.

use http::StatusCode;
use waypost_tests::client::{self, Request, get, request, with};
use waypost_tests::{Stack, raw};

/// Service `one` is web-1, `two` is web-2, `three` is web-3.
async fn stack(routes: &str) -> Stack {
    let services: String = [("one", "web-1"), ("two", "web-2"), ("three", "web-3")]
        .map(|(service, name)| {
            format!("[services.{service}]\nendpoints = [{{ name = \"{name}\", url = \"http://{{{name}}}\" }}]\n")
        })
        .concat();
    let listener = "version = 1\n[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    Stack::start(&format!("{listener}{routes}{services}")).await
}

fn at_host(host: &str) -> Request {
    let mut request = get("/");
    request.headers_mut().insert("host", host.parse().unwrap());
    request
}

/// Who answers; `-` for 404 `no_route`.
async fn place(stack: &Stack, request: Request) -> String {
    let reply = stack.send(request).await;
    if reply.status == StatusCode::NOT_FOUND && reply.reason() == "no_route" {
        return "-".to_owned();
    }
    reply.upstream()
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_host_goes_before_wildcard_before_none() {
    let stack = stack(
        r#"
        [routes.any]
        service = "three"
        [routes.wild]
        hosts = ["*.shop.example"]
        service = "two"
        [routes.exact]
        hosts = ["www.shop.example"]
        service = "one"
        "#,
    )
    .await;
    let cases = [
        ("www.shop.example", "web-1"),
        ("WWW.Shop.Example:8080", "web-1"),
        ("api.shop.example", "web-2"),
        ("shop.example", "web-3"),
        ("evilshop.example", "web-3"),
    ];
    for (host, expected) in cases {
        assert_eq!(place(&stack, at_host(host)).await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_prefix_holds_by_segment_and_the_longest_wins() {
    let stack = stack(
        r#"
        [routes.api]
        path_prefix = "/api"
        service = "one"
        [routes.admin]
        path_prefix = "/api/admin"
        service = "two"
        [routes.exact]
        path = "/exact"
        service = "three"
        "#,
    )
    .await;
    let cases = [
        ("/api", "web-1"),
        ("/api/", "web-1"),
        ("/api/x?y", "web-1"),
        ("/api/administration", "web-1"),
        ("/api/admin", "web-2"),
        ("/api/admin/x", "web-2"),
        ("/exact", "web-3"),
        ("/exact/x", "-"),
        ("/apifoo", "-"),
        ("/", "-"),
    ];
    for (path, expected) in cases {
        assert_eq!(place(&stack, get(path)).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_of_a_route_must_hold() {
    let stack = stack(
        r#"
        [routes.narrow]
        path_regex = "/items/[0-9]+"
        methods = ["POST"]
        headers = { x-tenant = "blue", x-any = "*" }
        query = { v = "2" }
        cookies = { beta = "yes" }
        client_ips = ["192.0.2.0/24"]
        service = "one"
        "#,
    )
    .await;
    let fields = [("x-tenant", "blue"), ("x-any", "?"), ("cookie", "a=b; beta=yes"), ("x-forwarded-for", "192.0.2.7")];
    let sent = |method: &str, path: &str, fields: &[(&'static str, &str)]| {
        fields.iter().fold(request(method, path, ""), |request, (name, value)| with(request, name, value))
    };
    assert_eq!(place(&stack, sent("POST", "/items/7?v=2", &fields)).await, "web-1");
    assert_eq!(place(&stack, sent("PUT", "/items/7?v=2", &fields)).await, "-");
    assert_eq!(place(&stack, sent("POST", "/items/x?v=2", &fields)).await, "-");
    assert_eq!(place(&stack, sent("POST", "/items/7/x?v=2", &fields)).await, "-");
    assert_eq!(place(&stack, sent("POST", "/items/7?v=3", &fields)).await, "-");
    for missing in 0..fields.len() {
        let mut fewer = fields.to_vec();
        let (name, _) = fewer.remove(missing);
        assert_eq!(place(&stack, sent("POST", "/items/7?v=2", &fewer)).await, "-", "without {name}");
    }
    for (index, other) in ["green", "", "beta=no", "198.51.100.7"].into_iter().enumerate().filter(|(at, _)| *at != 1) {
        let mut others = fields;
        others[index].1 = other;
        assert_eq!(place(&stack, sent("POST", "/items/7?v=2", &others)).await, "-", "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_goes_before_specificity() {
    let stack = stack(
        r#"
        [routes.specific]
        hosts = ["test.example"]
        path = "/"
        service = "one"
        [routes.urgent]
        priority = 1
        methods = ["GET"]
        service = "two"
        "#,
    )
    .await;
    assert_eq!(place(&stack, get("/")).await, "web-2");
    assert_eq!(place(&stack, request("POST", "/", "")).await, "web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_matches_answers_404_no_route() {
    let stack = stack("[routes.one]\npath_prefix = \"/one\"\nservice = \"one\"\n").await;
    let reply = stack.get("/other").await;
    assert_eq!((reply.status, reply.reason()), (StatusCode::NOT_FOUND, "no_route"));
    assert!(reply.text().contains("no_route"), "{}", reply.text());
}

/// The path and query that the endpoint got for this target, sent as it is; or the status in its place.
async fn sent_upstream(stack: &Stack, target: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
    let answer = raw::exchange(stack.address("web"), head).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    match serde_json::from_str::<serde_json::Value>(body) {
        Ok(seen) => seen["uri"].as_str().unwrap().to_owned(),
        Err(_) => raw::status(head).to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_routed_is_what_is_sent_upstream() {
    let stack = stack("[routes.echo]\npath_prefix = \"/echo\"\nservice = \"one\"\n").await;
    let cases = [
        ("/echo", "/echo"),
        ("/a/../echo", "/echo"),
        ("/./a/b/../%2e%2E/echo", "/echo"),
        ("/%65cho?q=%2e%2E", "/echo?q=%2e%2E"),
        ("/echo/..", "404"),
        ("/echo/%2e%2e/x", "404"),
        ("/../echo", "400"),
        ("/echo/..%2fx", "400"),
        ("/echo/..;/x", "400"),
        ("/echo/%zz", "400"),
        ("/echo/%00", "400"),
        ("/a%2fecho", "404"),
    ];
    for (target, expected) in cases {
        assert_eq!(sent_upstream(&stack, target).await, expected, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dot_segments_cannot_leave_a_routes_prefix() {
    let stack = stack(
        "[routes.open]\npath_prefix = \"/open\"\nservice = \"one\"\n[routes.admin]\npath_prefix = \"/admin\"\n\
         client_ips = [\"192.0.2.1\"]\nservice = \"two\"\n",
    )
    .await;
    for target in ["/open/../admin", "/open/%2e%2e/admin", "/open/.%2E/admin/", "/open/x/../../admin"] {
        assert_eq!(sent_upstream(&stack, target).await, "404", "{target}");
    }
    assert_eq!(stack.container("web-1").requests() + stack.container("web-2").requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn route_of_one_listener_is_not_seen_on_another() {
    let stack = stack(
        r#"
        [listeners.inside]
        address = "127.0.0.1:0"
        [routes.inside]
        listeners = ["inside"]
        service = "one"
        [routes.all]
        path_prefix = "/"
        service = "two"
        "#,
    )
    .await;
    assert_eq!(place(&stack, get("/")).await, "web-2");
    let inside = client::send(stack.address("inside"), get("/")).await.unwrap();
    assert_eq!(inside.upstream(), "web-2", "the longer path goes first");
    let other = client::send(stack.address("inside"), request("OPTIONS", "*", "")).await.unwrap();
    assert_eq!(other.upstream(), "web-1");
    assert_eq!(place(&stack, request("OPTIONS", "*", "")).await, "-");
}
