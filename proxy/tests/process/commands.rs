//! Commands that end by themselves: what they say and how they end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use crate::client::get;
use crate::eventually;
use crate::process::{Scene, waypost};

fn run(arguments: &[&str]) -> Output {
    waypost().args(arguments).output().unwrap()
}

#[track_caller]
fn check(arguments: &[&str], code: i32, said: &str) {
    let output = run(arguments);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "{text}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn check_says_by_its_exit_code_what_a_config_is_worth() {
    let scene = Scene::new("").await;
    let path = scene.path("waypost.toml");
    check(&["check", "-c", text(&path)], 0, "1 listener, 1 route, 1 service, 3 endpoints");
    check(&["validate", "--config", text(&path)], 0, "1 listener");
    scene.write(&scene.config("").replace("address", "adress"));
    check(&["check", "-c", text(&path)], 1, "did you mean `address`");
    check(&["run", "-c", text(&path)], 1, "2 mistakes");
    let missing = scene.path("missing.toml");
    check(&["check", "-c", text(&missing)], 2, "it does not exist");
    check(&["run", "-c", text(&missing)], 2, "it does not exist");
    check(&["check", "--confg", text(&path)], 2, "--config");
}

#[tokio::test]
async fn check_finds_what_only_the_proxy_can_see() {
    let scene = Scene::new("").await;
    let path = scene.path("waypost.toml");
    fs::write(scene.path("site.pem"), "no certificate").unwrap();
    fs::write(scene.path("site.key"), "no key").unwrap();
    let tls = "[listeners.secure]\naddress = \"127.0.0.1:0\"\n\
               tls.certificates = [{ cert = \"site.pem\", key = \"site.key\" }]";
    scene.write(&scene.config(tls));
    check(&["check", "-c", text(&path)], 1, "listener `secure`");
}

#[tokio::test]
async fn check_warns_and_fails_only_where_it_is_asked_to() {
    let scene =
        Scene::new("services.idle = { endpoints = [{ name = \"idle-1\", url = \"http://127.0.0.1:1\" }] }").await;
    let path = scene.path("waypost.toml");
    for (arguments, code) in [(&["check"][..], 0), (&["check", "--strict"][..], 1)] {
        let arguments = [arguments, &["-c", text(&path)]].concat();
        check(&arguments, code, "2 services, 4 endpoints; 1 warning\n");
        check(&arguments, code, "warning[unused_service]: services.idle: no route leads here");
    }
    scene.write(&scene.config(""));
    check(&["check", "--strict", "-c", text(&path)], 0, "1 service, 3 endpoints\n");
}

#[tokio::test]
async fn warnings_are_one_line_of_the_log_when_a_config_is_taken_up() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    assert!(!running.log().contains("config has warnings"));
    let idle = "endpoints = [{ name = \"idle-1\", url = \"http://127.0.0.1:1\" }]\non_all_down = \"open\"";
    scene.write(&scene.config(&format!("[services.idle]\n{idle}\n[services.more]\n{idle}")));
    running.signal("HUP");
    eventually!(running.log().contains("config has warnings"));
    let log = running.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("config has warnings")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("count=4"), "{log}");
    assert!(lines[0].contains("lints=\"open_without_health_check, unused_service\""), "{log}");
    running.signal("TERM");
    running.ended().await;
}

#[tokio::test]
async fn check_leaves_no_trace() {
    let scene = Scene::new("[telemetry.access_log]\npath = \"access.log\"").await;
    let path = scene.path("waypost.toml");
    check(&["check", "-c", text(&path)], 0, "1 listener");
    assert!(!scene.path("access.log").exists());
    assert!(!scene.path("upgrade.sock").exists());
}

#[test]
fn schema_and_completions_are_printed() {
    check(&["schema"], 0, "\"$schema\"");
    check(&["completions", "bash"], 0, "complete");
    check(&["man"], 0, ".SH \"EXIT CODES\"");
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["help", "run"], 0, "SIGHUP");
    check(&[], 2, "waypost demo");
}

