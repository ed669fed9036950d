//! Who is knocking? Listening sockets, the threads that accept from them, and the connections they accept.
//!
//! Owns the set of open listeners and the workers. Each worker is a thread with a runtime of its own that accepts
//! from every listener and keeps what it accepted: a request never changes threads. Never looks into a request.

pub mod proxy_protocol;
mod connection;
mod conversation;
mod streams;
mod chatter;
mod door;
mod gate;
mod socket;
mod turns;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};

use crate::drain::Lifecycle;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use gate::Gate;
use worker::Worker;

/// What every connection needs.
#[derive(Debug, Clone)]
pub struct Shared {
    /// What requests read.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The books.
    pub metrics: Arc<Metrics>,
    /// The phase, and what is in flight.
    pub lifecycle: Arc<Lifecycle>,
}

/// The open listeners and the threads behind them.
#[derive(Debug)]
pub struct Edge {
    shared: Shared,
    workers: Mutex<Vec<Worker>>,
    open: Mutex<HashMap<Arc<str>, Listener>>,
    /// Nothing is opened any more. Changes under the lock of `open`.
    closed: AtomicBool,
}

/// One open listener.
#[derive(Debug)]
struct Listener {
    /// As the file has it; port 0 stays 0 here.
    wanted: SocketAddr,
    socket: Arc<TcpListener>,
    gate: Arc<Gate>,
}

/// Sockets that are bound and not yet served: all that can fail about a new set of listeners is behind us.
#[derive(Debug)]
pub struct Prepared(Vec<Bound>);

