//! What would happen to a request, and why: the pipeline's questions asked without sending anything.
//!
//! Asks the rooms that a request passes, in the pipeline's order, and keeps what each of them said. Decides nothing
//! itself, and changes nothing: no pin is used, no turn is taken, nothing is counted.

mod effects;
pub mod expect;
mod question;
mod text;
mod who;
mod why;

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header as field, request, response};
use serde::{Deserialize, Serialize};

use crate::context::RequestContext;
use crate::downstream::Downstream;
use crate::middleware::Flow;
use crate::reply::Cause;
use crate::router::RouteError;
use crate::router::why::{Verdict, verdicts};
use crate::snapshot::{ListenerView, RouteView, Snapshot, lookup};
use crate::{forwarding, framing, receipt};

use self::question::Asked;
pub use self::question::{Question, Unclear, header};

/// All that is known of what would happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request as it was asked about: method and URL.
    pub request: String,
    /// The listener that takes it.
    pub listener: String,
    /// Why that one.
    pub listener_why: String,
    /// The client's address, through trusted proxies.
    pub client: IpAddr,
    /// Why that one.
    #[serde(default)]
    pub client_why: String,
    /// The certificate that the client's connection was shown, if it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The path in the one form that is routed and sent.
    pub path: String,
    /// Every route of the listener in file order, with what became of it. Empty if no route was asked.
    pub routes: Vec<RouteTold>,
    /// The route's middlewares in the order that the request meets them.
    pub middlewares: Vec<MiddlewareTold>,
    /// Where the route leads, if the request gets there.
    pub service: Option<ServiceTold>,
    /// The head as it would go to the endpoint, if there is one.
    pub upstream: Option<UpstreamTold>,
    /// What Waypost answers by itself; absent if an endpoint gets the request.
    pub reply: Option<ReplyTold>,
}

/// One route of the listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTold {
    /// Its name.
    pub name: String,
    /// Whether the request belongs to it.
    pub taken: bool,
    /// If it does not: the first condition that fails, or which route goes first and by which rule.
    pub why: String,
}

/// How the reason begins against a route whose conditions all hold.
const HOLDS: &str = "it holds";

/// One middleware of the route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiddlewareTold {
    /// Its name.
    pub name: String,
    /// What it does to this request, one phrase each.
    pub request: Vec<String>,
    /// What it does to the response, one phrase each.
    pub response: Vec<String>,
}

/// The service that the route leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceTold {
    /// Its name.
    pub name: String,
    /// Its balancer's name in the config.
    pub balancer: String,
    /// What becomes of the client's pin, if the service has sticky clients.
    pub sticky: Option<String>,
    /// Every endpoint in file order.
    pub endpoints: Vec<EndpointTold>,
    /// Which failed attempts would be repeated, one phrase each.
    pub retry: Vec<String>,
}

/// One endpoint of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointTold {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// What the health check thinks: `checking`, `up` or `down`.
    pub state: String,
    /// Its chance to get this request, between 0 and 1.
    pub chance: f64,
    /// Why it has that chance.
    pub why: String,
}

/// A head as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTold {
    /// The method.
    pub method: String,
    /// The target in origin form.
    pub target: String,
    /// Every field line in order.
    pub headers: Vec<(String, String)>,
}

/// An answer of Waypost's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTold {
    /// The status.
    pub status: u16,
    /// The reason token.
    pub reason: String,
    /// What the reason means.
    pub detail: String,
    /// Where the client is sent, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The middleware that answers, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub middleware: Option<String>,
}

impl Explanation {
    /// The route that is taken.
    pub fn route(&self) -> Option<&RouteTold> {
        self.routes.iter().find(|route| route.taken)
    }
}

/// What this generation would do with the request.
pub fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explanation, Unclear> {
    let Asked { listener, why, mut head, downstream } = Asked::read(snapshot, question)?;
    let checked = framing::check(&mut head, &listener.config.limits);
    let mut context =
        RequestContext::identify(&downstream, &head, framing::host(&head), &listener.config.trusted_proxies);
    let client_why = who::client(listener, &context, &head.headers);
    question::stand_in_for_id(&head, &mut context);
    receipt::wanted(&mut head.headers, &context);
    let told = Explanation {
        request: format!("{} {}", question.method, question.url),
        listener: listener.name.to_string(),
        listener_why: why,
        client: context.client_ip,
        client_why,
        certificate: who::certificate(&downstream),
        path: head.uri.path().to_owned(),
        routes: Vec::new(),
        middlewares: Vec::new(),
        service: None,
        upstream: None,
        reply: None,
    };
    let mut tour = Tour { snapshot, listener, context: &context, downstream: &downstream, told };
    tour.told.reply = checked.map_err(ReplyTold::from).and_then(|()| tour.pass(head)).err();
    Ok(tour.told)
}

/// A request on its way through the rooms, and what has been said of it so far.
struct Tour<'a> {
    snapshot: &'a Snapshot,
    listener: &'a ListenerView,
    context: &'a RequestContext,
    downstream: &'a Downstream,
    told: Explanation,
}

