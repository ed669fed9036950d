//! The life of a request on one page.
//!
//! Puts the rooms in a row: context, router, middleware, upstream, forwarding, reply. Decides nothing itself that has
//! a room of its own, and never fails: whatever goes wrong is a reply with a reason.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request, response};
use http_body::Body;

use crate::body::{Incoming, Keep, ResponseBody, Upload};
use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::exchange::{Books, Exchange};
use crate::failover::Failover;
use crate::middleware::Flow;
use crate::reply::{self, Cause, GrpcClient};
use crate::snapshot::{ListenerView, RouteView};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::traces::{Decides, Tracer};
use crate::telemetry::traefik::Protocol;
use crate::tunnel::{Limits, Side, Upgrade};
use crate::upstream;
use crate::upstream::retry;
use crate::upstream::service::Affinity;
use crate::upstream::sticky::ClientConnection;
use crate::{forwarding, framing, receipt};

/// What a request needs of a generation. It does not hold on to the rest: it may be answered for hours.
#[derive(Debug)]
pub struct View {
    /// `None` once the listener was removed.
    pub listener: Option<Arc<ListenerView>>,
    /// If there is one.
    pub access_log: Option<AccessLog>,
    /// If traces are made.
    pub tracer: Option<Tracer>,
    /// Number of the generation.
    pub generation: u64,
}

/// A request, taken apart. What is used up is taken out.
struct Asked {
    head: request::Parts,
    body: Option<Incoming>,
    upgrade: Option<Upgrade>,
}

/// What goes back to the client, before it is known how its body ends.
enum Passed {
    /// Made by us.
    Reply(Response<Bytes>, Cause),
    /// Made by an endpoint.
    Answer(Response<upstream::Incoming>),
    /// The client and an endpoint leave HTTP together.
    Upgrade(response::Parts, Upgrade, Side),
}

/// Answers one request of a client, as the present generation has it.
pub async fn handle(
    view: View,
    downstream: &Arc<Downstream>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let upgrade = Upgrade::wanted(&mut request);
    let (head, body) = request.into_parts();
    let mut asked = Asked { head, body: Some(body), upgrade };
    let head = &mut asked.head;
    let grpc = GrpcClient::of(&head.headers);
    let (version, connect) = (head.version, head.method == Method::CONNECT);
    let Some(listener) = view.listener else { return gone(downstream, grpc) };
    let checked = framing::check(head, &listener.config.limits);
    let host = framing::host(head);
    let context = RequestContext::identify(downstream, head, host, &listener.config.trusted_proxies);
    let receipt = receipt::wanted(&mut head.headers, &context);
    let protocol = if listener.traefik_names { Some(spoken(asked.upgrade.as_ref(), head)) } else { None };
    let trace = view.tracer.map(|tracer| tracer.begin(&mut head.headers, decides(&context), view.generation));
    let books =
        Books { unrouted: Arc::clone(&listener.unrouted), access_log: view.access_log, trace, receipt, protocol };
    let mut exchange = Exchange::begin(books, downstream, head, context);
    let passed = match checked {
        Ok(()) => pass(&listener, &mut exchange, &mut asked).await,
        Err(cause) => Err(cause),
    };
    match passed {
        Ok(Passed::Answer(response)) => answer(exchange, response),
        Ok(Passed::Upgrade(head, upgrade, upstream)) => switch(exchange, head, upgrade, upstream),
        Ok(Passed::Reply(response, cause)) => invented(exchange, response, cause),
        Err(cause) => {
            let response = reply::invent(cause, grpc);
            let mut response = shown_to_chain(&exchange, response);
            if version != Version::HTTP_2 && ends_connection(cause, connect) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            invented(exchange, response, cause)
        }
    }
}

/// As Traefik tells requests apart.
fn spoken(upgrade: Option<&Upgrade>, head: &request::Parts) -> Protocol {
    if upgrade.is_some_and(Upgrade::is_websocket) { Protocol::WebSocket } else { Protocol::of(&head.headers) }
}

/// Whose word counts on whether the request is recorded.
fn decides(context: &RequestContext) -> Decides {
    if context.trusted { Decides::Peer } else { Decides::Ourselves }
}

