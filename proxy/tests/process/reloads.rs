//! Reload after reload under load, everything in the file changing: no request fails, nothing is forgotten, and the
//! process stays as large as it was.
//!
//! The quick form runs with every test; the whole one, a thousand reloads in ten minutes, is for `just soak`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use loadtest::plan::{Plan, Protocol, Request, Reuse, Trust};
use loadtest::report::Latency;
use loadtest::{Load, Report};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::client::{Admin, Connection, Reply};
use crate::eventually;
use crate::process::{Level, Running, Scene};

/// What is the same in all generations: the state of the service `steady` is never to be forgotten.
const STEADY: &str = r#"
version = 1
[admin]
address = "127.0.0.1:0"
[routes.chat]
path = "/ws"
service = "steady"
[services.steady]
endpoints = [{ name = "web-1", url = "http://{web-1}" }, { name = "web-2", url = "http://{web-2}" }]
"#;

/// How much of everything.
struct Soak {
    reloads: u32,
    every: Duration,
    rate: f64,
}

/// Signs the certificates that come and go.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for this name, and its key beside it.
    fn write_pair(&self, name: &str, file: &Path) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        fs::write(file.with_extension("pem"), cert.pem()).unwrap();
        fs::write(file.with_extension("key"), key.serialize_pem()).unwrap();
    }
}

