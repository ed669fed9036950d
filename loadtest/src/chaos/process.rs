//! Waypost as a process of its own: started, told of changes, replaced by a successor, ended whatever happens.
//!
//! Never ends a process that it did not start.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use upstream_mock::Fleet;

use super::setting::{Setting, Surroundings};
use super::{Change, ChaosError, Subject};

/// A process must serve, apply a change or end within this.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(20);
/// Longer than any request takes.
const SERVER: &str = "grace_period = \"40s\"\nupgrade_socket = \"upgrade.sock\"\n";

/// A running Waypost before a fleet, and the folder that all of it lives in.
#[derive(Debug)]
pub struct Process {
    binary: PathBuf,
    folder: PathBuf,
    endpoints: Vec<(String, SocketAddr)>,
    running: Running,
    web: SocketAddr,
    admin: SocketAddr,
    successors: usize,
    /// What went wrong with a process, beside what its clients saw.
    pub troubles: Vec<String>,
}

/// What a process has taken of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub resident: u64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end and nothing to say.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Writes the config into the folder and starts the binary.
    pub async fn start(
        binary: &Path,
        folder: &Path,
        (fleet, setting): (&Fleet, &Setting),
    ) -> Result<Process, ChaosError> {
        let endpoints: Vec<_> = fleet.containers().iter().map(|one| (one.name().to_owned(), one.address())).collect();
        write_config(folder, setting, &endpoints)?;
        let mut running = spawn(binary, folder, ("run", 0))?;
        let log = running.serving().await?;
        let (web, admin) = addresses(&log)
            .ok_or_else(|| ChaosError::Subject(format!("the log does not tell the addresses:\n{log}")))?;
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Ok(Process { binary, folder, endpoints, running, web, admin, successors: 0, troubles: Vec::new() })
    }

    /// What the present process takes of the machine.
    pub fn level(&self) -> Option<Level> {
        let proc = PathBuf::from(format!("/proc/{}", self.running.child.id()));
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = resident.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(Level { descriptors: fs::read_dir(proc.join("fd")).ok()?.count(), resident })
    }

    /// What is wrong with the process, and was with its predecessors.
    pub fn ailments(&mut self) -> Vec<String> {
        let mut ailments = self.troubles.clone();
        if let Ok(Some(status)) = self.running.child.try_wait() {
            ailments.push(format!("it has ended: {status}"));
        }
        for number in 0..=self.successors {
            let log = fs::read_to_string(log_file(&self.folder, number)).unwrap_or_default();
            ailments.extend(log.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
        }
        ailments
    }

    async fn upgrade(&mut self) -> Result<(), ChaosError> {
        self.successors += 1;
        let mut successor = spawn(&self.binary, &self.folder, ("upgrade", self.successors))?;
        successor.serving().await?;
        let mut old = std::mem::replace(&mut self.running, successor);
        match old.ended().await {
            Some(status) if status.success() => {}
            Some(status) => self.troubles.push(format!("an old process ended with {status}")),
            None => self.troubles.push("an old process did not end after the upgrade".to_owned()),
        }
        Ok(())
    }

    fn hang_up(&self) -> Result<(), ChaosError> {
        let pid = i32::try_from(self.running.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the system gave this id");
        kill_process(pid, Signal::HUP).map_err(|error| failed("send SIGHUP", error.into()))
    }
}

impl Subject for Process {
    fn web(&self) -> SocketAddr {
        self.web
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }

    async fn change(&mut self, change: &Change) -> Result<(), ChaosError> {
        match change {
            Change::Reload(setting) => write_config(&self.folder, setting, &self.endpoints),
            Change::Again => self.hang_up(),
            Change::Upgrade => self.upgrade().await,
        }
    }
}

impl Running {
    async fn serving(&mut self) -> Result<String, ChaosError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(" started ") {
                return Ok(log);
            }
            if Instant::now() > deadline || !matches!(self.child.try_wait(), Ok(None)) {
                return Err(ChaosError::Subject(format!("it does not start:\n{log}")));
            }
            sleep(GLANCE).await;
        }
    }

    async fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            sleep(GLANCE).await;
        }
        None
    }
}

fn spawn(binary: &Path, folder: &Path, (command, number): (&str, usize)) -> Result<Running, ChaosError> {
    let log = log_file(folder, number);
    let file = fs::File::create(&log).map_err(|error| failed(&format!("write {}", log.display()), error))?;
    let output = file.try_clone().map_err(|error| failed("write the log", error))?;
    let mut waypost = Command::new(binary);
    waypost.args([command, "--config"]).arg(folder.join("waypost.toml"));
    waypost.env_remove("RUST_LOG").env_remove("WAYPOST_CONFIG").stdin(Stdio::null()).stdout(output).stderr(file);
    let child = waypost.spawn().map_err(|error| failed(&format!("start {}", binary.display()), error))?;
    Ok(Running { child, log })
}

fn log_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("waypost-{number}.log"))
}

/// In one step, so that nobody reads half of it.
fn write_config(folder: &Path, setting: &Setting, endpoints: &[(String, SocketAddr)]) -> Result<(), ChaosError> {
    let address = |name: &str| {
        let found = endpoints.iter().find(|(known, _)| known == name);
        found.map(|(_, address)| address.to_string()).unwrap_or_default()
    };
    let text = setting.toml(address, Surroundings { server: SERVER });
    let (next, file) = (folder.join("waypost.toml.next"), folder.join("waypost.toml"));
    let written = fs::write(&next, text).and_then(|()| fs::rename(&next, &file));
    written.map_err(|error| failed(&format!("write {}", file.display()), error))
}

/// Where it listens, as its log tells.
fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let after = |mark: &str| log.split_once(mark)?.1.split_whitespace().next()?.parse().ok();
    Some((after("listener open listener=web address=")?, after("admin open address=")?))
}

fn failed(what: &str, error: std::io::Error) -> ChaosError {
    ChaosError::Io { what: what.to_owned(), error }
}
