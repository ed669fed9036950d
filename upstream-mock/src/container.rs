//! One container of the fleet: a port that listens, is held closed, or comes back; and what is known about it.
//!
//! Owns the listener, the connections and the counters. What a request gets for an answer is decided in `answer`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Answering, Hub, Visit};
use crate::fault::Fault;
use crate::frost::Frost;
use crate::ledger::Ledger;
use crate::socket::{Line, Socket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// What a container answers on `/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The status of the answer.
    pub status: StatusCode,
    /// How long the answer takes.
    pub delay: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { status: StatusCode::OK, delay: Duration::ZERO }
    }
}

/// A handle on one container; clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Container {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    index: usize,
    address: SocketAddr,
    identity: HeaderValue,
    greeting: Bytes,
    ledger: Arc<Ledger>,
    counters: Counters,
    health: watch::Sender<Health>,
    faulty: AtomicBool,
    fault: Mutex<Option<Fault>>,
    frost: Arc<Frost>,
    /// Ends the flapping of `/health`.
    flapping_health: Mutex<CancellationToken>,
    life: Mutex<Life>,
    /// Taken by whoever opens or closes the port, for as long as that takes.
    port: tokio::sync::Mutex<Port>,
    stop: CancellationToken,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    probes: AtomicU64,
    accepted: AtomicU64,
}

/// From one start of the container to its crash: all that dies with the process.
#[derive(Clone, Debug)]
struct Life {
    end: CancellationToken,
    closing: CancellationToken,
    draining: CancellationToken,
    crashed: Arc<AtomicBool>,
    connections: TaskTracker,
    hub: Arc<Hub>,
    flapping: CancellationToken,
}

impl Life {
    fn new(stop: &CancellationToken) -> Self {
        Self {
            end: stop.child_token(),
            closing: stop.child_token(),
            draining: stop.child_token(),
            crashed: Arc::default(),
            connections: TaskTracker::new(),
            hub: Arc::default(),
            flapping: stop.child_token(),
        }
    }
}

#[derive(Debug)]
enum Port {
    /// The task accepts until the life is `closing`, and leaves the held port behind.
    Listening(JoinHandle<io::Result<TcpSocket>>),
    /// Bound but not listening: connections are refused, and nobody else can take the port.
    Held(TcpSocket),
    /// The port was lost to someone else; recovering has to bind it anew.
    Lost,
}

/// What a new container is told by its fleet.
pub(crate) struct Birth {
    pub(crate) name: String,
    pub(crate) index: usize,
    pub(crate) address: SocketAddr,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) stop: CancellationToken,
}

impl Container {
    /// Binds and starts to listen on the current runtime.
    pub(crate) fn start(birth: Birth) -> io::Result<Self> {
        let socket = hold(birth.address)?;
        let address = socket.local_addr()?;
        let identity = HeaderValue::from_str(&birth.name)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a container's name must fit into a header"))?;
        let life = Life::new(&birth.stop);
        let container = Self {
            inner: Arc::new(Inner {
                identity,
                greeting: Bytes::from(format!("hello from {}\n", birth.name)),
                name: birth.name,
                index: birth.index,
                address,
                ledger: birth.ledger,
                counters: Counters::default(),
                health: watch::Sender::new(Health::default()),
                faulty: AtomicBool::new(false),
                fault: Mutex::new(None),
                frost: Arc::default(),
                flapping_health: Mutex::new(birth.stop.child_token()),
                life: Mutex::new(life.clone()),
                port: tokio::sync::Mutex::new(Port::Lost),
                stop: birth.stop,
                runtime: Handle::current(),
            }),
        };
        let listening = container.listen(socket, life.closing)?;
        *container.inner.port.try_lock().expect("nobody else knows the container yet") = listening;
        Ok(container)
    }

    /// The name that the container puts into `x-upstream`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where it listens, or listened before it crashed, or will listen again.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Requests received since the start or the last [`reset_counters`](crate::Fleet::reset_counters), without
    /// `/health`.
    pub fn requests(&self) -> u64 {
        self.inner.counters.requests.load(Ordering::Relaxed)
    }

    /// Requests for `/health` and to the gRPC health service.
    pub fn probes(&self) -> u64 {
        self.inner.counters.probes.load(Ordering::Relaxed)
    }

    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.inner.counters.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now, upgraded ones included.
    pub fn connections(&self) -> usize {
        self.life().connections.len()
    }

    /// How often this container executed the request with this `Idempotency-Key` or `x-request-key`.
    pub fn executions(&self, key: &str) -> u64 {
        self.inner.ledger.executions_by(key, self.inner.index)
    }

    /// Whether the port listens.
    pub fn is_listening(&self) -> bool {
        !self.life().closing.is_cancelled()
    }

    /// What `/health` answers now.
    pub fn health(&self) -> Health {
        *self.inner.health.borrow()
    }

    /// Answers `/health` with this status from now on; the gRPC health service follows (serving below 400).
    pub fn set_health(&self, status: StatusCode) {
        self.inner.flapping_health.lock().cancel();
        self.inner.health.send_modify(|health| health.status = status);
    }

