//! Scenario files: the samples are sound, mistakes are told with their place, events and audit reach the fleet.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use loadtest::{Report, Scenario, scenario::ScenarioError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::server::Server;

#[test]
fn sample_scenarios_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let samples: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(samples.len() >= 4);
    for sample in samples {
        let scenario = Scenario::load(&sample).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
        assert!(!scenario.slo.0.is_empty(), "{} promises nothing", sample.display());
    }
}

#[track_caller]
fn check_refused(text: &str, why: &[&str]) {
    let error = Scenario::parse(text).unwrap_err().to_string();
    for part in why {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    const HEAD: &str = "target = \"http://127.0.0.1/\"\n";
    check_refused("rate = 5", &["missing field `target`"]);
    check_refused(&format!("{HEAD}rat = 5"), &["line 2, column 1", "unknown field `rat`"]);
    check_refused(&format!("{HEAD}duration = \"10\""), &["line 2, column 12", "`10`"]);
    check_refused(&format!("{HEAD}[slo]\nsticky = \"100%\"\np99 = \"50ms\""), &["line 4", "like \"< 50ms\""]);
    check_refused(&format!("{HEAD}[[events]]\nat = \"1s\"\ndo = \"explode web-1\""), &["line 4", "crash NAME"]);
    check_refused(&format!("{HEAD}[[mix]]\npath = \"/\"\nunique_key = \"a b\""), &["line 4", "`a b`"]);
}

#[test]
fn contradictions_are_refused() {
    const HEAD: &str = "target = \"http://127.0.0.1/\"\n";
    check_refused(&format!("{HEAD}[slo]\nsticky = \"100%\""), &["users = 200"]);
    check_refused(&format!("{HEAD}[slo]\ndouble_executions = 0"), &["unique_key"]);
    check_refused(&format!("{HEAD}[[events]]\nat = \"1s\"\ndo = \"crash web-1\""), &["control = "]);
    check_refused(&format!("{HEAD}rate = 5\n[[phases]]\nrate = 1\nduration = \"1s\""), &["not both"]);
    check_refused(&format!("{HEAD}[[events]]\nat = \"10s\"\ndo = \"post http://a/\""), &["after the load has ended"]);
    check_refused(&format!("{HEAD}[[mix]]\npath = \"/\"\nbody = \"x\"\nbody_size = \"1KiB\""), &["not both"]);
}

/// A control port that notes what it is asked and reports the executions given, `PREFIX` being the load's own.
async fn control(server: &Server, executions: fn(&[String]) -> String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, state) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&server.state));
    let notes = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap().to_owned();
            let keys: Vec<_> = state.came.lock().unwrap().iter().filter_map(|came| came.key.clone()).collect();
            let body = if line.contains("/executions") { executions(&keys) } else { String::new() };
            notes.lock().unwrap().push(line);
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

fn once_each(keys: &[String]) -> String {
    let counts: Vec<_> = keys.iter().map(|key| format!("\"{key}\": 1")).collect();
    format!("{{\"executions\": {{{}, \"of-another-load\": 9}}}}", counts.join(","))
}

fn first_twice(keys: &[String]) -> String {
    once_each(keys).replacen(": 1", ": 2", 1)
}

async fn audit(executions: fn(&[String]) -> String) -> (Report, Vec<String>) {
    let server = Server::start(None).await;
    let (control, asked) = control(&server, executions).await;
    let text = format!(
        r#"
        target = "{}"
        control = "{control}"
        rate = 500
        duration = "400ms"
        endpoints = {{ a = 1, b = 1, c = 1 }}
        [[mix]]
        method = "POST"
        path = "/order"
        unique_key = "x-request-key"
        [[events]]
        at = "200ms"
        do = "recover web-2"
        [[events]]
        at = "100ms"
        do = "crash web-2"
        [slo]
        errors = 0
        skew = "< 1%"
        double_executions = 0
        "#,
        server.url("/")
    );
    let report = Scenario::parse(&text).unwrap().run(drop).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    (report, asked)
}

#[tokio::test]
async fn events_come_in_order_and_the_audit_afterwards() {
    let (report, asked) = audit(once_each).await;
    assert_eq!(
        asked,
        [
            "POST /containers/web-2/crash HTTP/1.1",
            "POST /containers/web-2/recover HTTP/1.1",
            "GET /executions HTTP/1.1"
        ]
    );
    assert_eq!(report.audit.unwrap().executed, 200, "keys of other loads do not count");
    assert!(report.slo.iter().all(|verdict| verdict.met), "{report}");
    assert_eq!(report.events.len(), 2);
}

#[tokio::test]
async fn a_double_execution_misses_its_objective() {
    let (report, _) = audit(first_twice).await;
    let missed: Vec<_> = report.slo.iter().filter(|verdict| !verdict.met).map(ToString::to_string).collect();
    assert_eq!(missed, ["MISSED: double_executions = 0, measured 1"]);
}

#[tokio::test]
async fn a_fleet_that_cannot_be_driven_is_an_error_not_a_verdict() {
    let server = Server::start(None).await;
    let text = format!(
        "target = \"{0}\"\nduration = \"5s\"\n[[events]]\nat = \"0s\"\ndo = \"post {0}status/500\"",
        server.url("/")
    );
    let error = Scenario::parse(&text).unwrap().run(drop).await.unwrap_err();
    assert!(matches!(error, ScenarioError::Control(_)), "{error}");
}
