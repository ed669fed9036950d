//! The admin API as its clients see it: who may ask, what is answered.

use std::time::SystemTime;

use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use waypost_config::value::Secret;

use super::*;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timestamp::Timestamp;

/// One service `shop` with one endpoint `web 1`.
struct Fleet {
    phase: Phase,
    reasons: Vec<String>,
    problems: Vec<ProblemView>,
    draining: Mutex<bool>,
    /// A reload waits for the first, and says by the second that it is over.
    reload: (Notify, Notify),
    metrics: Arc<Metrics>,
}

impl Fleet {
    fn new() -> Fleet {
        let fleet = Fleet {
            phase: Phase::Running,
            reasons: Vec::new(),
            problems: Vec::new(),
            draining: Mutex::new(false),
            reload: (Notify::new(), Notify::new()),
            metrics: Metrics::new(),
        };
        fleet.reload.0.notify_one();
        fleet
    }
}

fn moment() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_237_920_123))
}

#[async_trait]
impl AdminState for Fleet {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if self.reasons.is_empty() { Ok(()) } else { Err(self.reasons.clone()) }
    }

    fn metrics_text(&self) -> String {
        self.metrics.encode()
    }

    fn status_view(&self) -> StatusView {
        let refused_at = (!self.problems.is_empty()).then(moment);
        let (version, phase, loaded_at) = ("0.0.1", self.phase, moment());
        StatusView {
            version,
            phase,
            reasons: self.reasons.clone(),
            generation: 42,
            loaded_at,
            checked_at: loaded_at,
            refused_at,
            events: false,
        }
    }

    fn history(&self, after: u64) -> history::Told {
        let mut history = history::History::new(moment().0);
        (0..3).for_each(|_| history.step(history::Look::default(), (moment().0, history::STEP)));
        history.after(after)
    }

    fn listeners_view(&self) -> Vec<ListenerView> {
        let certificate = CertificateView {
            file: "site.pem".to_owned(),
            subject: "CN=shop.example".to_owned(),
            names: vec!["shop.example".to_owned()],
            serial: "0a:1b".to_owned(),
            not_before: moment(),
            not_after: moment(),
        };
        vec![ListenerView {
            name: "web".to_owned(),
            address: SocketAddr::from(([10, 0, 0, 1], 443)),
            tls: true,
            redirect_https: false,
            proxy_protocol: false,
            connections: 7,
            max_connections: 100,
            certificates: vec![certificate],
        }]
    }

    fn routes_view(&self) -> Vec<RouteView> {
        vec![RouteView {
            name: "all".to_owned(),
            listeners: vec!["web".to_owned()],
            when: vec!["host shop.example".to_owned()],
            priority: 0,
            middlewares: Vec::new(),
            service: "shop".to_owned(),
        }]
    }

    fn config_view(&self) -> ConfigView {
        let refused = Some(RefusedView { at: moment(), problems: self.problems.clone() });
        ConfigView {
            generation: 42,
            loaded_at: moment(),
            path: Some("waypost.toml".to_owned()),
            text: "version = 1\n".to_owned(),
            refused: refused.filter(|refused| !refused.problems.is_empty()),
            warnings: vec![ProblemView { lint: Some("unused_service"), ..problem() }],
        }
    }

    fn services_view(&self) -> Vec<ServiceView> {
        let endpoint = EndpointView {
            name: "web 1".to_owned(),
            url: "http://10.0.0.1:8080".to_owned(),
            state: "up",
            why: "status 200".to_owned(),
            since: moment(),
            weight: 1,
            backup: false,
            draining: *self.draining.lock(),
            available: true,
            ejected: false,
            circuit: "closed",
            in_flight: 3,
        };
        let (name, balancer) = ("shop".to_owned(), "round_robin".to_owned());
        vec![ServiceView { name, balancer, available: 1, endpoints: vec![endpoint] }]
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Unclear> {
        Err(Unclear::Url(question.url.clone()))
    }

    fn events(&self) -> Option<Events> {
        None
    }

    async fn rollback(&self, _: Option<u64>) -> Result<ReloadReport, ReloadRefused> {
        self.reload().await
    }

    fn generations(&self) -> Vec<GenerationView> {
        Vec::new()
    }

    async fn preview(&self, of: Proposal) -> Result<Preview, ReloadRefused> {
        let Proposal::Generation(number) = of else { return Err(ReloadRefused { problems: self.problems.clone() }) };
        Ok(Preview { changes: vec![format!("~back to {number}")], touched: Vec::new(), tests: 0 })
    }

    async fn reload(&self) -> Result<ReloadReport, ReloadRefused> {
        self.reload.0.notified().await;
        self.reload.1.notify_one();
        if self.problems.is_empty() {
            return Ok(ReloadReport { generation: 43, changes: vec!["+route shop".to_owned()] });
        }
        Err(ReloadRefused { problems: self.problems.clone() })
    }

    fn drain(&self, service: &str, endpoint: &str, order: DrainOrder) -> Result<(), NotFound> {
        if service != "shop" {
            return Err(NotFound::Service);
        }
        if endpoint != "web 1" {
            return Err(NotFound::Endpoint);
        }
        *self.draining.lock() = order == DrainOrder::Drain;
        Ok(())
    }
}

