//! A thread that accepts connections and serves them, from the first byte to the last.
//!
//! Owns a runtime. All workers accept from the same sockets, so none of a socket's waiting connections is lost when a
//! listener, or the process, goes away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::door::Door;
use super::gate::Gate;
use super::{Shared, connection};
use crate::{shard, shortage};

/// A thread with its runtime.
#[derive(Debug)]
pub(super) struct Worker {
    calls: mpsc::UnboundedSender<Call>,
    thread: JoinHandle<()>,
}

/// What a worker is asked from outside.
enum Call {
    /// Accept from this listener.
    Open(std::net::TcpListener, Arc<Gate>),
    /// Show that you have time for it.
    Answer(oneshot::Sender<()>),
}

impl Worker {
    pub(super) fn start(index: usize, shared: Shared) -> io::Result<Worker> {
        let (calls, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            shard::enter(index);
            runtime.block_on(serve(inbox, shared));
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
        Ok(Worker { calls, thread })
    }

    pub(super) fn open(&self, socket: &std::net::TcpListener, gate: &Arc<Gate>) {
        match socket.try_clone() {
            // A worker lives as long as the edge that sends to it.
            Ok(socket) => drop(self.calls.send(Call::Open(socket, Arc::clone(gate)))),
            Err(error) => tracing::error!(listener = %gate.name, %error, "worker cannot accept"),
        }
    }

    /// Gets its answer as soon as it has time for one: not while something holds its thread up, and none from a thread
    /// that has ended.
    pub(super) fn call(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        // If nobody is there to hear it, the answer's end says so.
        drop(self.calls.send(Call::Answer(answer)));
        answered
    }

    /// Ends the thread, and with it every connection it serves.
    pub(super) fn stop(self) {
        drop(self.calls);
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<Call>, shared: Shared) {
    while let Some(call) = inbox.recv().await {
        match call {
            Call::Open(socket, gate) => open(socket, gate, &shared),
            // Whoever asked may have lost patience.
            Call::Answer(answer) => drop(answer.send(())),
        }
    }
}

fn open(socket: std::net::TcpListener, gate: Arc<Gate>, shared: &Shared) {
    match Door::new(socket) {
        Ok(door) => drop(tokio::spawn(accept(door, gate, shared.clone()))),
        Err(error) => tracing::error!(listener = %gate.name, %error, "worker cannot accept"),
    }
}

async fn accept(mut door: Door, gate: Arc<Gate>, shared: Shared) {
    // Nothing is over before the queue is empty: a drain waits for this as for a connection.
    let _accepting = shared.lifecycle.connections.token();
    loop {
        tokio::select! {
            accepted = admittance(&mut door, &gate) => admit(accepted, &gate, &shared).await,
            () = gate.closing.cancelled() => break,
        }
    }
    // Whoever had connected before the door was closed is served; closing the socket would reset them.
    for accepted in door.rest() {
        admit(Ok(accepted), &gate, &shared).await;
    }
}

/// The next connection, once there are descriptors for it and for what it will ask for. Until then it waits where the
/// kernel keeps it.
async fn admittance(door: &mut Door, gate: &Gate) -> io::Result<(TcpStream, SocketAddr)> {
    if door.is_crowded() {
        let _paused = gate.pause();
        while !door.has_room() {
            tokio::time::sleep(shortage::PAUSE).await;
        }
    }
    door.accept().await
}

async fn admit(accepted: io::Result<(TcpStream, SocketAddr)>, gate: &Arc<Gate>, shared: &Shared) {
    match accepted {
        Ok((stream, peer)) => {
            let served = connection::serve(stream, peer, Arc::clone(gate), shared.clone());
            // Counted from now on, not from when the task is first run.
            tokio::spawn(shared.lifecycle.connections.track_future(served));
        }
        // Nothing is lost: the one has gone, and the other waits, of which the pause that follows tells.
        Err(error) if is_of_one_connection(&error) || shortage::is_ours(&error) => {}
        Err(error) => {
            gate.metrics.refused("accept");
            tracing::error!(listener = %gate.name, %error, "cannot accept");
            tokio::time::sleep(shortage::PAUSE).await;
        }
    }
}

/// The client was gone before we looked (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use arc_swap::ArcSwap;

    use super::*;
    use crate::drain::Lifecycle;
    use crate::reload;
    use crate::telemetry::metrics::Metrics;

    const CONFIG: &str = "version = 1\nlisteners.web.address = \"127.0.0.1:0\"\nroutes.all.service = \"web\"\n\
                          services.web.endpoints = [{ name = \"web-1\", url = \"http://127.0.0.1:9\" }]\n";

    fn shared() -> Shared {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waypost.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let metrics = Metrics::new();
        let (_, snapshot, _) = reload::first(&file, &metrics).unwrap();
        Shared { snapshot: Arc::new(ArcSwap::from_pointee(snapshot)), metrics, lifecycle: Lifecycle::new() }
    }

    #[tokio::test]
    async fn whoever_has_knocked_before_the_door_was_closed_is_let_in() {
        let (shared, socket) = (shared(), TcpListener::bind("127.0.0.1:0").unwrap());
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let outside: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        let gate = Arc::new(Gate::new("web".into(), shared.metrics.listener("web"), address.port()));
        gate.close();
        accept(Door::new(socket).unwrap(), gate, shared.clone()).await;
        assert_eq!(shared.lifecycle.connections.len(), outside.len());
    }
}
