//! Commands that ask: `explain` and `diff`, of a file and of the process that runs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use crate::client::get;
use crate::eventually;
use crate::process::{Scene, waypost};

const TESTS: &str = "[[tests]]\nrequest = \"GET http://a.example/\"\nexpect = { route = \"all\" }\n";

fn run(arguments: &[&str]) -> Output {
    waypost().args(arguments).output().unwrap()
}

/// Exit code and everything that was said.
fn asked(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[track_caller]
fn check(arguments: &[&str], code: i32, said: &[&str]) {
    let (seen, text) = asked(arguments);
    assert_eq!(seen, Some(code), "{text}");
    for line in said {
        assert!(text.contains(line), "`{line}` is not in\n{text}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn url(admin: SocketAddr) -> String {
    format!("http://{admin}")
}

#[tokio::test]
async fn explain_answers_from_a_file() {
    let scene = Scene::new("").await;
    let path = scene.path("waypost.toml");
    let file = ["-c", text(&path)];
    let ask = |request: &[&str], code: i32, said: &[&str]| check(&[&["explain"], request, &file].concat(), code, said);
    ask(&["POST", "http://a.example/x"], 0, &["route       all", "POST is repeated only if", "host: a.example"]);
    ask(
        &["/x", "-H", "host: a.example", "--client", "10.0.0.7"],
        0,
        &["x-real-ip: 10.0.0.7", "client      10.0.0.7 (the other"],
    );
    ask(&["/x"], 0, &["answer      400 bad_request"]);
    ask(&["/x", "-H", "host: a.example", "--json"], 0, &["\"taken\": true"]);
    ask(&["https://a.example/"], 1, &["no listener speaks https"]);
    ask(&["/x", "-H", "host"], 2, &["write NAME: VALUE"]);
    scene.write(&scene.config("").replace("address", "adress"));
    ask(&["/x"], 1, &["did you mean `address`"]);
}

#[tokio::test]
async fn explain_answers_for_the_process_that_runs() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let admin = url(running.admin());
    check(&["explain", "http://a.example/", "--admin", &admin], 0, &["web-1", "up         33 %"]);
    check(&["explain", "https://a.example/", "--admin", &admin], 1, &["400", "no listener speaks https"]);
    running.signal("TERM");
    running.ended().await;
    check(&["explain", "http://a.example/", "--admin", &admin], 1, &["refused"]);
}

#[tokio::test]
async fn diff_tells_what_a_reload_would_do_and_does_nothing() {
    let scene = Scene::new("").await;
    let running = scene.start(&["run"]).await;
    let admin = url(running.admin());
    let next = scene.path("next.toml");
    let diff = |config: &str, code: i32, said: &[&str]| {
        fs::write(&next, config).unwrap();
        check(&["diff", text(&next), "--admin", &admin], code, said);
    };
    diff(&scene.config(""), 0, &["nothing would change"]);
    let without = scene.config(TESTS).replace("\"web-3\"", "\"web-4\"");
    diff(&without, 1, &["-endpoint web-3", "service web, endpoint web-3 leaves: 0 in flight", "1 test passed"]);
    diff(&scene.config("").replace("127.0.0.1:0\"\nroutes", "127.0.0.2:0\"\nroutes"), 1, &["listener web moves from"]);
    diff(&scene.config("nonsense = 1"), 2, &["nonsense", "config refused"]);
    diff(&scene.config("").replace("workers = 2", "workers = 1"), 2, &["server.workers"]);
    diff(&scene.config(&TESTS.replace("\"all\"", "\"\"")), 2, &["tests[0].expect.route", "expected none, it is `all`"]);
    assert!(!running.log().contains("config published"), "{}", running.log());

    // Without a process, beside the file.
    let path = scene.path("waypost.toml");
    fs::write(&next, scene.config("").replace("routes.all", "routes.every")).unwrap();
    check(&["diff", text(&next), "-c", text(&path)], 1, &["+route every", "-route all"]);
    check(&["diff", text(&scene.path("missing.toml")), "-c", text(&path)], 2, &["can't read"]);
}

#[tokio::test]
async fn tests_of_a_file_refuse_it_in_check_at_the_start_and_at_a_reload() {
    let scene = Scene::new(TESTS).await;
    let path = scene.path("waypost.toml");
    check(&["check", "-c", text(&path)], 0, &["1 test passed"]);
    let running = scene.start(&["run"]).await;
    scene.write(&scene.config(TESTS).replace("routes.all.service", "routes.all.path = \"/x\"\nroutes.all.service"));
    eventually!(running.log().contains("config refused, the old one goes on serving"));
    assert!(running.log().contains("the path `/` is not `/x`"), "{}", running.log());
    let said = ["tests[0].expect.route", "expected `all`, it is none", "the path `/` is not `/x`"];
    check(&["check", "-c", text(&path)], 1, &said);
    check(&["run", "-c", text(&path)], 1, &said);
    scene.write(&scene.config(TESTS));
    eventually!(running.log().contains("config in order again"));
}

#[tokio::test]
async fn rollback_brings_back_what_served_before_until_the_file_changes() {
    let scene = Scene::new("").await;
    fs::write(scene.path("secret"), "a secret that is as long as it has to be").unwrap();
    let sticky = "services.web.sticky = { cookie = \"lb\", secrets = [\"${file:secret}\"] }";
    let plain = scene.config(sticky);
    scene.write(&plain);
    let running = scene.start(&["run"]).await;
    let admin = url(running.admin());
    let rollback = |more: &[&str], code: i32, said: &[&str]| {
        check(&[&["rollback", "--admin", &admin], more].concat(), code, said);
    };
    rollback(&[], 1, &["generation before this one is not kept"]);
    scene.write(&plain.replace("routes.all.service", "routes.all.path = \"/x\"\nroutes.all.service"));
    eventually!(running.log().contains("config published"));
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 404);
    rollback(&["--list"], 0, &["generation 2", "reload  ~route all", "generation 1", "start"]);
    rollback(&[], 0, &["generation 3  ~route all"]);
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    // The file still says what it said, and nobody takes that for a change. A reload does.
    rollback(&["--list"], 0, &["rollback to 1"]);
    rollback(&["--to", "77"], 1, &["generation 77 is not kept"]);
    // Nor is the change of a file that the config points at.
    fs::write(scene.path("secret"), "another secret, as long as it has to be").unwrap();
    eventually!(running.log().matches("config published").count() == 3);
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    running.signal("HUP");
    eventually!(running.log().matches("config published").count() == 4);
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 404);
    rollback(&["--to", "1"], 0, &["generation 6"]);
    scene.write(&plain.replace("routes.all", "routes.every"));
    eventually!(running.log().matches("config published").count() == 6);
    rollback(&["--list"], 0, &["+route every"]);
    check(&["rollback"], 1, &["--admin"]);
}

#[tokio::test]
async fn top_shows_what_the_process_does() {
    let scene = Scene::new("").await;
    let running = scene.start(&["run"]).await;
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    let admin = url(running.admin());
    let arguments = ["top", "--admin", &admin, "--once", "--interval", "10ms"];
    check(
        &arguments,
        0,
        &["generation 1 since", "ROUTE", "all ", "web, round_robin, 3 available", "web-3", "no health check"],
    );
    check(&["top"], 1, &["--admin"]);
}
