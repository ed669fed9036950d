//! A process of its own, before a fleet in this one.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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
}

impl Scene {
    /// A listener `web` before three containers, admin, an upgrade socket, and `extra` at the end of the file.
    pub(crate) async fn new(extra: &str) -> Scene {
        let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
        let scene = Scene { fleet, folder: tempfile::tempdir().unwrap() };
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
        let number = fs::read_dir(self.folder.path()).unwrap().count();
        let log = self.path(&format!("{number}.log"));
        let output = |path: &Path| File::create(path).unwrap();
        command.args(arguments).arg("--config").arg(self.path("waypost.toml"));
        command.stderr(output(&log)).stdout(output(&self.path(&format!("{number}.out"))));
        Running { child: command.spawn().unwrap(), log }
    }
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

    /// Where admin is open.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin open address=")
    }

    fn address(&self, before: &str) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log.split_once(before).unwrap_or_else(|| panic!("no {before} in\n{log}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
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
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
        // Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