fn problem() -> ProblemView {
    ProblemView { line: Some(3), message: "no such service".to_owned(), ..ProblemView::default() }
}

/// Serves a fleet on a port of its own and sends requests to it over loopback.
struct Bench {
    address: SocketAddr,
    fleet: Arc<Fleet>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn bench(fleet: Fleet) -> Bench {
    let fleet = Arc::new(fleet);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let router = router(fleet.clone(), Auth::new(None));
    let server = tokio::spawn(serve(listener, router, async { stopped.await.unwrap_or_default() }));
    Bench { address, fleet, stop, server }
}

impl Bench {
    async fn send(&self, method: Method, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let response = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[track_caller]
    fn check(&self, method: Method, path: &str, status: u16, body: Value) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let path = path.to_owned();
        async move {
            let (found, text) = self.send(method, &path).await;
            let found_body: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((found.as_u16(), found_body), (status, body), "{path}, asked at {place}");
        }
    }
}

#[tokio::test]
async fn ping_answers_in_every_phase() {
    for phase in [Phase::Starting, Phase::Running, Phase::Draining] {
        let bench = bench(Fleet { phase, ..Fleet::new() }).await;
        assert_eq!(bench.send(Method::GET, "/ping").await, (StatusCode::OK, "pong\n".to_owned()));
    }
}

#[tokio::test]
async fn ready_says_why_not() {
    let cases = [
        (Phase::Running, vec![], 200, json!({ "ready": true, "phase": "running", "reasons": [] })),
        (Phase::Starting, vec![], 503, json!({ "ready": false, "phase": "starting", "reasons": ["starting"] })),
        (Phase::Draining, vec![], 503, json!({ "ready": false, "phase": "draining", "reasons": ["draining"] })),
        (
            Phase::Running,
            vec!["service shop has no endpoint".to_owned()],
            503,
            json!({ "ready": false, "phase": "running", "reasons": ["service shop has no endpoint"] }),
        ),
    ];
    for (phase, reasons, status, body) in cases {
        let bench = bench(Fleet { phase, reasons, ..Fleet::new() }).await;
        bench.check(Method::GET, "/ready", status, body).await;
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let bench = bench(Fleet::new()).await;
    bench.fleet.metrics.config_generation.set(42);
    let (status, text) = bench.send(Method::GET, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("\nwaypost_config_generation 42\n"), "{text}");
}

#[tokio::test]
async fn views_are_told_as_json() {
    let bench = bench(Fleet { problems: vec![problem()], ..Fleet::new() }).await;
    let time = "2026-11-21T05:12:00.123Z";
    let version = json!({ "name": "waypost", "version": env!("CARGO_PKG_VERSION") });
    bench.check(Method::GET, "/api/version", 200, version).await;
    let refused = json!({ "at": time, "problems": [{ "line": 3, "message": "no such service" }] });
    let warning = json!({ "line": 3, "message": "no such service", "lint": "unused_service" });
    let config = json!({
        "generation": 42, "loaded_at": time, "path": "waypost.toml", "text": "version = 1\n", "refused": refused,
        "warnings": [warning],
    });
    bench.check(Method::GET, "/api/config", 200, config).await;
    let endpoint = json!({
        "name": "web 1", "url": "http://10.0.0.1:8080", "state": "up", "why": "status 200", "since": time, "weight": 1,
        "backup": false, "draining": false, "available": true,
        "ejected": false, "circuit": "closed", "in_flight": 3,
    });
    let services = json!([{ "name": "shop", "balancer": "round_robin", "available": 1, "endpoints": [endpoint] }]);
    bench.check(Method::GET, "/api/services", 200, services).await;
    let status = json!({
        "version": "0.0.1", "phase": "running", "reasons": [], "generation": 42, "loaded_at": time,
        "checked_at": time, "refused_at": time, "events": false,
    });
    bench.check(Method::GET, "/api/status", 200, status).await;
    let certificate = json!({
        "file": "site.pem", "subject": "CN=shop.example", "names": ["shop.example"], "serial": "0a:1b",
        "not_before": time, "not_after": time,
    });
    let listener = json!({
        "name": "web", "address": "10.0.0.1:443", "tls": true, "redirect_https": false, "proxy_protocol": false,
        "connections": 7, "max_connections": 100, "certificates": [certificate],
    });
    bench.check(Method::GET, "/api/listeners", 200, json!([listener])).await;
    let route = json!({
        "name": "all", "listeners": ["web"], "when": ["host shop.example"], "priority": 0, "middlewares": [],
        "service": "shop",
    });
    bench.check(Method::GET, "/api/routes", 200, json!([route])).await;
}

#[tokio::test]
async fn history_is_told_whole_or_from_where_one_left_off() {
    let bench = bench(Fleet::new()).await;
    for (path, steps) in [("/api/history", 3), ("/api/history?after=1", 2), ("/api/history?after=3", 0)] {
        let (status, text) = bench.send(Method::GET, path).await;
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &told["last"]), (StatusCode::OK, &3.into()), "{path}: {text}");
        assert_eq!(told["whole"]["requests"].as_array().unwrap().len(), steps, "{path}: {text}");
    }
    let unclear = json!({ "error": "unclear", "detail": "write ?after=N, N being a step's number" });
    bench.check(Method::GET, "/api/history?after=noon", 400, unclear).await;
}