    /// Answers `/health` this much later from now on.
    pub fn set_health_delay(&self, delay: Duration) {
        self.inner.health.send_modify(|health| health.delay = delay);
    }

    /// The fault that every request meets, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        *self.inner.fault.lock()
    }

    /// Lets every request but `/health` (which has [`set_health`](Self::set_health)) meet this fault.
    ///
    /// [`Fault::Crash`], [`Fault::Refuse`] and [`Fault::Flap`] concern the port, so `/health` too, and begin at once; so
    /// do [`Fault::Freeze`] and [`Fault::Blackhole`]. [`Fault::Health`] and [`Fault::FlapHealth`] concern nothing but
    /// `/health`, go together with any other, and last until [`recover`](Self::recover).
    pub async fn set_fault(&self, fault: Fault) {
        match fault {
            Fault::Crash => self.crash().await,
            Fault::Refuse => self.refuse().await,
            Fault::Flap { up, down } => self.flap(up, down),
            Fault::Health(status) => self.set_health(status),
            Fault::FlapHealth { up, down } => self.flap_health(up, down),
            _ => {
                self.life().flapping.cancel();
                self.store_fault(Some(fault));
            }
        }
    }

    /// Answers as it should again; a port that is closed stays closed until [`recover`](Self::recover).
    pub fn clear_fault(&self) {
        self.life().flapping.cancel();
        self.store_fault(None);
    }

    /// Dies as by kill -9: the port refuses and every connection has been reset when this returns. Ends every fault.
    pub async fn crash(&self) {
        self.clear_fault();
        self.go_down(&mut *self.inner.port.lock().await).await;
    }

    /// Closes the port; open connections go on.
    pub async fn refuse(&self) {
        let mut port = self.inner.port.lock().await;
        self.life().closing.cancel();
        close(&mut port).await;
    }

    /// Is to be stopped: `/health` answers 503, idle connections close, the others after their answer (HTTP/2: GOAWAY).
    ///
    /// New connections are still accepted; those of HTTP/1.1 get one answer each.
    pub fn drain(&self) {
        self.set_health(StatusCode::SERVICE_UNAVAILABLE);
        self.life().draining.cancel();
    }

    /// Starts anew on the same port, without faults and healthy; counters go on.
    ///
    /// # Errors
    /// When the port cannot be opened again.
    pub async fn recover(&self) -> io::Result<()> {
        self.clear_fault();
        self.inner.flapping_health.lock().cancel();
        self.inner.health.send_replace(Health::default());
        self.come_up(&mut *self.inner.port.lock().await).await
    }

    /// Crashes after `up`, recovers after `down`, and so on, until cleared, crashed or recovered by someone else.
    fn flap(&self, up: Duration, down: Duration) {
        let flapping = self.inner.stop.child_token();
        std::mem::replace(&mut self.inner.life.lock().flapping, flapping.clone()).cancel();
        self.store_fault(Some(Fault::Flap { up, down }));
        let container = self.clone();
        self.inner.runtime.spawn(async move {
            while flapping.run_until_cancelled(tokio::time::sleep(up)).await.is_some() {
                let mut port = container.inner.port.lock().await;
                // Who cancels does so before waiting for the port: then its change is the last.
                if flapping.is_cancelled() {
                    break;
                }
                container.go_down(&mut port).await;
                drop(port);
                if flapping.run_until_cancelled(tokio::time::sleep(down)).await.is_none() {
                    break;
                }
                let mut port = container.inner.port.lock().await;
                if flapping.is_cancelled() || container.come_up(&mut port).await.is_err() {
                    break;
                }
            }
        });
    }

    /// `/health` answers 200 for `up`, 503 for `down`, and so on, until recovered or told another status.
    fn flap_health(&self, up: Duration, down: Duration) {
        let flapping = self.inner.stop.child_token();
        std::mem::replace(&mut *self.inner.flapping_health.lock(), flapping.clone()).cancel();
        let container = self.clone();
        self.inner.runtime.spawn(async move {
            let phases = [(StatusCode::OK, up), (StatusCode::SERVICE_UNAVAILABLE, down)];
            for (status, time) in phases.into_iter().cycle() {
                if !container.say_while(&flapping, status) {
                    return;
                }
                if flapping.run_until_cancelled(tokio::time::sleep(time)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Answers `/health` with this status, unless the flapping is over. Under the lock: who ends it has the last word.
    fn say_while(&self, flapping: &CancellationToken, status: StatusCode) -> bool {
        let _current = self.inner.flapping_health.lock();
        if !flapping.is_cancelled() {
            self.inner.health.send_modify(|health| health.status = status);
        }
        !flapping.is_cancelled()
    }

    /// The listener first: a client that loses its connection shall not find an open port.
    async fn go_down(&self, port: &mut Port) {
        let life = self.life();
        life.closing.cancel();
        close(port).await;
        // Release: pairs with the load of each line, which sees its token cancelled after this.
        life.crashed.store(true, Ordering::Release);
        life.end.cancel();
        life.connections.close();
        life.connections.wait().await;
    }

    /// A new life after a crash; else the old one, with its open connections, no longer closing or draining.
    async fn come_up(&self, port: &mut Port) -> io::Result<()> {
        let mut life = self.life();
        if life.crashed.load(Ordering::Acquire) {
            life = Life { flapping: life.flapping, ..Life::new(&self.inner.stop) };
        }
        life.draining = self.inner.stop.child_token();
        if !life.closing.is_cancelled() && matches!(port, Port::Listening(_)) {
            *self.inner.life.lock() = life;
            return Ok(());
        }
        close(port).await;
        let socket = match std::mem::replace(port, Port::Lost) {
            Port::Held(socket) => socket,
            _ => hold(self.inner.address)?,
        };
        life.closing = self.inner.stop.child_token();
        // Before the port opens: each connection looks up the life that it belongs to.
        *self.inner.life.lock() = life.clone();
        *port = self.listen(socket, life.closing.clone()).inspect_err(|_| life.closing.cancel())?;
        Ok(())
    }

    fn listen(&self, socket: TcpSocket, closing: CancellationToken) -> io::Result<Port> {
        let _runtime = self.inner.runtime.enter();
        let listener = socket.listen(BACKLOG)?;
        Ok(Port::Listening(self.inner.runtime.spawn(accept(self.clone(), listener, closing))))
    }

    fn store_fault(&self, fault: Option<Fault>) {
        let mut stored = self.inner.fault.lock();
        *stored = fault;
        self.inner.frost.set(fault == Some(Fault::Freeze));
        self.inner.faulty.store(stored.is_some(), Ordering::Release);
    }

    fn life(&self) -> Life {
        self.inner.life.lock().clone()
    }

    /// Ends what is idle, lets the rest finish, and closes the port.
    pub(crate) async fn stop(&self) {
        self.clear_fault();
        self.life().draining.cancel();
        self.refuse().await;
        let connections = self.life().connections;
        connections.close();
        connections.wait().await;
    }

    pub(crate) fn reset_counters(&self) {
        let Counters { requests, probes, accepted } = &self.inner.counters;
        for counter in [requests, probes, accepted] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn watch_health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    pub(crate) fn identity(&self) -> HeaderValue {
        self.inner.identity.clone()
    }

    pub(crate) fn greeting(&self) -> Bytes {
        self.inner.greeting.clone()
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.inner.faulty.load(Ordering::Acquire)
    }

    pub(crate) fn count_request(&self) -> u64 {
        self.inner.counters.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn count_probe(&self) -> u64 {
        self.inner.counters.probes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn record(&self, key: &str) {
        self.inner.ledger.record(key, self.inner.index);
    }
}

/// Binds without listening. The address stays ours, and connections to it are refused.
fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Waits for the accepting task of a closing life and keeps the port that it leaves.
async fn close(port: &mut Port) {
    if let Port::Listening(accepting) = port {
        *port = match accepting.await {
            Ok(Ok(held)) => Port::Held(held),
            Ok(Err(_)) | Err(_) => Port::Lost,
        };
    }
}

async fn accept(container: Container, listener: TcpListener, closing: CancellationToken) -> io::Result<TcpSocket> {
    let protocol = Arc::new(protocol());
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let Ok(connected) = accepted else {
            // Out of file descriptors or a peer that gave up: neither is a reason to stop listening.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Frozen, it accepts nothing more: what waits here was accepted in the moment before.
        if closing.run_until_cancelled(container.inner.frost.thawed()).await.is_none() {
            break;
        }
        container.inner.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let life = container.life();
        life.connections.clone().spawn(converse(container.clone(), connected, protocol.clone(), life));
    }
    drop(listener);
    hold(container.inner.address)
}

/// HTTP/1.1 with upgrades, HTTP/2 with prior knowledge and extended CONNECT.
fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().enable_connect_protocol().max_concurrent_streams(1000);
    builder
}

async fn converse(
    container: Container,
    (stream, peer): (TcpStream, SocketAddr),
    protocol: Arc<auto::Builder<TokioExecutor>>,
    life: Life,
) {
    // Without it an answer in two writes waits for the peer's delayed acknowledgement. Failing means the peer is gone.
    drop(stream.set_nodelay(true));
    let wire = Line::new(&life.end, life.crashed.clone(), container.inner.frost.clone());
    let draining = life.draining.clone();
    let Life { hub, connections, draining: drained, .. } = life;
    let visit = Arc::new(Visit { container, line: wire.clone(), peer, hub, connections, draining: drained });
    let io = TokioIo::new(Socket::new(stream, wire.clone()));
    let mut connection = pin!(protocol.serve_connection_with_upgrades(io, Answering(visit)));
    // A connection opened while draining gets its answer first.
    let mut told = draining.is_cancelled();
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = wire.ended() => return,
            () = draining.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
