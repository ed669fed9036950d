//! One request and its answer, from the head to the last byte: what was tried, what came of it, and the books that
//! are closed at the end, whichever way it ends.
//!
//! Owns the guards that count the exchange. Closing is in `Drop`, because the client
//! may leave at any moment and the future that carries the exchange is dropped with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version, header, request};

use crate::body::Upload;
use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::receipt;
use crate::reply::Cause;
use crate::snapshot::RouteView;
use crate::telemetry::access_log::{AccessLog, Attempt, Record};
use crate::telemetry::metrics::{Finished, RouteMetrics};
use crate::telemetry::traces::{Attempted, Attempting, Served, Trace, TraceId, kept};
use crate::telemetry::traefik::{Manner, Protocol};
use crate::upstream::Endpoint;
use crate::upstream::retry::Verdict;
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
    method: Method,
    /// Where it is counted: with the requests without a route, until there is one.
    metrics: Arc<RouteMetrics>,
    access_log: Option<AccessLog>,
    trace: Option<Trace>,
    /// For those of the two that will tell of it.
    request: Option<RequestLine>,
    /// Every attempt, if somebody wants to know: the access log, or the client.
    attempts: Option<Vec<Attempt>>,
    receipt: bool,
    /// Kept when the route is let go of.
    names: Option<RouteNames>,
    admission: Option<Admission>,
    picked: Option<Picked>,
    status: Option<StatusCode>,
    cause: Option<Cause>,
    /// Whether the endpoint's body did.
    broke_off: bool,
    /// When the last attempt was over.
    answered_at: Option<Instant>,
    head_after: Option<Duration>,
    upgraded: bool,
    tunnel_bytes_in: u64,
    /// If it is told apart by this.
    protocol: Option<Protocol>,
}

/// Where an exchange is written down. Of its generation no more is kept: an upgraded connection may outlive many, and
/// must not keep alive what they have removed.
#[derive(Debug)]
pub struct Books {
    /// Of requests without a route.
    pub unrouted: Arc<RouteMetrics>,
    /// If there is one.
    pub access_log: Option<AccessLog>,
    /// Its place in one, if traces are made.
    pub trace: Option<Trace>,
    /// Whether the client gets one.
    pub receipt: bool,
    /// What the request is spoken in, if that is written down.
    pub protocol: Option<Protocol>,
}

#[derive(Debug, Clone)]
struct RouteNames {
    route: Arc<str>,
    pattern: Option<Arc<str>>,
    service: Arc<str>,
}

impl RouteNames {
    fn of(route: &RouteView) -> RouteNames {
        RouteNames {
            route: Arc::clone(&route.name),
            pattern: route.pattern.clone(),
            service: Arc::clone(&route.service.name),
        }
    }
}

