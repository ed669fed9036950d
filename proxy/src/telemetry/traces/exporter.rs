//! The thread that sends spans: batches, patience with a collector that is away, and an end that does not wait for it.
//!
//! Owns what is queued and what has been said of the collector in the log. A failed export is tried again, ever more
//! seldom, for a minute; meanwhile the queue fills and drops.

use std::future::Future;
use std::sync::LazyLock;
use std::sync::mpsc as waiting;
use std::time::Duration;
use std::{io, mem, thread};

use bytes::Bytes;
use prost::Message;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waypost_config::telemetry::Tracing;

use super::otlp::{ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans};
use super::{Finished, span};
use crate::telemetry::metrics::{Counter, Metrics};

/// How long a batch may grow.
const LINGER: Duration = Duration::from_millis(100);

/// Requests in one batch.
const BATCH: usize = 256;

/// Spans in one batch, but for the last request's. Whatever strangers send, those of 256 requests, of which one may take 3 KiB,
/// and of their attempts, 2 KiB each, stay below the 4 MiB that gRPC servers take.
const SPANS: u64 = 1024;

/// The longest that one batch is tried for, and all that is left once nothing new can come.
const TRIED_FOR: Duration = Duration::from_mins(1);

/// Between the first two tries; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause of ours.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest that a collector may ask for.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// What a collector says to an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, but for so many spans, and why those were not.
    Taken { rejected: u64, why: String },
    /// Never to be sent again.
    Refused(String),
    /// To be sent again, after this time if it says so.
    Later { why: String, after: Option<Duration> },
}

/// Takes exports. Tests bring one of their own.
pub(super) trait Takes {
    /// Ends with the answer, or with the reason why there is none.
    fn take(&mut self, export: Bytes) -> impl Future<Output = Answer>;
}

/// Who sends: what is the same for all spans.
pub(super) struct Origin {
    /// Where to, for the log.
    collector: String,
    pub(super) resource: Resource,
}

/// Tells processes apart that are called the same.
static INSTANCE: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());

impl Origin {
    pub(super) fn of(config: &Tracing) -> Origin {
        let own = [
            ("service.name", config.service_name.as_str()),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", INSTANCE.as_str()),
        ];
        let own = own.into_iter().filter(|(key, _)| !config.resource.contains_key(*key));
        let further = config.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let attributes = own.chain(further).map(|(key, value)| KeyValue::new(key, value)).collect();
        Origin { collector: config.collector().to_string(), resource: Resource { attributes } }
    }
}

pub(super) struct Exporter<C> {
    inbox: mpsc::Receiver<Box<Finished>>,
    closing: CancellationToken,
    collector: C,
    origin: Origin,
    /// Spans that are being sent.
    in_hand: u64,
    /// Once nothing new can come.
    tried_until: Option<Instant>,
    /// What was said last.
    failing: bool,
    rejecting: bool,
    exported: Counter,
    dropped: Counter,
    errors: Counter,
}

impl<C: Takes> Exporter<C> {
    pub(super) fn new(
        inbox: mpsc::Receiver<Box<Finished>>,
        closing: CancellationToken,
        (collector, origin): (C, Origin),
        metrics: &Metrics,
    ) -> Exporter<C> {
        Exporter {
            inbox,
            closing,
            collector,
            origin,
            in_hand: 0,
            tried_until: None,
            failing: false,
            rejecting: false,
            exported: metrics.spans_exported.clone(),
            dropped: metrics.spans_dropped.clone(),
            errors: metrics.span_export_errors.clone(),
        }
    }

