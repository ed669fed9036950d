//! One attempt after another, each at an endpoint not yet tried, until one answers for good. Only where no other is
//! left, and a connection may have faded away, does one get the same request again.
//!
//! Puts choosing, sending and the retry rules of [`crate::upstream`] in a row, and keeps the exchange's books of it.
//! Decides nothing that those have not decided.

use std::future::Future;
use std::sync::Arc;

use http::{Response, request};
use tokio::time::Instant;
use waypost_config::value::RetryOn;

use crate::body::Upload;
use crate::exchange::{Ended, Exchange};
use crate::reply::Cause;
use crate::snapshot::RouteView;
use crate::telemetry::metrics::ANSWERED;
use crate::upstream::attempt::{self, Failure, Parcel, Patience};
use crate::upstream::retry::{self, Failed, Repeatable, Verdict};
use crate::upstream::service::{Affinity, Picked};
use crate::upstream::{Endpoint, Incoming, Service};

/// The attempts of one exchange.
pub struct Failover<'a> {
    service: &'a Service,
    affinity: &'a Affinity,
    /// As it goes to the endpoint.
    head: &'a mut request::Parts,
    upload: Option<Arc<Upload>>,
    /// What the balancer hashes.
    key: u64,
    idempotent: bool,
    patience: Patience,
    tried: Vec<Arc<Endpoint>>,
    /// Whether idle connections are trusted no more.
    fresh: bool,
    /// When the first attempt begins: with the exchange, so that the clock need not be asked again.
    begun: Option<Instant>,
}

/// Carries one attempt to its endpoint. Tests bring a fleet of their own.
pub trait Courier {
    /// Ends with the head of the response.
    fn carry(&self, endpoint: &Endpoint, parcel: &Parcel<'_>) -> impl Future<Output = Attempted> + Send;
}

/// Over connections.
struct Connections;

impl Courier for Connections {
    fn carry(&self, endpoint: &Endpoint, parcel: &Parcel<'_>) -> impl Future<Output = Attempted> + Send {
        attempt::send(endpoint, parcel)
    }
}

impl<'a> Failover<'a> {
    /// Ready for the first attempt. `head` is what goes to the endpoint, but for the attempt's place in the trace.
    pub fn new(
        exchange: &Exchange,
        route: &'a RouteView,
        affinity: &'a Affinity,
        head: &'a mut request::Parts,
    ) -> Failover<'a> {
        let service = &route.service;
        let begun = Instant::from_std(exchange.context.started);
        let deadline = route.timeout.map(|limit| begun + limit);
        Failover {
            service,
            affinity,
            upload: exchange.upload.clone(),
            key: service.hash_key(&head.headers, head.uri.path(), &exchange.context),
            idempotent: retry::is_idempotent(&head.method, &head.headers),
            patience: Patience { response: service.config.timeouts.response.0, deadline },
            head,
            tried: Vec::new(),
            fresh: false,
            begun: Some(begun),
        }
    }

    /// The response of the first endpoint that gave one worth passing on.
    pub async fn run(&mut self, exchange: &mut Exchange) -> Result<Response<Incoming>, Cause> {
        self.run_by(&Connections, exchange).await
    }

    /// The same by another courier.
    pub async fn run_by<C: Courier>(
        &mut self,
        courier: &C,
        exchange: &mut Exchange,
    ) -> Result<Response<Incoming>, Cause> {
        self.service.deposit(exchange.context.started);
        let mut last = None;
        for number in 1.. {
            let Some(picked) = self.service.pick(self.affinity, self.key, &self.tried) else { break };
            let endpoint = Arc::clone(&picked.endpoint);
            let result = self.attempt(courier, exchange, picked).await;
            let failed = failed(&result);
            if !self.another_follows(number, failed, endpoint) {
                return result.map_err(|failure| failure.cause);
            }
            last = Some(result.map_or_else(|failure| failure.cause, |_| Cause::UpstreamReset));
            self.wait(number, failed).await;
        }
        Err(last.unwrap_or_else(|| self.service.refusal()))
    }

