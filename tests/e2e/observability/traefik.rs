//! A dashboard that was made for Traefik shows Waypost: every panel of Grafana's 17346 has an answer, and what stands
//! under Traefik's names is what happened.

use std::process::{Command, Stdio};

use http_body_util::Full;
use serde::Deserialize;
use waypost_tests::tls::{Authority, Pair};
use waypost_tests::{Stack, client, eventually, installed, websocket};

use super::prometheus::Prometheus;
use super::{CONFIG, TOKEN, over_tls};

/// What the dashboard asks for.
#[derive(Debug, Deserialize)]
struct Dashboard {
    variables: Vec<Variable>,
    panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    metric: String,
    label: String,
}

#[derive(Debug, Deserialize)]
struct Panel {
    title: String,
    expr: String,
}

impl Dashboard {
    fn read() -> Dashboard {
        serde_yaml::from_str(include_str!("traefik_dashboard.yml")).unwrap()
    }

    /// As 17347 has it, "Traefik Official Kubernetes Dashboard": it cuts off of names what stands behind the `@`.
    fn for_kubernetes(mut self) -> Dashboard {
        for panel in &mut self.panels {
            panel.expr = panel.expr.replace("([^-]+-[^-]+).*", "([^@]+)@.*");
        }
        self
    }

    /// The panels without an answer, as Grafana asks when all of each variable is chosen.
    async fn unanswered(&self, prometheus: &Prometheus) -> Vec<&str> {
        let mut chosen = vec![("$interval".to_owned(), "10s".to_owned())];
        for variable in &self.variables {
            chosen.push((format!("${}", variable.name), variable.all(prometheus).await));
        }
        let mut unanswered = Vec::new();
        for panel in &self.panels {
            let expr = chosen.iter().fold(panel.expr.clone(), |expr, (name, values)| expr.replace(name, values));
            if prometheus.ask(&expr).await.is_empty() {
                unanswered.push(panel.title.as_str());
            }
        }
        unanswered
    }
}

impl Variable {
    async fn all(&self, prometheus: &Prometheus) -> String {
        let Variable { metric, label, .. } = self;
        let values = prometheus.ask(&format!("group by ({label}) ({metric})")).await;
        let values: Vec<_> = values.iter().map(|series| series["metric"][label].as_str().unwrap()).collect();
        format!("({})", values.join("|"))
    }
}

fn config() -> String {
    CONFIG.replace("[admin]", "[telemetry]\n    metrics = { traefik_names = true }\n    [admin]")
}

async fn stack(pair: &Pair) -> Stack {
    Stack::with_files(&config(), &[("site.pem", &pair.cert), ("site.key", &pair.key)]).await
}

/// Something for every panel: bodies both ways, failures, mistakes, and what takes more than a second.
async fn use_everything(stack: &Stack) {
    let paths = ["/", "/status/500", "/status/404", "/delay/1250ms"];
    let requests = paths.map(client::get).into_iter().chain([client::request("POST", "/echo", "a body")]);
    stack.send_all(requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboard_has_an_answer() {
    let Some(program) = installed(&["prometheus"]) else { return println!("skipped: prometheus is not installed") };
    let stack = stack(&Authority::new("authority").site("test.example")).await;
    let prometheus = Prometheus::start(&program, stack.waypost.admin_address().expect("admin is open"), TOKEN).await;
    let dashboards = [Dashboard::read(), Dashboard::read().for_kubernetes()];
    for dashboard in dashboards {
        assert_eq!(dashboard.panels.len(), 14);
        eventually!(within 60, {
            use_everything(&stack).await;
            dashboard.unanswered(&prometheus).await.is_empty()
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_is_content_with_traefik_s_names_too() {
    let Some(promtool) = installed(&["promtool"]) else { return println!("skipped: promtool is not installed") };
    let authority = Authority::new("authority");
    let stack = stack(&authority.site("test.example")).await;
    use_everything(&stack).await;
    over_tls(&stack, &authority).await;
    let page = stack.folder().join("page");
    std::fs::write(&page, stack.metrics()).unwrap();
    let page = Stdio::from(std::fs::File::open(page).unwrap());
    let output = Command::new(promtool).args(["check", "metrics"]).stdin(page).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_stands_under_traefik_s_names() {
    let authority = Authority::new("authority");
    let stack = stack(&authority.site("test.example")).await;
    stack.answers(3).await;
    stack.send(http::Request::get("/").header("host", "nobody.example").body(Full::default()).unwrap()).await;
    over_tls(&stack, &authority).await;
    drop(websocket::open(stack.address("web"), "/ws").await.unwrap());
    let ok = |labels: &str| format!("code=\"200\",method=\"GET\",protocol=\"http\",{labels}");
    let counts = [
        (format!("traefik_entrypoint_requests_total{{{}}}", ok("entrypoint=\"web\"")), 3.0),
        (format!("traefik_entrypoint_requests_total{{{}}}", ok("entrypoint=\"secure\"")), 1.0),
        (format!("traefik_router_requests_total{{{}}}", ok("router=\"all@file\",service=\"shop@file\"")), 4.0),
        (format!("traefik_service_requests_total{{{}}}", ok("service=\"shop@file\"")), 4.0),
        (format!("traefik_service_request_duration_seconds_count{{{}}}", ok("service=\"shop@file\"")), 4.0),
        ("traefik_service_requests_total{code=\"101\",method=\"GET\",protocol=\"websocket\"".to_owned(), 1.0),
        ("traefik_service_requests_tls_total{tls_version=\"1.3\"".to_owned(), 1.0),
        (
            format!(
                "traefik_service_server_up{{service=\"shop@file\",url=\"http://{}\"}}",
                stack.container("web-1").address()
            ),
            1.0,
        ),
        ("traefik_config_reloads_total".to_owned(), 1.0),
    ];
    for (series, count) in counts {
        eventually!(stack.metric(&series) == count);
    }
    let certificate =
        stack.metrics().lines().find(|line| line.starts_with("traefik_tls_certs_not_after{")).map(str::to_owned);
    assert!(certificate.unwrap().starts_with("traefik_tls_certs_not_after{cn=\"test.example\",serial=\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_brings_traefik_s_names_and_takes_them_away() {
    let stack = stack(&Authority::new("authority").site("test.example")).await;
    let names = || stack.metrics().lines().filter(|line| line.starts_with("traefik_")).count();
    stack.answers(2).await;
    eventually!(stack.total("traefik_service_requests_total") == 2.0);
    stack.reload(CONFIG).await;
    assert_eq!(names(), 0);
    stack.answers(2).await;
    eventually!(stack.total("waypost_requests_total") == 4.0);
    stack.reload(&config()).await;
    assert_eq!(stack.total("traefik_service_requests_total"), 2.0, "what nobody wanted to know was not counted");
    stack.answers(2).await;
    eventually!(stack.total("traefik_service_requests_total") == 4.0);
}
