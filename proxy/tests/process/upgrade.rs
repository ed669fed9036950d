//! Hand-over to a new process: no request fails, and whatever goes wrong leaves the old one serving.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio_tungstenite::tungstenite::Message;
use upstream_mock::Fault;

use crate::client::{Hammer, get};
use crate::eventually;
use crate::process::{Scene, waypost};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_upgrades_in_a_row_cost_no_request() {
    let scene = Scene::new("").await;
    let mut running = scene.start(&["run"]).await;
    let (web, admin) = (running.web(), running.admin());
    let hammer = Hammer::start(web, 8);
    for command in [["upgrade"].as_slice(), &["run", "--upgrade"], &["upgrade"]] {
        let before = hammer.answered();
        eventually!(hammer.answered() > before + 100);
        let successor = scene.start(command).await;
        assert_eq!((successor.web(), successor.admin()), (web, admin));
        assert_eq!(running.ended().await.code(), Some(0), "{}", running.log());
        running = successor;
        // The old one is gone, so this is the new one's answer.
        assert_eq!(get(admin, "/ready").await.unwrap().status(), 200);
    }
    let before = hammer.answered();
    eventually!(hammer.answered() > before + 100);
    let failed = hammer.stop().await;
    assert!(failed.is_empty(), "{} requests failed: {failed:#?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successor_serves_only_when_it_knows_its_endpoints() {
    let checked_and_retried = "
        services.web.health_check = { path = \"/health\", interval = \"1s\", timeout = \"1s\" }
        services.web.retry = { backoff.base = \"1ms\", budget = { ratio = \"100%\", min_per_second = 10000 } }";
    let scene = Scene::new(checked_and_retried).await;
    let mut old = scene.start(&["run"]).await;
    eventually!(old.log().matches("to=up").count() == 3);
    // The only one that answers takes its time to say that it is well; the others say so at once, and lie.
    scene.fleet.containers()[0].set_health_delay(Duration::from_millis(400));
    for liar in &scene.fleet.containers()[1..] {
        liar.set_fault(Fault::Status(StatusCode::BAD_GATEWAY)).await;
    }
    let hammer = Hammer::start(old.web(), 2);
    eventually!(hammer.answered() > 10);
    let _new = scene.start(&["upgrade"]).await;
    assert_eq!(old.ended().await.code(), Some(0));
    let before = hammer.answered();
    eventually!(hammer.answered() > before + 50);
    let failed = hammer.stop().await;
    assert!(failed.is_empty(), "{} requests failed: {failed:#?}", failed.len());
}

#[tokio::test]
async fn admin_is_the_new_process_as_soon_as_it_has_taken_over() {
    let scene = Scene::new("").await;
    let mut old = scene.start(&["run"]).await;
    let mut slow = crate::client::Connection::open(old.web()).await.unwrap();
    slow.send("/delay/1s").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    let new = scene.start(&["upgrade"]).await;
    eventually!(old.log().contains("upgraded"));
    for _ in 0..50 {
        assert_eq!(get(new.admin(), "/ready").await.unwrap().status(), 200);
    }
    assert!(old.is_running());
    assert_eq!(slow.reply().await.unwrap().status(), 200);
    old.ended().await;
}

#[tokio::test]
async fn websocket_lives_on_in_the_old_process_until_its_grace_period_is_over() {
    let scene = Scene::new("").await;
    scene.write(&scene.config("").replace("\"5s\"", "\"2s\""));
    let mut old = scene.start(&["run"]).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", old.web())).await.unwrap();
    let new = scene.start(&["upgrade"]).await;
    eventually!(old.log().contains("draining"));
    assert_eq!(get(new.web(), "/").await.unwrap().status(), 200);
    socket.send(Message::text("still there?")).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::text("still there?") {}
    assert!(old.is_running());
    while !matches!(socket.next().await, Some(Ok(Message::Close(_)))) {}
    assert_eq!(old.ended().await.code(), Some(0));
}

#[tokio::test]
async fn successor_with_a_refused_config_leaves_the_old_process_serving() {
    let scene = Scene::new("").await;
    let mut old = scene.start(&["run"]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mistakes = [
        ("[routes.all2]\nservice = \"wbe\"".to_owned(), "did you mean `web`"),
        (format!("[listeners.other]\naddress = \"{}\"", taken.local_addr().unwrap()), "cannot listen"),
    ];
    for (mistake, message) in mistakes {
        scene.write(&scene.config(&mistake));
        let mut successor = scene.spawn(&["upgrade"], waypost());
        assert_eq!(successor.ended().await.code(), Some(1));
        assert!(successor.log().contains(message), "{}", successor.log());
        assert_eq!(get(old.web(), "/").await.unwrap().status(), 200);
        assert!(old.is_running());
        assert!(!old.log().contains("draining"));
    }
    // Nor is it any the worse for it.
    scene.write(&scene.config(""));
    let new = scene.start(&["upgrade"]).await;
    assert_eq!(old.ended().await.code(), Some(0));
    assert_eq!(get(new.web(), "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn upgrade_needs_somebody_to_take_over_from() {
    let scene = Scene::new("").await;
    let mut alone = scene.spawn(&["upgrade"], waypost());
    assert_eq!(alone.ended().await.code(), Some(1));
    assert!(alone.log().contains("no running process"), "{}", alone.log());
    let cold = scene.start(&["run", "--upgrade"]).await;
    assert_eq!(get(cold.web(), "/").await.unwrap().status(), 200);
}
