//! One line per request, written off the request path.
//!
//! A worker moves a [`Record`] into a bounded queue: one short lock, no formatting, no system call in the usual case.
//! One thread per log formats and writes. When the queue is full, records are dropped and counted; the data path never
//! waits for a disk or a pipe.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};
use waypost_config::telemetry as config;

use self::queue::Queue;
use self::writer::{Target, Writer};
use super::metrics::Metrics;

mod line;
mod queue;
mod writer;

/// Records kept for the writer while it is busy: a few seconds' worth at full load, about 8 MiB.
const CAPACITY: usize = 16_384;

/// All that a line may say of one request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the request head was complete.
    pub time: SystemTime,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the route, if one was found.
    pub route: Option<Arc<str>>,
    /// Name of the service, if there is a route.
    pub service: Option<Arc<str>>,
    /// Name of the endpoint that answered.
    pub endpoint: Option<Arc<str>>,
    /// The client, through trusted proxies.
    pub client_ip: IpAddr,
    /// The socket's other end.
    pub peer: SocketAddr,
    /// The request's method.
    pub method: Method,
    /// Path and query as the client sent them.
    pub target: PathAndQuery,
    /// Protocol of the client's connection.
    pub protocol: Version,
    /// Host asked for, without port; empty when there was none.
    pub host: String,
    /// Status of the response; 499 when the client left before there was one.
    pub status: u16,
    /// Why Waypost answered by itself, if it did: a [`Cause`](crate::reply::Cause) token.
    pub reason: Option<&'static str>,
    /// Size of the request body in bytes.
    pub request_bytes: u64,
    /// Size of the response body in bytes.
    pub response_bytes: u64,
    /// From the request head to the last byte of the response.
    pub duration: Duration,
    /// From the request head to the response head, if there was one.
    pub head_after: Option<Duration>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// The client's TLS session, if it came over TLS.
    pub tls: Option<Arc<Tls>>,
    /// `X-Request-Id`.
    pub request_id: HeaderValue,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Referer`.
    pub referer: Option<HeaderValue>,
    /// Whether the connection was upgraded (WebSocket).
    pub upgraded: bool,
}

/// One attempt to have the request answered.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Name of the endpoint.
    pub endpoint: Arc<str>,
    /// How it ended: the token of the attempts metric.
    pub outcome: &'static str,
    /// To the response head or to the failure.
    pub elapsed: Duration,
}

/// A client connection's TLS session.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For example `TLSv1.3`.
    pub version: &'static str,
    /// For example `TLS13_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// Server name the client asked for.
    pub sni: Option<String>,
    /// Subject of the client's certificate.
    pub client_subject: Option<String>,
}

/// A log that is open. A clone is the same log; when the last one goes, the writer ends with what is left.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    sample: f64,
}

impl AccessLog {
    /// Opens the target and starts its writer.
    pub fn open(config: &config::AccessLog, metrics: &Metrics) -> io::Result<AccessLog> {
        let target = Target::open(&config.path)?;
        AccessLog::start(config, target, Queue::new(CAPACITY, metrics.access_log_dropped.clone()), metrics)
    }

    fn start(config: &config::AccessLog, target: Target, queue: Queue, metrics: &Metrics) -> io::Result<AccessLog> {
        let queue = Arc::new(queue);
        Writer::new(Arc::clone(&queue), target, config.format, metrics).spawn()?;
        Ok(AccessLog(Arc::new(Inner { queue, sample: config.sample.0 })))
    }

    /// Hands a record to the writer: all failed requests, and of the others the configured share. Never waits.
    pub fn record(&self, record: Record) {
        if record.status >= 500 || fastrand::f64() < self.0.sample {
            self.0.queue.push(record);
        }
    }

    /// Opens a file anew under its name, after what is queued has gone to the old one (for SIGUSR1, when a rotation
    /// has renamed it). Returns at once. If it cannot be opened, the old one is kept and the log says so.
    pub fn reopen(&self) {
        self.0.queue.reopen();
    }

    /// Ends the log and waits until all is written, but not longer than `patience`: a reader of standard output that
    /// hangs must not keep the process. For the end of the process; it blocks the thread. Later records are dropped.
    pub fn close(&self, patience: Duration) {
        self.0.queue.close();
        self.0.queue.wait_for_end(patience);
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Only told, not awaited: the last handle may go with a request, on a worker.
        self.queue.close();
    }
}

#[cfg(test)]
mod tests;