/// What the client asked for, as it was sent.
#[derive(Debug)]
struct RequestLine {
    target: PathAndQuery,
    version: Version,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// In the words of the metrics.
    pub outcome: &'static str,
    /// Of the response, if there was one.
    pub status: Option<StatusCode>,
    /// What it says about the endpoint.
    pub verdict: Option<Verdict>,
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
        let told = books.access_log.is_some() || books.trace.as_ref().is_some_and(Trace::is_recorded);
        Box::new(Exchange {
            method: head.method.clone(),
            metrics: books.unrouted,
            attempts: (books.receipt || books.access_log.is_some()).then(Vec::new),
            receipt: books.receipt,
            access_log: books.access_log,
            trace: books.trace,
            request: told.then(|| RequestLine::of(head)),
            names: None,
            downstream: Arc::clone(downstream),
            context,
            route: None,
            upload: None,
            bytes_out: 0,
            admission: None,
            picked: None,
            status: None,
            cause: None,
            broke_off: false,
            answered_at: None,
            head_after: None,
            upgraded: false,
            tunnel_bytes_in: 0,
            protocol: books.protocol,
        })
    }

    /// The route is known.
    pub fn routed(&mut self, route: &Arc<RouteView>) {
        route.metrics.begin();
        self.metrics = Arc::clone(&route.metrics);
        self.route = Some(Arc::clone(route));
    }

    /// The service took it in.
    pub fn admitted(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// An attempt begins at this endpoint; the one before is over.
    pub fn attempting(&mut self, picked: Picked) {
        self.picked = Some(picked);
        // A first upload or stream may be without an answer for hours.
        self.downstream.activity.met();
    }

    /// The attempt, begun then, gets its own place in the trace; the head that goes to the endpoint says which.
    pub fn traced(&mut self, begun: Instant, head: &mut request::Parts) {
        let (Some(trace), Some(picked)) = (&mut self.trace, &self.picked) else { return };
        let Endpoint { name, config, .. } = &*picked.endpoint;
        let attempt = Attempting { endpoint: name, url: &config.url, path: head.uri.path(), begun };
        trace.attempting(&attempt, &mut head.headers);
    }

    /// An attempt that was begun then is over.
    pub fn attempted(&mut self, ended: Ended, begun: Instant) {
        let Some(picked) = &mut self.picked else { return };
        let Ended { outcome, status, verdict } = ended;
        picked.became(verdict);
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(begun);
        picked.endpoint.live.metrics.attempt(outcome, elapsed);
        if let Some(attempts) = &mut self.attempts {
            attempts.push(Attempt { endpoint: Arc::clone(&picked.endpoint.name), outcome, elapsed });
        }
        if let Some(trace) = &mut self.trace {
            trace.attempted(Attempted { outcome, status, at: now });
        }
        self.answered_at = Some(now);
    }

    /// The trace it belongs to, if traces are made.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(Trace::id)
    }

    /// What the client gets told of it, if it wants that and may.
    pub fn receipt(&self) -> Option<HeaderValue> {
        self.receipt.then(|| receipt::written(self.names(), self.attempts.as_deref().unwrap_or_default()))
    }

    /// Of the route, and of its service.
    fn names(&self) -> Option<(&str, &str)> {
        let kept = self.names.as_ref().map(|names| (&*names.route, &*names.service));
        kept.or_else(|| self.route.as_ref().map(|route| (&*route.name, &*route.service.name)))
    }

    /// The endpoint of the last attempt.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.picked.as_ref().map(|picked| &*picked.endpoint)
    }

    /// A head goes to the client; `cause` if we made it up.
    pub fn answered(&mut self, status: StatusCode, cause: Option<Cause>) {
        self.status = Some(status);
        self.cause = cause;
        self.downstream.activity.met();
        // An endpoint's head goes on as soon as it is there.
        let now = self.answered_at.filter(|_| cause.is_none()).unwrap_or_else(Instant::now);
        self.head_after = Some(now.saturating_duration_since(self.context.started));
    }

    /// It became a connection of its own; bytes counted from now on are the tunnel's. The route is let go of.
    pub fn upgraded(&mut self) {
        self.names = self.route.take().map(|route| RouteNames::of(&route));
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
        self.broke_off = true;
        if let Some(picked) = &mut self.picked {
            picked.became(Some(Verdict::Bad));
        }
    }

    /// The endpoint's response came to its end.
    pub fn delivered(&self) {
        if let Some(picked) = &self.picked {
            picked.delivered();
        }
    }

    fn bytes_in(&self) -> u64 {
        self.upload.as_ref().map_or(self.tunnel_bytes_in, |upload| upload.received())
    }

    /// 499, as nginx has it, for a client that left before the head.
    fn status_code(&self) -> u16 {
        self.status.map_or(499, |status| status.as_u16())
    }

    fn count(&self, elapsed: Duration) {
        let metrics = &self.metrics;
        if self.route.is_none() && self.names.is_none() {
            metrics.begin();
        }
        let request = Finished {
            method: &self.method,
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
        if let Some(protocol) = self.protocol {
            metrics.tell_apart(&request, &self.manner(protocol, elapsed));
        }
        if let Some(cause) = self.cause {
            metrics.replied(cause.token());
        }
    }

    fn manner(&self, protocol: Protocol, elapsed: Duration) -> Manner {
        let tls = self.downstream.tls.as_ref().map(|tls| (tls.version, tls.cipher));
        Manner { protocol, tls, latency: (!self.upgraded).then_some(elapsed) }
    }

    fn log(&self, elapsed: Duration) {
        let (Some(log), Some(request)) = (&self.access_log, &self.request) else { return };
        let attempts = self.attempts.as_deref().unwrap_or_default();
        let (route, service) = self.names().unzip();
        log.record(&Record {
            time: self.context.time,
            listener: &self.context.listener,
            route,
            service,
            endpoint: attempts.last().map(|attempt| &*attempt.endpoint),
            client_ip: self.context.client_ip,
            peer: self.context.peer,
            method: &self.method,
            target: request.target.as_str(),
            protocol: request.version,
            host: &self.context.host,
            status: self.status_code(),
            reason: self.cause.map(Cause::token),
            request_bytes: self.bytes_in(),
            response_bytes: self.bytes_out,
            duration: elapsed,
            head_after: self.head_after,
            attempts,
            tls: self.downstream.tls_log.as_deref(),
            request_id: &self.context.request_id,
            trace_id: self.trace_id(),
            user_agent: request.user_agent.as_ref(),
            referer: request.referer.as_ref(),
            upgraded: self.upgraded,
        });
    }

    fn record(&mut self, now: Instant) {
        if let Some(trace) = self.trace.take() {
            trace.finish(|| self.served(now));
        }
    }

    fn served(&self, now: Instant) -> Served {
        let request = self.request.as_ref().expect("it is kept where somebody will be told");
        let names = self.names.clone().or_else(|| self.route.as_deref().map(RouteNames::of));
        let (route, pattern, service) = names
            .map_or((None, None, None), |RouteNames { route, pattern, service }| (Some(route), pattern, Some(service)));
        let context = &self.context;
        Served {
            time: context.time,
            started: context.started,
            ended: now,
            listener: Arc::clone(&context.listener),
            port: self.downstream.local_port.clone(),
            route,
            pattern,
            service,
            client_ip: context.client_ip,
            secure: context.secure,
            method: kept(self.method.as_str().as_bytes()),
            path: kept(request.target.path().as_bytes()),
            protocol: request.version,
            host: kept(context.host.as_bytes()),
            user_agent: request.user_agent.as_ref().map(|agent| kept(agent.as_bytes())),
            request_id: kept(context.request_id.as_bytes()),
            status: self.status_code(),
            reason: self.cause.map(Cause::token),
            broke_off: self.broke_off,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.context.started);
        self.count(elapsed);
        self.log(elapsed);
        self.record(now);
        if self.upgraded {
            self.downstream.activity.tunnel_ended();
        }
        match self.status {
            Some(_) => self.downstream.activity.answered(),
            None => self.downstream.activity.abandoned(),
        }
        self.downstream.activity.end(now);
    }
}

impl RequestLine {
    fn of(head: &request::Parts) -> RequestLine {
        RequestLine {
            target: head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            version: head.version,
            referer: head.headers.get(header::REFERER).cloned(),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
        }
    }
}
