//! What one generation of the config has become: routers, chains, services, ready to be read by every request.
//!
//! The only place that turns `waypost_config` into running things. Immutable once built; what lives (health, counters,
//! connections, positions) is carried over from the snapshot before, by identity. Never opens a socket.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, request};
use indexmap::IndexMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waypost_config::service::{Protocol, Sticky};
use waypost_config::{Config, Route};

use crate::context::RequestContext;
use crate::middleware::{BuildError, Chain};
use crate::reply::Cause;
use crate::router::{Lookup, RouteError, Router};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::tls::{self, CertificateStore, TlsError};
use crate::upstream::connect::{Target, TargetTls};
use crate::upstream::endpoint::{self, Endpoint};
use crate::upstream::health::Health;
use crate::upstream::retry_budget::RetryBudget;
use crate::upstream::sticky::{ClientIpPins, ProcessKey};
use crate::upstream::{Pool, Service, service};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with each published config.
    pub generation: u64,
    /// The config it was built from.
    pub config: Config,
    /// By name.
    pub listeners: HashMap<Arc<str>, Arc<ListenerView>>,
    /// Those of the generation before that are gone: their connections may still bring a last request.
    pub retired: HashMap<Arc<str>, Arc<ListenerView>>,
    /// By name, in file order.
    pub services: IndexMap<Arc<str>, Arc<Service>>,
    /// Where requests are written down, if they are.
    pub access_log: Option<AccessLog>,
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
    /// Its middlewares.
    pub chain: Chain,
    /// Where it leads.
    pub service: Arc<Service>,
    /// The limit of the whole exchange, up to the response's head.
    pub timeout: Option<Duration>,
    /// Its books.
    pub metrics: Arc<RouteMetrics>,
}

/// Why a config that reads well cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A route's conditions.
    #[error("listener `{listener}`, {source}")]
    Route {
        /// The listener whose router it was for.
        listener: String,
        /// The route and what is wrong with it.
        source: RouteError,
    },
    /// A route's middlewares.
    #[error("route `{route}`: {source}")]
    Middleware {
        /// The route.
        route: String,
        /// What is wrong.
        source: BuildError,
    },
    /// Certificates or TLS settings.
    #[error("{place}: {source}")]
    Tls {
        /// The listener or service.
        place: String,
        /// What is wrong.
        source: TlsError,
    },
    /// A name that leads nowhere.
    #[error("route `{route}`: there is no service `{service}`")]
    NoService {
        /// The route.
        route: String,
        /// The name.
        service: String,
    },
    /// The access log cannot be opened.
    #[error("access log: {0}")]
    AccessLog(io::Error),
}

/// What lives as long as the process and every generation is built with.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The books.
    pub metrics: Arc<Metrics>,
    /// Seals the cookies of services without secrets.
    pub process_key: ProcessKey,
    /// Threads that carry requests; each has its own shard of every pool.
    pub workers: usize,
}

/// The generation before, if there was one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before<'a> {
    /// From which living state is carried over.
    pub snapshot: Option<&'a Snapshot>,
    /// Files that have changed since it was built: what was read from them is read again.
    pub stale: &'a [PathBuf],
}

/// Builds the next generation. Nothing is touched that the one before uses.
pub fn compile(config: Config, before: Before<'_>, ground: &Ground) -> Result<Snapshot, CompileError> {
    let previous = before.snapshot;
    let services = compile_services(&config, previous, ground)?;
    let listeners = compile_listeners(&config, before, &services, ground)?;
    let access_log = compile_access_log(&config, previous, &ground.metrics)?;
    let retired = previous.map_or_else(HashMap::new, |previous| retired(previous, &listeners));
    let generation = previous.map_or(1, |previous| previous.generation + 1);
    Ok(Snapshot { generation, config, listeners, retired, services, access_log })
}

impl Snapshot {
    /// The view of a listener, for its connections.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerView>> {
        self.listeners.get(name).or_else(|| self.retired.get(name))
    }

    /// Tells carried-over state of its new settings. Called once, when this snapshot is published.
    pub fn settle(&self, now: Instant) {
        for service in self.services.values() {
            service.live.budget.reconfigure(&service.config.retry.budget);
            for endpoint in &service.endpoints {
                endpoint.live.health.reconfigure(service.config.health_check.as_ref(), now);
                endpoint.show();
            }
            service.refresh();
        }
    }

    /// Every certificate store, with its listener's name.
    pub fn certificate_stores(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<CertificateStore>)> {
        self.listeners.iter().filter_map(|(name, view)| view.tls.as_ref().map(|tls| (name, &tls.store)))
    }

    /// Every endpoint of every service.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Arc<Service>, &Arc<Endpoint>)> {
        self.services.values().flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)))
    }
}

impl ListenerView {
    /// The route of this request.
    pub fn find(&self, head: &request::Parts, context: &RequestContext) -> Result<&Arc<RouteView>, Cause> {
        let lookup = Lookup {
            host: &context.host,
            path: head.uri.path(),
            query: head.uri.query(),
            method: &head.method,
            headers: &head.headers,
            client_ip: context.client_ip,
        };
        self.router.find(&lookup).map(|index| &self.routes[index]).ok_or(Cause::NoRoute)
    }

