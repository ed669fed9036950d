//! Notices that the content of files has changed.
//!
//! Decides when a change is one: when the *content* differs from what was seen last, however it came about (written in
//! place, renamed over, a symbolic link swapped as Kubernetes does, deleted and made again). A file that is gone has
//! changed, and has again when it is back; one that can't be read at the moment (no descriptor is left, say) has not.
//! Directories are watched, for a file's own watch dies with its inode, and while one is away, what it was in; a slow poll
//! is the net below. Owns one thread; knows nothing of configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Links followed from one file; more is a loop.
const MOST_LINKS: usize = 16;

/// While files go on being touched, a look is taken after this many times the debounce.
const LONGEST_DEBOUNCE: u32 = 10;

/// Calls back when the content of files changes, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// Files whose content is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The files, as they were named to the watcher; at least one, sorted.
    pub paths: Vec<PathBuf>,
}

/// A file to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Where it is.
    pub path: PathBuf,
    /// What was read of it and is in use: any other content is a change, also one that it had before. Without it, what
    /// was seen of the file before, or else its content when watching begins, is what it is compared with.
    pub read: Option<String>,
}

impl From<PathBuf> for Watched {
    fn from(path: PathBuf) -> Watched {
        Watched { path, read: None }
    }
}

/// How patient a [`Watcher`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long it must be quiet before files are read: editors write in several steps.
    pub debounce: Duration,
    /// How often files are read without being told, where the system does not tell (network file systems).
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { debounce: Duration::from_millis(75), poll: Duration::from_secs(5) }
    }
}

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The watcher's thread could not be started.
    #[error("can't start the thread that watches files: {0}")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
enum Message {
    Touched,
    Files(Vec<Watched>),
    Stop,
}

impl Watcher {
    /// Watches these files from now on, with the usual [`Timing`]. `on_change` runs on the watcher's own thread; while it
    /// runs, nothing is missed, only delayed.
    pub fn new(files: Vec<Watched>, on_change: impl FnMut(Change) + Send + 'static) -> Result<Watcher, WatchError> {
        Watcher::with_timing(files, Timing::default(), on_change)
    }