/// From the head to the endpoint's answer, or to the reason why there is none.
async fn pass(listener: &ListenerView, exchange: &mut Exchange, asked: &mut Asked) -> Result<Passed, Cause> {
    let Asked { head, body, upgrade } = asked;
    framing::covered(&exchange.downstream, head, &exchange.context)?;
    framing::normalise_target(head)?;
    forwarding::distrust(&mut head.headers, &exchange.context);
    if let Some(location) = listener.redirect(head, &exchange.context)? {
        return Ok(Passed::Reply(reply::redirect_to_https(location), Cause::Redirect));
    }
    let route = Arc::clone(listener.find(head, &exchange.context)?);
    exchange.routed(&route);
    let protocol = upgrade.as_ref().map(|upgrade| upgrade.protocol(head));
    forwarding::strip(&mut head.headers);
    if let Flow::Reply(response) = route.chain.on_request(head, &exchange.context) {
        let cause = if response.status().is_redirection() { Cause::Redirect } else { Cause::Middleware };
        return Ok(Passed::Reply(response, cause));
    }
    exchange.admitted(route.service.admit().ok_or(Cause::Overloaded)?);
    let affinity = route.service.affinity(&mut head.headers, exchange.context.client_ip);
    forwarding::prepare(head, &exchange.context, &exchange.downstream);
    if let (Some(upgrade), Some(protocol)) = (&upgrade, protocol) {
        upgrade.offer(head, protocol);
    }
    if upgrade.is_none() {
        let body = body.take_if(|body| !body.is_end_stream());
        exchange.upload = body.map(|body| Upload::new(body, kept(&route, head), listener.config.timeouts.body_idle.0));
    }
    let mut response = Failover::new(exchange, &route, &affinity, head).run(exchange).await?;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let tunnel = switches.then(|| upstream::Incoming::tunnel(&mut response));
    let (mut head, body) = response.into_parts();
    let agreed = head.headers.get(header::UPGRADE).cloned();
    forwarding::prepare_response(&mut head);
    pin(exchange, &route, &affinity, &mut head);
    route.chain.on_response(&mut head, &exchange.context);
    match (upgrade.take(), tunnel) {
        (Some(upgrade), Some(tunnel)) => {
            upgrade.accept(&mut head, agreed);
            Ok(Passed::Upgrade(head, upgrade, tunnel))
        }
        // An endpoint that switches although nobody asked.
        (None, Some(_)) => Err(Cause::UpstreamInvalid),
        (Some(upgrade), None) if upgrade.is_misled_by(head.status) => Err(Cause::UpstreamInvalid),
        (_, None) => Ok(Passed::Answer(Response::from_parts(head, body))),
    }
}

/// Whether what follows on the connection may be meant for somebody else: of what can be read in two ways the rest, and
/// behind a CONNECT bytes for the tunnel that it did not open.
fn ends_connection(cause: Cause, connect: bool) -> bool {
    cause == Cause::BadRequest || connect && cause == Cause::MethodNotAllowed
}

/// What is kept of the client's body for repeats, by the service's rules.
fn kept(route: &RouteView, head: &request::Parts) -> Keep {
    let bytes = usize::try_from(route.service.config.retry.max_body.0).unwrap_or(usize::MAX);
    Keep { bytes, when_sent: retry::is_idempotent(&head.method, &head.headers) }
}

/// Keeps the client on the endpoint that answered.
fn pin(exchange: &Exchange, route: &RouteView, affinity: &Affinity, head: &mut response::Parts) {
    let Some(endpoint) = exchange.endpoint() else { return };
    let connection = if exchange.context.secure { ClientConnection::Tls } else { ClientConnection::Plain };
    if let Some(cookie) = route.service.pin(affinity, endpoint, connection) {
        head.headers.append(header::SET_COOKIE, cookie);
    }
}

fn answer(mut exchange: Box<Exchange>, mut response: Response<upstream::Incoming>) -> Response<ResponseBody> {
    exchange.answered(response.status(), None);
    hand_receipt(&exchange, response.headers_mut());
    let idle = exchange.route.as_ref().map(|route| route.service.config.timeouts.idle.0).unwrap_or_default();
    response.map(|body| ResponseBody::upstream(body, idle, exchange))
}

fn invented(mut exchange: Box<Exchange>, mut response: Response<Bytes>, cause: Cause) -> Response<ResponseBody> {
    exchange.answered(response.status(), Some(cause));
    hand_receipt(&exchange, response.headers_mut());
    response.map(|body| ResponseBody::reply(body, exchange))
}

/// To a trusted client that has asked for it.
fn hand_receipt(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Some(receipt) = exchange.receipt() {
        headers.append(receipt::TRACE, receipt);
    }
}

/// A route's middlewares see what we invent for it, too.
fn shown_to_chain(exchange: &Exchange, response: Response<Bytes>) -> Response<Bytes> {
    let Some(route) = &exchange.route else { return response };
    let (mut head, body) = response.into_parts();
    route.chain.on_response(&mut head, &exchange.context);
    Response::from_parts(head, body)
}

/// The head goes back as HTTP; what follows it is carried by a task of its own, which ends the exchange.
fn switch(
    mut exchange: Box<Exchange>,
    mut head: response::Parts,
    upgrade: Upgrade,
    upstream: Side,
) -> Response<ResponseBody> {
    exchange.answered(head.status, None);
    hand_receipt(&exchange, &mut head.headers);
    let limits = Limits {
        idle: exchange.route.as_ref().map(|route| route.service.config.timeouts.idle.0).unwrap_or_default(),
        closing: exchange.downstream.lifecycle.tunnels_end.clone(),
        removed: exchange.endpoint().map(|endpoint| endpoint.live.removed.clone()).unwrap_or_default(),
    };
    exchange.upgraded();
    let lifecycle = Arc::clone(&exchange.downstream.lifecycle);
    lifecycle.tunnels.spawn(upgrade.carry(upstream, exchange, limits));
    Response::from_parts(head, ResponseBody::EMPTY)
}

/// The listener was removed, and this connection is being closed.
fn gone(downstream: &Downstream, grpc: GrpcClient) -> Response<ResponseBody> {
    // No exchange, but a request: what is written on a connection while there was none is kept back.
    downstream.activity.begin();
    downstream.activity.end(Instant::now());
    reply::invent(Cause::Draining, grpc).map(ResponseBody::unbooked)
}
