//! Idle connections to one endpoint, kept for the next request.
//!
//! Owns the connections and, of HTTP/2, hyper's senders, one shard per worker, so that a request never wakes another
//! worker's thread. Never connects and never sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use parking_lot::Mutex;

use super::alarm::Alarm;
use super::connect::Socket;
use crate::body::RequestBody;
use crate::http1::client;
use crate::shard;

/// Carries one request at a time.
#[derive(Debug)]
pub struct Http1 {
    /// The connection.
    pub connection: client::Connection<Socket, RequestBody>,
    /// Limits the wait for a response.
    pub alarm: Alarm,
}
/// Sends many requests at once; cheap to clone.
pub type Http2 = http2::SendRequest<RequestBody>;

/// Requests at once on one HTTP/2 connection before another one is opened; what most servers allow.
const STREAMS: usize = 100;

/// Idle connections of one endpoint.
#[derive(Debug)]
pub struct Pool {
    shards: Box<[Shard]>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct Shard {
    http1: Mutex<Vec<Idle>>,
    http2: Mutex<Vec<Shared>>,
}

#[derive(Debug)]
struct Idle {
    http1: Box<Http1>,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: Http2,
    streams: Arc<AtomicUsize>,
    since: Instant,
}

/// A connection for one request.
#[derive(Debug)]
pub enum Lease {
    /// The whole connection. It may go back to the pool when it is [reusable](client::Connection::is_reusable).
    Http1(Box<Http1>),
    /// One stream of a connection.
    Http2 {
        /// Where requests go in.
        sender: Http2,
        /// Held while the stream is open.
        stream: StreamGuard,
    },
}

/// One open stream of a shared connection.
#[derive(Debug)]
pub struct StreamGuard(Arc<AtomicUsize>);

impl StreamGuard {
    fn new(streams: &Arc<AtomicUsize>) -> StreamGuard {
        // Counts only; nothing is published through it.
        streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard(Arc::clone(streams))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// An empty pool for so many workers.
    pub fn new(workers: usize, config: &waypost_config::service::Pool) -> Arc<Pool> {
        let shards = (0..workers.max(1)).map(|_| Shard::default()).collect();
        Arc::new(Pool { shards, max_idle: config.max_idle, idle_timeout: config.idle_timeout.0 })
    }

    /// An open connection, the most recently used first.
    pub fn take(&self, now: Instant) -> Option<Lease> {
        self.take_http2().or_else(|| self.take_http1(now))
    }

    /// The like of [`Pool::take`], of HTTP/1.1 only.
    pub fn take_http1(&self, now: Instant) -> Option<Lease> {
        let mut idle = self.shard().http1.lock();
        while let Some(mut candidate) = idle.pop() {
            if now.saturating_duration_since(candidate.since) > self.idle_timeout {
                // Those below it have been idle for longer still.
                idle.clear();
                return None;
            }
            if candidate.http1.connection.is_open() {
                return Some(Lease::Http1(candidate.http1));
            }
        }
        None
    }

    fn take_http2(&self) -> Option<Lease> {
        let mut shared = self.shard().http2.lock();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| !connection.sender.is_closed());
        let roomy = |connection: &&mut Shared| connection.streams.load(Ordering::Relaxed) < STREAMS;
        shared.iter_mut().find(roomy).map(|connection| {
            connection.since = Instant::now();
            Lease::Http2 { sender: connection.sender.clone(), stream: StreamGuard::new(&connection.streams) }
        })
    }

    /// Shares a new HTTP/2 connection with later requests and leases its first stream.
    pub fn lease_http2(&self, sender: Http2) -> Lease {
        let streams = Arc::new(AtomicUsize::new(0));
        let stream = StreamGuard::new(&streams);
        let shared = Shared { sender: sender.clone(), streams, since: Instant::now() };
        self.shard().http2.lock().push(shared);
        Lease::Http2 { sender, stream }
    }

    /// Closes what has been idle for too long or was closed by the endpoint. Called every few seconds.
    pub fn sweep(&self) {
        let fresh = |since: Instant| since.elapsed() <= self.idle_timeout;
        for shard in &self.shards {
            shard.http1.lock().retain_mut(|idle| fresh(idle.since) && idle.http1.connection.is_open());
            shard.http2.lock().retain(|shared| {
                let busy = shared.streams.load(Ordering::Relaxed) > 0;
                !shared.sender.is_closed() && (busy || fresh(shared.since))
            });
        }
    }

    /// Closes every idle connection; those in use close when their exchange ends.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.http1.lock().clear();
            shard.http2.lock().clear();
        }
    }

    /// Keeps a connection for the next request, if it can carry one.
    pub fn give_back(&self, mut http1: Box<Http1>) {
        http1.connection.rest();
        let mut idle = self.shard().http1.lock();
        if http1.connection.is_reusable() && idle.len() < self.max_idle {
            idle.push(Idle { http1, since: Instant::now() });
        }
    }

    fn shard(&self) -> &Shard {
        // The number of workers is fixed for the life of the process.
        &self.shards[shard::mine() % self.shards.len()]
    }
}
