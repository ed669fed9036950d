//! Processes of the comparison: started, pinned, looked at, and ended whatever happens.
//!
//! Reads `/proc`, so Linux only. Never ends a process that it did not start.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    CompareError,
    peers::{Peer, Place, Setting},
};

/// Upstreams behind every proxy.
const UPSTREAMS: usize = 3;
/// A child must listen within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// CPU time and memory of a process with its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a core, of all living threads, from their beginning.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_kib: u64,
}

impl Usage {
    /// Of `pid` and all its descendants, now; zero for a process that is gone.
    pub fn of(pid: u32) -> Self {
        let mut all = Self { cpu: Duration::ZERO, rss_kib: rss_kib(pid) };
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            all.cpu += Duration::from_nanos(first_number(&read("schedstat")));
            for child in read("children").split_whitespace().filter_map(|child| child.parse().ok()) {
                let child = Self::of(child);
                all.cpu += child.cpu;
                all.rss_kib += child.rss_kib;
            }
        }
        all
    }
}

fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Pins this process, with the threads it has and will have, to `core`.
pub fn pin_self(core: usize) -> Result<(), CompareError> {
    let pid = std::process::id().to_string();
    let what = || format!("pin the load to core {core} with taskset (util-linux)");
    let done = Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &pid]).output();
    let done = done.map_err(|error| CompareError::Io { what: what(), error })?;
    if done.status.success() {
        return Ok(());
    }
    let error = io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    Err(CompareError::Io { what: what(), error })
}

/// The running children and their folder; both go when this is dropped.
#[derive(Debug)]
pub struct Children {
    running: Vec<Running>,
    folder: TempDir,
}

#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end and nothing to say.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Children {
    /// None yet; makes the folder with a fresh certificate for 127.0.0.1.
    pub fn new() -> Result<Self, CompareError> {
        let folder = TempDir::with_prefix("loadtest-compare-").map_err(|error| failed("make a folder", error))?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let files = [("site.pem", certificate.clone()), ("site.key", key.clone()), ("site.both", certificate + &key)];
        for (name, text) in files {
            write(&folder.path().join(name), &text)?;
        }
        Ok(Self { running: Vec::new(), folder })
    }

    /// Starts this program's own responder and returns its ports.
    pub async fn start_upstreams(&mut self, core: usize) -> Result<Vec<u16>, CompareError> {
        let ports = free_ports(UPSTREAMS)?;
        let own = std::env::current_exe().map_err(|error| failed("find this program", error))?;
        let mut command = pinned(core, &own);
        command.arg("responder").args(ports.iter().map(|port| format!("127.0.0.1:{port}")));
        self.start("responder", command, &ports).await?;
        Ok(ports)
    }

    /// Starts a proxy in front of the upstreams.
    pub async fn start_peer(&mut self, peer: &Peer, upstreams: &[u16], core: usize) -> Result<Place, CompareError> {
        let ports = free_ports(2)?;
        let setting = Setting { folder: self.folder.path(), plain: ports[0], tls: ports[1], upstreams };
        // Waypost tells its format by nothing, but people who look into the folder do.
        let file = self.folder.path().join(format!("{}.conf", peer.name()));
        write(&file, &peer.config(&setting))?;
        let mut command = pinned(core, peer.program());
        command.args(peer.arguments(&file));
        let pid = self.start(peer.name(), command, &ports).await?;
        Ok(Place { pid, plain: ports[0], tls: ports[1] })
    }

    async fn start(&mut self, name: &str, mut command: Command, ports: &[u16]) -> Result<u32, CompareError> {
        let log = self.folder.path().join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(|error| failed(name, error))?;
        let errors = file.try_clone().map_err(|error| failed(name, error))?;
        let spawned = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let mut child = Running(spawned.map_err(|error| failed(&format!("start {name} with taskset"), error))?);
        if !listens(&mut child.0, ports).await {
            let output = fs::read_to_string(&log).unwrap_or_default();
            return Err(CompareError::NotReady { name: name.to_owned(), output });
        }
        let pid = child.0.id();
        self.running.push(child);
        Ok(pid)
    }
}

/// Whether all ports take connections before the child ends or the time is up.
async fn listens(child: &mut Child, ports: &[u16]) -> bool {
    let end = Instant::now() + PATIENCE;
    for &port in ports {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if Instant::now() > end || !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    true
}

/// `taskset` becomes the program itself, so its process id stays.
fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// Ports that were free a moment ago, all different.
fn free_ports(count: usize) -> Result<Vec<u16>, CompareError> {
    let bound: io::Result<Vec<_>> =
        (0..count).map(|_| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).collect();
    let ports = bound.and_then(|bound| bound.iter().map(|one| Ok(one.local_addr()?.port())).collect());
    ports.map_err(|error| failed("find free ports", error))
}

fn write(file: &Path, text: &str) -> Result<(), CompareError> {
    fs::write(file, text).map_err(|error| failed(&file.display().to_string(), error))
}

fn failed(what: &str, error: io::Error) -> CompareError {
    CompareError::Io { what: what.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_work_shows_as_cpu_time() {
        let before = Usage::of(std::process::id());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let after = Usage::of(std::process::id());
        assert!(after.cpu > before.cpu + Duration::from_millis(1), "{before:?} {after:?}");
        assert!(after.rss_kib > 100, "{after:?}");
    }

    #[test]
    fn dropped_children_are_gone() {
        let child = Running(Command::new("sleep").arg("60").spawn().unwrap());
        let pid = child.0.id();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(Usage::of(pid), Usage::default());
    }
}
