//! What a route's middlewares do to requests and answers, those that Waypost invents included.

use http::StatusCode;
use waypost_tests::client::{Reply, get, request, with};
use waypost_tests::{Stack, routed, shop};

/// The shop with this middleware on its route.
fn with_middleware(middleware: &str) -> String {
    format!("{}\n[middlewares]\nm = {middleware}\n", routed(&shop(""), "middlewares = [\"m\"]"))
}

const HEADERS: &str = r#"{ headers = { request_set = { x-set = "new" }, request_append = { x-list = "last" },
    request_remove = ["x-secret"], response_set = { x-frame-options = "DENY" }, response_append = { x-list = "last" },
    response_remove = ["x-served-count"] } }"#;

#[tokio::test(flavor = "multi_thread")]
async fn request_fields_are_removed_set_and_appended() {
    let stack = Stack::start(&with_middleware(HEADERS)).await;
    let sent = with(with(with(get("/echo"), "x-set", "old"), "x-list", "first"), "x-secret", "1");
    let reply = stack.send(sent).await;
    assert_eq!(reply.echoed("x-set"), ["new"]);
    assert_eq!(reply.echoed("x-list"), ["first", "last"]);
    assert_eq!(reply.echoed("x-secret"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_fields_are_removed_set_and_appended() {
    let stack = Stack::start(&with_middleware(HEADERS)).await;
    let reply = stack.get("/headers?x-frame-options=SAMEORIGIN&x-list=first").await;
    assert_eq!(reply.all("x-frame-options"), ["DENY"]);
    assert_eq!(reply.all("x-list"), ["first", "last"]);
    assert_eq!(reply.header("x-served-count"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_replies_pass_the_chain_too() {
    let stack = Stack::start(&with_middleware(HEADERS)).await;
    for container in stack.fleet.containers() {
        container.crash().await;
    }
    let reply = stack.get("/").await;
    assert_eq!((reply.status, reply.reason()), (StatusCode::BAD_GATEWAY, "connect_failed"));
    assert_eq!(reply.header("x-frame-options"), "DENY");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_is_stripped_by_segment_and_told() {
    let stack = Stack::start(&with_middleware(r#"{ strip_prefix = ["/api"] }"#)).await;
    let path = |reply: Reply| (reply.json()["uri"].as_str().unwrap().to_owned(), reply.echoed("x-forwarded-prefix"));
    let told = vec!["/api".to_owned()];
    assert_eq!(path(stack.get("/api/echo?a=b").await), ("/echo?a=b".to_owned(), told.clone()));
    assert_eq!(path(stack.get("/%61pi/x/../echo").await), ("/echo".to_owned(), told));
    assert_eq!(path(stack.get("/echo?/api").await), ("/echo?/api".to_owned(), vec![]));
    assert_eq!(stack.get("/apiecho").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_answers_with_the_location_made_of_the_url() {
    let redirect = r#"{ redirect = { regex = "^http://([^/]*)/old/(.*)", to = "https://$1/new/$2", status = 301 } }"#;
    let stack = Stack::start(&with_middleware(redirect)).await;
    let reply = stack.get("/old/page?a=b").await;
    assert_eq!(reply.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(reply.header("location"), "https://test.example/new/page?a=b");
    assert_eq!(stack.send(request("POST", "/echo", "text")).await.json()["body"], "text");
    assert_eq!(stack.fleet.containers().iter().map(waypost_tests::Container::requests).sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_to_https_answers_before_any_route() {
    let config = shop("").replacen("[routes.all]", "redirect_https = true\n[routes.all]", 1);
    let certified = rcgen::generate_simple_self_signed(["test.example".to_owned()]).unwrap();
    let tls = "[listeners.secure]\naddress = \"127.0.0.1:0\"\n\
               tls = { certificates = [{ cert = \"{dir}/site.pem\", key = \"{dir}/site.key\" }] }\n";
    let (cert, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let files = [("site.pem", cert.as_str()), ("site.key", key.as_str())];
    let stack = Stack::with_files(&format!("{config}{tls}"), &files).await;
    let reply = stack.get("/page?a=b").await;
    assert_eq!(reply.status, StatusCode::PERMANENT_REDIRECT);
    let location = reply.header("location");
    assert!(location.starts_with("https://test.example") && location.ends_with("/page?a=b"), "{location}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_cannot_name_away_what_a_middleware_sets() {
    let stack = Stack::start(&with_middleware(HEADERS)).await;
    let reply = stack.send(with(with(get("/echo"), "x-set", "old"), "connection", "x-set, x-list")).await;
    assert_eq!(reply.echoed("x-set"), ["new"]);
    assert_eq!(reply.echoed("x-list"), ["last"]);
}
