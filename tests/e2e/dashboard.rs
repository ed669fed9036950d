//! The dashboard as its reader sees it, in a real Chromium: what it shows is so, what it does is done, it asks nobody but
//! its own address, and it can be used on a phone, in the dark, by keyboard and by ear.

use std::net::SocketAddr;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use upstream_mock::{Fleet, FleetOptions};
use waypost::telemetry::logging::Logging;
use waypost_config::telemetry::Log;
use waypost_tests::tls::Authority;
use waypost_tests::{Stack, eventually};

use browser::{Browser, ELSEWHERE, Focused, is_installed};

mod browser;
mod pictures;

const TOKEN: &str = "open sesame, please";

const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [admin]
    address = "127.0.0.1:0"
    token = "open sesame, please"
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.secure]
    address = "127.0.0.1:0"
    tls = { certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }] }
    [routes.cart]
    hosts = ["test.example"]
    path_prefix = "/cart"
    methods = ["GET"]
    service = "shop"
    [routes.all]
    hosts = ["test.example"]
    service = "shop"
    [services.shop]
    health_check = { path = "/health", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }
    endpoints = [
        { name = "web-1", url = "http://{web-1}" },
        { name = "web-2", url = "http://{web-2}" },
        { name = "web-3", url = "http://{web-3}", weight = 2 },
    ]
"#;

/// One log for all tests of this binary, because a process has only one; so the events are those of all of them.
fn logging() -> Logging {
    static LOGGING: OnceLock<Logging> = OnceLock::new();
    LOGGING
        .get_or_init(|| Logging::init_to(&Log::default(), std::io::sink).expect("nobody else has a log here"))
        .clone()
}

/// A Waypost with everything on its page, and somebody who looks at it.
struct Scene {
    stack: Stack,
    browser: Browser,
}

/// `None` if this machine has no Chromium.
async fn scene() -> Option<Scene> {
    scene_with(Some(logging())).await
}

#[expect(clippy::print_stdout, reason = "each test that is skipped says so")]
async fn scene_with(logging: Option<Logging>) -> Option<Scene> {
    if !is_installed() {
        println!("skipped: chromium and chromium-driver are not installed");
        return None;
    }
    let pair = Authority::new("authority").site("test.example");
    let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
    let files = [("site.pem", &*pair.cert), ("site.key", &*pair.key)];
    let stack = Stack::before(fleet, CONFIG, &files, logging).await;
    let scene = Scene { stack, browser: Browser::start().await };
    scene.browser.open(&scene.url()).await;
    eventually!(within 30, scene.browser.text("#phase").await == "ready");
    Some(scene)
}

impl Scene {
    fn url(&self) -> String {
        format!("http://{}/", self.stack.waypost.admin_address().expect("admin is open"))
    }

    async fn text(&self, selector: &str) -> String {
        self.browser.text(selector).await
    }

