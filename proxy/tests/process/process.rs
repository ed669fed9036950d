//! A process of its own, before a fleet in this one.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use upstream_mock::{Fleet, FleetOptions};

use crate::eventually;

/// The binary under test.
pub(crate) fn waypost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.env_remove("RUST_LOG").env_remove("WAYPOST_CONFIG").stdin(Stdio::null());
    command
}

/// A fleet and a folder with a config.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    folder: TempDir,
    started: AtomicUsize,
}

impl Scene {
    /// A listener `web` before three containers, admin, an upgrade socket, and `extra` at the end of the file.
    pub(crate) async fn new(extra: &str) -> Scene {
        let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
        let scene = Scene { fleet, folder: tempfile::tempdir().unwrap(), started: AtomicUsize::new(0) };
        scene.write(&scene.config(extra));
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, config: &str) {
        // In one step, as it is recommended: nobody reads half of it.
        fs::write(self.path("next"), config).unwrap();
        fs::rename(self.path("next"), self.path("waypost.toml")).unwrap();
    }

    pub(crate) fn config(&self, extra: &str) -> String {
        let endpoint = |container: &upstream_mock::Container| {
            format!("{{ name = \"{}\", url = \"http://{}\" }}", container.name(), container.address())
        };
        let endpoints: Vec<_> = self.fleet.containers().iter().map(endpoint).collect();
        format!(
            "version = 1\nserver.workers = 2\nserver.grace_period = \"5s\"\nserver.upgrade_socket = \"upgrade.sock\"\n\
             admin.address = \"127.0.0.1:0\"\nlisteners.web.address = \"127.0.0.1:0\"\nroutes.all.service = \"web\"\n\
             services.web.endpoints = [{}]\n{extra}\n",
            endpoints.join(", ")
        )
    }

    /// Starts `waypost COMMAND --config …` and returns when it serves.
    pub(crate) async fn start(&self, command: &[&str]) -> Running {
        let running = self.spawn(command, waypost());
        eventually!(running.log().contains(" started "));
        running
    }

    /// The same without waiting, through a command that is prepared already.
    pub(crate) fn spawn(&self, arguments: &[&str], mut command: Command) -> Running {
        // Relaxed: a number for two files, and no two are alike.
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("{number}.log"));
        let output = |path: &Path| File::create(path).unwrap();
        command.args(arguments).arg("--config").arg(self.path("waypost.toml"));
        command.stderr(output(&log)).stdout(output(&self.path(&format!("{number}.out"))));
        Running { child: command.spawn().unwrap(), log }
    }
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Resident memory in KiB.
    pub(crate) resident: u64,
}

/// A process that is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Where the listener `web` is open.
    pub(crate) fn web(&self) -> SocketAddr {
        self.address("listener open listener=web address=")
    }

    /// Where another listener is open.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.address(&format!("listener open listener={name} address="))
    }

    /// Where admin is open.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin open address=")
    }

    fn address(&self, before: &str) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log.split_once(before).unwrap_or_else(|| panic!("no {before} in\n{log}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// What it takes of the machine.
    pub(crate) fn level(&self) -> Level {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Level { descriptors: fs::read_dir(proc.join("fd")).unwrap().count() as u64, resident }
    }

    /// The processor time that it has used.
    pub(crate) fn busy(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15 of proc(5), counted behind the name, which may contain anything; a tick is 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually!(!self.is_running());
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // First, and whatever else happens: nobody else would end it. Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            // A second panic would end all tests, and leave their processes behind.
            eprintln!("--- {}\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
