//! An explanation says what then happens: the puzzles of an operator, each with the line that solves it.

use http::Method;
use serde_json::{Value, json};
use waypost_tests::client::{self, Reply, Request, request, with};
use waypost_tests::connection::{Connection, empty};
use waypost_tests::tls::{Authority, Client};
use waypost_tests::{Stack, eventually};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    trusted_proxies = ["127.0.0.0/8"]
    limits = { uri_bytes = "1KiB" }
    [routes.shop]
    hosts = ["shop.example"]
    path_prefix = "/echo"
    methods = ["GET", "POST"]
    middlewares = ["debug", "strip"]
    service = "shop"
    [routes.beta]
    hosts = ["shop.example"]
    path_prefix = "/echo"
    methods = ["GET", "POST"]
    cookies = { beta = "yes" }
    service = "pinned"
    [routes.old]
    hosts = ["old.example"]
    middlewares = ["away"]
    service = "shop"
    [routes.hashed]
    hosts = ["hash.example"]
    service = "hashed"
    [middlewares]
    debug = { headers = { request_set = { x-debug = "1" }, request_remove = ["x-secret"], response_set = { x-by = "shop" }, response_remove = ["server"] } }
    strip = { strip_prefix = ["/shop"] }
    away = { redirect = { regex = "^http://old\\.example/(.*)", to = "http://shop.example/$1" } }
    [services.shop]
    health_check = { path = "/health", interval = "100ms", timeout = "90ms", rise = 1, fall = 1 }
    retry = { max_attempts = 3 }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}", weight = 3 },
        { name = "web-3", url = "http://{web-3}", backup = true },
    ]
    [services.pinned]
    sticky = { cookie = "lb" }
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
    [services.hashed]
    balancer = "hash"
    hash_key = "header:x-user"
    endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
"#;

type Fields<'a> = &'a [(&'static str, &'a str)];

/// A request, as it can be asked about and as it can be sent.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    url: &'a str,
    fields: Fields<'a>,
}

const fn get<'a>(url: &'a str, fields: Fields<'a>) -> Asked<'a> {
    Asked { method: "GET", url, fields }
}

fn to(mut request: Request, host: &str) -> Request {
    request.headers_mut().insert("host", host.parse().unwrap());
    request
}

async fn admin(stack: &Stack, method: Method, path: &str) -> Reply {
    let request = to(request(method.as_str(), path, ""), "localhost");
    client::send(stack.waypost.admin_address().expect("admin is open"), request).await.unwrap()
}

/// What is said of it.
async fn explain(stack: &Stack, asked: Asked<'_>) -> Value {
    explain_from(stack, "client=127.0.0.1", asked).await
}