    /// The row of an endpoint, its cells separated by blanks.
    async fn endpoint(&self, name: &str) -> String {
        let rows = "[...document.querySelectorAll('#service-list tbody tr')]";
        let found =
            format!("{rows}.find((row) => row.cells[0].innerText.startsWith({}))?.innerText ?? ''", json!(name));
        let text = self.browser.eval(&found).await;
        text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    async fn is_draining(&self, name: &str) -> bool {
        let services = self.stack.admin("GET", "/api/services").await.json();
        let endpoints = services[0]["endpoints"].as_array().unwrap();
        endpoints.iter().any(|one| one["name"] == name && one["draining"] == true)
    }

    /// It has asked nobody else, broken none of its rules, and the browser has nothing to say against it.
    async fn is_clean(&self) {
        assert_eq!(self.browser.complaints().await, [""; 0]);
        assert_eq!(self.browser.violations().await, json!([]));
        let (own, requests) = (self.url(), self.browser.requests().await);
        assert!(requests.iter().any(|url| url.contains("/api/history")), "{requests:?}");
        let strangers: Vec<_> = requests.iter().filter(|url| !url.starts_with(&own)).collect();
        assert!(strangers.is_empty(), "{strangers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_each_endpoint_with_its_state_and_why() {
    let Some(scene) = scene().await else { return };
    assert!(scene.endpoint("web-2").await.contains(" up for "), "{}", scene.endpoint("web-2").await);
    assert_eq!(scene.text("#verdict").await, "All is well: 3 of 3 endpoints are available.");
    scene.stack.container("web-2").crash().await;
    eventually!(scene.endpoint("web-2").await.contains(" down for "));
    let row = scene.endpoint("web-2").await;
    assert!(row.contains("probes failed, the last one: connection refused"), "{row}");
    let verdict = scene.text("#verdict").await;
    assert_eq!(verdict, "1 of 3 endpoints of shop is down: connection refused.");
    assert!(scene.text("#service-list h3 + .badge").await.contains("2 of 3 available"));
    scene.stack.container("web-2").recover().await.unwrap();
    eventually!(scene.text("#verdict").await.starts_with("All is well"));
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_the_requests_that_were_served() {
    let Some(scene) = scene().await else { return };
    assert_eq!(scene.text(".figure").await, "0");
    scene.stack.answers(20).await;
    scene.stack.get("/status/500").await;
    let mut figures;
    eventually!(within 30, {
        figures = scene.browser.eval("[...document.querySelectorAll('.figure')].map((one) => one.innerText)").await;
        figures[0] != "0"
    });
    // 21 requests in a step of about five seconds, unless its end came between them.
    let rate: f64 = figures[0].as_str().unwrap().parse().unwrap();
    assert!(rate > 0.0 && rate < 6.0, "{figures}");
    assert!(figures[3].as_str().unwrap().ends_with("ms"), "{figures}");
    let row = async || scene.text("#route-rows").await.lines().find(|line| line.starts_with("all")).unwrap().to_owned();
    eventually!(within 30, row().await.contains(" %") && !row().await.contains("\t0 %"));
    let labels = "[...document.querySelectorAll('.chart svg')].map((one) => one.getAttribute('aria-label'))";
    let labels = scene.browser.eval(labels).await;
    assert!(labels[0].as_str().unwrap().contains("2xx: now"), "{labels}");
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn button_drains_and_ends_that() {
    let Some(scene) = scene().await else { return };
    scene.browser.click("[aria-label='Drain web-2 of shop']").await;
    eventually!(scene.endpoint("web-2").await.contains("draining"));
    assert!(scene.is_draining("web-2").await);
    assert!(scene.stack.answers(8).await.iter().all(|name| name != "web-2"));
    assert_eq!(scene.text("#said").await, "web-2 of shop: it drains.");
    scene.browser.click("[aria-label='Undrain web-2 of shop']").await;
    eventually!(!scene.is_draining("web-2").await);
    eventually!(scene.endpoint("web-2").await.contains(" up for "));
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn field_explains_which_route_a_request_takes_and_why_not_another() {
    let Some(scene) = scene().await else { return };
    scene.browser.write("#explain-url", "http://test.example/cart/1\n").await;
    eventually!(scene.text("#explained").await.contains("route cart"));
    let told = scene.text("#explained").await;
    assert!(told.contains("GET http://test.example/cart/1 goes to service shop."), "{told}");
    assert!(told.contains("all: it holds, but `cart` goes first"), "{told}");
    assert!(told.contains("web-3, up: 50 %"), "{told}");
    assert!(told.contains(" (the other end of the connection)"), "{told}");
    assert!(!told.contains("Certificate"), "{told}");
    scene.browser.eval("document.getElementById('explain-url').value = 'http://other.example/cart'").await;
    scene.browser.click("#explain button").await;
    eventually!(scene.text("#explained").await.contains("no route"));
    let told = scene.text("#explained").await;
    assert!(told.contains("is answered 404 no_route"), "{told}");
    assert!(told.contains("all: the host `other.example` is not `test.example`"), "{told}");
    scene.browser.eval("document.getElementById('explain-url').value = 'https://test.example/cart'").await;
    scene.browser.click("#explain button").await;
    eventually!(scene.text("#explained").await.contains("site.pem, for test.example"));
    scene.is_clean().await;
    scene.browser.eval("document.getElementById('explain-url').value = '<b>no URL</b>'").await;
    scene.browser.click("#explain button").await;
    // What is told is text, whatever is in it.
    eventually!(scene.text("#explained").await.contains("<b>no URL</b>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_reload_is_shown_with_its_problem_and_without_secrets() {
    let Some(scene) = scene().await else { return };
    let wrong = CONFIG.replacen("service = \"shop\"", "service = \"shoop\"", 1);
    scene.stack.write(&wrong);
    scene.browser.click("#reload").await;
    eventually!(scene.text("#refused").await.contains("refused"));
    let told = scene.text("#refused").await;
    assert!(told.contains("waypost.toml:17:") && told.contains("routes.cart.service"), "{told}");
    assert!(told.contains("shoop") && told.contains("did you mean `shop`?"), "{told}");
    assert!(scene.text("#verdict").await.contains("was refused, generation 1 goes on serving"));
    let whole = scene.browser.eval("document.documentElement.outerHTML").await;
    assert!(whole.as_str().unwrap().contains("token = \"***\"") && !whole.as_str().unwrap().contains(TOKEN), "{whole}");
    scene.stack.write(CONFIG);
    scene.browser.click("#reload").await;
    eventually!(scene.text("#refused").await.is_empty() && scene.text("#verdict").await.starts_with("All is well"));
    // What the browser says of the status 422 is the only thing it may say.
    let complaints = scene.browser.complaints().await;
    assert!(complaints.iter().all(|complaint| complaint.contains("422")), "{complaints:?}");
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_are_those_of_the_file_even_if_nothing_else_has_changed() {
    let Some(scene) = scene().await else { return };
    let nobody = r#"[services.nobody]
    endpoints = [{ name = "web-1", url = "http://127.0.0.1:9" }]
    [routes.all]"#;
    let doubtful = CONFIG.replace("[routes.all]", nobody);
    let places = "[...document.querySelectorAll('#warnings code')].map((one) => one.textContent).join()";
    scene.stack.reload(&doubtful).await;
    eventually!(scene.browser.eval(places).await.as_str().unwrap().contains("unused_service"));
    let before = scene.browser.eval(places).await;
    scene.stack.write(&format!("# A line more.\n{doubtful}"));
    scene.stack.waypost.reload().await.unwrap();
    eventually!(scene.browser.eval(places).await != before);
    assert_eq!(scene.stack.admin("GET", "/api/status").await.json()["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_says_what_it_would_change_and_does_it() {
    let Some(scene) = scene().await else { return };
    let extra = "[routes.extra]\n    path_prefix = \"/extra\"\n    service = \"shop\"\n    [routes.all]";
    scene.stack.reload(&CONFIG.replace("[routes.all]", extra)).await;
    eventually!(scene.text("#generation").await == "2" && scene.text("#route-rows").await.contains("extra"));
    assert!(scene.text("#generation-rows").await.contains("+route extra"));
    scene.browser.click("[aria-label='Return to generation 1']").await;
    eventually!(scene.text("#rollback-diff").await.contains("-route extra"));
    scene.browser.click("#rollback-cancel").await;
    assert_eq!(scene.stack.admin("GET", "/api/status").await.json()["generation"], 2);
    scene.browser.click("[aria-label='Return to generation 1']").await;
    scene.browser.click("#rollback-do:not(:disabled)").await;
    eventually!(scene.text("#generation").await == "3" && !scene.text("#route-rows").await.contains("extra"));
    assert!(scene.text("#generation-rows").await.contains("rollback to 1"));
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_is_never_shown_with_the_diff_of_another_generation() {
    let Some(scene) = scene().await else { return };
    let with = |routes: &[&str]| {
        let one = |name: &&str| format!("[routes.{name}]\n    path_prefix = \"/{name}\"\n    service = \"shop\"\n    ");
        CONFIG.replace("[routes.all]", &(routes.iter().map(one).collect::<String>() + "[routes.all]"))
    };
    scene.stack.reload(&with(&["extra"])).await;
    scene.stack.reload(&with(&["extra", "other"])).await;
    eventually!(scene.text("#generation").await == "3");
    // The answer for generation 1 comes when it is let go.
    let late = "(() => {
        const ask = window.fetch;
        const held = new Promise((done) => { window.letGo = done; });
        window.fetch = async (path, options) => {
            if (path.includes('/generations/1/')) await held;
            return ask(path, options);
        };
    })()";
    scene.browser.eval(late).await;
    scene.browser.click("[aria-label='Return to generation 1']").await;
    scene.browser.click("#rollback-cancel").await;
    scene.browser.click("[aria-label='Return to generation 2']").await;
    eventually!(scene.text("#rollback-diff").await.contains("-route other"));
    let after = "(async () => {
        window.letGo();
        const answered = () => performance.getEntriesByType('resource').some((one) => one.name.includes('/generations/1/'));
        while (!answered()) await new Promise((done) => setTimeout(done, 20));
        await new Promise((done) => setTimeout(done, 200));
        return document.getElementById('rollback-diff').textContent;
    })()";
    let told = scene.browser.eval(after).await;
    let told = told.as_str().unwrap();
    assert!(told.contains("-route other") && !told.contains("-route extra"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_listeners_are_shown() {
    let Some(scene) = scene().await else { return };
    let listeners = scene.text("#listener-rows").await;
    let secure = scene.stack.address("secure").to_string();
    assert!(listeners.lines().any(|line| line.contains("secure") && line.contains(&secure)), "{listeners}");
    let certificates = scene.text("#certificate-rows").await;
    assert!(certificates.contains("test.example") && certificates.contains("89 days left"), "{certificates}");
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_asked_for_kept_in_the_tab_only_and_works() {
    let Some(scene) = scene().await else { return };
    scene.is_clean().await;
    assert!(scene.text("footer").await.contains("metrics"), "where no token is in use, links lead somewhere");
    let browser = &scene.browser;
    // A name that is not of this machine, though it leads here: nothing is told without the token.
    let own = scene.url().replace("127.0.0.1", ELSEWHERE);
    browser.open(&own).await;
    eventually!(scene.text("#token-title").await == "Admin token");
    assert_eq!(scene.text("main").await, "");
    browser.write("#token-field", "open sesame\n").await;
    eventually!(scene.text("#token-why").await.starts_with("That was not the admin token."));
    browser.write("#token-field", &format!("{TOKEN}\n")).await;
    eventually!(scene.text("#phase").await == "ready" && scene.endpoint("web-1").await.contains(" up for "));
    let links = "document.querySelectorAll('footer a').length > 0 && document.getElementById('raw').checkVisibility()";
    assert_eq!(browser.eval(links).await, false, "a link shows no token");
    browser.click("[aria-label='Drain web-1 of shop']").await;
    eventually!(scene.is_draining("web-1").await);
    let kept = "[localStorage.length, document.cookie, Object.values(sessionStorage).join()]";
    assert_eq!(browser.eval(kept).await, json!([0, "", TOKEN]));
    browser.click("#forget").await;
    eventually!(scene.text("#token-title").await == "Admin token");
    assert_eq!(browser.eval("sessionStorage.length").await, 0);
    let strangers = browser.requests().await.into_iter().filter(|url| !url.starts_with(&own));
    assert_eq!(strangers.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(browser.violations().await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_as_they_happen() {
    let Some(scene) = scene().await else { return };
    // A name of our own, for the log is that of all tests.
    let own = format!("route-{}", scene.stack.address("web").port());
    scene.stack.reload(&CONFIG.replace("routes.all", &format!("routes.{own}"))).await;
    let expected = format!("+route {own}");
    eventually!(scene.text("#event-list").await.contains(&expected));
    scene.browser.eval("document.getElementById('event-level').value = 'trouble'").await;
    scene.browser.eval("document.getElementById('event-level').dispatchEvent(new Event('change'))").await;
    assert!(!scene.text("#event-list").await.contains(&expected), "it is no trouble");
    // Who listens anew, from the first event on, shows none twice, and all in their order.
    let anew = "(async () => {
        const { events } = await import('/dashboard/events.js');
        const [known, stop] = [{ heard: 0 }, new AbortController()];
        const shown = () => [...document.getElementById('event-list').children];
        const newest = Number(shown()[0].dataset.id);
        const listening = events(known, stop.signal, () => {});
        while (known.heard < newest) await new Promise((done) => setTimeout(done, 20));
        stop.abort();
        await listening;
        const ids = shown().map((item) => Number(item.dataset.id));
        return ids.every((id, place) => place === 0 || id < ids[place - 1]);
    })()";
    assert_eq!(scene.browser.eval(anew).await, true);
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_says_so_if_there_are_no_events() {
    let Some(scene) = scene_with(None).await else { return };
    assert_eq!(scene.text("#event-state").await, "This process keeps no events: it runs without a log.");
    scene.is_clean().await;
}

/// A way to an admin address, which ends with all that goes over it when the task is aborted.
async fn way(from: SocketAddr, to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(from).await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            open.spawn(async move { copy_bidirectional(&mut client, &mut TcpStream::connect(to).await?).await });
        }
    };
    (address, tokio::spawn(relay))
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_is_told_and_another_process_is_taken_for_another() {
    let Some(Scene { stack, browser }) = scene().await else { return };
    let (address, first) = way("127.0.0.1:0".parse().unwrap(), stack.waypost.admin_address().unwrap()).await;
    browser.open(&format!("http://{address}/")).await;
    eventually!(browser.text("#phase").await == "ready");
    stack.answers(20).await;
    eventually!(within 30, browser.text(".figure").await != "0");
    first.abort();
    eventually!(browser.text("#verdict").await.starts_with("The connection to Waypost is lost; trying again."));
    assert_eq!(browser.text("#phase").await, "no answer");
    assert!(browser.text("#service-list").await.contains("web-1"), "what was known stays to be read");
    let next =
        Stack::start(&waypost_tests::shop("").replace("[routes", "[admin]\naddress = \"127.0.0.1:0\"\n[routes")).await;
    let (_, _second) = way(address, next.waypost.admin_address().unwrap()).await;
    eventually!(browser.text("#verdict").await.starts_with("All is well"));
    assert!(!browser.text("#route-rows").await.contains("cart"), "it has no such route");
    assert_eq!(browser.text(".figure").await, "0", "it has had no request");
}

/// A page of the browser's own, into which a script may be put, is what a stranger would use.
#[tokio::test(flavor = "multi_thread")]
async fn page_may_speak_with_nobody_else_and_make_nothing_of_text() {
    let Some(scene) = scene().await else { return };
    scene.is_clean().await;
    let attempts = [
        "fetch('http://127.0.0.2:9/').catch(() => {})",
        "new Promise((done) => { const image = new Image(); image.onerror = () => done(); image.src = 'http://127.0.0.2:9/'; })",
        "document.body.append(Object.assign(document.createElement('style'), { textContent: 'body { display: none }' }))",
        "try { document.body.innerHTML = '<b>text</b>' } catch {}",
    ];
    for (count, attempt) in attempts.iter().enumerate() {
        scene.browser.eval(attempt).await;
        eventually!(scene.browser.violations().await.as_array().unwrap().len() == count + 1);
    }
    assert_ne!(scene.browser.eval("document.body.innerHTML").await, "<b>text</b>");
}

/// Every text that can be read has a contrast of 4.5 to what is behind it (WCAG 2.2, 1.4.3); those that have less.
const FAINT: &str = r"(() => {
    const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const parts = (color) => color.match(/[\d.]+/g).map(Number);
    const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const found = parts(getComputedStyle(one).backgroundColor);
            if (found[3] !== 0) return found;
        }
        return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    };
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    const seen = [...document.body.querySelectorAll('*')].filter((element) => own(element) && element.checkVisibility());
    const ratio = (element) => {
        const [one, other] = [parts(getComputedStyle(element).color), behind(element)].map(light);
        return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    };
    const faint = seen.filter((element) => !element.disabled && ratio(element) < 4.5);
    return { count: seen.length, faint: faint.map((element) => `${element.innerText}: ${ratio(element)}`) };
})()";

#[tokio::test(flavor = "multi_thread")]
async fn page_can_be_read_on_a_phone_and_at_a_desk_by_light_and_in_the_dark() {
    let Some(scene) = scene().await else { return };
    // Something of everything that has a colour.
    scene.stack.container("web-2").crash().await;
    scene.stack.write("version = 1\n");
    scene.stack.waypost.reload().await.unwrap_err();
    scene.browser.click("[aria-label='Drain web-3 of shop']").await;
    scene
        .browser
        .write("#explain-url", "http://test.example/a-path-of-many-letters-that-has-no-place-to-break-it\n")
        .await;
    eventually!(scene.text("#explained").await.contains("web-3") && scene.text("#verdict").await.contains("refused"));
    eventually!(scene.endpoint("web-2").await.contains(" down "));
    scene.browser.eval("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
    for (width, scheme) in
        [(1280, "light"), (1280, "dark"), (768, "light"), (375, "dark"), (375, "light"), (320, "light")]
    {
        scene.browser.is_sized(width, 800).await;
        scene.browser.prefers(scheme).await;
        let wide = scene.browser.eval("document.scrollingElement.scrollWidth").await;
        assert_eq!(wide, width, "{width} px, {scheme}");
        let found = scene.browser.eval(FAINT).await;
        assert!(found["count"].as_u64().unwrap() > 100, "{found}");
        assert_eq!(found["faint"], json!([]), "{width} px, {scheme}");
    }
}

/// Everything that can be used and is shown, by its words for the screen reader.
const CONTROLS: &str =
    "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex=\"0\"]')]
    .filter((element) => element.checkVisibility()).length";

#[tokio::test(flavor = "multi_thread")]
async fn every_control_is_reached_by_tab_seen_there_and_has_a_name() {
    let Some(scene) = scene().await else { return };
    scene.stack.reload(&CONFIG.replace("weight = 2", "weight = 3")).await;
    eventually!(scene.text("#generation-rows").await.contains("Return"));
    scene.browser.eval("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
    let controls = scene.browser.eval(CONTROLS).await.as_u64().unwrap();
    let mut reached: Vec<Focused> = Vec::new();
    for _ in 0..controls {
        reached.push(scene.browser.tab().await);
    }
    for one in &reached {
        assert!(!one.name.is_empty() && !["", "none", "generic"].contains(&&*one.role), "{one:?}");
        assert_ne!(one.outline, "none", "{one:?}");
    }
    let names: Vec<_> = reached.iter().map(|one| format!("{} {}", one.role, one.name)).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "each once: {names:#?}");
    for expected in
        ["button Drain web-1 of shop", "textbox URL", "button Return to generation 1", "button Reload the file"]
    {
        assert!(names.iter().any(|name| name == expected), "{expected}: {names:#?}");
    }
    let tables = "[...document.querySelectorAll('table')].every((one) => one.caption?.innerText.trim())";
    assert_eq!(scene.browser.eval(tables).await, true);
    assert_eq!(scene.browser.eval("document.querySelectorAll('h1').length").await, 1);
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn focus_and_what_was_written_stay_while_the_page_goes_on() {
    let Some(scene) = scene().await else { return };
    scene.browser.write("#explain-url", "/half").await;
    scene.browser.eval("document.querySelector(\"[aria-label='Drain web-2 of shop']\").focus()").await;
    scene.stack.container("web-1").crash().await;
    eventually!(scene.endpoint("web-1").await.contains(" down for "));
    let focused = scene.browser.eval("document.activeElement.getAttribute('aria-label')").await;
    assert_eq!(focused, "Drain web-2 of shop");
    assert_eq!(scene.browser.eval("document.getElementById('explain-url').value").await, "/half");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_tab_asks_nothing_until_it_is_seen_again() {
    let Some(scene) = scene().await else { return };
    let turn = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ configurable: true, value: {hidden} }});
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    scene.browser.eval(&turn(true)).await;
    // What was under way when it was hidden comes to its end; after that nothing may be asked for two of its rounds.
    let quiet = "(async () => {
        const asked = () => performance.getEntriesByType('resource').length;
        const pause = (millis) => new Promise((done) => setTimeout(done, millis));
        for (let before = -1; before !== asked(); await pause(700)) before = asked();
        performance.clearResourceTimings();
        await pause(2200);
        return asked();
    })()";
    assert_eq!(scene.browser.eval(quiet).await, Value::from(0));
    scene.browser.eval(&turn(false)).await;
    eventually!(scene.browser.eval("performance.getEntriesByType('resource').length").await != 0);
    scene.is_clean().await;
}
