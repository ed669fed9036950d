//! Which trace a request belongs to, and what a collector is told of it.
//!
//! A worker draws identities and, where a request is recorded, hands over at its end what is known of it anyway: one
//! push into a bounded queue. A thread of its own makes spans of that and sends them (OTLP). When the queue is full,
//! spans are dropped and counted; no request ever waits for a collector.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, mpsc as waiting};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, Version};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use waypost_config::telemetry::Tracing;
use waypost_config::value::UpstreamUrl;

use self::collector::Collector;
pub use self::collector::CollectorTls;
use self::exporter::{Exporter, Origin};
pub use self::ids::{SpanId, TraceId, TraceParent};
use self::ids::{TRACEPARENT, TRACESTATE};
use self::sampler::Sampler;
use super::metrics::{Counter, Metrics};

mod collector;
mod exporter;
mod ids;
mod otlp;
mod sampler;
mod span;

/// Requests that wait for the exporter: a tenth of a second's worth at full load. Usually a few MiB; of a stranger's longest
/// texts 30.
const CAPACITY: usize = 8 * 1024;

/// Where traces begin and are recorded. A clone is the same; when the last one goes, the exporter sends what is queued and
/// ends.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    sampler: Sampler,
    queue: mpsc::Sender<Box<Finished>>,
    dropped: Counter,
    /// The process ends: the exporter is to hurry.
    closing: CancellationToken,
    /// Ends when the exporter does.
    ended: Mutex<waiting::Receiver<()>>,
}

/// Whose word counts on whether a request of somebody's trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// The peer is trusted: its own.
    Peer,
    /// Ours: a stranger could have all of its requests recorded, or none.
    Ourselves,
}

impl Tracer {
    /// Starts the exporter. The collector is not asked before there is a span. `tls` is how to speak to a collector whose
    /// URL is `https`.
    pub fn start(config: &Tracing, tls: Option<CollectorTls>, metrics: &Metrics) -> io::Result<Tracer> {
        let (queue, inbox) = mpsc::channel(CAPACITY);
        let closing = CancellationToken::new();
        let (running, ended) = waiting::channel();
        let origin = Origin::of(config);
        Exporter::new(inbox, closing.clone(), (Collector::new(config, tls), origin), metrics).spawn(running)?;
        let dropped = metrics.spans_dropped.clone();
        let sampler = Sampler::new(config.sample.0);
        Ok(Tracer(Arc::new(Inner { sampler, queue, dropped, closing, ended: Mutex::new(ended) })))
    }

    /// Finds out to which trace a request belongs, or begins one; a request without a trace loses `tracestate`, which
    /// says nothing then. `generation` is the one that it is served by.
    pub fn begin(&self, headers: &mut HeaderMap, decides: Decides, generation: u64) -> Trace {
        let parent = TraceParent::of(headers);
        if parent.is_none() {
            headers.remove(TRACESTATE);
        }
        let id = parent.map_or_else(TraceId::random, |parent| parent.trace);
        let sampled = match (parent, decides) {
            (None, _) => self.0.sampler.takes(id),
            (Some(parent), Decides::Peer) => parent.sampled,
            // Not by its identity, which a stranger may choose.
            (Some(_), Decides::Ourselves) => self.0.sampler.takes(TraceId::random()),
        };
        let told = || Told {
            parent: parent.map(|parent| parent.span),
            state: state(headers),
            generation,
            attempts: Vec::new(),
        };
        let recording = sampled.then(|| Box::new(Recording { tracer: self.clone(), told: told() }));
        Trace { id, span: SpanId::random(), recording }
    }

    fn push(&self, finished: Finished) {
        let spans = finished.spans();
        if self.0.queue.try_send(Box::new(finished)).is_err() {
            self.0.dropped.inc_by(spans);
        }
    }

    /// Has what is queued sent and waits for that, but not longer than `patience`, and nothing is tried twice. For the end
    /// of the process; it blocks the thread. What is recorded later is dropped.
    pub fn close(&self, patience: Duration) {
        self.0.closing.cancel();
        // However it ends, there is nothing more to do.
        let _ = self.0.ended.lock().recv_timeout(patience);
    }
}

/// What others have written of a trace, passed on and recorded as it is. Of more than anybody has to pass on (W3C Trace
/// Context, "tracestate Limits") nothing is recorded.
fn state(headers: &HeaderMap) -> String {
    let fields = headers.get_all(TRACESTATE).into_iter().filter_map(|field| field.to_str().ok());
    let state = fields.collect::<Vec<_>>().join(",");
    if state.len() > 512 { String::new() } else { state }
}

/// Bytes of a text that is kept.
const KEPT: usize = 512;

