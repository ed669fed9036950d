//! A client with the cookie stays where it was, for as long as that endpoint can serve it.

use http::StatusCode;
use waypost_tests::client::{Reply, get, with};
use waypost_tests::connection::Connection;
use waypost_tests::tls::{self, Authority};
use waypost_tests::{CHECKED, Stack, eventually, shop, shop_of, trusting};

const OLD: &str = "a secret of more than thirty-two bytes, the old one";
const NEW: &str = "a secret of more than thirty-two bytes, the new one";

fn sticky(secrets: &[&str]) -> String {
    format!("sticky = {{ cookie = \"lb\", secrets = {secrets:?} }}")
}

async fn get_with(stack: &Stack, cookie: &str) -> Reply {
    stack.send(with(get("/"), "cookie", cookie)).await
}

/// The reply pins its client anew, with exactly one cookie, and the cookie means the endpoint that answered.
#[track_caller]
fn assert_pinned_anew(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::OK);
    let cookies = reply.all("set-cookie");
    assert!(cookies.len() == 1 && cookies[0].starts_with("lb="), "{cookies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_the_cookie_stays_and_is_not_sent_it_again() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    for _ in 0..3 {
        let first = stack.get("/").await;
        assert_pinned_anew(&first);
        for _ in 0..4 {
            let again = get_with(&stack, &first.cookie()).await;
            assert_eq!((again.upstream(), again.header("set-cookie")), (first.upstream(), ""));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_http_only_lax_and_for_the_whole_site() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let reply = stack.get("/").await;
    let attributes: Vec<&str> = reply.header("set-cookie").split("; ").skip(1).collect();
    for expected in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3600"] {
        assert!(attributes.contains(&expected), "{attributes:?}");
    }
    assert!(!attributes.contains(&"Secure"), "{attributes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_secure_when_a_trusted_proxy_says_https() {
    let config = shop(&sticky(&[OLD]));
    let https = || with(get("/"), "x-forwarded-proto", "https");
    let trusted = Stack::start(&trusting(&config)).await.send(https()).await;
    assert!(trusted.header("set-cookie").contains("; Secure"));
    let stranger = Stack::start(&config).await.send(https()).await;
    assert!(!stranger.header("set-cookie").contains("Secure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_removed_from_what_goes_upstream() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let cookie = stack.get("/").await.cookie();
    let among_others = stack.send(with(get("/echo"), "cookie", &format!("a=1; {cookie}; b=2"))).await;
    assert_eq!(among_others.echoed("cookie"), ["a=1; b=2"]);
    let alone = stack.send(with(get("/echo"), "cookie", &cookie)).await;
    assert_eq!(alone.echoed("cookie"), [""; 0]);
    let forged = stack.send(with(get("/echo"), "cookie", "lb=forged; a=1")).await;
    assert_eq!(forged.echoed("cookie"), ["a=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_forgeries_count_as_absent() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let other = Stack::start(&shop(&sticky(&[NEW]))).await;
    let (own, foreign) = (stack.get("/").await.cookie(), other.get("/").await.cookie());
    let middle = own.len() / 2;
    let letter = if &own[middle..=middle] == "A" { "B" } else { "A" };
    let altered = format!("{}{letter}{}", &own[..middle], &own[middle + 1..]);
    for cookie in ["lb=", "lb=web-1", "lb=%00%FF", &format!("lb={}", "A".repeat(4000)), &altered, &foreign] {
        assert_pinned_anew(&get_with(&stack, cookie).await);
    }
}

/// What a reply tells beside who answered and when.
fn tells(reply: &Reply) -> (StatusCode, Vec<String>, String) {
    let names = reply.headers.keys().map(|name| name.as_str().to_owned()).collect();
    let (pair, attributes) = reply.header("set-cookie").split_once("; ").expect("a cookie has attributes");
    assert!(pair.starts_with("lb="), "{pair}");
    (reply.status, names, attributes.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_cookies_are_answered_alike_whatever_is_wrong_with_them() {
    let blog = "[routes.blog]\npath_prefix = \"/blog\"\nservice = \"blog\"\n[services.blog]\n";
    let config = shop(&sticky(&[OLD]));
    let endpoints = "endpoints = [{ name = \"web-1\", url = \"http://{web-1}\" }]\n";
    let stack = Stack::start(&format!("{config}{blog}{}\n{endpoints}", sticky(&[OLD]))).await;
    let other = Stack::start(&shop(&sticky(&[NEW]))).await;
    let (own, foreign) = (stack.get("/").await.cookie(), other.get("/").await.cookie());
    let blogs = stack.get("/blog").await.cookie();
    let last = if own.ends_with('A') { "B" } else { "A" };
    let cases = [
        ("empty", "lb=".to_owned()),
        ("text", "lb=web-1".to_owned()),
        ("no base64", "lb=%00%FF".to_owned()),
        ("padded", format!("{own}=")),
        ("too long", format!("lb={}", "A".repeat(4000))),
        ("of another version", format!("lb=B{}", &own[4..])),
        ("with another nonce", format!("{}{}{}", &own[..8], if &own[8..9] == "A" { "B" } else { "A" }, &own[9..])),
        ("with another tag", format!("{}{last}", &own[..own.len() - 1])),
        ("cut off", own[..own.len() - 4].to_owned()),
        ("of another secret", foreign),
        ("of another service", blogs),
        ("many", "lb=A; ".repeat(20)),
    ];
    let absent = tells(&stack.get("/").await);
    for (case, cookie) in &cases {
        let reply = get_with(&stack, cookie).await;
        assert_eq!(tells(&reply), absent, "{case}: {cookie}");
        assert_eq!(reply.all("set-cookie").len(), 1, "{case}");
    }
    let honoured = get_with(&stack, &own).await;
    assert_eq!(honoured.header("set-cookie"), "", "what is good is not set again");
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_endpoint_loses_its_clients_at_once_and_for_good() {
    let stack = Stack::start(&shop(&format!("{}\n{CHECKED}", sticky(&[OLD])))).await;
    let first = stack.get("/").await;
    let container = stack.container(&first.upstream());
    container.set_health(StatusCode::INTERNAL_SERVER_ERROR);
    eventually!(stack.metric("waypost_service_endpoints_available") == 2.0);
    let moved = get_with(&stack, &first.cookie()).await;
    assert_pinned_anew(&moved);
    assert_ne!(moved.upstream(), first.upstream());
    container.set_health(StatusCode::OK);
    eventually!(stack.metric("waypost_service_endpoints_available") == 3.0);
    assert_eq!(get_with(&stack, &moved.cookie()).await.upstream(), moved.upstream());
}

#[tokio::test(flavor = "multi_thread")]
async fn client_is_pinned_anew_when_its_own_attempt_failed() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let first = stack.get("/").await;
    let failing = with(with(get("/"), "x-mock-fault", "reset_before_head"), "x-mock-on", &first.upstream());
    let moved = stack.send(with(failing, "cookie", &first.cookie())).await;
    assert_pinned_anew(&moved);
    assert_ne!(moved.upstream(), first.upstream());
    assert_eq!(get_with(&stack, &moved.cookie()).await.upstream(), moved.upstream());
    stack.container(&moved.upstream()).crash().await;
    let again = get_with(&stack, &moved.cookie()).await;
    assert_pinned_anew(&again);
    assert_ne!(again.upstream(), moved.upstream());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_left_the_file_loses_its_clients() {
    let config = shop(&sticky(&[OLD]));
    let stack = Stack::start(&config).await;
    let first = stack.get("/").await;
    assert_eq!(first.upstream(), "web-1");
    let without: String = config.split_inclusive('\n').filter(|line| !line.contains("{web-1}")).collect();
    stack.reload(&without).await;
    let moved = get_with(&stack, &first.cookie()).await;
    assert_pinned_anew(&moved);
    assert_ne!(moved.upstream(), "web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate_without_losing_a_client() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let first = stack.get("/").await;
    stack.reload(&shop(&sticky(&[NEW, OLD]))).await;
    let renewed = get_with(&stack, &first.cookie()).await;
    assert_eq!(renewed.upstream(), first.upstream());
    assert_pinned_anew(&renewed);
    stack.reload(&shop(&sticky(&[NEW]))).await;
    let last = get_with(&stack, &renewed.cookie()).await;
    assert_eq!((last.upstream(), last.header("set-cookie")), (first.upstream(), ""));
    assert_pinned_anew(&get_with(&stack, &first.cookie()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_secrets_pins_hold_across_reloads() {
    let stack = Stack::start(&shop(r#"sticky = { cookie = "lb" }"#)).await;
    let first = stack.get("/").await;
    stack.reload(&shop("sticky = { cookie = \"lb\" }\nmax_in_flight = 10")).await;
    for _ in 0..3 {
        let again = get_with(&stack, &first.cookie()).await;
        assert_eq!((again.upstream(), again.header("set-cookie")), (first.upstream(), ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_with_the_same_secret_honour_each_others_pins() {
    let one = Stack::start(&shop(&sticky(&[OLD]))).await;
    let two = Stack::start(&shop(&sticky(&[NEW, OLD]))).await;
    one.get("/").await;
    let first = one.get("/").await;
    assert_eq!(first.upstream(), "web-2");
    for _ in 0..3 {
        assert_eq!(get_with(&two, &first.cookie()).await.upstream(), "web-2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_endpoint_hands_its_clients_on() {
    let stack = Stack::start(&shop_of(["max_in_flight = 1", "", ""], &sticky(&[OLD]))).await;
    let first = stack.get("/").await;
    assert_eq!(first.upstream(), "web-1");
    let slow = stack.send(with(get("/delay/300ms"), "cookie", &first.cookie()));
    let meanwhile = async {
        eventually!(stack.container("web-1").requests() == 2);
        get_with(&stack, &first.cookie()).await
    };
    let (slow, meanwhile) = tokio::join!(slow, meanwhile);
    assert_eq!(slow.upstream(), "web-1");
    assert_ne!(meanwhile.upstream(), "web-1");
    assert_pinned_anew(&meanwhile);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_of_the_endpoint_are_kept_beside_ours() {
    let stack = Stack::start(&shop(&sticky(&[OLD]))).await;
    let reply = stack.get("/headers?set-cookie=a%3D1&set-cookie=b%3D2").await;
    let cookies = reply.all("set-cookie");
    assert_eq!(cookies[..2], ["a=1", "b=2"]);
    assert!(cookies.len() == 3 && cookies[2].starts_with("lb="), "{cookies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_follows_the_name_to_a_new_address() {
    let config = shop(&sticky(&[OLD]));
    let stack = Stack::start(&config).await;
    let first = stack.get("/").await;
    assert_eq!(first.upstream(), "web-1");
    stack.reload(&config.replace("http://{web-1}", "http://{web-3}")).await;
    let moved = get_with(&stack, &first.cookie()).await;
    assert_eq!((moved.upstream().as_str(), moved.header("set-cookie")), ("web-3", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_secure_over_tls() {
    let authority = Authority::new("test authority");
    let pair = authority.pair("test.example", &["test.example"]);
    let files = [("site.pem", pair.cert.as_str()), ("site.key", pair.key.as_str())];
    let tls = "tls = { certificates = [{ cert = \"{dir}/site.pem\", key = \"{dir}/site.key\" }] }\n[routes.all]";
    let stack = Stack::with_files(&shop(&sticky(&[OLD])).replace("[routes.all]", tls), &files).await;
    let stream = tls::Client::new(&authority).connect(stack.address("web"), "test.example").await.unwrap();
    let reply = Connection::http1_over(stream).await.send(get("/")).await.unwrap();
    assert_pinned_anew(&reply);
    assert!(reply.header("set-cookie").ends_with("; Secure"), "{}", reply.header("set-cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_stays_while_the_whole_fleet_is_being_checked() {
    let checked = r#"health_check = { path = "/health", interval = "30s", timeout = "30s" }"#;
    let config = shop(&format!("{}\n{checked}", sticky(&[OLD])));
    let stack = Stack::start(&config).await;
    let first = stack.get("/").await;
    stack.reload(&config.replace("shop", "store")).await;
    for container in stack.fleet.containers() {
        container.set_health_delay(std::time::Duration::from_secs(20));
    }
    stack.reload(&config).await;
    for _ in 0..4 {
        assert_eq!(get_with(&stack, &first.cookie()).await.upstream(), first.upstream());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_services_with_sticky_clients_count_pins() {
    let stack = Stack::start(&shop("")).await;
    stack.get("/").await;
    assert_eq!(stack.total("waypost_sticky_total"), 0.0);
    stack.reload(&shop(&sticky(&[OLD]))).await;
    let cookie = stack.get("/").await.cookie();
    get_with(&stack, &cookie).await;
    let count = |outcome| stack.figure("waypost_sticky_total", &[("outcome", outcome)]);
    assert_eq!((count("new"), count("pinned")), (1.0, 1.0));
}
