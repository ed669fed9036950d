//! One request and its answer, from the head to the last byte: what was tried, what came of it, and the books that
//! are closed at the end, whichever way it ends.
//!
//! Owns the guards that count the exchange and the connection it occupies. Closing is in `Drop`, because the client
//! may leave at any moment and the future that carries the exchange is dropped with it.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version, header, request};

use crate::body::Upload;
use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::reply::Cause;
use crate::snapshot::RouteView;
use crate::telemetry::access_log::{AccessLog, Attempt, Record};
use crate::telemetry::metrics::{Finished, RouteMetrics};
use crate::upstream::Endpoint;
use crate::upstream::pool::Lease;
use crate::upstream::service::{Admission, Picked};

/// One request on its way. Boxed, because it travels with the response's body.
#[derive(Debug)]
pub struct Exchange {
    /// The connection it came over.
    pub downstream: Arc<Downstream>,
    /// Who asks.
    pub context: RequestContext,
    /// The route, once found.
    pub route: Option<Arc<RouteView>>,
    /// The client's body, if there is one.
    pub upload: Option<Arc<Upload>>,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    books: Books,
    request: RequestLine,
    attempts: Vec<Attempt>,
    admission: Option<Admission>,
    picked: Option<Picked>,
    lease: Option<Lease>,
    status: Option<StatusCode>,
    cause: Option<Cause>,
    head_after: Option<Duration>,
    complete: bool,
    upgraded: bool,
    tunnel_bytes_in: u64,
}

/// Where an exchange is written down. Of its generation no more is kept: an upgraded connection may outlive many, and
/// must not keep alive what they have removed.
#[derive(Debug)]
pub struct Books {
    /// Of requests without a route, until there is one.
    metrics: Arc<RouteMetrics>,
    access_log: Option<AccessLog>,
    route: Option<RouteNames>,
}

#[derive(Debug)]
struct RouteNames {
    route: Arc<str>,
    service: Arc<str>,
}

impl Books {
    /// For a request that has no route yet.
    pub fn new(unrouted: &Arc<RouteMetrics>, access_log: Option<&AccessLog>) -> Books {
        Books { metrics: Arc::clone(unrouted), access_log: access_log.cloned(), route: None }
    }
}

/// What the client asked for, as it was sent; kept for the access log.
#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: PathAndQuery,
    version: Version,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Exchange {
    /// The head is there: the books are opened.
    pub fn begin(
        books: Books,
        downstream: &Arc<Downstream>,
        head: &request::Parts,
        context: RequestContext,
    ) -> Box<Exchange> {
        downstream.activity.begin();
        Box::new(Exchange {
            request: RequestLine::of(head),
            books,
            downstream: Arc::clone(downstream),
            context,
            route: None,
            upload: None,
            bytes_out: 0,
            attempts: Vec::new(),
            admission: None,
            picked: None,
            lease: None,
            status: None,
            cause: None,
            head_after: None,
            complete: false,
            upgraded: false,
            tunnel_bytes_in: 0,
        })
    }

    /// The route is known.
    pub fn routed(&mut self, route: &Arc<RouteView>) {
        route.metrics.begin();
        let (name, service) = (Arc::clone(&route.name), Arc::clone(&route.service.name));
        self.books.route = Some(RouteNames { route: name, service });
        self.books.metrics = Arc::clone(&route.metrics);
        self.route = Some(Arc::clone(route));
    }

    /// The service took it in.
    pub fn admitted(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// An attempt begins at this endpoint; the one before is over.
    pub fn attempting(&mut self, picked: Picked) {
        self.picked = Some(picked);
    }

    /// An attempt is over.
    pub fn attempted(&mut self, outcome: &'static str, elapsed: Duration) {
        if let Some(picked) = &self.picked {
            picked.endpoint.live.metrics.attempt(outcome, elapsed);
            self.attempts.push(Attempt { endpoint: Arc::clone(&picked.endpoint.name), outcome, elapsed });
        }
    }

    /// The endpoint of the last attempt.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.picked.as_ref().map(|picked| &*picked.endpoint)
    }

    /// An endpoint has answered over this connection.
    pub fn occupy(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// A head goes to the client; `cause` if we made it up.
    pub fn answered(&mut self, status: StatusCode, cause: Option<Cause>) {
        self.status = Some(status);
        self.cause = cause;
        self.head_after = Some(self.context.started.elapsed());
    }

    /// It became a connection of its own; bytes counted from now on are the tunnel's. The route is let go of.
    pub fn upgraded(&mut self) {
        self.route = None;
        self.upgraded = true;
        self.downstream.activity.tunnel_begun();
    }

    /// What a tunnel has carried.
    pub fn carried(&mut self, bytes_in: u64, bytes_out: u64) {
        self.tunnel_bytes_in = bytes_in;
        self.bytes_out = bytes_out;
    }

    /// The endpoint's body ended before its end.
    pub fn upstream_broke_off(&mut self) {
        self.cause = Some(Cause::UpstreamReset);
    }

    /// The last byte has gone to the client (`complete`), or none will go any more.
    pub fn finish(mut self: Box<Self>, complete: bool) {
        self.complete = complete;
    }

    fn bytes_in(&self) -> u64 {
        self.upload.as_ref().map_or(self.tunnel_bytes_in, |upload| upload.received())
    }

    /// 499, as nginx has it, for a client that left before the head.
    fn status_code(&self) -> u16 {
        self.status.map_or(499, |status| status.as_u16())
    }

    fn count(&self, elapsed: Duration) {
        let metrics = &self.books.metrics;
        if self.books.route.is_none() {
            metrics.begin();
        }
        let request = Finished {
            method: &self.request.method,
            status: self.status_code(),
            elapsed,
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out,
        };
        if self.upgraded {
            metrics.finish_upgrade(&request);
        } else {
            metrics.finish(&request);
        }
        if let Some(cause) = self.cause {
            metrics.replied(cause.token());
        }
    }

    fn log(&mut self, elapsed: Duration) {
        let Some(log) = self.books.access_log.take() else { return };
        let attempts = std::mem::take(&mut self.attempts);
        let (route, service) = self.books.route.take().map(|names| (names.route, names.service)).unzip();
        log.record(Record {
            time: self.context.time,
            listener: Arc::clone(&self.context.listener),
            route,
            service,
            endpoint: attempts.last().map(|attempt| Arc::clone(&attempt.endpoint)),
            client_ip: self.context.client_ip,
            peer: self.context.peer,
            method: self.request.method.clone(),
            target: self.request.target.clone(),
            protocol: self.request.version,
            host: std::mem::take(&mut self.context.host),
            status: self.status_code(),
            reason: self.cause.map(Cause::token),
            request_bytes: self.bytes_in(),
            response_bytes: self.bytes_out,
            duration: elapsed,
            head_after: self.head_after,
            attempts,
            tls: self.downstream.tls_log.clone(),
            request_id: self.context.request_id.clone(),
            user_agent: self.request.user_agent.take(),
            referer: self.request.referer.take(),
            upgraded: self.upgraded,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let elapsed = self.context.started.elapsed();
        self.count(elapsed);
        self.log(elapsed);
        if let (true, Some(lease)) = (self.complete && !self.upgraded, self.lease.take()) {
            lease.release();
        }
        if self.upgraded {
            self.downstream.activity.tunnel_ended();
        }
        self.downstream.activity.end();
    }
}

impl RequestLine {
    fn of(head: &request::Parts) -> RequestLine {
        RequestLine {
            method: head.method.clone(),
            target: head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            version: head.version,
            referer: head.headers.get(header::REFERER).cloned(),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
        }
    }
}
