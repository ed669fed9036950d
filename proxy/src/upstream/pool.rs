//! Idle connections to one endpoint, kept for the next request.
//!
//! Owns the senders of hyper's client connections, one shard per worker, so that a request never wakes another
//! worker's thread. Never connects and never sends.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;

use crate::body::RequestBody;

/// Sends one request at a time.
pub type Http1 = http1::SendRequest<RequestBody>;
/// Sends many requests at once; cheap to clone.
pub type Http2 = http2::SendRequest<RequestBody>;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes this thread use shard `index` of every pool. Called once by each worker.
pub fn use_shard(index: usize) {
    SHARD.set(index);
}

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
    sender: Http1,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: Http2,
    streams: Arc<AtomicUsize>,
    since: Instant,
}

/// A connection for one request; it goes back with [`Lease::release`] and is closed otherwise (HTTP/1.1).
#[derive(Debug)]
pub enum Lease {
    /// The whole connection.
    Http1 {
        /// Where requests go in.
        sender: Http1,
        /// Where it came from.
        pool: Arc<Pool>,
    },
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

    /// A connection that was open when last looked at, the most recently used first.
    pub fn take(self: &Arc<Pool>) -> Option<Lease> {
        self.take_http2().or_else(|| self.take_http1())
    }

    /// The like of [`Pool::take`], of HTTP/1.1 only.
    pub fn take_http1(self: &Arc<Pool>) -> Option<Lease> {
        let mut idle = self.shard().http1.lock();
        while let Some(candidate) = idle.pop() {
            if candidate.since.elapsed() > self.idle_timeout {
                // Those below it have been idle for longer still.
                idle.clear();
                return None;
            }
            if candidate.sender.is_ready() {
                return Some(Lease::Http1 { sender: candidate.sender, pool: Arc::clone(self) });
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

    /// A lease on a new HTTP/1.1 connection.
    pub fn lease_http1(self: &Arc<Pool>, sender: Http1) -> Lease {
        Lease::Http1 { sender, pool: Arc::clone(self) }
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
            shard.http1.lock().retain(|idle| fresh(idle.since) && !idle.sender.is_closed());
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

    fn give_back(&self, sender: Http1) {
        let mut idle = self.shard().http1.lock();
        if idle.len() < self.max_idle {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn shard(&self) -> &Shard {
        // The number of workers is fixed for the life of the process; other threads share the first shard.
        &self.shards[SHARD.get() % self.shards.len()]
    }
}

impl Lease {
    /// The exchange is over, its response body read to the end: the connection may serve another request.
    pub fn release(self) {
        let Lease::Http1 { mut sender, pool } = self else { return };
        if sender.is_ready() {
            pool.give_back(sender);
        } else if !sender.is_closed() {
            // Rare: the response ended before the request did, or the connection task has not looked yet.
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    pool.give_back(sender);
                }
            });
        }
    }
}