    /// The same with another patience.
    pub fn with_timing(
        files: Vec<Watched>,
        timing: Timing,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Watcher, WatchError> {
        let (messages, inbox) = channel();
        let mut watch = Watch { files: BTreeMap::new(), events: None, complete: false, messages: messages.clone() };
        watch.set_files(files);
        let run = move || run(watch, &inbox, timing, on_change);
        let thread = std::thread::Builder::new().name("waypost-watch".to_owned()).spawn(run);
        Ok(Watcher { messages, thread: Some(thread.map_err(WatchError::Thread)?) })
    }

    /// Watches these files instead.
    pub fn set_files(&self, files: Vec<Watched>) {
        // The thread ends only when this is dropped, or when `on_change` panicked: then there is nobody to tell.
        let _ = self.messages.send(Message::Files(files));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn run(mut watch: Watch, inbox: &Receiver<Message>, timing: Timing, mut on_change: impl FnMut(Change)) {
    let mut quiet = Quiet::default();
    // What was read may be something else by now.
    quiet.touched(timing.debounce);
    loop {
        match inbox.recv_timeout(quiet.wait(timing.poll)) {
            Ok(Message::Touched) => quiet.touched(timing.debounce),
            Ok(Message::Files(files)) => {
                watch.set_files(files);
                quiet.touched(timing.debounce);
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Events first, then content: what happens between the two is told again.
                if quiet.take() || !watch.complete {
                    watch.subscribe();
                }
                if let Some(change) = watch.look() {
                    watch.subscribe();
                    on_change(change);
                }
            }
        }
    }
}

/// When the next look is due.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Quiet {
    fn touched(&mut self, debounce: Duration) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.until = Some((now + debounce).min(since + debounce * LONGEST_DEBOUNCE));
    }

    fn wait(&self, poll: Duration) -> Duration {
        self.until.map_or(poll, |until| until.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self) -> bool {
        self.since = None;
        self.until.take().is_some()
    }
}

/// The files, what was seen of them, and the system's events about them.
struct Watch {
    files: BTreeMap<PathBuf, Option<Fingerprint>>,
    events: Option<RecommendedWatcher>,
    /// Whether the system tells about every directory; if not, it is asked again with each poll.
    complete: bool,
    messages: Sender<Message>,
}

/// Stands for a content.
type Fingerprint = u64;

impl Watch {
    fn set_files(&mut self, files: Vec<Watched>) {
        let mut before = std::mem::take(&mut self.files);
        let seen = |Watched { path, read }: Watched| {
            let read = read.map(|text| Some(fingerprint(text.as_bytes())));
            let seen = read.or_else(|| before.remove(&path)).unwrap_or_else(|| fingerprint_of(&path).unwrap_or(None));
            (path, seen)
        };
        self.files = files.into_iter().map(seen).collect();
        self.subscribe();
    }

    /// What differs from what was seen, which is thereby seen.
    fn look(&mut self) -> Option<Change> {
        let mut paths = Vec::new();
        for (path, seen) in &mut self.files {
            let Ok(now) = fingerprint_of(path) else { continue };
            if now != *seen {
                *seen = now;
                paths.push(path.clone());
            }
        }
        (!paths.is_empty()).then_some(Change { paths })
    }

    /// Asks the system for events anew: links may lead elsewhere, files may be others by now.
    fn subscribe(&mut self) {
        let points: BTreeSet<PathBuf> = self.files.keys().flat_map(|path| points(path)).collect();
        let directories: BTreeSet<PathBuf> = points.iter().map(|point| directory(point)).collect();
        // A file of its own may be mounted into a directory that knows nothing of it.
        let watched: Vec<PathBuf> = directories.iter().chain(self.files.keys()).cloned().collect();
        let relevant: BTreeSet<PathBuf> = points.into_iter().chain(directories).collect();
        let messages = self.messages.clone();
        let listen = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| concerns(&event, &relevant)) {
                let _ = messages.send(Message::Touched);
            }
        };
        let events = notify::recommended_watcher(listen).map(|mut events| {
            let mut is_watched = |path: &Path| events.watch(path, RecursiveMode::NonRecursive).is_ok();
            let missed: Vec<_> = watched.iter().filter(|path| !is_watched(path)).collect();
            self.complete = missed.is_empty();
            for path in missed {
                // Where it comes back to, if it was moved away.
                is_watched(&directory(path));
            }
            events
        });
        match events {
            Ok(events) => self.events = Some(events),
            Err(error) => {
                self.complete = false;
                tracing::warn!(%error, "no file events, polling only");
            }
        }
    }
}

/// Whether an event may mean that one of the points is another file now, or has another content. Reading is none: the
/// watcher reads itself.
fn concerns(event: &notify::Event, points: &BTreeSet<PathBuf>) -> bool {
    let writes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    writes && (event.need_rescan() || event.paths.iter().any(|path| points.contains(path)))
}

