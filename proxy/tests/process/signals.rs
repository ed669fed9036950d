//! SIGHUP and SIGUSR1: read the config again, open the access log again.

use std::fs;

use crate::client::get;
use crate::eventually;
use crate::process::Scene;

#[tokio::test]
async fn sighup_reloads_at_once() {
    let scene = Scene::new("").await;
    let running = scene.start(&["run"]).await;
    scene.write(&scene.config("[routes.nowhere]\npath = \"/other\"\nservice = \"web\""));
    running.signal("HUP");
    eventually!(running.log().contains("config published generation=2"));
    assert!(running.log().contains("+route nowhere"), "{}", running.log());
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn refused_config_leaves_the_process_as_it_was() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    scene.write(&scene.config("[routes.all2]\nservice = \"wbe\""));
    running.signal("HUP");
    eventually!(running.log().contains("config refused"));
    assert!(running.log().contains("did you mean `web`"), "{}", running.log());
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    assert!(running.is_running());
}

#[tokio::test]
async fn sigusr1_opens_the_access_log_again() {
    let scene = Scene::new("[telemetry.access_log]\npath = \"access.log\"").await;
    let running = scene.start(&["run"]).await;
    let (log, rotated) = (scene.path("access.log"), scene.path("access.log.1"));
    let has = |path: &std::path::Path, what: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(what));
    get(running.web(), "/?first").await.unwrap();
    eventually!(has(&log, "first"));
    fs::rename(&log, &rotated).unwrap();
    get(running.web(), "/?second").await.unwrap();
    eventually!(has(&rotated, "second"));
    running.signal("USR1");
    eventually!(log.exists());
    get(running.web(), "/?third").await.unwrap();
    eventually!(has(&log, "third"));
    assert!(!has(&rotated, "third"));
}