/// The config of generation `number`: of everything that may change something does.
fn generation(number: u32, scene: &Scene, fixed: SocketAddr) -> String {
    let one_of = |choices: &[&str]| choices[number as usize % choices.len()].to_owned();
    let mut config = STEADY.to_owned();
    let mut add = |text: &str| config.push_str(text);
    add(&format!("[server]\nworkers = 2\ngrace_period = \"{}s\"\n", 5 + number % 2));
    add(&format!("[telemetry]\naccess_log = {{ path = \"access-{}.log\", format = \"json\" }}\n", number % 2));
    add(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nmax_connections = {}\ntimeouts = {{ idle = \"{}s\" }}\n\
         limits = {{ uri_bytes = \"{}KiB\", headers = {} }}\n",
        5_000 + number,
        60 + number % 3,
        8 + number % 4,
        100 + number % 5
    ));
    add(&format!(
        "[listeners.secure]\naddress = \"127.0.0.1:0\"\n[listeners.secure.tls]\ncertificates = [\n\
         {{ cert = \"live.pem\", key = \"live.key\" }},\n{{ cert = \"other-{0}.pem\", key = \"other-{0}.key\" }}]\n",
        number % 3
    ));
    if number.is_multiple_of(2) {
        add(&format!("[listeners.extra-{number}]\naddress = \"127.0.0.1:0\"\n"));
    }
    if number.is_multiple_of(3) {
        add(&format!("[listeners.fixed]\naddress = \"{fixed}\"\n"));
    }
    add(&format!("[middlewares.paint]\nheaders = {{ response_set = {{ x-generation = \"{number}\" }} }}\n"));
    add(&format!("[routes.all]\nservice = \"shop\"\ntimeouts = {{ request = \"{}s\" }}\n", 30 + number % 2));
    add(&one_of(&["middlewares = [\"paint\"]\n", "", "middlewares = [\"paint\"]\n"]));
    add(&format!("[routes.extra-{number}]\npath_prefix = \"/extra-{number}\"\nservice = \"extra-{number}\"\n"));
    add("middlewares = [\"paint\", \"strip\"]\n");
    add(&format!("[middlewares.strip]\nstrip_prefix = [\"/extra-{number}\"]\n"));
    add(&format!("[services.extra-{number}]\nendpoints = [{{ name = \"only\", url = \"http://{{web-1}}\" }}]\n"));
    add(&format!("[services.shop]\nbalancer = \"{}\"\n", one_of(&["round_robin", "least_request", "random", "hash"])));
    add(&one_of(&[
        "",
        "sticky = { cookie = \"lb\", secrets = [\"a secret of thirty-two characters\"] }\n",
        "sticky = { client_ip = \"1h\" }\n",
    ]));
    add(&one_of(&["", "outlier = { consecutive = 5 }\n", "slow_start = \"1s\"\n", "circuit_breaker = {}\n"]));
    add(&format!("timeouts = {{ response = \"{}s\" }}\npool = {{ max_idle = {} }}\n", 9 + number % 3, 40 + number % 7));
    add(&format!("max_in_flight = {}\n", 4_000 + number % 9));
    let weight = 1 + number % 3;
    add("health_check = { path = \"/health\", interval = \"500ms\", timeout = \"500ms\", rise = 1, fall = 2 }\n");
    add(&format!("endpoints = [\n{{ name = \"web-1\", url = \"http://{{web-1}}\", weight = {weight} }},\n"));
    add(&one_of(&["", "{ name = \"web-4\", url = \"http://{web-2}\", drain = true },\n"]));
    add("{ name = \"web-3\", url = \"http://{web-3}\" },\n{ name = \"web-2\", url = \"http://{web-2}\" }]\n");
    let named = scene.fleet.containers().iter();
    named.fold(config, |text, one| text.replace(&format!("{{{}}}", one.name()), &one.address().to_string()))
}

/// All kinds of clients, of which none may notice anything.
async fn begin_loads(scene: &Scene, running: &Running, (rate, length): (f64, Duration)) -> Vec<Load> {
    let plain = Plan::new(&format!("http://{}/", running.web())).unwrap().duration(length).mix(vec![
        Request { weight: 6, ..Request::get("/") },
        Request { weight: 2, ..Request::get("/bytes/20000") },
        Request { weight: 1, ..Request::get("/delay/30ms") },
        Request::post("/upload", "some text").keyed(HeaderName::from_static("x-request-key")),
    ]);
    let secure = running.listener("secure").to_string();
    let trust = Trust { ca: Some(scene.path("ca.pem")), ..Trust::default() };
    let over_tls = Plan { trust, ..Plan::new(&format!("https://{secure}/")).unwrap().duration(length) };
    let chat = Plan::new(&format!("http://{}/ws", running.web())).unwrap().duration(length);
    let plans = [
        plain.clone().rate(rate * 0.7).users(200),
        Plan { reuse: Reuse::Close, ..plain.clone() }.rate(rate * 0.1),
        plain.protocol(Protocol::H2c).rate(rate * 0.1),
        Plan { reuse: Reuse::Close, ..over_tls.clone() }.rate(rate * 0.02),
        over_tls.protocol(Protocol::Http2).rate(rate * 0.05),
        chat.protocol(Protocol::WebSocket).rate(rate * 0.03),
    ];
    let mut loads = Vec::new();
    for plan in plans {
        loads.push(loadtest::start(plan).await.unwrap());
    }
    loads
}

/// One reload, and whether what came with it serves.
async fn reload(scene: &Scene, running: &Running, (number, config): (u32, String)) {
    scene.write(&config);
    let answer = Admin::open(running.admin()).await.unwrap().ask("POST", "/api/reload").await.unwrap();
    assert_eq!(answer.status(), 200, "{number}: {}", answer.body);
    let extra: Reply = Connection::open(running.web()).await.unwrap().get(&format!("/extra-{number}/")).await.unwrap();
    let painted = format!("x-generation: {number}");
    assert!(extra.head.lines().any(|line| line == painted), "{number}: {}", extra.head);
}

/// The levels of the process while it is under load, one per reload.
struct Levels(Vec<Level>);

impl Levels {
    /// The middle of what was seen from one share of the time to another, in percent.
    fn middle(&self, from: usize, to: usize) -> u64 {
        let share = &self.0[self.0.len() * from / 100..self.0.len() * to / 100];
        let mut seen: Vec<u64> = share.iter().map(|level| level.resident).collect();
        seen.sort_unstable();
        seen[seen.len() / 2]
    }

    /// Flat: at the end as much as when the first fifth was over, but for what an allocator keeps here and there. Says
    /// what was seen.
    fn assert_flat(&self) -> String {
        let memory = (self.middle(20, 40), self.middle(80, 100));
        assert!(memory.1 <= memory.0 + (memory.0 / 10).max(8 * 1024), "resident memory in KiB grew: {memory:?}");
        format!("KiB resident, in the second fifth and the last: {memory:?}")
    }
}

async fn soak(soak: Soak) -> (Vec<Report>, String) {
    let scene = Scene::new("").await;
    let authority = Authority::new();
    fs::write(scene.path("ca.pem"), authority.0.pem()).unwrap();
    authority.write_pair("127.0.0.1", &scene.path("live"));
    (0..3).for_each(|number| authority.write_pair("other.example", &scene.path(&format!("other-{number}"))));
    // An address of its own: from the usual one a client may connect out of this very port while it is closed.
    let fixed = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
    scene.write(&generation(0, &scene, fixed));
    let ill = scene.fleet.container("web-3").unwrap();
    ill.set_health(StatusCode::INTERNAL_SERVER_ERROR);
    let mut running = scene.start(&["run"]).await;
    eventually!(running.log().contains("endpoint=web-3 from=checking to=down"));
    let (asked_before, at_rest) = (ill.requests(), running.level());
    let loads = begin_loads(&scene, &running, (soak.rate, soak.every * soak.reloads)).await;

    let (begun, mut levels) = (Instant::now(), Levels(Vec::new()));
    for number in 1..=soak.reloads {
        if number.is_multiple_of(10) {
            authority.write_pair("127.0.0.1", &scene.path("live"));
        }
        reload(&scene, &running, (number, generation(number, &scene, fixed))).await;
        levels.0.push(running.level());
        sleep_until(begun + soak.every * number).await;
    }
    let mut reports = Vec::new();
    for load in loads {
        reports.push(load.finish().await);
    }
    for report in &reports {
        assert_eq!((report.failed, report.completed), (0, report.requests), "{report}");
    }
    let flat = levels.assert_flat();
    // The last one closes what is idle towards endpoints: their pools are others then.
    reload(&scene, &running, (soak.reloads + 1, generation(soak.reloads + 1, &scene, fixed))).await;
    eventually!(running.level().descriptors <= at_rest.descriptors + 8);
    let refused = running.log().matches("config refused").count();
    assert_eq!(refused, 0, "{}", running.log());
    assert_eq!(running.log().matches("endpoint=web-3 from").count(), 1, "its health was never forgotten");
    assert_eq!(ill.requests(), asked_before, "an endpoint known down gets nothing");
    assert_eq!(scene.fleet.double_executions(), []);
    assert!(running.is_running());
    (reports, flat)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_reloads_of_everything_cost_no_request() {
    let rate = if cfg!(debug_assertions) { 300.0 } else { 1_000.0 };
    soak(Soak { reloads: 30, every: Duration::from_millis(500), rate }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes and wants a release build: `just soak`"]
async fn thousand_reloads_of_everything_in_ten_minutes_cost_no_request_and_no_memory() {
    let (reports, flat) = soak(Soak { reloads: 1_000, every: Duration::from_millis(600), rate: 2_000.0 }).await;
    for report in reports {
        println!("{report}");
    }
    println!("{flat}");
}

/// 5 000 routes and 5 000 endpoints in 500 services, each endpoint with a health check of its own. With the number every
/// weight changes.
fn large(number: usize, scene: &Scene) -> String {
    let mut config = scene.config("[middlewares.paint]\nheaders = { response_set = { x-painted = \"yes\" } }");
    let addresses: Vec<_> = scene.fleet.containers().iter().map(upstream_mock::Container::address).collect();
    for service in 0..500 {
        let endpoint = |index: usize| {
            let (url, weight) = (addresses[index % 3], 1 + (number + index) % 3);
            format!("    {{ name = \"e-{index}\", url = \"http://{url}\", weight = {weight} }},\n")
        };
        let endpoints: String = (0..10).map(endpoint).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            config,
            "[services.s-{service}]\nendpoints = [\n{endpoints}]\n\
             health_check = {{ path = \"/health\", interval = \"60s\", timeout = \"5s\" }}\n"
        );
        for route in 0..10 {
            let _ = write!(
                config,
                "[routes.r-{service}-{route}]\nhosts = [\"host-{service}.example\"]\npath_prefix = \"/r-{route}\"\n\
                 service = \"s-{service}\"\nmiddlewares = [\"paint\"]\n"
            );
        }
    }
    config
}

async fn latency(running: &Running, length: Duration) -> JoinHandle<Latency> {
    let plan = Plan::new(&format!("http://{}/", running.web())).unwrap().rate(1_000.0).duration(length);
    let load = loadtest::start(plan).await.unwrap();
    tokio::spawn(async {
        let report = load.finish().await;
        assert_eq!((report.failed, report.completed), (0, report.requests), "{report}");
        report.latency
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, in a release build: `just soak`"]
async fn measured_reloads_of_five_thousand_take_no_time_and_delay_nobody() {
    let scene = Scene::new("").await;
    scene.write(&large(0, &scene));
    let running = scene.start(&["run"]).await;
    let mut admin = Admin::open(running.admin()).await.unwrap();
    eventually!(admin.figure("waypost_endpoint_up").await >= 5_000);
    // In turns, so that whatever else the machine does meanwhile falls on both.
    let (length, mut quiet, mut busy, mut took) = (Duration::from_secs(5), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..6 {
        quiet.push(latency(&running, length).await.await.unwrap().p99);
        let (begun, load) = (Instant::now(), latency(&running, length).await);
        for number in 1..=4 {
            scene.write(&large(4 * turn + number, &scene));
            let asked = Instant::now();
            assert_eq!(admin.ask("POST", "/api/reload").await.unwrap().status(), 200);
            took.push(asked.elapsed());
            sleep_until(begun + Duration::from_secs(1) * u32::try_from(number).unwrap()).await;
        }
        busy.push(load.await.unwrap().p99);
    }
    for seen in [&mut quiet, &mut busy, &mut took] {
        seen.sort_unstable();
    }
    println!("reloads: {took:?}\np99 without: {quiet:?}\np99 with: {busy:?}");
    assert!(took[took.len() / 2] < Duration::from_millis(200), "{took:?}");
    let (without, with) = (quiet[quiet.len() / 2], busy[busy.len() / 2]);
    assert!(with <= without + Duration::from_millis(2), "p99 is {without:?} without reloads, {with:?} with");
}
