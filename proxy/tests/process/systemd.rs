//! What systemd hears, at a socket as real as its own: that the process serves, reloads, stops, lives, and who is the
//! service after an upgrade.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::client::{Connection, get};
use crate::eventually;
use crate::process::{Scene, waypost};

/// Where systemd would listen.
struct Systemd {
    socket: UnixDatagram,
    environment: Vec<(&'static str, String)>,
}

impl Systemd {
    fn of(scene: &Scene) -> Systemd {
        let path = scene.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Systemd { socket, environment: vec![("NOTIFY_SOCKET", path.to_str().unwrap().to_owned())] }
    }

    /// It wants a sign of life within this time.
    fn with_watchdog(mut self, within: Duration) -> Systemd {
        self.environment.push(("WATCHDOG_USEC", within.as_micros().to_string()));
        self
    }

    /// The binary in the environment of a service.
    fn service(&self) -> Command {
        self.within(waypost())
    }

    fn within(&self, mut command: Command) -> Command {
        command.env_remove("RUST_LOG").env_remove("WAYPOST_CONFIG").envs(self.environment.iter().cloned());
        command
    }

    /// The next message.
    async fn hears(&self) -> String {
        timeout(Duration::from_secs(10), self.next()).await.expect("systemd hears something")
    }

    async fn next(&self) -> String {
        let mut message = [0; 1024];
        let length = self.socket.recv(&mut message).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Reloads, until one ends with this status; a watcher may find a reason for more than one. When the last began.
    async fn hears_reloads(&self, status: &str) -> u64 {
        loop {
            let began = reloading_since(&self.hears().await);
            let end = self.hears().await;
            let said = end.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{end}"));
            if said.trim_end() == status {
                return began;
            }
        }
    }

    /// What has been said already, and nobody has listened to yet.
    fn has_heard(&self) -> Vec<String> {
        let mut message = [0; 1024];
        let next = || self.socket.try_recv(&mut message).ok().map(|length| message[..length].to_vec());
        std::iter::from_fn(next).map(|message| String::from_utf8(message).unwrap()).collect()
    }
}

#[track_caller]
fn check(message: &str, lines: &[&str]) {
    assert_eq!(message.lines().collect::<Vec<_>>(), lines);
}

/// `RELOADING=1` with its time.
#[track_caller]
fn reloading_since(message: &str) -> u64 {
    let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    time.unwrap_or_else(|| panic!("{message}")).trim_end().parse().unwrap()
}

#[tokio::test]
async fn ready_is_said_when_requests_are_served() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene);
    let running = scene.spawn(&["run"], systemd.service());
    check(&systemd.hears().await, &["READY=1", "STATUS=generation 1, 1 route"]);
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn process_that_cannot_start_is_never_ready() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    scene.write(&scene.config(&format!("[listeners.other]\naddress = \"{}\"", taken.local_addr().unwrap())));
    let mut running = scene.spawn(&["run"], systemd.service());
    assert_eq!(running.ended().await.code(), Some(1));
    assert_eq!(systemd.has_heard(), [""; 0]);
}

#[tokio::test]
async fn reload_is_announced_and_so_is_its_end() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene);
    let running = scene.spawn(&["run"], systemd.service());
    systemd.hears().await;
    running.signal("HUP");
    let first = systemd.hears_reloads("generation 1, 1 route").await;
    scene.write(&scene.config("[routes.nowhere]\npath = \"/other\"\nservice = \"web\""));
    assert!(systemd.hears_reloads("generation 2, 2 routes").await > first);
    scene.write(&scene.config("[routes.nowhere]\npath = \"/other\"\nservice = \"wbe\""));
    systemd.hears_reloads("generation 2, 2 routes; a newer config is refused").await;
}

#[tokio::test]
async fn stopping_is_said_before_the_last_request_has_ended() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene);
    let mut running = scene.spawn(&["run"], systemd.service());
    systemd.hears().await;
    let mut slow = Connection::open(running.web()).await.unwrap();
    slow.send("/delay/1s").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    running.signal("TERM");
    check(&systemd.hears().await, &["STOPPING=1", "STATUS=draining"]);
    assert!(running.is_running());
    assert_eq!(slow.reply().await.unwrap().status(), 200);
    assert_eq!(running.ended().await.code(), Some(0));
    assert_eq!(systemd.has_heard(), [""; 0]);
}

#[tokio::test]
async fn successor_is_the_service_when_it_serves_and_not_before() {
    let scene = Scene::new("services.web.health_check = { path = \"/health\", interval = \"60s\" }").await;
    let systemd = Systemd::of(&scene);
    let mut old = scene.spawn(&["run"], systemd.service());
    systemd.hears().await;
    // It serves when it knows its endpoints.
    scene.fleet.containers().iter().for_each(|container| container.set_health_delay(Duration::from_millis(500)));
    let new = scene.spawn(&["upgrade"], systemd.service());
    eventually!(new.log().contains("admin open"));
    assert_eq!(systemd.has_heard(), [""; 0]);

    assert_eq!(old.ended().await.code(), Some(0), "{}", old.log());
    let main = format!("MAINPID={}", new.id());
    eventually!(new.log().contains(" started "));
    let mut said = systemd.has_heard();
    // The two processes speak in no order.
    said.sort_by_key(String::len);
    check(&said[0], &[&main]);
    check(&said[1], &[&main, "READY=1", "STATUS=generation 1, 1 route"]);
    assert_eq!(said.len(), 2, "{said:?}");

    new.signal("HUP");
    reloading_since(&systemd.hears().await);
}

