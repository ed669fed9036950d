//! Descriptors run out: clients wait, those who are inside are served, nobody else is blamed, and when there are some
//! again all is as before.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::client::{Admin, Connection, get};
use crate::eventually;
use crate::process::{Running, Scene, waypost};

/// Whatever can be held against an endpoint is, at the first occasion; and every request needs a new connection.
const SEVERE: &str = r#"
services.web.health_check = { path = "/health", interval = "1s", timeout = "1s", rise = 1, fall = 1 }
services.web.outlier = { consecutive = 1 }
services.web.circuit_breaker = { min_requests = 1, failure_ratio = "1%" }
services.web.pool.max_idle = 0
"#;

/// The binary with so many descriptors.
fn limited(descriptors: u32) -> Command {
    let waypost = waypost();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]).arg(waypost.get_program());
    shell
}

fn assert_nobody_was_blamed(running: &Running) {
    let log = running.log();
    let blamed = log.lines().filter(|line| ["to=down", "ejected", "circuit"].iter().any(|word| line.contains(word)));
    assert_eq!(blamed.collect::<Vec<_>>(), [""; 0]);
}

async fn start(scene: &Scene, descriptors: u32) -> Running {
    let running = scene.spawn(&["run"], limited(descriptors));
    eventually!(running.log().contains(" started "));
    eventually!(running.log().matches("to=up").count() == 3);
    running
}

#[tokio::test]
async fn clients_that_are_too_many_wait_while_those_inside_are_served() {
    let scene = Scene::new(SEVERE).await;
    let running = start(&scene, 160).await;
    let mut admin = Admin::open(running.admin()).await.unwrap();
    let mut inside = Connection::open(running.web()).await.unwrap();
    assert_eq!(inside.get("/").await.unwrap().status(), 200);

    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(Connection::open(running.web()).await.unwrap());
    }
    eventually!(admin.figure("waypost_accept_paused").await == 2);
    let let_in = admin.figure("waypost_connections_open").await;
    assert!((50..120).contains(&let_in), "{let_in} of 300 are let in");
    for other in &mut others[..40] {
        assert_eq!(other.get("/").await.unwrap().status(), 200, "who is inside has what it needs");
    }
    assert_eq!(inside.get("/").await.unwrap().status(), 200);

    let mut last = others.pop().unwrap();
    last.send("/").await.unwrap();
    let (busy, pause) = (running.busy(), Duration::from_secs(1));
    // Not waiting for anything: that nothing happens, at little cost, is what is measured.
    assert!(tokio::time::timeout(pause, last.reply()).await.is_err(), "it waits");
    let busy = running.busy().saturating_sub(busy);
    assert!(busy < pause / 4, "{busy:?} of processor time in {pause:?}");
    assert_eq!(running.log().matches("few descriptors are left").count(), 1);

    let freed = Instant::now();
    drop(others);
    assert_eq!(last.reply().await.unwrap().status(), 200);
    assert!(freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
    eventually!(admin.figure("waypost_accept_paused").await == 0);
    assert_nobody_was_blamed(&running);
}

/// Lets the process have as many descriptors as it has; ends with the limit as it was.
struct Exhausted(Pid, Rlimit);

fn open(running: &Running) -> BTreeSet<u64> {
    let open = fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap();
    open.map(|one| one.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

impl Exhausted {
    async fn of(running: &Running) -> Exhausted {
        let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
        let mut open = open(running);
        // What is just being closed, a probe's connection for example, would leave room.
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let before = std::mem::replace(&mut open, self::open(running));
            if before == open {
                break;
            }
        }
        let lowest_free = (0..1024).find(|number| !open.contains(number)).unwrap();
        let before = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(lowest_free), maximum: Some(1024) });
        Exhausted(pid, before.unwrap())
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        // The process may have ended; then there is nothing to mend.
        let _ = prlimit(Some(self.0), Resource::Nofile, Rlimit { current: Some(1024), maximum: self.1.maximum });
    }
}

#[tokio::test]
async fn lack_of_descriptors_is_held_against_nobody_and_over_at_once() {
    let scene = Scene::new(SEVERE).await;
    scene.write(&scene.config(&format!("{SEVERE}services.web.timeouts.connect = \"1s\"")));
    let running = start(&scene, 1024).await;
    let mut admin = Admin::open(running.admin()).await.unwrap();
    let mut client = Connection::open(running.web()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status(), 200);
    assert_eq!(admin.ask("GET", "/ready").await.unwrap().status(), 200);

    let exhausted = Exhausted::of(&running).await;
    let reply = client.get("/").await.unwrap();
    assert_eq!(reply.status(), 503, "{}", reply.head);
    assert!(reply.head.contains("x-waypost-reason: overloaded"), "{}", reply.head);
    eventually!(admin.figure("waypost_probes_total{endpoint=\"web-1\",result=\"not_made\"").await >= 2);
    let mut waiting = Connection::open(running.web()).await.unwrap();
    waiting.send("/").await.unwrap();
    eventually!(admin.figure("waypost_accept_paused").await >= 1);
    running.signal("HUP");
    eventually!(running.log().contains("config refused"));
    client.send("/").await.unwrap();
    let busy = running.busy();
    assert!(tokio::time::timeout(Duration::from_millis(500), client.reply()).await.is_err(), "it waits for one");
    let busy = running.busy().saturating_sub(busy);
    assert!(busy < Duration::from_millis(150), "{busy:?} of processor time in half a second");

    drop(exhausted);
    let mended = Instant::now();
    assert_eq!(client.reply().await.unwrap().status(), 200);
    assert_eq!(waiting.reply().await.unwrap().status(), 200);
    assert!(mended.elapsed() < Duration::from_millis(500), "{:?}", mended.elapsed());
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    assert_nobody_was_blamed(&running);
    // Nobody asks for it.
    eventually!(running.log().contains("config in order again"));
}