#[tokio::test]
async fn generation_says_what_a_return_to_it_would_change() {
    let bench = bench(Fleet::new()).await;
    let preview = json!({ "changes": ["~back to 3"], "touched": [], "tests": 0 });
    bench.check(Method::GET, "/api/generations/3/diff", 200, preview).await;
    let missing = json!({ "error": "not_found", "detail": "no such path" });
    bench.check(Method::GET, "/api/generations/three/diff", 404, missing).await;
}

/// An answer to somebody who knows the file with this tag.
async fn asset(path: &str, known: &str) -> http::Response<Body> {
    let router = router(Arc::new(Fleet::new()), Auth::new(Some(Secret::from("t0ken"))));
    let request = Request::builder().uri(path).header(header::IF_NONE_MATCH, known).body(Body::empty()).unwrap();
    TowerToHyperService::new(router).call(request).await.unwrap()
}

#[tokio::test]
async fn dashboard_is_open_to_all_and_bound_to_this_address() {
    for (path, media_type, text) in [
        ("/", "text/html; charset=utf-8", "<title>Waypost</title>"),
        ("/dashboard/style.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/dashboard/main.js", "text/javascript; charset=utf-8", "/api/history"),
        ("/dashboard/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let response = asset(path, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((&*header("content-type"), &*header("x-content-type-options")), (media_type, "nosniff"));
        let policy = header("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(text), "{path}");
    }
    assert_eq!(asset("/dashboard/", "").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn dashboard_is_sent_once_and_again_when_it_is_another() {
    let first = asset("/dashboard/main.js", "").await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.headers()["cache-control"], "no-cache");
    let again = asset("/dashboard/main.js", &tag).await;
    assert_eq!((again.status(), &again.headers()["etag"]), (StatusCode::NOT_MODIFIED, &first.headers()["etag"]));
    assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(asset("/dashboard/style.css", &tag).await.status(), StatusCode::OK, "it is another file");
    assert_eq!(asset("/dashboard/main.js", "\"0011223344556677\"").await.status(), StatusCode::OK);
}

/// What a script imports is served, and nothing is served that no page asks for.
#[tokio::test]
async fn dashboard_is_whole() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard");
    let (mut texts, mut names) = (String::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        texts += &std::fs::read_to_string(&path).unwrap();
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.len() > 10, "{names:?}");
    for name in names.iter().filter(|name| *name != "index.html") {
        let asked = texts.contains(&format!("\"./{name}\"")) || texts.contains(&format!("\"/dashboard/{name}\""));
        assert!(asked, "nobody asks for {name}");
        assert_eq!(asset(&format!("/dashboard/{name}"), "").await.status(), StatusCode::OK, "{name}");
    }
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "localStorage"]
    {
        assert!(!texts.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn reload_reports_what_changed() {
    let bench = bench(Fleet::new()).await;
    let report = json!({ "generation": 43, "changes": ["+route shop"] });
    bench.check(Method::POST, "/api/reload", 200, report).await;
}

#[tokio::test]
async fn refused_reload_is_answered_with_its_problems() {
    let bench = bench(Fleet { problems: vec![problem()], ..Fleet::new() }).await;
    let body = json!({
        "error": "config_refused",
        "detail": "config refused, the old one goes on serving",
        "problems": [{ "line": 3, "message": "no such service" }],
    });
    bench.check(Method::POST, "/api/reload", 422, body).await;
}

#[tokio::test]
async fn reload_ends_though_its_caller_goes_away() {
    let bench = bench(Fleet::new()).await;
    bench.fleet.reload.0.notified().await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(b"POST /api/reload HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // An answer to a later request proves that the server has read the first one.
    bench.send(Method::GET, "/ping").await;
    drop(stream);
    bench.send(Method::GET, "/ping").await;
    bench.fleet.reload.0.notify_one();
    tokio::time::timeout(Duration::from_secs(10), bench.fleet.reload.1.notified()).await.unwrap();
}

#[tokio::test]
async fn endpoint_is_drained_and_undrained() {
    let bench = bench(Fleet::new()).await;
    let path = |endpoint, order| format!("/api/services/shop/endpoints/{endpoint}/{order}");
    let answer = |draining| json!({ "service": "shop", "endpoint": "web 1", "draining": draining });
    bench.check(Method::POST, &path("web%201", "drain"), 200, answer(true)).await;
    assert!(*bench.fleet.draining.lock());
    bench.check(Method::POST, &path("web%201", "undrain"), 200, answer(false)).await;
    assert!(!*bench.fleet.draining.lock());
    let missing = |detail| json!({ "error": "not_found", "detail": detail });
    bench.check(Method::POST, &path("web-9", "drain"), 404, missing("no such endpoint")).await;
    let other = "/api/services/other/endpoints/web-1/drain";
    bench.check(Method::POST, other, 404, missing("no such service")).await;
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_as_json() {
    let bench = bench(Fleet::new()).await;
    let missing = json!({ "error": "not_found", "detail": "no such path" });
    bench.check(Method::GET, "/api/nothing", 404, missing).await;
    let wrong = json!({ "error": "method_not_allowed", "detail": "this path has another method" });
    bench.check(Method::GET, "/api/reload", 405, wrong.clone()).await;
    bench.check(Method::POST, "/ping", 405, wrong).await;
}

/// The status for a peer from elsewhere, with or without the right token.
async fn from_elsewhere(path: &str, configured: Option<&str>, shown: Option<&str>) -> u16 {
    let router = router(Arc::new(Fleet::new()), Auth::new(configured.map(Secret::from)));
    let method = if path.ends_with("reload") { Method::POST } else { Method::GET };
    let peer: SocketAddr = "10.0.0.9:50000".parse().unwrap();
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    if let Some(token) = shown {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
    TowerToHyperService::new(router).call(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn only_ping_and_ready_and_the_page_are_open_to_all() {
    for path in ["/ping", "/ready", "/", "/dashboard/main.js"] {
        assert_eq!(from_elsewhere(path, None, None).await, 200, "{path}");
    }
    let guarded = ["metrics", "api/version", "api/status", "api/history", "api/config", "api/listeners", "api/routes"];
    let more = ["api/services", "api/generations", "api/generations/1/diff", "api/reload"];
    for path in guarded.into_iter().chain(more).map(|path| format!("/{path}")) {
        let path = &*path;
        assert_eq!(from_elsewhere(path, None, Some("t0ken")).await, 403, "{path}");
        assert_eq!(from_elsewhere(path, Some("t0ken"), None).await, 401, "{path}");
        assert_eq!(from_elsewhere(path, Some("t0ken"), Some("wrong")).await, 401, "{path}");
        assert_eq!(from_elsewhere(path, Some("t0ken"), Some("t0ken")).await, 200, "{path}");
    }
    assert_eq!(from_elsewhere("/api/nothing", Some("t0ken"), None).await, 401);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_connection_that_says_nothing() {
    let bench = bench(Fleet::new()).await;
    let mut silent = TcpStream::connect(bench.address).await.unwrap();
    silent.write_all(b"GET /ping HTTP/1.1\r\n").await.unwrap();
    bench.send(Method::GET, "/ping").await;
    bench.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), bench.server).await;
    ended.unwrap().unwrap().unwrap();
}
