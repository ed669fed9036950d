//! What one generation of the config has become: routers, chains, services, ready to be read by every request.
//!
//! Immutable once built by [`compile`]; what lives (health, counters, connections, positions) belongs to objects that
//! are carried over from the snapshot before. Never opens a socket.

mod compile;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, request};
use indexmap::IndexMap;
use waypost_config::Config;

use crate::context::RequestContext;
use crate::middleware::Chain;
use crate::reply::Cause;
use crate::router::{Lookup, Router};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::traces::Tracer;
use crate::tls::CertificateStore;
use crate::upstream::{Endpoint, Service};
pub use compile::{Before, CompileError, Ground, compile};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with each published config.
    pub generation: u64,
    /// The config it was built from.
    pub config: Config,
    /// By name.
    pub listeners: HashMap<Arc<str>, Arc<ListenerView>>,
    /// By name, in file order.
    pub services: IndexMap<Arc<str>, Arc<Service>>,
    /// Where requests are written down, if they are.
    pub access_log: Option<AccessLog>,
    /// Where traces are recorded, if they are made.
    pub tracer: Option<Tracer>,
}

/// What one listener knows.
#[derive(Debug)]
pub struct ListenerView {
    /// Its name in the file.
    pub name: Arc<str>,
    /// What the file says of it.
    pub config: waypost_config::Listener,
    /// Its certificates and TLS settings, if it terminates TLS.
    pub tls: Option<ListenerTls>,
    /// Books for requests without a route.
    pub unrouted: Arc<RouteMetrics>,
    /// Whether requests are told apart as Traefik does, too.
    pub traefik_names: bool,
    /// Where `redirect_https` sends: the port of the first TLS listener.
    pub https_port: Option<u16>,
    router: Router,
    routes: Vec<Arc<RouteView>>,
}

/// TLS of a listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Its certificates.
    pub store: Arc<CertificateStore>,
    /// Everything else.
    pub config: Arc<rustls::ServerConfig>,
}

/// One route on one listener.
#[derive(Debug)]
pub struct RouteView {
    /// Its name in the file.
    pub name: Arc<str>,
    /// The paths that it is for, if it is for some only: `/cart`, `/api/*`, or a regular expression.
    pub pattern: Option<Arc<str>>,
    /// Its middlewares.
    pub chain: Chain,
    /// Where it leads.
    pub service: Arc<Service>,
    /// The limit of the whole exchange, up to the response's head.
    pub timeout: Option<Duration>,
    /// Its books.
    pub metrics: Arc<RouteMetrics>,
}

impl Snapshot {
    /// Tells carried-over state of its new settings. Called once, when this snapshot is published.
    pub fn settle(&self, now: Instant) {
        for service in self.services.values() {
            service.live.budget.reconfigure(&service.config.retry.budget);
            for endpoint in &service.endpoints {
                endpoint.live.health.reconfigure(service.config.health_check.as_ref(), now);
                endpoint.live.metrics.at(endpoint.config.url.to_string());
                endpoint.show();
            }
            service.rebuild();
        }
    }

    /// Every certificate store, with its listener's name.
    pub fn certificate_stores(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<CertificateStore>)> {
        self.listeners.iter().filter_map(|(name, view)| view.tls.as_ref().map(|tls| (name, &tls.store)))
    }

    /// Whether a request still reads it, or what it was to a listener. Asked by the last owner beside them.
    pub fn is_read(self: &Arc<Snapshot>) -> bool {
        Arc::strong_count(self) > 1 || self.listeners.values().any(|view| Arc::strong_count(view) > 1)
    }

    /// Every endpoint of every service.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Arc<Service>, &Arc<Endpoint>)> {
        self.services.values().flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)))
    }
}

impl ListenerView {
    /// Every route, in file order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteView>> {
        self.routes.iter()
    }

    /// The route of this request.
    pub fn find(&self, head: &request::Parts, context: &RequestContext) -> Result<&Arc<RouteView>, Cause> {
        self.router.find(&lookup(head, context)).map(|index| &self.routes[index]).ok_or(Cause::NoRoute)
    }

    /// Where a request has to go instead, if this listener only sends clients to https.
    pub fn redirect(&self, head: &request::Parts, context: &RequestContext) -> Result<Option<HeaderValue>, Cause> {
        let Some(port) = self.https_port else { return Ok(None) };
        let (host, path) = (&context.host, head.uri.path_and_query().map_or("/", |path| path.as_str()));
        if host.is_empty() {
            return Err(Cause::BadRequest);
        }
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        HeaderValue::try_from(format!("https://{host}{port}{path}")).map(Some).map_err(|_| Cause::BadRequest)
    }
}

/// What a router looks at.
pub fn lookup<'a>(head: &'a request::Parts, context: &'a RequestContext) -> Lookup<'a> {
    Lookup {
        host: &context.host,
        path: head.uri.path(),
        query: head.uri.query(),
        method: &head.method,
        headers: &head.headers,
        client_ip: context.client_ip,
    }
}
