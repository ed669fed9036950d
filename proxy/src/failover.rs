//! One attempt after another, each at an endpoint not yet tried, until one answers for good.
//!
//! Puts choosing, sending and the retry rules of [`crate::upstream`] in a row, and keeps the exchange's books of it.
//! Decides nothing that those have not decided.

use std::sync::Arc;

use http::{Request, Response, request};
use hyper::body::Incoming;
use tokio::time::Instant;
use waypost_config::value::RetryOn;

use crate::body::{RequestBody, Upload};
use crate::exchange::Exchange;
use crate::reply::Cause;
use crate::snapshot::RouteView;
use crate::upstream::attempt::{self, Answer, Failure, Patience};
use crate::upstream::retry::{self, Failed, Repeatable};
use crate::upstream::service::{Affinity, Picked};
use crate::upstream::{Endpoint, Service};

/// The attempts of one exchange.
pub struct Failover<'a> {
    service: &'a Service,
    affinity: &'a Affinity,
    /// Until it has been sent for the last time.
    head: Option<request::Parts>,
    upload: Option<Arc<Upload>>,
    /// What the balancer hashes.
    key: u64,
    idempotent: bool,
    patience: Patience,
    tried: Vec<Arc<Endpoint>>,
}

impl<'a> Failover<'a> {
    /// Ready for the first attempt. `head` is what goes to the endpoint.
    pub fn new(
        exchange: &Exchange,
        route: &'a RouteView,
        affinity: &'a Affinity,
        head: request::Parts,
    ) -> Failover<'a> {
        let service = &route.service;
        let deadline = route.timeout.map(|limit| Instant::from_std(exchange.context.started) + limit);
        Failover {
            service,
            affinity,
            upload: exchange.upload.clone(),
            key: service.hash_key(&head.headers, head.uri.path(), &exchange.context),
            idempotent: retry::is_idempotent(&head.method, &head.headers),
            patience: Patience { response: service.config.timeouts.response.0, deadline },
            head: Some(head),
            tried: Vec::new(),
        }
    }

    /// The response of the first endpoint that gave one worth passing on.
    pub async fn run(mut self, exchange: &mut Exchange) -> Result<Response<Incoming>, Cause> {
        self.service.deposit(exchange.context.started);
        let mut last = Cause::NoEndpoint;
        for number in 1.. {
            let Some(picked) = self.service.pick(self.affinity, self.key, &self.tried) else { break };
            let endpoint = Arc::clone(&picked.endpoint);
            let result = self.attempt(exchange, picked).await;
            let failed = failed(&result);
            if !self.another_follows(number, failed, endpoint) {
                return conclude(exchange, result);
            }
            last = result.map_or_else(|failure| failure.cause, |_| Cause::UpstreamReset);
            self.wait(number, failed).await;
        }
        Err(last)
    }

    async fn attempt(&mut self, exchange: &mut Exchange, picked: Picked) -> Result<Answer, Failure> {
        let endpoint = Arc::clone(&picked.endpoint);
        exchange.attempting(picked);
        let begun = Instant::now();
        let request = self.request(&endpoint);
        let mut result = attempt::send(&endpoint, request, self.upload.as_ref(), self.patience).await;
        exchange.attempted(outcome(&result), begun.elapsed());
        if let Err(failure) = &mut result {
            self.failed_at(&endpoint, failure);
        }
        result
    }

    /// The request for one attempt: a copy while another may follow, the head itself otherwise. What HTTP/1.1 has not
    /// sent comes back; what an HTTP/2 endpoint has refused does not.
    fn request(&mut self, endpoint: &Endpoint) -> Request<RequestBody> {
        let body = RequestBody::from_start(self.upload.as_ref());
        let lost = self.idempotent || endpoint.target.may_speak_http2();
        let again = lost && self.service.config.retry.max_attempts > 1;
        let head = if again { self.head.clone() } else { self.head.take() };
        Request::from_parts(head.expect("a head that was sent away is not asked for again: see `Repeatable`"), body)
    }

    fn failed_at(&mut self, endpoint: &Endpoint, failure: &mut Failure) {
        let (service, reason) = (&self.service.name, failure.cause.token());
        tracing::debug!(%service, endpoint = %endpoint.name, reason, detail = failure.detail, "attempt failed");
        if retry::kind_of(failure.cause).is_some() {
            endpoint.suspect();
        }
        if let (None, Some(request)) = (&self.head, failure.request.take()) {
            self.head = Some(request.into_parts().0);
        }
    }

    /// Whether the rules, the budget and the fleet allow another attempt.
    fn another_follows(&mut self, number: u32, failed: Failed, endpoint: Arc<Endpoint>) -> bool {
        let policy = &self.service.config.retry;
        if !retry::allows(policy, number, failed, self.repeatable()) {
            return false;
        }
        self.tried.push(endpoint);
        let follows = self.service.has_another(&self.tried) && self.service.bears_retry(failed);
        if let (true, Some(on)) = (follows, failed.on) {
            self.service.live.metrics.retried(retry::token(on));
        }
        follows
    }

    fn repeatable(&self) -> Repeatable {
        let upload = self.upload.as_ref();
        Repeatable {
            idempotent: self.idempotent,
            body: self.head.is_some() && upload.is_none_or(|upload| upload.repeatable()),
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

/// The result in the words of the retry rules.
fn failed(result: &Result<Answer, Failure>) -> Failed {
    match result {
        Ok(Answer { response, .. }) => {
            let status = retry::status_of(response.status(), response.headers());
            Failed { on: Some(RetryOn::Status(status)), sent: true }
        }
        Err(failure) => Failed { on: retry::kind_of(failure.cause), sent: failure.sent },
    }
}

/// The result in the words of the metrics.
fn outcome(result: &Result<Answer, Failure>) -> &'static str {
    match result {
        Ok(Answer { response, .. }) if response.status().is_server_error() => "response_5xx",
        Ok(_) => "response",
        Err(failure) => failure.cause.token(),
    }
}

fn conclude(exchange: &mut Exchange, result: Result<Answer, Failure>) -> Result<Response<Incoming>, Cause> {
    let Answer { response, lease } = result.map_err(|failure| failure.cause)?;
    exchange.occupy(lease);
    Ok(response)
}