/// What is recorded of a client's text: a copy, so that the head it came in is not kept, and no more than this, so that a
/// batch fits into an export.
pub fn kept(text: &[u8]) -> String {
    let mut kept = String::from_utf8_lossy(&text[..text.len().min(KEPT)]).into_owned();
    // What is no UTF-8 takes more room now.
    kept.truncate(kept.floor_char_boundary(KEPT));
    kept
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// A request's place in a trace.
#[derive(Debug)]
pub struct Trace {
    id: TraceId,
    /// The request's own span; where nothing is recorded, what endpoints are told.
    span: SpanId,
    recording: Option<Box<Recording>>,
}

/// What is recorded of a request until its end.
#[derive(Debug)]
struct Recording {
    tracer: Tracer,
    told: Told,
}

#[derive(Debug)]
struct Told {
    parent: Option<SpanId>,
    state: String,
    generation: u64,
    attempts: Vec<Attempt>,
}

/// Where an attempt goes.
#[derive(Debug, Clone, Copy)]
pub struct Attempting<'a> {
    /// Name of the endpoint.
    pub endpoint: &'a Arc<str>,
    /// Where it is.
    pub url: &'a UpstreamUrl,
    /// What it is asked for, without the query.
    pub path: &'a str,
    /// When it begins.
    pub begun: Instant,
}

#[derive(Debug)]
struct Attempt {
    span: SpanId,
    endpoint: Arc<str>,
    url: UpstreamUrl,
    path: String,
    begun: Instant,
    /// `None` if the client has left before.
    end: Option<Attempted>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct Attempted {
    /// The token of the attempts metric.
    pub outcome: &'static str,
    /// Of the response, if there was one.
    pub status: Option<StatusCode>,
    /// To the response head or to the failure.
    pub at: Instant,
}

impl Trace {
    /// The trace's identity.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// Whether somebody will be told of it.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// An attempt begins: its head names its own span.
    pub fn attempting(&mut self, attempt: &Attempting<'_>, headers: &mut HeaderMap) {
        let span = match &mut self.recording {
            None => self.span,
            Some(recording) => recording.attempting(attempt),
        };
        let sampled = self.recording.is_some();
        headers.insert(TRACEPARENT, TraceParent { trace: self.id, span, sampled }.written());
    }

    /// The attempt that was begun last is over.
    pub fn attempted(&mut self, attempted: Attempted) {
        let attempts = self.recording.as_mut().map(|recording| &mut recording.told.attempts);
        if let Some(attempt) = attempts.and_then(|attempts| attempts.last_mut()) {
            attempt.end = Some(attempted);
        }
    }

    /// The request is over, and this is what became of it. Asked for only where it is recorded.
    pub fn finish(self, served: impl FnOnce() -> Served) {
        let Trace { id, span, recording } = self;
        let Some(recording) = recording else { return };
        let Recording { tracer, told } = *recording;
        tracer.push(Finished { id, span, told, served: served() });
    }
}

impl Recording {
    fn attempting(&mut self, attempt: &Attempting<'_>) -> SpanId {
        let span = SpanId::random();
        let Attempting { endpoint, url, path, begun } = *attempt;
        self.told.attempts.push(Attempt {
            span,
            endpoint: Arc::clone(endpoint),
            url: url.clone(),
            path: kept(path.as_bytes()),
            begun,
            end: None,
        });
        span
    }
}

/// What a request was and what became of it. Texts of the client's are [`kept`].
#[derive(Debug)]
pub struct Served {
    /// When the request head was complete.
    pub time: SystemTime,
    /// The same moment by the clock that durations are taken from.
    pub started: Instant,
    /// When the last byte of the response had gone.
    pub ended: Instant,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The port it came in on.
    pub port: HeaderValue,
    /// Name of the route, if one was found.
    pub route: Option<Arc<str>>,
    /// The paths that the route is for, if it is for some only.
    pub pattern: Option<Arc<str>>,
    /// Name of the service, if there is a route.
    pub service: Option<Arc<str>>,
    /// The client, through trusted proxies.
    pub client_ip: IpAddr,
    /// Whether the client came over TLS, through trusted proxies.
    pub secure: bool,
    /// The request's method.
    pub method: String,
    /// The path as the client sent it.
    pub path: String,
    /// Protocol of the client's connection.
    pub protocol: Version,
    /// Host asked for, without port; empty when there was none.
    pub host: String,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `X-Request-Id`.
    pub request_id: String,
    /// Status of the response; 499 when the client left before there was one.
    pub status: u16,
    /// Why Waypost answered by itself, or why the response broke off: a [`Cause`](crate::reply::Cause) token.
    pub reason: Option<&'static str>,
    /// Whether the response broke off.
    pub broke_off: bool,
}

/// All that spans are made of.
#[derive(Debug)]
struct Finished {
    id: TraceId,
    span: SpanId,
    told: Told,
    served: Served,
}

impl Finished {
    /// How many spans it makes.
    fn spans(&self) -> u64 {
        1 + self.told.attempts.len() as u64
    }
}

#[cfg(test)]
mod tests;
