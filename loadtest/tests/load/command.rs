//! The binary: exit codes as verdicts, JSON, and a comparison that leaves no process behind.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::server::Server;

async fn loadtest(arguments: &[&str]) -> Output {
    let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
    let run = move || Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn verdict(server: &Server, slo: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("target = \"{}\"\nrequests = 50\n[slo]\n{slo}\n", server.url("/"));
    std::fs::write(file.path(), text).unwrap();
    let output = loadtest(&["scenario", file.path().to_str().unwrap()]).await;
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_code_is_the_verdict() {
    let server = Server::start(None).await;
    let (code, text) = verdict(&server, "errors = 0").await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = verdict(&server, "errors = 0\nrate = \"> 100000000/s\"").await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("met: errors = 0, measured 0"), "{text}");
    assert!(text.contains("MISSED: rate > 100000000/s, measured "), "{text}");
    assert_eq!(verdict(&server, "p99 = 5").await.0, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_holds_the_report() {
    let server = Server::start(None).await;
    let url = server.url("/who");
    let output = loadtest(&["run", "--requests", "30", "--connections", "3", "--json", "-", &url]).await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["completed"], 30, "{report}");
    assert_eq!(report["endpoints"][1]["name"], "b", "{report}");
    assert!(report["latency"]["p99_us"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_is_told_with_what_its_users_saw() {
    let server = Server::start(None).await;
    let arguments = ["flood", "--kind", "h2_ping", "--clients", "3", "--duration", "300ms", "--rate", "100"];
    let output = loadtest(&[&arguments[..], &["--json", "-", &server.url("/who")]].concat()).await;
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["kind"], "h2_ping", "{outcome}");
    assert!(outcome["during"]["latency"]["p99_us"].as_u64().unwrap() > 0, "{outcome}");
    assert!(outcome["flood"]["connections"].as_u64().unwrap() >= 3, "a server of HTTP/1.1 closes them: {outcome}");
}

#[test]
fn comparison_writes_tables_and_a_picture() {
    if std::thread::available_parallelism().unwrap().get() < 2 || !is_installed("taskset") || !is_installed("nginx") {
        eprintln!("skipped: needs two cores, taskset and nginx");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    // The floor is no proxy, but it can be measured.
    let arguments = ["compare", "--quick", "--peers", "nginx,floor", "--scenarios", "websocket", "--pace", "0.1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).args(["--markdown", &file("c.md"), "--svg", &file("c.svg")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (table, picture) =
        (std::fs::read_to_string(file("c.md")).unwrap(), std::fs::read_to_string(file("c.svg")).unwrap());
    assert_eq!(String::from_utf8_lossy(&output.stdout), table);
    assert!(table.contains("| websocket | CPU per request | ") && table.contains("| nginx / floor |"), "{table}");
    assert!(picture.starts_with("<svg ") && picture.contains(">websocket<"), "{picture}");
}

#[test]
fn a_proxy_that_does_not_start_is_no_comparison() {
    if std::thread::available_parallelism().unwrap().get() < 2 || !is_installed("taskset") {
        eprintln!("skipped: needs two cores and taskset");
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["compare", "--quick", "--peers", "floor", "--scenarios", "h1_small", "--pace", "0.1"]);
    let output = command.args(["--waypost", "/bin/false"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("nothing could be measured of waypost") && text.contains("did not get ready"), "{text}");
}

#[test]
fn chaos_around_a_proxy_that_does_not_start_is_no_trial() {
    let arguments = ["chaos", "--waypost", "/bin/false", "--minutes", "0.02"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("it does not start"), "{text}");
}

#[test]
fn chaos_script_with_a_mistake_is_refused_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[steps]]\nat = \"1s\"\nendpiont = \"web-1\"\nrecover = true\n").unwrap();
    let arguments = ["chaos", "--waypost", "/bin/false", "--script", file.path().to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("line 3") && text.contains("endpiont"), "{text}");
}

#[test]
fn one_round_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["compare", "--rounds", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--rounds"), "{output:?}");
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .chain(["/usr/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

#[test]
fn comparison_measures_the_peers_and_leaves_nobody_behind() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 2 || !["nginx", "haproxy", "taskset"].into_iter().all(is_installed) {
        eprintln!("skipped: needs two cores, nginx, haproxy and taskset");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["compare", "--quick", "--peers", "nginx,haproxy", "--scenarios", "churn", "--json", "-"];
    // A folder of our own tells our children from those of others.
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).env("TMPDIR", folder.path()).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["rounds"].as_array().unwrap().len(), 4, "{figures}");
    for round in figures["rounds"].as_array().unwrap() {
        assert!(round["cpu_us"].as_f64().unwrap() > 1.0, "{round}");
        assert_eq!(round["failed"], 0, "{round}");
    }
    assert!(figures["ratios"][0]["ratio"]["min"].as_f64().unwrap() > 0.0, "{figures}");
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

#[test]
fn a_stopped_comparison_leaves_nobody_behind() {
    if !["nginx", "haproxy", "taskset"].into_iter().all(is_installed) {
        eprintln!("skipped: needs nginx, haproxy and taskset");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["compare", "--proxy-core", "0", "--load-core", "0", "--only", "h1_small", "--peers", "nginx,haproxy"])
        .args(["--seconds", "60"])
        .env("TMPDIR", folder.path());
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !left_behind(folder.path()).iter().any(|line| line.contains("nginx.conf")) {
        assert_eq!(running.try_wait().unwrap(), None, "it has not ended");
        std::thread::yield_now();
    }
    let pid = running.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(2));
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

/// Command lines of processes that run on `folder`, and what is left in it.
fn left_behind(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let line =
        |path: &Path| String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).unwrap_or_default()).into_owned();
    let folder_name = folder.display().to_string();
    let running = processes.map(|process| line(&process.path())).filter(|line| line.contains(&folder_name));
    running.chain(std::fs::read_dir(folder).unwrap().map(|left| format!("{left:?}"))).collect()
}
