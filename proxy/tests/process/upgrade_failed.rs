//! An upgrade that fails, in every way that one can: the old process serves as if nothing had happened, nobody's request
//! fails, and the next upgrade succeeds.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::client::{Connection, Hammer};
use crate::eventually;
use crate::process::{Running, Scene, waypost};

/// A new process waits for the first probes when it has taken the sockets; nobody probes while it does.
const CHECKED: &str = "services.web.health_check = { path = \"/health\", interval = \"60s\", timeout = \"30s\" }";

/// A process under load, which fails no request whatever happens until the end.
struct Subject {
    old: Running,
    hammer: Hammer,
    /// Last, because the log that a failed test shows is in its folder.
    scene: Scene,
}

impl Subject {
    async fn start(extra: &str) -> Subject {
        let scene = Scene::new(extra).await;
        let old = scene.start(&["run"]).await;
        let hammer = Hammer::start(old.web(), 4).with_http2(old.web(), 1);
        hammer.goes_on(50).await;
        Subject { old, hammer, scene }
    }

    async fn serves_on(&mut self) {
        self.hammer.goes_on(50).await;
        assert!(self.old.is_running());
        assert!(!self.old.log().contains("draining"), "{}", self.old.log());
    }

    /// A new process that has the sockets and is held up before it serves.
    async fn held_up_successor(&self) -> Running {
        self.health_takes(Duration::from_secs(30));
        let successor = self.scene.spawn(&["upgrade"], waypost());
        eventually!(successor.log().contains("admin open"));
        successor
    }

    fn health_takes(&self, delay: Duration) {
        for container in self.scene.fleet.containers() {
            container.set_health_delay(delay);
        }
    }

    /// The old process is none the worse for what was tried.
    async fn next_upgrade_succeeds(mut self) {
        self.health_takes(Duration::ZERO);
        let _new = self.scene.start(&["upgrade"]).await;
        assert_eq!(self.old.ended().await.code(), Some(0), "{}", self.old.log());
        self.hammer.goes_on(50).await;
        let failed = self.hammer.stop().await;
        assert!(failed.is_empty(), "{} requests failed: {failed:#?}", failed.len());
    }
}

/// What a new binary says before it is gone.
type Saying = fn(&UnixStream);

fn say(mut stream: &UnixStream, text: &str) {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, text.as_bytes()].concat()).unwrap();
}

fn hear(mut stream: &UnixStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn take_sockets(mut stream: &UnixStream) {
    say(stream, r#"{"kind":"hello","version":1,"pid":1}"#);
    assert!(hear(stream).contains("sockets"));
    // The byte that carries the descriptors.
    stream.read_exact(&mut [0]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_binary_that_breaks_off_anywhere_in_the_conversation() {
    let mut subject = Subject::start("").await;
    let path = subject.scene.path("upgrade.sock");
    // What the old one's log says, and what the new one has done before it is gone.
    let ends: [(&str, Saying); 5] = [
        ("unexpected end of file", |_| {}),
        ("message is too long", |mut stream| stream.write_all(&[0xff; 64]).unwrap()),
        ("it speaks version 9", |stream| say(stream, r#"{"kind":"hello","version":9,"pid":1}"#)),
        ("the new process went away", take_sockets),
        ("not my day", |stream| {
            take_sockets(stream);
            say(stream, r#"{"kind":"failed","reason":"not my day"}"#);
        }),
    ];
    for (said, end) in ends {
        let stranger = UnixStream::connect(&path).unwrap();
        end(&stranger);
        drop(stranger);
        eventually!(subject.old.log().contains(said));
        subject.serves_on().await;
    }
    subject.next_upgrade_succeeds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_that_is_killed_when_it_has_the_sockets() {
    let mut subject = Subject::start(CHECKED).await;
    let mut successor = subject.held_up_successor().await;
    successor.signal("KILL");
    assert_eq!(successor.ended().await.code(), None);
    eventually!(subject.old.log().contains("upgrade failed, this process goes on"));
    subject.serves_on().await;
    subject.next_upgrade_succeeds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_that_hangs_when_it_has_the_sockets() {
    let mut subject = Subject::start(CHECKED).await;
    let mut hung = subject.held_up_successor().await;
    hung.signal("STOP");
    subject.serves_on().await;
    // Another one is told that it is not its turn.
    let mut impatient = subject.scene.spawn(&["upgrade"], waypost());
    assert_eq!(impatient.ended().await.code(), Some(1));
    assert!(impatient.log().contains("silent for 5s"), "{}", impatient.log());
    subject.serves_on().await;
    hung.signal("KILL");
    hung.ended().await;
    eventually!(subject.old.log().contains("upgrade failed, this process goes on"));
    subject.next_upgrade_succeeds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_whose_config_is_refused() {
    let mut subject = Subject::start("").await;
    subject.scene.write(&subject.scene.config("[routes.all2]\nservice = \"wbe\""));
    let mut successor = subject.scene.spawn(&["upgrade"], waypost());
    assert_eq!(successor.ended().await.code(), Some(1));
    assert!(successor.log().contains("did you mean `web`"), "{}", successor.log());
    subject.serves_on().await;
    subject.scene.write(&subject.scene.config(""));
    subject.next_upgrade_succeeds().await;
}

/// Once upon a time it took the sockets over, found this out, and ended, when the old one had let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_that_could_not_hand_over_in_its_turn() {
    let mut subject = Subject::start("").await;
    let (path, moved) = (subject.scene.path("upgrade.sock"), subject.scene.path("moved.sock"));
    std::fs::rename(&path, &moved).unwrap();
    // It leads to the old process, but is no socket that may be replaced.
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    let mut successor = subject.scene.spawn(&["upgrade"], waypost());
    assert_eq!(successor.ended().await.code(), Some(1));
    assert!(successor.log().contains("is not a socket"), "{}", successor.log());
    subject.serves_on().await;
    std::fs::rename(&moved, &path).unwrap();
    subject.next_upgrade_succeeds().await;
}

/// The test is the old process, and takes back what it has offered when the new one serves already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_that_comes_too_late_serves_whom_it_has_let_in() {
    let scene = Scene::new("").await;
    let old = UnixListener::bind(scene.path("upgrade.sock")).unwrap();
    let mut late = scene.spawn(&["upgrade"], waypost());
    let stream = tokio::task::spawn_blocking(move || {
        let (stream, _) = old.accept().unwrap();
        assert!(hear(&stream).contains("hello"));
        say(&stream, r#"{"kind":"sockets","keys":[]}"#);
        assert!(hear(&stream).contains("ready"));
        stream
    });
    let stream = stream.await.unwrap();
    let mut guest = Connection::open(late.web()).await.unwrap();
    guest.send("/delay/700ms").await.unwrap();
    eventually!(scene.fleet.containers().iter().any(|container| container.requests() == 1));
    say(&stream, r#"{"kind":"refused","reason":"too late"}"#);
    assert_eq!(guest.reply().await.unwrap().status(), 200);
    assert_eq!(late.ended().await.code(), Some(1));
    assert!(late.log().contains("too late"), "{}", late.log());
}