#[tokio::test]
async fn what_stands_around_it_is_printed_for_the_config_at_hand() {
    let tls = "server.grace_period = \"40s\"";
    let scene = Scene::new("").await;
    let config = scene.config("").replace("server.grace_period = \"5s\"", tls);
    scene.write(&config.replace("admin.address = \"127.0.0.1:0\"", "admin.address = \"127.0.0.1:9917\""));
    let path = scene.path("waypost.toml");
    let generate = |what: &str, said: &str| check(&["generate", what, "-c", text(&path)], 0, said);
    generate("prometheus", "targets: [\"127.0.0.1:9917\"]");
    generate("systemd", &format!("ExecStart=/usr/bin/waypost run --config {}\n", text(&path)));
    generate("systemd", "TimeoutStopSec=45s");
    generate("compose", "stop_grace_period: 45s\n    healthcheck:");
    generate("compose", "\"127.0.0.1:9917:9917\"  # admin");
    generate("alerts", "alert: WaypostDown");
    generate("rules", "record: service:waypost_requests:rate5m");
    generate("alertmanager", "receivers:");
    generate("dashboard", "\"uid\": \"waypost-waypost\"");
    generate("dashboards", "\"title\": \"Service ");
    check(&["generate", "traefik"], 2, "possible values");
}

#[tokio::test]
async fn config_is_found_in_the_environment_and_in_the_working_directory() {
    let scene = Scene::new("").await;
    let here = waypost().arg("check").current_dir(scene.folder()).output().unwrap();
    assert_eq!(here.status.code(), Some(0));
    let named = waypost().arg("check").env("WAYPOST_CONFIG", scene.path("waypost.toml")).output().unwrap();
    assert_eq!(named.status.code(), Some(0));
}

#[tokio::test]
async fn healthcheck_says_by_its_exit_code_whether_the_process_is_ready() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let url = format!("http://{}/ready", running.admin());
    check(&["healthcheck", "--url", &url], 0, "\"ready\":true");

    // The same by the config: every address is asked on loopback, whatever else is wrong with the file.
    let port = running.admin().port();
    let every = scene.path("every.toml");
    fs::write(&every, format!("[admin]\naddress = \"0.0.0.0:{port}\"\n[routes.all]\nservice = \n")).unwrap();
    check(&["healthcheck", "-c", text(&every)], 0, "\"ready\":true");

    let mut slow = crate::client::Connection::open(running.web()).await.unwrap();
    slow.send("/delay/60s").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    running.signal("TERM");
    eventually!(running.log().contains("draining"));
    check(&["healthcheck", "--url", &url], 1, "draining");
    running.signal("TERM");
    running.ended().await;
    check(&["healthcheck", "--url", &url], 1, "refused");
    check(&["healthcheck", "--url", "ftp://somewhere/"], 1, "not a URL");
}

#[tokio::test]
async fn healthcheck_does_not_wait_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ready", silent.local_addr().unwrap());
    check(&["healthcheck", "--url", &url, "--timeout", "100ms"], 1, "no answer in time");
}

/// Somebody who owns nothing.
const NOBODY: u32 = 65534;

#[tokio::test]
async fn runs_as_nobody_without_a_place_to_write() {
    let scene = Scene::new("").await;
    scene.write(&scene.config("").replace("server.upgrade_socket = \"upgrade.sock\"\n", ""));
    let mut command = waypost();
    command.current_dir("/").env("TMPDIR", "/nonexistent").env_remove("HOME");
    // Only root can become somebody else; everybody else is somebody else already.
    if fs::metadata("/proc/self").is_ok_and(|this| std::os::unix::fs::MetadataExt::uid(&this) == 0) {
        command.uid(NOBODY).gid(NOBODY);
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scene.folder(), readable).unwrap();
    }
    let mut running = scene.spawn(&["run"], command);
    eventually!(running.log().contains(" started "));
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    running.signal("TERM");
    assert_eq!(running.ended().await.code(), Some(0));
}
