//! A reload forgets nothing about what it does not change.

use std::time::Duration;

use http::StatusCode;
use upstream_mock::Fault;
use waypost_tests::client::get;
use waypost_tests::tls::{self, Authority, Client};
use waypost_tests::{CHECKED, Connection, Conversation, Stack, eventually, shop};

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
    ]
"#;

const CHECK: &str =
    "[services.shop.health_check]\npath = \"/health\"\ninterval = \"50ms\"\ntimeout = \"50ms\"\nrise = 2\nfall = 1\n";

/// Something else: what there was before goes on.
fn unrelated(number: usize) -> String {
    format!("{CONFIG}[routes.other]\npath_prefix = \"/other-{number}\"\nservice = \"shop\"\n")
}

/// The same endpoints in another order, with other weights and other neighbours.
fn rearranged() -> String {
    let (from, to) = (CONFIG.find("        { name").unwrap(), CONFIG.rfind("    ]").unwrap());
    let endpoints = r#"
        { name = "web-2", url = "http://{web-2}", weight = 2 },
        { name = "web-3", url = "http://{web-3}" },
        { name = "web-1", url = "http://{web-1}", weight = 3 },
    "#;
    format!("{}{endpoints}{}", &CONFIG[..from], &CONFIG[to..])
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_known_down_gets_nothing_after_a_reload() {
    let with = |config: &str| format!("{config}{CHECK}");
    let stack = Stack::start(&with(CONFIG)).await;
    stack.container("web-2").set_health(StatusCode::INTERNAL_SERVER_ERROR);
    let down = [("endpoint", "web-2"), ("state", "down")];
    let is_down = || stack.figure("waypost_endpoint_state", &down) == 1.0;
    eventually!(is_down());
    let before = stack.container("web-2").requests();
    for number in 0..5 {
        let config = if number % 2 == 0 { rearranged() } else { unrelated(number) };
        stack.reload(&with(&config)).await;
        assert!(is_down(), "it is known at once, without another probe");
        stack.answers(10).await;
    }
    assert_eq!(stack.container("web-2").requests(), before);
    assert_eq!(stack.figure("waypost_health_transitions_total", &down), 1.0, "it went down once");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_began_before_a_reload_learns_who_is_down() {
    let patience =
        "[services.shop]\ntimeouts = { response = \"1s\" }\nretry = { max_attempts = 2, on = [\"timeout\"] }";
    let with = |config: &str| format!("{}{CHECK}", config.replace("[services.shop]", patience));
    let stack = Stack::start(&with(CONFIG)).await;
    stack.container("web-1").set_fault(Fault::Hang).await;
    let mut clients = [Connection::http1(stack.address("web")).await, Connection::http1(stack.address("web")).await];
    let [one, other] = &mut clients;
    // Its turn is one of the two.
    let asking = async { tokio::join!(one.send(get("/")), other.send(get("/"))) };
    let falling = async {
        eventually!(stack.container("web-1").requests() == 1 && stack.container("web-2").requests() == 1);
        stack.reload(&with(&unrelated(1))).await;
        stack.container("web-2").set_health(StatusCode::INTERNAL_SERVER_ERROR);
        eventually!(stack.figure("waypost_endpoint_state", &[("endpoint", "web-2"), ("state", "down")]) == 1.0);
    };
    let (replies, ()) = tokio::join!(asking, falling);
    let statuses = [replies.0.unwrap().status, replies.1.unwrap().status];
    assert!(statuses.contains(&StatusCode::GATEWAY_TIMEOUT) && statuses.contains(&StatusCode::OK), "{statuses:?}");
    assert_eq!(stack.container("web-2").requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_go_on() {
    let stack = Stack::start(CONFIG).await;
    stack.answers(10).await;
    stack.reload(&rearranged()).await;
    assert_eq!(stack.figure("waypost_attempts_total", &[("endpoint", "web-1"), ("outcome", "response")]), 5.0);
    assert_eq!(stack.figure("waypost_requests_total", &[("route", "all"), ("status", "200")]), 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_flight_still_counts() {
    let least = |config: &str| config.replace("[services.shop]", "[services.shop]\nbalancer = \"least_request\"");
    let stack = Stack::start(&least(CONFIG)).await;
    let mut client = Connection::http1(stack.address("web")).await;
    let slow = tokio::spawn(async move { client.send(get("/delay/1s")).await });
    let in_flight = || stack.figure("waypost_endpoint_requests_in_flight", &[("endpoint", "web-1")]);
    eventually!(in_flight() == 1.0);
    stack.reload(&least(&unrelated(1))).await;
    assert_eq!(stack.answers(5).await, ["web-2"; 5], "web-1 is busy");
    assert_eq!(slow.await.unwrap().unwrap().upstream(), "web-1");
    eventually!(in_flight() == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_s_drain_mark_stays() {
    let stack = Stack::start(CONFIG).await;
    let order = |verb: &'static str| format!("/api/services/shop/endpoints/web-1/{verb}");
    assert_eq!(stack.admin("POST", &order("drain")).await.status, StatusCode::OK);
    stack.reload(&unrelated(1)).await;
    assert_eq!(stack.answers(6).await, ["web-2"; 6]);
    stack.reload(&rearranged()).await;
    assert!(!stack.answers(12).await.contains(&"web-1".to_owned()));
    assert_eq!(stack.admin("POST", &order("undrain")).await.status, StatusCode::OK);
    stack.reload(CONFIG).await;
    assert!(stack.answers(4).await.contains(&"web-1".to_owned()));
}

/// The config with further keys of the service.
fn keyed(config: &str, keys: &str) -> String {
    config.replace("[services.shop]", &format!("[services.shop]\n{keys}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn open_circuit_stays_open() {
    let keys = r#"circuit_breaker = { min_requests = 2, failure_ratio = "50%", open_for = "1m" }"#;
    let stack = Stack::start(&keyed(CONFIG, keys)).await;
    let web = stack.container("web-1");
    let opened = || stack.figure("waypost_circuit_transitions_total", &[("endpoint", "web-1")]);
    web.set_fault(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)).await;
    while opened() == 0.0 {
        assert_eq!(stack.get("/").await.status, StatusCode::OK, "web-2 answers");
    }
    web.clear_fault();
    let before = web.requests();
    for config in [unrelated(1), rearranged(), CONFIG.to_owned()] {
        stack.reload(&keyed(&config, keys)).await;
        assert!(!stack.answers(8).await.contains(&"web-1".to_owned()));
    }
    assert_eq!((web.requests(), opened()), (before, 1.0), "not even an attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomer_s_share_goes_on_growing_slowly() {
    let slowly = |config: &str| keyed(config, "slow_start = \"10m\"");
    let stack = Stack::start(&slowly(CONFIG)).await;
    for number in 0..3 {
        let config = format!("{}[routes.more]\npath = \"/more-{number}\"\nservice = \"shop\"\n", rearranged());
        stack.reload(&slowly(&config)).await;
        let share = stack.answers(60).await.iter().filter(|name| *name == "web-3").count();
        // Of its sixth a tenth.
        assert!(share <= 5, "{share} of 60");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_inside_a_listener_still_counts() {
    let limited = |config: &str| config.replace("[listeners.web]", "[listeners.web]\nmax_connections = 2");
    let stack = Stack::start(&limited(CONFIG)).await;
    let web = stack.address("web");
    let mut inside = [Connection::http1(web).await, Connection::http1(web).await];
    for config in [unrelated(1), rearranged()] {
        stack.reload(&limited(&config)).await;
        for client in &mut inside {
            assert_eq!(client.send(get("/")).await.unwrap().status, StatusCode::OK);
        }
        assert!(Connection::http1(web).await.send(get("/")).await.is_err(), "it is full");
    }
    assert_eq!(stack.metric(r#"waypost_connections_open{listener="web"}"#), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_go_on_where_they_were() {
    let stack = Stack::start(CONFIG).await;
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.extend(stack.answers(1).await);
        stack.reload(&unrelated(number)).await;
    }
    for pair in answers.windows(2) {
        assert_ne!(pair[0], pair[1], "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spent_retry_budget_stays_spent() {
    let retry = "[services.shop]\nretry = { on = [\"503\"], budget = { ratio = \"1%\", min_per_second = 1 } }";
    let with = |config: &str| config.replace("[services.shop]", retry);
    let stack = Stack::start(&with(CONFIG)).await;
    let retries = || stack.figure("waypost_retries_total", &[("service", "shop")]);
    while stack.metric("waypost_retry_budget_exhausted_total") == 0.0 {
        stack.get("/status/503").await;
    }
    let spent = retries();
    for number in 0..10 {
        stack.reload(&with(&unrelated(number))).await;
        stack.get("/status/503").await;
    }
    // A forgotten budget would have allowed one retry, at least, after each reload.
    assert!(retries() - spent < 10.0, "{} after {spent}", retries());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_used_again() {
    let stack = Stack::start(CONFIG).await;
    stack.answers(4).await;
    let accepted = || stack.container("web-1").accepted() + stack.container("web-2").accepted();
    let before = accepted();
    stack.reload(&unrelated(1)).await;
    stack.answers(4).await;
    stack.reload(&rearranged()).await;
    let elsewhere = stack.answers(12).await.iter().filter(|name| *name == "web-3").count();
    assert!(elsewhere > 0, "web-3 takes its turns");
    assert_eq!(accepted(), before, "no new connection to an endpoint that was there before");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pinned_by_address_stay() {
    let with = |config: &str| config.replace("[services.shop]", "[services.shop]\nsticky = { client_ip = \"1h\" }");
    let stack = Stack::start(&with(CONFIG)).await;
    let home = stack.get("/").await.upstream();
    for config in [unrelated(1), rearranged(), CONFIG.to_owned()] {
        stack.reload(&with(&config)).await;
        assert_eq!(stack.answers(6).await, vec![home.clone(); 6]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_by_address_go_with_the_sticky_that_made_them() {
    let with = |idle: &str| keyed(CONFIG, &format!("sticky = {{ client_ip = \"{idle}\" }}"));
    let stack = Stack::start(&with("1h")).await;
    stack.get("/").await;
    let pins = |outcome| stack.figure("waypost_sticky_total", &[("outcome", outcome)]);
    assert_eq!((pins("new"), pins("pinned")), (1.0, 0.0));
    stack.reload(&with("2h")).await;
    stack.get("/").await;
    assert_eq!((pins("new"), pins("pinned")), (2.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_downloads_go_on() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    let mut sockets = vec![Conversation::open(web).await, Conversation::open(web).await];
    let mut client = Connection::http1(web).await;
    let download = tokio::spawn(async move { client.send(get("/trickle?bytes=40&every=25ms")).await });
    eventually!(stack.figure("waypost_requests_in_flight", &[("route", "all")]) == 3.0);
    let changed = CONFIG.replace("[services.shop]", "[services.shop]\ntimeouts = { response = \"3s\" }");
    for config in [unrelated(1), rearranged(), changed, CONFIG.to_owned()] {
        stack.reload(&config).await;
        for socket in &mut sockets {
            assert!(socket.echoes("still there").await);
        }
    }
    assert_eq!(download.await.unwrap().unwrap().body.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_client_connections_are_not_closed() {
    let stack = Stack::start(CONFIG).await;
    let web = stack.address("web");
    let mut clients = vec![Connection::http1(web).await, Connection::http2(web).await];
    for number in 0..10 {
        for client in &mut clients {
            let answer = tokio::time::timeout(Duration::from_secs(5), client.send(get("/"))).await;
            assert_eq!(answer.unwrap().unwrap().status, StatusCode::OK);
        }
        stack.reload(&unrelated(number)).await;
    }
    assert_eq!(stack.metric(r#"waypost_connections_total{listener="web"}"#), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_connections_and_certificates_stay() {
    let authority = Authority::new("authority");
    let pair = authority.pair("site", &["test.example"]);
    let with = |config: &str| {
        format!(
            "{config}[listeners.web.tls]\ncertificates = [{{ cert = \"{{dir}}/a.pem\", key = \"{{dir}}/a.key\" }}]\n"
        )
    };
    let stack = Stack::with_files(&with(CONFIG), &[("a.pem", pair.cert.as_str()), ("a.key", &pair.key)]).await;
    let tls = Client::new(&authority);
    let connect = || tls.connect(stack.address("web"), "test.example");
    let mut client = Connection::http1_over(connect().await.unwrap()).await;
    for number in 0..5 {
        stack.reload(&with(&unrelated(number))).await;
        assert_eq!(client.send(get("/")).await.unwrap().status, StatusCode::OK);
        assert_eq!(tls::shown(&connect().await.unwrap()), tls::der(&pair));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_that_goes_on_shows_the_endpoint_as_it_is_now() {
    let checked = shop(CHECKED);
    let stack = Stack::start(&checked).await;
    stack.reload(&checked.replace("{web-1}\"", "{web-1}\", drain = true")).await;
    let figure = |name, labels: &[(&str, &str)]| stack.figure(name, &[labels, &[("endpoint", "web-1")]].concat());
    assert_eq!(figure("waypost_endpoint_draining", &[]), 1.0);
    stack.container("web-1").crash().await;
    eventually!(figure("waypost_endpoint_state", &[("state", "down")]) == 1.0);
    assert_eq!(figure("waypost_endpoint_draining", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_that_goes_on_keeps_no_connections_of_an_old_pool() {
    let checked = shop(CHECKED);
    let stack = Stack::start(&checked).await;
    stack.answers(3).await;
    let web = stack.container("web-1");
    assert!(web.connections() >= 1);
    stack.reload(&checked.replace("health_check", "pool = { max_idle = 5 }\nhealth_check")).await;
    eventually!(web.connections() == 0);
}