    /// Where a request has to go instead, if this listener only sends clients to https.
    pub fn redirect(&self, head: &request::Parts, context: &RequestContext) -> Option<HeaderValue> {
        let port = self.https_port?;
        let host = &context.host;
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        HeaderValue::try_from(format!("https://{host}{port}{path}")).ok()
    }
}

fn retired(
    previous: &Snapshot,
    listeners: &HashMap<Arc<str>, Arc<ListenerView>>,
) -> HashMap<Arc<str>, Arc<ListenerView>> {
    let gone = previous.listeners.iter().filter(|(name, _)| !listeners.contains_key(*name));
    gone.map(|(name, view)| (Arc::clone(name), Arc::clone(view))).collect()
}

fn compile_services(
    config: &Config,
    previous: Option<&Snapshot>,
    ground: &Ground,
) -> Result<IndexMap<Arc<str>, Arc<Service>>, CompileError> {
    let compile = |(name, service): (&String, &waypost_config::Service)| {
        let name: Arc<str> = name.as_str().into();
        let before = previous.and_then(|previous| previous.services.get(&name));
        let service = compile_service(&name, service, before, ground)?;
        Ok((name, Arc::new(service)))
    };
    config.services.iter().map(compile).collect()
}

fn compile_service(
    name: &Arc<str>,
    config: &waypost_config::Service,
    before: Option<&Arc<Service>>,
    ground: &Ground,
) -> Result<Service, CompileError> {
    let wrong = |source| CompileError::Tls { place: format!("service `{name}`"), source };
    let mut endpoints = Vec::with_capacity(config.endpoints.len());
    let mut settings = TlsSettings::default();
    for endpoint in &config.endpoints {
        let target = target(config, endpoint, &mut settings).map_err(wrong)?;
        let before = before.and_then(|before| Some((before, before.endpoint(&endpoint.name)?)));
        endpoints.push(Arc::new(compile_endpoint(name, config, endpoint, target, before, ground)));
    }
    let live = service_live(name, config, before, ground);
    Ok(Service::new(Arc::clone(name), config.clone(), endpoints, live, &ground.process_key))
}

fn service_live(
    name: &str,
    config: &waypost_config::Service,
    before: Option<&Arc<Service>>,
    ground: &Ground,
) -> Arc<service::Live> {
    let client_pins = match &config.sticky {
        Some(Sticky::ClientIp(sticky)) => Some(Arc::new(ClientIpPins::new(sticky.client_ip.0))),
        _ => None,
    };
    let Some(before) = before else {
        return Arc::new(service::Live {
            position: Arc::default(),
            budget: Arc::new(RetryBudget::new(&config.retry.budget)),
            since: Instant::now(),
            client_pins,
            in_flight: Arc::default(),
            metrics: ground.metrics.service(name),
        });
    };
    if before.config.sticky == config.sticky {
        return Arc::clone(&before.live);
    }
    Arc::new(before.live.with_client_pins(client_pins))
}

/// Client TLS settings read from files once per service, and only if an endpoint needs them.
#[derive(Default)]
struct TlsSettings(Option<(Arc<rustls::ClientConfig>, Arc<rustls::ClientConfig>)>);

impl TlsSettings {
    fn get(
        &mut self,
        config: &waypost_config::Service,
    ) -> Result<(Arc<rustls::ClientConfig>, Arc<rustls::ClientConfig>), TlsError> {
        if let Some(settings) = &self.0 {
            return Ok(settings.clone());
        }
        let any = tls::client_config(&config.tls, config.protocol)?;
        let http1 = tls::client_config(&config.tls, Protocol::Http1)?;
        Ok(self.0.insert((any, http1)).clone())
    }
}

fn target(
    config: &waypost_config::Service,
    endpoint: &waypost_config::service::Endpoint,
    settings: &mut TlsSettings,
) -> Result<Target, TlsError> {
    let tls = if endpoint.url.tls {
        let (any, http1) = settings.get(config)?;
        Some(TargetTls { any, http1, server_name: tls::server_name(&config.tls, &endpoint.url.host)? })
    } else {
        None
    };
    let connect_timeout = config.timeouts.connect.0;
    Ok(Target { url: endpoint.url.clone(), tls, protocol: config.protocol, connect_timeout })
}

/// The same name at the same URL is the same endpoint: its health and load go on. Its idle connections do too, while
/// what they were opened with is the same.
fn compile_endpoint(
    service: &str,
    config: &waypost_config::Service,
    endpoint: &waypost_config::service::Endpoint,
    target: Target,
    before: Option<(&Arc<Service>, &Arc<Endpoint>)>,
    ground: &Ground,
) -> Endpoint {
    let before = before.filter(|(_, before)| before.config.url == endpoint.url);
    let same_connections = |(service, _): &(&Arc<Service>, &Arc<Endpoint>)| {
        service.config.tls == config.tls
            && service.config.protocol == config.protocol
            && service.config.pool == config.pool
    };
    let live = match before {
        Some((_, before)) => Arc::clone(&before.live),
        None => Arc::new(new_live(service, config, &endpoint.name, ground)),
    };
    let pool = match before.filter(same_connections) {
        Some((_, before)) => Arc::clone(&before.pool),
        None => Pool::new(ground.workers, &config.pool),
    };
    Endpoint { name: endpoint.name.as_str().into(), config: endpoint.clone(), target, live, pool }
}