/// Every name on the way to a file that could lead elsewhere: the file's own, each symbolic link's, and the targets'.
fn points(path: &Path) -> BTreeSet<PathBuf> {
    let mut points = BTreeSet::new();
    let mut todo = vec![path.to_owned()];
    // A loop of links may also spell each round in another way: `a/../a/../a`.
    for _ in 0..MOST_LINKS {
        let Some(path) = todo.pop() else { break };
        for prefix in path.ancestors() {
            if let Ok(target) = std::fs::read_link(prefix) {
                todo.push(directory(prefix).join(target));
                points.insert(prefix.to_owned());
            }
        }
        points.insert(path);
    }
    points.extend(std::fs::canonicalize(path));
    points
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

/// `None` when there is no such file.
fn fingerprint_of(path: &Path) -> io::Result<Option<Fingerprint>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(fingerprint(&content))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn fingerprint(content: &[u8]) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Longer than anything here takes; only a failing test waits for it.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Without polling, so that what is found was found by events.
    const EVENTS: Timing = Timing { debounce: Duration::from_millis(20), poll: Duration::from_hours(1) };

    struct Scene {
        directory: tempfile::TempDir,
        watcher: Watcher,
        changes: Receiver<Change>,
    }

    impl Scene {
        fn new(names: &[&str], timing: Timing, prepare: impl FnOnce(&Path)) -> Scene {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            let paths = names.iter().map(|name| directory.path().join(name).into()).collect();
            let (send, changes) = channel();
            let watcher = Watcher::with_timing(paths, timing, move |change| send.send(change).unwrap()).unwrap();
            Scene { directory, watcher, changes }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        #[track_caller]
        fn expect(&self, names: &[&str]) {
            let change = self.changes.recv_timeout(DEADLINE).expect("a change in time");
            let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
            assert_eq!(change, Change { paths });
        }

        /// Nothing before this was a change: the next one is that of a file touched now.
        #[track_caller]
        fn expect_nothing(&self, witness: &str) {
            self.replace(witness, &format!("{:?}", Instant::now()));
            self.expect(&[witness]);
        }

        /// In one step, so that no state between is ever seen.
        fn replace(&self, name: &str, content: &str) {
            fs::write(self.path("temporary"), content).unwrap();
            fs::rename(self.path("temporary"), self.path(name)).unwrap();
        }
    }

    fn two_files(directory: &Path) {
        fs::write(directory.join("a"), "1").unwrap();
        fs::write(directory.join("b"), "1").unwrap();
    }

    #[test]
    fn a_write_in_place_is_a_change() {
        let scene = Scene::new(&["a", "b"], EVENTS, two_files);
        fs::write(scene.path("a"), "2").unwrap();
        scene.expect(&["a"]);
        fs::write(scene.path("a"), "3").unwrap();
        scene.expect(&["a"]);
    }

    #[test]
    fn a_rename_over_the_file_is_a_change_every_time() {
        let scene = Scene::new(&["a"], EVENTS, two_files);
        for round in 0..3 {
            scene.replace("a", &format!("round {round}"));
            scene.expect(&["a"]);
        }
    }

    #[test]
    fn the_same_content_written_again_is_none() {
        let scene = Scene::new(&["a", "b"], EVENTS, two_files);
        scene.replace("a", "1");
        scene.expect_nothing("b");
    }

    #[test]
    fn a_file_that_goes_is_a_change_and_so_is_its_return() {
        let scene = Scene::new(&["a", "b"], EVENTS, two_files);
        fs::remove_file(scene.path("a")).unwrap();
        scene.expect(&["a"]);
        scene.expect_nothing("b");
        scene.replace("a", "1");
        scene.expect(&["a"]);
    }

    #[test]
    fn a_file_that_can_t_be_read_has_not_changed() {
        let scene = Scene::new(&["a", "b"], EVENTS, two_files);
        // Like a lack of descriptors: there is something, and what it says can't be known.
        fs::remove_file(scene.path("a")).unwrap();
        fs::create_dir(scene.path("a")).unwrap();
        scene.expect_nothing("b");
    }

    #[test]
    fn a_directory_moved_away_and_another_put_in_its_place_is_a_change() {
        let scene = Scene::new(&["here/a"], EVENTS, |directory| {
            for (name, content) in [("here", "1"), ("next", "2")] {
                fs::create_dir(directory.join(name)).unwrap();
                fs::write(directory.join(name).join("a"), content).unwrap();
            }
        });
        fs::rename(scene.path("here"), scene.path("before")).unwrap();
        fs::rename(scene.path("next"), scene.path("here")).unwrap();
        scene.expect(&["here/a"]);
    }

    #[test]
    fn a_swap_of_kubernetes_data_link_is_one_change_of_all_its_files() {
        let scene = Scene::new(&["a", "b"], EVENTS, |directory| {
            for (version, content) in [("..1", "1"), ("..2", "2"), ("..3", "3")] {
                fs::create_dir(directory.join(version)).unwrap();
                fs::write(directory.join(version).join("a"), content).unwrap();
                fs::write(directory.join(version).join("b"), content).unwrap();
            }
            symlink("..1", directory.join("..data")).unwrap();
            symlink("..data/a", directory.join("a")).unwrap();
            symlink("..data/b", directory.join("b")).unwrap();
        });
        for version in ["..2", "..3"] {
            symlink(version, scene.path("..data_tmp")).unwrap();
            fs::rename(scene.path("..data_tmp"), scene.path("..data")).unwrap();
            scene.expect(&["a", "b"]);
        }
    }

    #[test]
    fn the_target_of_a_link_in_another_directory_is_watched() {
        let scene = Scene::new(&["here/link"], EVENTS, |directory| {
            fs::create_dir(directory.join("here")).unwrap();
            fs::create_dir(directory.join("there")).unwrap();
            fs::write(directory.join("there/real"), "1").unwrap();
            symlink("../there/real", directory.join("here/link")).unwrap();
        });
        fs::write(scene.path("there/real"), "2").unwrap();
        scene.expect(&["here/link"]);
    }

    #[test]
    fn a_link_to_the_directory_may_be_swapped() {
        let scene = Scene::new(&["current/a"], EVENTS, |directory| {
            for (release, content) in [("r1", "1"), ("r2", "2")] {
                fs::create_dir(directory.join(release)).unwrap();
                fs::write(directory.join(release).join("a"), content).unwrap();
            }
            symlink("r1", directory.join("current")).unwrap();
        });
        symlink("r2", scene.path("next")).unwrap();
        fs::rename(scene.path("next"), scene.path("current")).unwrap();
        scene.expect(&["current/a"]);
    }

    #[test]
    fn the_poll_finds_what_no_event_tells() {
        let timing = Timing { debounce: Duration::from_millis(20), poll: Duration::from_millis(20) };
        let scene = Scene::new(&["later/a"], timing, |_| {});
        fs::create_dir(scene.path("later")).unwrap();
        fs::write(scene.path("later/a"), "1").unwrap();
        scene.expect(&["later/a"]);
    }

    #[test]
    fn other_files_take_the_place_of_the_first() {
        let scene = Scene::new(&["a"], EVENTS, two_files);
        scene.watcher.set_files(vec![scene.path("b").into()]);
        fs::write(scene.path("a"), "2").unwrap();
        // `b` is new to the watcher: write until it has looked at it once.
        let start = Instant::now();
        let mut round = 0;
        let change = loop {
            round += 1;
            fs::write(scene.path("b"), format!("round {round}")).unwrap();
            match scene.changes.recv_timeout(Duration::from_millis(100)) {
                Ok(change) => break change,
                Err(_) => assert!(start.elapsed() < DEADLINE, "no change in time"),
            }
        };
        assert_eq!(change, Change { paths: vec![scene.path("b")] });
    }

    #[test]
    fn what_was_read_is_what_counts_and_not_what_was_seen() {
        let scene = Scene::new(&["a", "b"], EVENTS, two_files);
        let read = |text: &str| {
            let read = Some(text.to_owned());
            scene.watcher.set_files(vec![Watched { path: scene.path("a"), read }, scene.path("b").into()]);
        };
        // It was something else for a moment, and that was read.
        read("2");
        scene.expect(&["a"]);
        read("1");
        scene.expect_nothing("b");
    }

    #[test]
    fn a_directory_that_is_away_for_a_while_is_noticed_when_it_is_back() {
        let scene = Scene::new(&["here/a"], EVENTS, |directory| {
            fs::create_dir(directory.join("here")).unwrap();
            fs::write(directory.join("here/a"), "1").unwrap();
        });
        fs::rename(scene.path("here"), scene.path("away")).unwrap();
        scene.expect(&["here/a"]);
        fs::rename(scene.path("away"), scene.path("here")).unwrap();
        scene.expect(&["here/a"]);
    }

    #[test]
    fn a_dropped_watcher_is_silent_and_gone() {
        let scene = Scene::new(&["a"], EVENTS, two_files);
        drop(scene.watcher);
        fs::write(scene.directory.path().join("a"), "2").unwrap();
        assert!(scene.changes.recv().is_err(), "the callback is dropped with the thread");
    }

    #[test]
    fn a_loop_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let points = points(&directory.path().join("a"));
        assert!(points.contains(&directory.path().join("b")), "{points:?}");
    }
}