/// A process that the test did not start itself; it is killed when this is dropped.
struct Grandchild(String);

impl Grandchild {
    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.0]).status().unwrap().success());
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        // It fails when it has ended already.
        drop(Command::new("kill").args(["-s", "KILL", &self.0]).status());
    }
}

#[tokio::test]
async fn sigusr2_starts_the_successor_within_the_service() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene).with_watchdog(Duration::from_mins(1));
    // As systemd does it: the number is that of the process it has started.
    let mut shell = systemd.within(Command::new("sh"));
    shell.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]).arg(waypost().get_program());
    let mut old = scene.spawn(&["run"], shell);
    let alive = "WATCHDOG=1\n";
    assert!(systemd.hears().await.starts_with("READY=1"));
    assert_eq!(systemd.hears().await, alive);
    let web = old.web();

    old.signal("USR2");
    assert_eq!(old.ended().await.code(), Some(0), "{}", old.log());
    let mut said = vec![systemd.hears().await, systemd.hears().await, systemd.hears().await];
    said.sort_by_key(String::len);
    assert_eq!(said[0], alive, "{said:?}");
    let pid = said[1].trim_end().strip_prefix("MAINPID=").unwrap();
    let new = Grandchild(pid.to_owned());
    assert!(said[2].starts_with(&format!("MAINPID={pid}\nREADY=1\n")), "{said:?}");
    assert_eq!(get(web, "/").await.unwrap().status(), 200);

    new.signal("TERM");
    check(&systemd.hears().await, &["STOPPING=1", "STATUS=draining"]);
    eventually!(get(web, "/").await.is_err());
}

#[tokio::test]
async fn sigusr2_without_an_upgrade_socket_leaves_the_process_as_it_was() {
    let scene = Scene::new("").await;
    scene.write(&scene.config("").replace("server.upgrade_socket = \"upgrade.sock\"\n", ""));
    let mut running = scene.start(&["run"]).await;
    running.signal("USR2");
    eventually!(running.log().contains("without `server.upgrade_socket`"));
    assert_eq!(get(running.web(), "/").await.unwrap().status(), 200);
    assert!(running.is_running());
}

#[tokio::test]
async fn signs_of_life_come_within_the_time_that_systemd_gives() {
    let scene = Scene::new("").await;
    let within = Duration::from_secs(2);
    let systemd = Systemd::of(&scene).with_watchdog(within);
    let _running = scene.spawn(&["run"], systemd.service());
    assert!(systemd.hears().await.starts_with("READY=1"));
    let mut last = Instant::now();
    for _ in 0..3 {
        check(&systemd.hears().await, &["WATCHDOG=1"]);
        assert!(last.elapsed() < within, "{:?}", last.elapsed());
        last = Instant::now();
    }
}

#[tokio::test]
async fn watchdog_of_another_process_is_not_fed() {
    let scene = Scene::new("").await;
    let systemd = Systemd::of(&scene).with_watchdog(Duration::from_millis(10));
    let mut command = systemd.service();
    command.env("WATCHDOG_PID", "1");
    let running = scene.spawn(&["run"], command);
    assert!(systemd.hears().await.starts_with("READY=1"));
    assert_eq!(get(running.web(), "/delay/100ms").await.unwrap().status(), 200);
    assert_eq!(systemd.has_heard(), [""; 0]);
}

/// Every request is a line in the log, and nobody reads the log: sooner or later a worker waits for somebody who does.
#[tokio::test]
async fn worker_that_hangs_ends_the_signs_of_life() {
    let scene = Scene::new("").await;
    let web = TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
    let failing = "[routes.fail]\npath = \"/fail\"\nservice = \"fail\"\n\
                   [services.fail]\nendpoints = [{ name = \"gone\", url = \"http://127.0.0.1:9\" }]\n";
    let at_web = format!("listeners.web.address = \"{web}\"");
    scene.write(&scene.config(failing).replace("listeners.web.address = \"127.0.0.1:0\"", &at_web));
    let within = Duration::from_secs(1);
    let systemd = Systemd::of(&scene).with_watchdog(within);
    let log = scene.path("log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    // Open for both, or it would wait for the other side.
    let reader = File::options().read(true).write(true).open(&log).unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let mut shell = systemd.within(Command::new("sh"));
    shell.args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""]).arg(waypost().get_program());
    shell.env("LOG", &log).env("RUST_LOG", "waypost=debug");
    let _running = scene.spawn(&["run"], shell);
    assert!(systemd.hears().await.starts_with("READY=1"));
    check(&systemd.hears().await, &["WATCHDOG=1"]);

    while answers(web).await {}
    // One may have been on its way.
    tokio::time::sleep(within).await;
    systemd.has_heard();
    assert!(timeout(3 * within, systemd.next()).await.is_err(), "a worker hangs");

    thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    check(&systemd.hears().await, &["WATCHDOG=1"]);
}

async fn answers(web: SocketAddr) -> bool {
    timeout(Duration::from_secs(2), get(web, "/fail")).await.is_ok()
}