fn new_live(service: &str, config: &waypost_config::Service, name: &str, ground: &Ground) -> endpoint::Live {
    endpoint::Live {
        load: Arc::default(),
        health: Arc::new(Health::new(config.health_check.as_ref())),
        drained: false.into(),
        suspect: Arc::new(Notify::new()),
        removed: CancellationToken::new(),
        metrics: ground.metrics.endpoint(service, name),
    }
}

fn compile_listeners(
    config: &Config,
    before: Before<'_>,
    services: &IndexMap<Arc<str>, Arc<Service>>,
    ground: &Ground,
) -> Result<HashMap<Arc<str>, Arc<ListenerView>>, CompileError> {
    let first_tls = config.listeners.values().find(|listener| listener.tls.is_some());
    let https_port = first_tls.map(|listener| listener.address.port());
    let mut views = HashMap::new();
    for (name, listener) in &config.listeners {
        let predecessor = before.snapshot.and_then(|previous| previous.listeners.get(name.as_str()));
        let (router, routes) = compile_routes(name, config, services, ground)?;
        let view = ListenerView {
            name: name.as_str().into(),
            config: listener.clone(),
            tls: listener_tls(name, listener, predecessor, before.stale)?,
            unrouted: ground.metrics.route(name, "", ""),
            https_port: if listener.redirect_https { https_port } else { None },
            router,
            routes,
        };
        views.insert(Arc::clone(&view.name), Arc::new(view));
    }
    Ok(views)
}

/// While a listener's settings are as before, its store is kept, and with it the session tickets; renewed pairs reach it
/// through [`CertificateStore::refresh`], which keeps the old one of a half-renewed pair.
fn listener_tls(
    name: &str,
    listener: &waypost_config::Listener,
    before: Option<&Arc<ListenerView>>,
    stale: &[PathBuf],
) -> Result<Option<ListenerTls>, CompileError> {
    let wrong = |source| CompileError::Tls { place: format!("listener `{name}`"), source };
    let Some(config) = &listener.tls else { return Ok(None) };
    let fresh = config.client_auth.as_ref().is_none_or(|auth| !stale.contains(&auth.ca));
    let unchanged = before.filter(|before| fresh && before.config.tls.as_ref() == Some(config));
    if let Some(tls) = unchanged.and_then(|before| before.tls.clone()) {
        return Ok(Some(tls));
    }
    let store = CertificateStore::load(&config.certificates).map_err(wrong)?;
    let config = tls::server_config(config, Arc::clone(&store)).map_err(wrong)?;
    Ok(Some(ListenerTls { store, config }))
}

fn compile_routes(
    listener: &str,
    config: &Config,
    services: &IndexMap<Arc<str>, Arc<Service>>,
    ground: &Ground,
) -> Result<(Router, Vec<Arc<RouteView>>), CompileError> {
    let applies = |route: &Route| route.listeners.is_empty() || route.listeners.iter().any(|name| name == listener);
    let applying: Vec<_> = config.routes.iter().filter(|(_, route)| applies(route)).collect();
    let router = Router::new(applying.iter().map(|(_, route)| *route).enumerate())
        .map_err(|source| CompileError::Route { listener: listener.to_owned(), source })?;
    let compile = |(name, route): &(&String, &Route)| compile_route(listener, name, route, config, services, ground);
    let routes = applying.iter().map(compile).collect::<Result<_, _>>()?;
    Ok((router, routes))
}

fn compile_route(
    listener: &str,
    name: &str,
    route: &Route,
    config: &Config,
    services: &IndexMap<Arc<str>, Arc<Service>>,
    ground: &Ground,
) -> Result<Arc<RouteView>, CompileError> {
    let chain = Chain::build(&route.middlewares, &config.middlewares)
        .map_err(|source| CompileError::Middleware { route: name.to_owned(), source })?;
    let service = services.get(route.service.as_str());
    let missing = || CompileError::NoService { route: name.to_owned(), service: route.service.clone() };
    Ok(Arc::new(RouteView {
        name: name.into(),
        chain,
        service: Arc::clone(service.ok_or_else(missing)?),
        timeout: route.timeouts.request.map(|limit| limit.0),
        metrics: ground.metrics.route(listener, name, &route.service),
    }))
}

fn compile_access_log(
    config: &Config,
    previous: Option<&Snapshot>,
    metrics: &Metrics,
) -> Result<Option<AccessLog>, CompileError> {
    let Some(wanted) = &config.telemetry.access_log else { return Ok(None) };
    let unchanged = previous.filter(|previous| previous.config.telemetry.access_log.as_ref() == Some(wanted));
    match unchanged.and_then(|previous| previous.access_log.clone()) {
        Some(log) => Ok(Some(log)),
        None => AccessLog::open(wanted, metrics).map(Some).map_err(CompileError::AccessLog),
    }
}
