//! Processes of the comparison: started, pinned, and ended whatever happens.
//!
//! Never ends a process that it did not start, and looks at none: that is [`usage`](super::usage)'s.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    CompareError,
    peers::{Peer, Place, Setting},
    scenario::Layout,
};

/// A child must listen within this time: ten thousand routes take some of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A proxy that is asked to end has this long; then it is ended.
const GOODBYE: Duration = Duration::from_secs(3);
/// Between two looks whether a child listens.
const GLANCE: Duration = Duration::from_millis(10);
/// Addresses of one loopback network that are used; the network's own and its broadcast address are not.
const ADDRESSES: usize = 250;

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

/// Lets this process and its children have as many descriptors as they may, and says how many that is.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // What the system does not grant is not had; the figure below is what holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// The responder and the folder of all; both go when this is dropped.
#[derive(Debug)]
pub struct Children {
    upstreams: Vec<SocketAddr>,
    certificate: Certificate,
    _responder: Running,
    folder: TempDir,
}

/// A proxy that runs; it is killed, and its folder goes, when this is dropped.
#[derive(Debug)]
pub struct Started {
    /// Where it runs.
    pub place: Place,
    running: Running,
    _folder: TempDir,
}

#[derive(Debug)]
struct Certificate {
    chain: String,
    key: String,
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

impl Started {
    /// Asks it to end, as its operator would, and waits for that.
    pub async fn end(mut self) {
        let child = &mut self.running.0;
        // It may have ended by itself; then there is nobody to ask.
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        let end = Instant::now() + GOODBYE;
        while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Children {
    /// Starts this program's own responder on a core, at so many addresses.
    pub async fn new(core: usize, upstreams: usize) -> Result<Self, CompareError> {
        let folder = TempDir::with_prefix("loadtest-compare-").map_err(|error| failed("make a folder", error))?;
        let certificate = Certificate::new()?;
        let upstreams = addresses(free_ports(1)?[0], upstreams);
        let own = std::env::current_exe().map_err(|error| failed("find this program", error))?;
        let mut command = pinned(&core.to_string(), &own);
        command.arg("responder").args(upstreams.iter().map(ToString::to_string));
        // It binds them in this order.
        let last = upstreams.last().copied().into_iter().collect::<Vec<_>>();
        let responder = start("responder", command, (folder.path(), &last)).await?;
        Ok(Self { upstreams, certificate, _responder: responder, folder })
    }

    /// Starts a proxy in front of the responder, on the cores of a list like `0` or `0,1`.
    pub async fn start(&self, peer: &Peer, wanted: Wanted<'_>) -> Result<Started, CompareError> {
        let ports = free_ports(3)?;
        let folder = TempDir::with_prefix_in(format!("{}-", peer.name()), self.folder.path());
        let folder = folder.map_err(|error| failed("make a folder", error))?;
        let setting = Setting {
            folder: folder.path(),
            plain: ports[0],
            tls: ports[1],
            spare: ports[2],
            upstreams: &self.upstreams[..wanted.layout.endpoints().min(self.upstreams.len())],
            layout: wanted.layout,
            connections: wanted.connections,
        };
        self.certificate.write(folder.path())?;
        for (name, text) in peer.recipe().files(&setting) {
            write(&folder.path().join(name), &text)?;
        }
        let mut command = pinned(wanted.cores, peer.program());
        command.args(peer.recipe().arguments(&setting)).envs(peer.recipe().environment(&setting));
        let listening: Vec<_> =
            peer.recipe().ports(&setting).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let running = start(peer.name(), command, (folder.path(), &listening)).await?;
        let place = Place { pid: running.0.id(), plain: ports[0], tls: ports[1], admin: ports[2] };
        Ok(Started { place, running, _folder: folder })
    }
}

/// How a proxy is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is configured for.
    pub layout: Layout,
    /// Connections of clients it must bear.
    pub connections: usize,
    /// Its cores, as `taskset` takes them.
    pub cores: &'a str,
}

impl Certificate {
    fn new() -> Result<Self, CompareError> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        Ok(Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    fn write(&self, folder: &Path) -> Result<(), CompareError> {
        write(&folder.join("site.pem"), &self.chain)?;
        write(&folder.join("site.key"), &self.key)?;
        write(&folder.join("site.both"), &format!("{}{}", self.chain, self.key))
    }
}

/// Starts a child with its output in `NAME.log` of a folder and returns when it listens at all addresses.
async fn start(
    name: &str,
    mut command: Command,
    (folder, listening): (&Path, &[SocketAddr]),
) -> Result<Running, CompareError> {
    let log = folder.join(format!("{name}.log"));
    let file = fs::File::create(&log).map_err(|error| failed(name, error))?;
    let errors = file.try_clone().map_err(|error| failed(name, error))?;
    let spawned = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
    let mut child = Running(spawned.map_err(|error| failed(&format!("start {name} with taskset"), error))?);
    if listens(&mut child.0, listening).await {
        return Ok(child);
    }
    let output = fs::read_to_string(&log).unwrap_or_default();
    Err(CompareError::NotReady { name: name.to_owned(), output })
}

/// Whether all addresses take connections before the child ends or the time is up.
async fn listens(child: &mut Child, addresses: &[SocketAddr]) -> bool {
    let end = Instant::now() + PATIENCE;
    for &address in addresses {
        while TcpStream::connect(address).await.is_err() {
            if Instant::now() > end || !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
    true
}

/// `taskset` becomes the program itself, so its process id stays.
fn pinned(cores: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cores).arg(program);
    command
}

/// Loopback addresses, all different, with one port.
fn addresses(port: u16, count: usize) -> Vec<SocketAddr> {
    let byte = |n: usize| u8::try_from(n).expect("fewer than 250 networks of 250 addresses");
    (0..count).map(|n| (Ipv4Addr::new(127, 0, byte(n / ADDRESSES), byte(n % ADDRESSES + 1)), port).into()).collect()
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
    use crate::compare::usage::Usage;

    #[test]
    fn dropped_children_are_gone() {
        let child = Running(Command::new("sleep").arg("60").spawn().unwrap());
        let pid = child.0.id();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(Usage::of(pid), Usage::default());
    }

    #[test]
    fn a_thousand_upstreams_have_a_thousand_loopback_addresses() {
        let found: std::collections::BTreeSet<_> = addresses(7003, 1_000).into_iter().collect();
        assert_eq!(found.len(), 1_000);
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7003));
    }

    #[test]
    fn descriptors_are_as_many_as_may_be() {
        let most = descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        assert!(most >= 256, "{most}");
    }
}