    /// On a thread of its own, which ends when nobody can hand anything over any more; `running` goes with it.
    pub(super) fn spawn(self, running: waiting::Sender<()>) -> io::Result<()>
    where
        C: Send + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(self.run());
            drop(running);
            // A resolver that hangs is not waited for.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("traces".to_owned()).spawn(work).map(drop)
    }

    pub(super) async fn run(mut self) {
        let closing = self.closing.clone();
        tokio::select! {
            () = self.send_all() => {}
            // What a collector that hangs has not taken by then, it will not take in time.
            () = async { closing.cancelled().await; sleep(TRIED_FOR).await } => {}
        }
        self.inbox.close();
        while let Ok(finished) = self.inbox.try_recv() {
            self.in_hand += finished.spans();
        }
        self.dropped.inc_by(self.in_hand);
    }

    async fn send_all(&mut self) {
        while let Some(batch) = self.gather().await {
            self.in_hand = batch.iter().map(|finished| finished.spans()).sum();
            let export = Bytes::from(self.export(&batch).encode_to_vec());
            drop(batch);
            self.deliver(export).await;
        }
    }

    /// What has come, soon after the first; `None` at the end.
    async fn gather(&mut self) -> Option<Vec<Box<Finished>>> {
        let mut batch = vec![self.next().await?];
        if self.inbox.len() < BATCH {
            self.pause(LINGER).await;
        }
        let mut spans = batch[0].spans();
        while batch.len() < BATCH
            && spans < SPANS
            && let Ok(finished) = self.inbox.try_recv()
        {
            spans += finished.spans();
            batch.push(finished);
        }
        Some(batch)
    }

    async fn next(&mut self) -> Option<Box<Finished>> {
        tokio::select! {
            finished = self.inbox.recv() => return finished,
            () = self.closing.cancelled() => self.inbox.close(),
        }
        self.inbox.recv().await
    }

    /// Until then, or until the process ends.
    async fn pause(&self, length: Duration) {
        tokio::select! {
            () = sleep(length) => {}
            () = self.closing.cancelled() => {}
        }
    }

    fn export(&self, batch: &[Box<Finished>]) -> ExportTraceServiceRequest {
        let (name, version) = ("waypost".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let scope = Some(InstrumentationScope { name, version });
        let spans = batch.iter().flat_map(|finished| span::spans(finished)).collect();
        let scope_spans = vec![ScopeSpans { scope, spans }];
        let resource = Some(self.origin.resource.clone());
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }

    /// Until it is taken, or will not be.
    async fn deliver(&mut self, export: Bytes) {
        let until = self.tried_until();
        for round in 0.. {
            // At the end of the process nothing is tried twice.
            let last = self.closing.is_cancelled();
            let (why, after) = match self.collector.take(export.clone()).await {
                Answer::Taken { rejected, why } => return self.taken(rejected, &why),
                Answer::Refused(why) => return self.lost(&why),
                Answer::Later { why, after } => (why, after),
            };
            let own = backoff(round);
            // A collector whose clock is not ours may ask for nothing at all.
            let pause = after.map_or(own, |after| after.clamp(own, LONGEST_DELAY));
            if last || Instant::now() + pause > until {
                self.lost(&why);
                return self.pause(pause).await;
            }
            self.failed(&why);
            self.pause(pause).await;
        }
    }

    fn tried_until(&mut self) -> Instant {
        let until = Instant::now() + TRIED_FOR;
        if self.inbox.is_closed() { *self.tried_until.get_or_insert(until) } else { until }
    }

    fn taken(&mut self, rejected: u64, why: &str) {
        let spans = mem::take(&mut self.in_hand);
        let rejected = rejected.min(spans);
        self.exported.inc_by(spans - rejected);
        self.dropped.inc_by(rejected);
        let collector = &self.origin.collector;
        if self.failing {
            tracing::info!(%collector, "collector takes spans again");
        }
        if rejected > 0 && !self.rejecting {
            tracing::warn!(%collector, rejected, why, "collector does not take all spans");
        }
        (self.failing, self.rejecting) = (false, rejected > 0);
    }

    fn lost(&mut self, why: &str) {
        self.failed(why);
        self.dropped.inc_by(mem::take(&mut self.in_hand));
    }

    /// One line when it begins.
    fn failed(&mut self, why: &str) {
        self.errors.inc();
        if !self.failing {
            tracing::warn!(collector = %self.origin.collector, why, "collector takes no spans");
        }
        self.failing = true;
    }
}

/// Doubles, and is never the same for all who ask.
fn backoff(round: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << round.min(10)).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