    async fn attempt<C: Courier>(&mut self, courier: &C, exchange: &mut Exchange, picked: Picked) -> Attempted {
        let endpoint = Arc::clone(&picked.endpoint);
        exchange.attempting(picked);
        let begun = self.begun.take().unwrap_or_else(Instant::now);
        exchange.traced(begun.into_std(), self.head);
        let Failover { ref head, patience, fresh, .. } = *self;
        let parcel = Parcel { head, upload: self.upload.as_ref(), patience, begun, fresh };
        let result = courier.carry(&endpoint, &parcel).await;
        exchange.attempted(ended(&result), begun.into_std());
        if let Err(failure) = &result {
            self.failed_at(&endpoint, failure, exchange);
        }
        result
    }

    fn failed_at(&self, endpoint: &Endpoint, failure: &Failure, exchange: &Exchange) {
        tracing::debug!(
            service = %self.service.name,
            endpoint = %endpoint.name,
            reason = failure.cause.token(),
            detail = failure.detail,
            request_id = exchange.context.request_id.to_str().ok(),
            trace_id = exchange.trace_id().map(tracing::field::display),
            "attempt failed"
        );
        if retry::kind_of(failure.cause).is_some() {
            endpoint.suspect();
        }
    }

    /// Whether the rules, the budget and the fleet allow another attempt.
    fn another_follows(&mut self, number: u32, failed: Failed, endpoint: Arc<Endpoint>) -> bool {
        let policy = &self.service.config.retry;
        if !retry::allows(policy, number, failed, self.repeatable()) {
            return false;
        }
        self.tried.push(endpoint);
        let remains = self.service.has_another(&self.tried) || (failed.faded && self.trust_again());
        let follows = remains && self.service.bears_retry(failed);
        if let (true, Some(on)) = (follows, failed.on) {
            self.service.live.metrics.retried(retry::token(on));
        }
        follows
    }

    /// The last endpoint may be well, and only its connection at its end: once, it is asked again over a new one.
    fn trust_again(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.fresh, true);
        if first {
            self.tried.pop();
        }
        first
    }

    fn repeatable(&self) -> Repeatable {
        let upload = self.upload.as_ref();
        Repeatable {
            idempotent: self.idempotent,
            body: upload.is_none_or(|upload| upload.repeatable()),
            whole_body: upload.is_none_or(|upload| upload.whole()),
        }
    }

    /// What was not sent has burdened nobody: the next endpoint can be asked at once.
    async fn wait(&self, number: u32, failed: Failed) {
        if failed.sent {
            let backoff = retry::backoff(&self.service.config.retry.backoff, number, fastrand::f64());
            let next = Instant::now() + backoff;
            // Past the deadline there is nothing to wait for: the next attempt says so at once.
            tokio::time::sleep_until(self.patience.deadline.map_or(next, |deadline| next.min(deadline))).await;
        }
    }
}

/// What came of one attempt.
pub type Attempted = Result<Response<Incoming>, Failure>;

/// The result in the words of the retry rules.
fn failed(result: &Attempted) -> Failed {
    match result {
        Ok(response) => {
            let status = retry::status_of(response.status(), response.headers());
            Failed { on: Some(RetryOn::Status(status)), sent: true, faded: false }
        }
        Err(failure) => Failed { on: retry::kind_of(failure.cause), sent: failure.sent, faded: failure.faded },
    }
}

/// What the result says about the endpoint.
fn verdict(result: &Attempted) -> Option<Verdict> {
    match result {
        Ok(response) => Some(Verdict::of_status(retry::status_of(response.status(), response.headers()))),
        Err(failure) => Verdict::of_failure(failure.cause),
    }
}

fn ended(result: &Attempted) -> Ended {
    let status = result.as_ref().ok().map(Response::status);
    Ended { outcome: outcome(result), status, verdict: verdict(result) }
}

/// The result in the words of the metrics.
fn outcome(result: &Attempted) -> &'static str {
    match result {
        Ok(response) if response.status().is_server_error() => "response_5xx",
        Ok(_) => ANSWERED,
        Err(failure) => failure.cause.token(),
    }
}