/// One of them.
#[derive(Debug)]
struct Bound {
    name: Arc<str>,
    /// As the file has it.
    wanted: SocketAddr,
    max_connections: usize,
    socket: Arc<TcpListener>,
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` cannot listen on {address}: {source}")]
pub struct BindError {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its address in the file.
    pub address: SocketAddr,
    source: io::Error,
}

/// Sockets that another process or the service manager opened, by address.
pub type Inherited<'a> = dyn FnMut(SocketAddr) -> Option<OwnedFd> + 'a;

impl Edge {
    /// Starts the workers; nothing is open yet.
    pub fn start(shared: &Shared, workers: usize) -> io::Result<Edge> {
        let workers = (0..workers).map(|index| Worker::start(index, shared.clone())).collect::<io::Result<_>>()?;
        Ok(Edge { shared: shared.clone(), workers: Mutex::new(workers), open: Mutex::default(), closed: false.into() })
    }

    /// Binds what `snapshot` wants and is not open yet. Sockets are kept if the address is the same.
    pub fn prepare(&self, snapshot: &Snapshot, inherited: &mut Inherited<'_>) -> Result<Prepared, BindError> {
        let open = self.open.lock();
        let by_address: HashMap<_, _> = open.values().map(|listener| (listener.wanted, &listener.socket)).collect();
        let mut prepared = Vec::with_capacity(snapshot.listeners.len());
        for (name, view) in &snapshot.listeners {
            let address = view.config.address;
            let kept = by_address.get(&address).copied().filter(|_| address.port() != 0);
            let kept = kept.or_else(|| open.get(name).filter(|open| open.wanted == address).map(|open| &open.socket));
            let socket = match (kept, inherited(address)) {
                (Some(socket), _) => Arc::clone(socket),
                (None, Some(descriptor)) => adopt(descriptor).map_err(|source| bind_error(name, address, source))?,
                (None, None) => bind(address).map_err(|source| bind_error(name, address, source))?,
            };
            let max_connections = view.config.max_connections;
            prepared.push(Bound { name: Arc::clone(name), wanted: address, max_connections, socket });
        }
        Ok(Prepared(prepared))
    }

    /// Lets the connections of listeners that `next` has no more go on seeing them as they are in `previous`. Called
    /// before `next` is published, and followed by [`Edge::apply`].
    pub fn retire(&self, previous: &Snapshot, next: &Snapshot) {
        for (name, listener) in self.open.lock().iter().filter(|(name, _)| !next.listeners.contains_key(*name)) {
            if let Some(view) = previous.listeners.get(name) {
                listener.gate.retire(view);
            }
        }
    }

    /// Opens what is new and closes what is gone; what stays is not touched. Does nothing after [`Edge::close`].
    pub fn apply(&self, prepared: Prepared) {
        let mut open = self.open.lock();
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut before = std::mem::take(&mut *open);
        for Bound { name, wanted, max_connections, socket } in prepared.0 {
            let stays = before.get(&name).is_some_and(|listener| Arc::ptr_eq(&listener.socket, &socket));
            let kept = if stays { before.remove(&name) } else { None };
            let listener = kept.unwrap_or_else(|| self.open(&name, wanted, socket));
            listener.gate.tell_limit(max_connections);
            open.insert(name, listener);
        }
        for (name, listener) in before {
            tracing::info!(listener = %name, address = %listener.wanted, "listener closed");
            listener.gate.close();
        }
    }

    fn open(&self, name: &Arc<str>, wanted: SocketAddr, socket: Arc<TcpListener>) -> Listener {
        let address = socket.local_addr().unwrap_or(wanted);
        let gate = Arc::new(Gate::new(Arc::clone(name), self.shared.metrics.listener(name), address.port()));
        for worker in self.workers.lock().iter() {
            worker.open(&socket, &gate);
        }
        tracing::info!(listener = %name, %address, "listener open");
        Listener { wanted, socket, gate }
    }

    /// Closes every listener for good; connections end after the exchange they are in.
    pub fn close(&self) {
        let mut open = self.open.lock();
        self.closed.store(true, Ordering::Relaxed);
        for (_, listener) in open.drain() {
            listener.gate.close();
        }
    }

    /// Where each listener is open, by name.
    pub fn addresses(&self) -> HashMap<Arc<str>, SocketAddr> {
        let address = |(name, listener): (&Arc<str>, &Listener)| {
            (Arc::clone(name), listener.socket.local_addr().unwrap_or(listener.wanted))
        };
        self.open.lock().iter().map(address).collect()
    }

    /// How many connections each listener has.
    pub fn inside(&self) -> HashMap<Arc<str>, usize> {
        let open = self.open.lock();
        open.iter().map(|(name, listener)| (Arc::clone(name), listener.gate.inside())).collect()
    }

    /// Every open socket under its configured address, to be handed to another process.
    pub fn sockets(&self) -> Vec<(String, Arc<TcpListener>)> {
        let open = self.open.lock();
        open.values().map(|listener| (listener.wanted.to_string(), Arc::clone(&listener.socket))).collect()
    }

    /// How many workers have not answered within `patience`: something holds their threads up, or has ended them.
    pub async fn silent_workers(&self, patience: Duration) -> usize {
        let until = tokio::time::Instant::now() + patience;
        let answers: Vec<_> = self.workers.lock().iter().map(Worker::call).collect();
        let mut silent = 0;
        for answer in answers {
            let answered = tokio::time::timeout_at(until, answer).await;
            silent += usize::from(!matches!(answered, Ok(Ok(()))));
        }
        silent
    }

    /// Ends the workers; connections that are still open are cut. Blocks until the threads are gone.
    pub fn stop(&self) {
        self.close();
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            worker.stop();
        }
    }
}

fn bind_error(name: &Arc<str>, address: SocketAddr, source: io::Error) -> BindError {
    BindError { name: Arc::clone(name), address, source }
}

/// Bursts of new connections wait here while workers are busy; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Workers let go of a closed socket each in its own time, and until then its port is taken.
const PORT_PATIENCE: Duration = Duration::from_millis(200);

/// Blocks for as long as the port is taken, for a moment at most.
fn bind(address: SocketAddr) -> io::Result<Arc<TcpListener>> {
    let begun = Instant::now();
    loop {
        match bind_now(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PORT_PATIENCE => {
                pause();
            }
            bound => return bound,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a reload has a thread for work that blocks, and at the start nobody waits"
)]
fn pause() {
    std::thread::sleep(PORT_PATIENCE / 20);
}

fn bind_now(address: SocketAddr) -> io::Result<Arc<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the connections of the process before to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    delay_nothing(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Arc::new(socket.into()))
}

fn adopt(descriptor: OwnedFd) -> io::Result<Arc<TcpListener>> {
    let socket = TcpListener::from(descriptor);
    socket.set_nonblocking(true)?;
    delay_nothing(&SockRef::from(&socket))?;
    Ok(Arc::new(socket))
}

/// A head and a small body may be two writes; waiting for the first one's acknowledgement would cost 40 ms. Connections
/// inherit it (Linux copies a listener's TCP options), so that none of them needs a call of its own.
fn delay_nothing(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)
}