impl Tour<'_> {
    /// The steps of the pipeline; an error is the reply that it comes to before an endpoint.
    fn pass(&mut self, mut head: request::Parts) -> Result<(), ReplyTold> {
        framing::covered(self.downstream, &head, self.context)
            .map_err(|cause| who::misdirected(self.downstream, self.context, cause))?;
        framing::normalise_target(&mut head)?;
        head.uri.path().clone_into(&mut self.told.path);
        forwarding::distrust(&mut head.headers, self.context);
        if let Some(location) = self.listener.redirect(&head, self.context)? {
            return Err(ReplyTold { location: text(Some(&location)), ..Cause::Redirect.into() });
        }
        // A route that cannot be told cannot be compiled either, and there would be no snapshot.
        self.told.routes = self.routes(&head).map_err(|_| Cause::NoRoute)?;
        let route = self.listener.find(&head, self.context)?;
        forwarding::strip(&mut head.headers);
        self.walk(route, &mut head)?;
        self.choose(route, &mut head)
    }

    fn routes(&self, head: &request::Parts) -> Result<Vec<RouteTold>, RouteError> {
        let routes = self.snapshot.config.routes_of(&self.listener.name);
        let (names, routes): (Vec<_>, Vec<_>) = routes.unzip();
        let verdicts = verdicts(&routes, &lookup(head, self.context))?;
        let told = |(name, verdict): (&&String, Verdict)| RouteTold {
            name: (*name).clone(),
            taken: verdict == Verdict::Taken,
            why: match verdict {
                Verdict::Taken => String::new(),
                Verdict::Outranked { by, rule } => format!("{HOLDS}, but `{}` goes first: {rule}", names[by]),
                Verdict::Fails(failure) => failure,
            },
        };
        Ok(names.iter().zip(verdicts).map(told).collect())
    }

    /// Through the route's middlewares, to the end or to the one that answers.
    fn walk(&mut self, route: &RouteView, head: &mut request::Parts) -> Result<(), ReplyTold> {
        let config = &self.snapshot.config.routes[&*route.name];
        let middlewares = &self.snapshot.config.middlewares;
        let touchstone = effects::touchstone(config.middlewares.iter().filter_map(|name| middlewares.get(name)));
        let responses = route.chain.each_on_response(&touchstone, self.context);
        let (mut done, mut before) = (Vec::new(), head.clone());
        let flow = route.chain.on_request_watched(head, self.context, |after| {
            done.push(effects::on_request(&before, after));
            before = after.clone();
        });
        let answering = config.middlewares.get(done.len()).cloned();
        if let Flow::Reply(_) = flow {
            done.push(vec!["answers the request by itself".to_owned()]);
        }
        let told = |((name, request), response): ((&String, Vec<String>), &response::Parts)| MiddlewareTold {
            name: name.clone(),
            request,
            response: effects::on_response(&touchstone, response),
        };
        self.told.middlewares = config.middlewares.iter().zip(done).zip(&responses).map(told).collect();
        match flow {
            Flow::Continue => Ok(()),
            Flow::Reply(reply) => Err(ReplyTold::by(answering, &reply)),
        }
    }

    /// To an endpoint, as far as that is certain.
    fn choose(&mut self, route: &RouteView, head: &mut request::Parts) -> Result<(), ReplyTold> {
        let service = &route.service;
        let affinity = service.peek_affinity(&mut head.headers, self.context.client_ip);
        forwarding::prepare(head, self.context, self.downstream);
        let key = service.hash_key(&head.headers, head.uri.path(), self.context);
        let candidates = service.candidates(&affinity, key);
        self.told.service = Some(why::service(route, head, &affinity, &candidates));
        self.told.upstream = Some(UpstreamTold::of(head));
        if candidates.is_empty() { Err(service.refusal().into()) } else { Ok(()) }
    }
}

impl UpstreamTold {
    fn of(head: &request::Parts) -> UpstreamTold {
        UpstreamTold {
            method: head.method.to_string(),
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            headers: head.headers.iter().map(line).collect(),
        }
    }
}

impl From<Cause> for ReplyTold {
    fn from(cause: Cause) -> ReplyTold {
        let (reason, detail) = (cause.token().to_owned(), cause.explanation().to_owned());
        ReplyTold { status: cause.status().as_u16(), reason, detail, location: None, middleware: None }
    }
}

impl ReplyTold {
    fn by(middleware: Option<String>, reply: &Response<Bytes>) -> ReplyTold {
        let cause = if reply.status().is_redirection() { Cause::Redirect } else { Cause::Middleware };
        let location = text(reply.headers().get(field::LOCATION));
        ReplyTold { status: reply.status().as_u16(), location, middleware, ..cause.into() }
    }
}

/// A field as text.
fn line((name, value): (&HeaderName, &HeaderValue)) -> (String, String) {
    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
