//! One line per request, written off the request path.
//!
//! A worker formats its [`Record`] and copies the line into a bounded queue: one short lock, no system call in the usual
//! case. One thread per log writes, and does no more than that: where it shares a core with a worker, the worker's
//! requests wait for it. When the queue is full, lines are dropped and counted; the data path never waits for a disk or a
//! pipe.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Version};
use waypost_config::telemetry as config;

use self::queue::Queue;
use self::writer::{Target, Writer};
use super::metrics::Metrics;
use super::traces::TraceId;

mod line;
mod queue;
mod writer;

/// Bytes kept for the writer while it is busy: a second's worth at full load.
const CAPACITY: usize = 8 * 1024 * 1024;

thread_local! {
    /// The line that is being made, so that the queue is not locked for as long as that takes.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All that a line may say of one request.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the request head was complete.
    pub time: SystemTime,
    /// Name of the listener.
    pub listener: &'a str,
    /// Name of the route, if one was found.
    pub route: Option<&'a str>,
    /// Name of the service, if there is a route.
    pub service: Option<&'a str>,
    /// Name of the endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// The client, through trusted proxies.
    pub client_ip: IpAddr,
    /// The socket's other end.
    pub peer: SocketAddr,
    /// The request's method.
    pub method: &'a Method,
    /// Path and query as the client sent them.
    pub target: &'a str,
    /// Protocol of the client's connection.
    pub protocol: Version,
    /// Host asked for, without port; empty when there was none.
    pub host: &'a str,
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
    pub attempts: &'a [Attempt],
    /// The client's TLS session, if it came over TLS.
    pub tls: Option<&'a Tls>,
    /// `X-Request-Id`.
    pub request_id: &'a HeaderValue,
    /// The trace it belongs to, if traces are made.
    pub trace_id: Option<TraceId>,
    /// `User-Agent`.
    pub user_agent: Option<&'a HeaderValue>,
    /// `Referer`.
    pub referer: Option<&'a HeaderValue>,
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
    format: config::AccessLogFormat,
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
        Writer::new(Arc::clone(&queue), target, metrics).spawn()?;
        Ok(AccessLog(Arc::new(Inner { queue, format: config.format, sample: config.sample.0 })))
    }

    /// Hands a line to the writer: of all failed requests, and of the others' configured share. Never waits.
    pub fn record(&self, record: &Record<'_>) {
        if record.status < 500 && fastrand::f64() >= self.0.sample {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            line::write(self.0.format, record, line);
            self.0.queue.push(line);
        });
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
