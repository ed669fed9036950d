//! One upgrade after another under load: what is open goes on in the process that has it, nothing new is turned away,
//! and in the end nothing is left behind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Hammer, get};
use crate::eventually;
use crate::guests::{Guests, websocket};
use crate::process::{Running, Scene};

/// Predecessors that have guests at the same time.
const ELDERS: usize = 3;
/// From the last connection's end to that of its process.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_upgrades_leave_what_is_open_alone_and_nothing_behind() {
    println!("{}", upgrades(4).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it wants a release build: `just soak`"]
async fn twenty_upgrades_leave_what_is_open_alone_and_nothing_behind() {
    println!("{}", upgrades(20).await);
}

/// A process that was replaced, and who is still with it.
struct Elder {
    process: Running,
    guests: Guests,
}

impl Elder {
    /// Its guests leave one after another, and it ends with the last of them. How many echoes there were.
    async fn ends_with_its_guests(mut self) -> usize {
        self.guests.finish_downloads().await;
        assert!(self.process.is_running(), "it does not wait for its WebSocket\n{}", self.process.log());
        let echoes = self.guests.leave().await;
        ends_soon(&mut self.process).await;
        echoes
    }
}

async fn ends_soon(process: &mut Running) {
    let left = Instant::now();
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
    assert!(left.elapsed() < SOON, "{:?} after its last guest", left.elapsed());
}

/// What it has seen.
async fn upgrades(count: usize) -> String {
    let scene = Scene::new("").await;
    scene.write(&with_grace(&scene, "60s"));
    let first = scene.start(&["run"]).await;
    let (web, at_rest) = (first.web(), first.level().descriptors);
    let hammer = Hammer::start(web, 8).with_http2(web, 2);
    let (running, echoes) = succession(&scene, first, (&hammer, count)).await;
    let answered = hammer.answered();
    let failed = hammer.stop().await;
    assert!(failed.is_empty(), "{} requests failed: {failed:#?}", failed.len());
    let last = patience_ends(&scene, running).await;
    nothing_is_left(&scene, &last, at_rest).await;
    format!("{count} upgrades: {answered} requests, 0 failed; {echoes} echoes, {} downloads whole", 2 * count)
}

/// Upgrade after upgrade, each with new guests; the process that serves in the end, when all others have ended.
async fn succession(scene: &Scene, first: Running, (hammer, count): (&Hammer, usize)) -> (Running, usize) {
    let (web, admin) = (first.web(), first.admin());
    let (mut running, mut elders, mut echoes) = (first, VecDeque::new(), 0);
    for _ in 0..count {
        let guests = Guests::arrive(web).await;
        hammer.goes_on(50).await;
        let successor = scene.start(&["upgrade"]).await;
        elders.push_back(Elder { process: std::mem::replace(&mut running, successor), guests });
        hammer.goes_on(50).await;
        assert_eq!((running.web(), running.admin(), generation(admin).await), (web, admin, 1));
        everybody_stays(&mut elders);
        if elders.len() > ELDERS {
            echoes += elders.pop_front().unwrap().ends_with_its_guests().await;
        }
    }
    for elder in elders {
        echoes += elder.ends_with_its_guests().await;
    }
    (running, echoes)
}

fn everybody_stays(elders: &mut VecDeque<Elder>) {
    for Elder { process, guests } in elders {
        assert!(process.is_running(), "it has left its guests\n{}", process.log());
        guests.are_all_here();
        guests.take_some();
    }
}

/// A WebSocket that never ends is told to go when the old process's grace period is over. Returns the new one.
async fn patience_ends(scene: &Scene, mut old: Running) -> Running {
    let mut endless = websocket(old.web()).await;
    scene.write(&with_grace(scene, "1s"));
    eventually!(generation(old.admin()).await == 2);
    let asked = Instant::now();
    let successor = scene.start(&["upgrade"]).await;
    let said = endless.next().await.unwrap().unwrap();
    assert!(matches!(&said, Message::Close(Some(frame)) if u16::from(frame.code) == 1001), "{said:?}");
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    ends_soon(&mut old).await;
    assert_eq!(generation(successor.admin()).await, 1);
    successor
}

/// The last process is as the first one was, and nobody holds a connection to an endpoint.
async fn nothing_is_left(scene: &Scene, last: &Running, at_rest: u64) {
    // The first one was looked at as soon as it served; a probe or two may come on top.
    eventually!(last.level().descriptors <= at_rest + 8);
    eventually!(scene.fleet.containers().iter().all(|container| container.connections() == 0));
    let sockets = std::fs::read_dir(scene.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let sockets: Vec<_> = sockets.filter(|name| name.to_string_lossy().contains(".sock")).collect();
    assert_eq!(sockets, ["upgrade.sock"]);
}

fn with_grace(scene: &Scene, grace: &str) -> String {
    scene.config("").replace("grace_period = \"5s\"", &format!("grace_period = \"{grace}\""))
}

/// As the admin API tells it.
async fn generation(admin: SocketAddr) -> u64 {
    let reply = get(admin, "/api/config").await.unwrap();
    let config: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    config["generation"].as_u64().unwrap()
}