/// The same of another connection.
async fn explain_from(stack: &Stack, connection: &str, asked: Asked<'_>) -> Value {
    let mut query = form_urlencoded::Serializer::new(format!("/api/explain?{connection}"));
    query.append_pair("method", asked.method).append_pair("url", asked.url);
    query.extend_pairs(asked.fields.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
    let reply = admin(stack, Method::GET, &query.finish()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// What becomes of it.
async fn send(stack: &Stack, asked: Asked<'_>) -> Reply {
    let url: http::Uri = asked.url.parse().unwrap();
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let request = to(request(asked.method, target, ""), url.authority().map_or("", |host| host.as_str()));
    let request = asked.fields.iter().fold(request, |request, (name, value)| with(request, name, value));
    stack.send(request).await
}

/// Why a route was not taken.
fn why_not<'a>(told: &'a Value, route: &str) -> &'a str {
    let routes = told["routes"].as_array().unwrap();
    routes.iter().find(|one| one["name"] == route).and_then(|one| one["why"].as_str()).unwrap()
}

fn endpoint<'a>(told: &'a Value, name: &str) -> &'a Value {
    let endpoints = told["service"]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|one| one["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_404() {
    let stack = Stack::start(CONFIG).await;
    let asked = Asked { method: "PUT", url: "http://shop.example/echo", fields: &[] };
    let told = explain(&stack, asked).await;
    assert_eq!((&told["reply"]["status"], &told["reply"]["reason"]), (&json!(404), &json!("no_route")));
    assert_eq!(why_not(&told, "shop"), "the method PUT is not one of `GET`, `POST`");
    assert_eq!(why_not(&told, "old"), "the host `shop.example` is not `old.example`");
    assert_eq!(send(&stack, asked).await.reason(), "no_route");
    let told = explain(&stack, get("http://shop.example/echoes", &[])).await;
    assert_eq!(why_not(&told, "shop"), "the path `/echoes` goes on after `/echo` within a segment");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_this_route_and_not_that_one() {
    let stack = Stack::start(CONFIG).await;
    let asked = get("http://shop.example/echo", &[("cookie", "beta=yes")]);
    assert_eq!(
        why_not(&explain(&stack, asked).await, "shop"),
        "it holds, but `beta` goes first: it has more conditions"
    );
    let told = explain(&stack, get("http://shop.example/echo", &[("cookie", "beta=no")])).await;
    assert_eq!(why_not(&told, "beta"), "the cookie `beta` is `no` and not `yes`");
    assert_eq!(told["service"]["name"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_always_web_1() {
    let stack = Stack::start(CONFIG).await;
    let first = send(&stack, get("http://shop.example/echo", &[("cookie", "beta=yes")])).await;
    let cookie = format!("beta=yes; {}", first.cookie());
    let told = explain(&stack, get("http://shop.example/echo", &[("cookie", &cookie)])).await;
    let name = first.upstream();
    assert_eq!(told["service"]["sticky"], format!("the cookie `lb` pins to `{name}`"));
    assert_eq!(endpoint(&told, &name)["chance"], 1.0);
    let told = explain(&stack, get("http://shop.example/echo", &[("cookie", "beta=yes; lb=forged")])).await;
    assert!(told["service"]["sticky"].as_str().unwrap().starts_with("the cookie `lb` pins to no endpoint yet"));
    assert_eq!(endpoint(&told, "web-1")["chance"], 0.5);

    let asked = get("http://hash.example/echo", &[("x-user", "ada")]);
    let told = explain(&stack, asked).await;
    let name = send(&stack, asked).await.upstream();
    assert_eq!(
        (&endpoint(&told, &name)["chance"], &endpoint(&told, &name)["why"]),
        (&json!(1.0), &json!("the hash of the key falls on it"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn why_no_requests_to_web_3_and_why_503() {
    let stack = Stack::start(CONFIG).await;
    let asked = get("http://shop.example/echo", &[]);
    let told = explain(&stack, asked).await;
    assert_eq!(endpoint(&told, "web-3")["why"], "a backup: it waits until no other one is available");
    assert_eq!(
        (&endpoint(&told, "web-1")["chance"], &endpoint(&told, "web-2")["chance"]),
        (&json!(0.25), &json!(0.75))
    );
    admin(&stack, Method::POST, "/api/services/shop/endpoints/web-2/drain").await;
    let told = explain(&stack, asked).await;
    assert_eq!(endpoint(&told, "web-2")["why"], "it drains: only clients that are pinned to it go there");
    for name in ["web-1", "web-3"] {
        stack.container(name).crash().await;
    }
    eventually!(explain(&stack, asked).await["reply"]["reason"] == "no_endpoint");
    let told = explain(&stack, asked).await;
    assert!(endpoint(&told, "web-1")["why"].as_str().unwrap().starts_with("down: "), "{told:#}");
    assert_eq!(send(&stack, asked).await.reason(), "no_endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_was_post_not_retried() {
    let stack = Stack::start(CONFIG).await;
    let post = |fields| Asked { method: "POST", url: "http://shop.example/echo", fields };
    let told = explain(&stack, post(&[])).await;
    let expected = "POST is repeated only if nothing of it was sent; an Idempotency-Key would allow more";
    assert_eq!(told["service"]["retry"][1], expected);
    let told = explain(&stack, post(&[("idempotency-key", "7")])).await;
    assert_eq!(told["service"]["retry"][1], "POST may be repeated even after it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_redirects_and_where_to() {
    let stack = Stack::start(CONFIG).await;
    let asked = get("http://old.example/cart?x=1", &[]);
    let told = explain(&stack, asked).await;
    let reply = send(&stack, asked).await;
    assert_eq!(told["reply"]["status"], reply.status.as_u16());
    assert_eq!(told["reply"]["location"], reply.header("location"));
    assert_eq!(told["reply"]["middleware"], "away");
    assert_eq!(told["middlewares"][0]["request"][0], "answers the request by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_middleware_does() {
    let stack = Stack::start(CONFIG).await;
    let told = explain(&stack, get("http://shop.example/echo", &[("x-secret", "7")])).await;
    assert_eq!(told["middlewares"][0]["request"], json!(["removes x-secret", "makes x-debug: 1"]));
    assert_eq!(told["middlewares"][0]["response"], json!(["removes server", "makes x-by: shop"]));
    assert_eq!(told["middlewares"][1]["request"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_is_the_client_the_load_balancer() {
    let stack = Stack::start(CONFIG).await;
    let claim: Fields<'_> = &[("x-forwarded-for", "192.0.2.9, 127.0.0.2")];
    let asked = get("http://shop.example/echo", claim);
    let told = explain_from(&stack, "client=10.0.0.7", asked).await;
    let expected = "the other end of the connection: its x-forwarded-for is not believed, for the trusted_proxies of \
                    `web` are 127.0.0.0/8";
    assert_eq!((&told["client"], &told["client_why"]), (&json!("10.0.0.7"), &json!(expected)));

    // With a balancer that is believed, which can be sent from here, too.
    let told = explain(&stack, asked).await;
    let expected = "from x-forwarded-for of 127.0.0.1: the last there that is none of trusted_proxies";
    assert_eq!((&told["client"], &told["client_why"]), (&json!("192.0.2.9"), &json!(expected)));
    assert_eq!(send(&stack, asked).await.echoed("x-real-ip"), ["192.0.2.9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_is_the_load_balancer_not_believed_although_it_is_trusted() {
    let stack = Stack::start(CONFIG).await;
    let end = "the other end of the connection: one of trusted_proxies, but";
    let cases: [(Fields<'_>, String); 4] = [
        (&[], format!("{end} it names nobody")),
        (&[("x-real-ip", "192.0.2.9")], format!("{end} who asks is read in x-forwarded-for and not in x-real-ip")),
        (&[("x-forwarded-for", "192.0.2.9, unknown")], format!("{end} the end of its x-forwarded-for is no address")),
        (
            &[("x-forwarded-for", "127.0.0.8, 127.0.0.2")],
            "from x-forwarded-for of 127.0.0.1: all that can be read there are trusted_proxies, and it is the first"
                .to_owned(),
        ),
    ];
    for (fields, why) in cases {
        let asked = get("http://shop.example/echo", fields);
        let (told, reply) = (explain(&stack, asked).await, send(&stack, asked).await);
        assert_eq!((&told["client_why"], &told["client"]), (&json!(why), &json!(reply.echoed("x-real-ip")[0])));
    }
}

/// Two sites at one address, each with a certificate of its own.
const TWO_SITES: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.secure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/one.pem", key = "{dir}/one.key" }, { cert = "{dir}/two.pem", key = "{dir}/two.key" }] }
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn why_421_and_which_certificate() {
    let authority = Authority::new("authority");
    let (one, two) =
        (authority.pair("one", &["one.example", "www.one.example"]), authority.pair("two", &["two.example"]));
    let files = [("one.pem", one.cert.as_str()), ("one.key", &one.key), ("two.pem", &two.cert), ("two.key", &two.key)];
    let stack = Stack::with_files(TWO_SITES, &files).await;
    let stream = Client::new(&authority).http2().connect(stack.address("secure"), "one.example").await.unwrap();
    let mut connection = Connection::http2_over(stream).await;
    for (url, status) in [("https://www.one.example/", 200), ("https://two.example/", 421)] {
        let reply = connection.send(http::Request::get(url).body(empty()).unwrap()).await.unwrap();
        let told = explain_from(&stack, "sni=one.example", get(url, &[])).await;
        assert_eq!(reply.status.as_u16(), status, "{url}");
        assert_eq!(told["reply"]["status"], if status == 200 { Value::Null } else { json!(status) }, "{told:#}");
    }
    let told = explain_from(&stack, "sni=one.example", get("https://two.example/", &[])).await;
    let detail = "the connection was opened for one.example, and the certificate that was shown then is not for two.example; \
                  over a connection of its own it would be answered";
    assert_eq!((&told["reply"]["reason"], &told["reply"]["detail"]), (&json!("misdirected"), &json!(detail)));
    let certificate = |told: &Value| told["certificate"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(certificate(&told), "one.pem, for one.example, www.one.example");

    let own = explain(&stack, get("https://two.example/", &[])).await;
    assert_eq!((&own["reply"], certificate(&own).as_str()), (&Value::Null, "two.pem, for two.example"));
    let by_header = explain_from(&stack, "listener=secure", get("/", &[("host", "two.example")])).await;
    assert_eq!(certificate(&by_header), "two.pem, for two.example");
    let other = explain(&stack, get("https://three.example/", &[])).await;
    let first = "one.pem, for one.example, www.one.example: the first one, because none is for three.example";
    assert_eq!(certificate(&other), first);
}

/// The id and the port are those of a connection, which a question has none of.
const OF_A_CONNECTION: [&str; 2] = ["x-request-id", "x-forwarded-port"];

#[tokio::test(flavor = "multi_thread")]
async fn head_that_is_told_is_the_head_that_is_sent() {
    let stack = Stack::start(CONFIG).await;
    let cases: &[Fields<'_>] = &[
        &[],
        &[("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "https"), ("accept", "a, b")],
        &[("connection", "x-hop"), ("x-hop", "1"), ("te", "trailers"), ("cookie", "a=1"), ("x-secret", "7")],
    ];
    for fields in cases {
        let asked = get("http://shop.example/echo?a=%20b", fields);
        let (told, reply) = (explain(&stack, asked).await, send(&stack, asked).await);
        assert_eq!(told["reply"], Value::Null, "{told:#}");
        assert_eq!(told["upstream"]["target"], "/echo?a=%20b");
        for line in told["upstream"]["headers"].as_array().unwrap() {
            let (name, value) = (line[0].as_str().unwrap(), line[1].as_str().unwrap());
            if !OF_A_CONNECTION.contains(&name) {
                assert!(reply.echoed(name).iter().any(|echoed| echoed == value), "{name}: {value}");
            }
        }
        assert_eq!(told["client"], reply.echoed("x-real-ip")[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_any_route_is_told_with_its_reason() {
    let stack = Stack::start(CONFIG).await;
    let long = format!("http://shop.example/{}", "x".repeat(2000));
    let cases: [(Asked<'_>, &str); 4] = [
        (get("/echo", &[]), "bad_request"),
        (get(&long, &[]), "uri_too_long"),
        (Asked { method: "TRACE", ..get("http://shop.example/", &[]) }, "method_not_allowed"),
        (get("http://shop.example/", &[("transfer-encoding", "gzip")]), "unsupported_coding"),
    ];
    for (asked, reason) in cases {
        let told = explain(&stack, asked).await;
        assert_eq!(told["reply"]["reason"], reason, "{told:#}");
        assert_eq!(told["routes"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_that_cannot_be_answered_says_why() {
    let stack = Stack::start(CONFIG).await;
    let cases = [
        ("url=https://shop.example/", "no listener speaks https"),
        ("url=shop%20example", "`shop example` is neither a URL"),
        ("url=/&listener=wep", "there is no listener `wep`"),
        ("url=/&method=G%20T", "`G T` is not a method"),
        ("url=/&header=host", "`host` is not a header field"),
        ("url=/&client=me", "`me` is not an address"),
        ("uri=/", "`uri` is not one of method, url, header, client, listener and sni"),
    ];
    for (query, detail) in cases {
        let reply = admin(&stack, Method::GET, &format!("/api/explain?{query}")).await;
        let said = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && said.starts_with(detail), "{query}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_changes_nothing() {
    let config = CONFIG.replace("sticky = { cookie = \"lb\" }", "sticky = { client_ip = \"1h\" }");
    let stack = Stack::start(&config).await;
    let asked = get("http://shop.example/echo", &[("cookie", "beta=yes")]);
    for _ in 0..3 {
        let told = explain(&stack, asked).await;
        assert!(told["service"]["sticky"].as_str().unwrap().contains("pins to no endpoint yet"), "{told:#}");
    }
    assert_eq!(stack.total("waypost_requests_total"), 0.0);
    assert_eq!(stack.total("waypost_attempts_total"), 0.0);
    assert_eq!(send(&stack, asked).await.upstream(), "web-1", "the balancer's turn was not taken");
}
