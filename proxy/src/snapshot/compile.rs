//! From a config to a snapshot: the only place that turns `waypost_config` into running things.
//!
//! Decides what of the generation before is the same thing and lives on. Touches nothing that the one before uses: a
//! config that is refused half way leaves no trace.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waypost_config::service::{Protocol, Sticky, UpstreamTls};
use waypost_config::telemetry::{OtlpProtocol, Tracing};
use waypost_config::{Config, Route, listener, service as config};

use super::{ListenerTls, ListenerView, RouteView, Snapshot};
use crate::aside;
use crate::middleware::{BuildError, Chain};
use crate::router::{RouteError, Router};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{CollectorTls, Tracer};
use crate::tls::{self, CertificateStore, TlsError};
use crate::upstream::connect::{Target, TargetTls};
use crate::upstream::endpoint::{self, Endpoint};
use crate::upstream::health::Health;
use crate::upstream::retry_budget::RetryBudget;
use crate::upstream::standing::{Rules, Standing, clock};
use crate::upstream::sticky::{ClientIpPins, ProcessKey};
use crate::upstream::{Pool, Service, service};

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
    /// There is no thread for traces to be had.
    #[error("traces: {0}")]
    Traces(io::Error),
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

/// Builds the next generation.
pub fn compile(config: Config, before: Before<'_>, ground: &Ground) -> Result<Snapshot, CompileError> {
    let (services, listeners) = aside::run(|| {
        let compiler = Compiler { config: &config, before, ground, upstream_tls: RefCell::default() };
        let services = compiler.services()?;
        let listeners = compiler.listeners(&services)?;
        Ok((services, listeners))
    })?;
    // Not there: its thread is not to step back.
    let access_log = access_log(&config, before, ground)?;
    let tracer = tracer(&config, before, ground)?;
    let generation = before.snapshot.map_or(1, |before| before.generation + 1);
    Ok(Snapshot { generation, config, listeners, services, access_log, tracer })
}

type Services = IndexMap<Arc<str>, Arc<Service>>;
type Listeners = HashMap<Arc<str>, Arc<ListenerView>>;

struct Compiler<'a> {
    config: &'a Config,
    before: Before<'a>,
    ground: &'a Ground,
    /// What has been made of TLS settings: many services have the same, and reading the system's authorities takes
    /// milliseconds.
    upstream_tls: RefCell<Vec<(&'a UpstreamTls, Protocol, UpstreamTlsPair)>>,
}

/// Settings for any exchange, and for those that need HTTP/1.1.
type UpstreamTlsPair = (Arc<ClientConfig>, Arc<ClientConfig>);

impl<'a> Compiler<'a> {
    fn services(&self) -> Result<Services, CompileError> {
        let compile = |(name, service): (&String, &'a config::Service)| {
            let name: Arc<str> = name.as_str().into();
            Ok((Arc::clone(&name), Arc::new(self.service(name, service)?)))
        };
        self.config.services.iter().map(compile).collect()
    }

    fn service(&self, name: Arc<str>, config: &'a config::Service) -> Result<Service, CompileError> {
        let wrong = |source| CompileError::Tls { place: format!("service `{name}`"), source };
        let before = self.before.snapshot.and_then(|before| before.services.get(&name));
        let targets = self.targets(config, before).map_err(wrong)?;
        let members = config.endpoints.iter().zip(targets);
        let rules = Rules::of(config);
        let endpoints = members.map(|(endpoint, target)| {
            let (metrics, workers) = (|| self.ground.metrics.endpoint(&name, &endpoint.name), self.ground.workers);
            let same = before.and_then(|before| Predecessor::of(before, endpoint));
            let newcomer = || {
                let live = new_live(config, metrics());
                if before.is_some() {
                    // Its neighbours are warm.
                    live.standing.warm_up();
                }
                Arc::new(live)
            };
            let live = same.as_ref().map_or_else(newcomer, Predecessor::live);
            let pool = same.and_then(|same| same.pool(config)).unwrap_or_else(|| Pool::new(workers, &config.pool));
            let (service, rules) = (Arc::clone(&name), Arc::clone(&rules));
            let (name, config) = (endpoint.name.as_str().into(), endpoint.clone());
            Arc::new(Endpoint { name, service, rules, config, target, live, pool })
        });
        let endpoints = endpoints.collect();
        let live = self.service_live(&name, config, before);
        Ok(Service::new(
            name,
            config.clone(),
            service::Parts { endpoints, live, process_key: &self.ground.process_key },
        ))
    }

    /// Where each endpoint is.
    fn targets(&self, config: &'a config::Service, before: Option<&Arc<Service>>) -> Result<Vec<Target>, TlsError> {
        let secure = config.endpoints.iter().any(|endpoint| endpoint.url.tls);
        let settings = if secure { Some(self.upstream_tls(config, before)?) } else { None };
        let target = |endpoint: &config::Endpoint| {
            let tls = match settings.clone().filter(|_| endpoint.url.tls) {
                Some((any, http1)) => {
                    let server_name = tls::server_name(&config.tls, &endpoint.url.host)?;
                    Some(TargetTls { any, http1, server_name })
                }
                None => None,
            };
            let connect_timeout = config.timeouts.connect.0;
            Ok(Target { url: endpoint.url.clone(), tls, protocol: config.protocol, connect_timeout })
        };
        config.endpoints.iter().map(target).collect()
    }

    /// Files are read only if the settings or the files are others than before. That the settings stay the same things
    /// also tells who probes that nothing has changed.
    fn upstream_tls(
        &self,
        config: &'a config::Service,
        before: Option<&Arc<Service>>,
    ) -> Result<UpstreamTlsPair, TlsError> {
        let fresh = !self.before.stale.iter().any(|path| config.tls.files().any(|file| file == path));
        let same =
            |before: &&Arc<Service>| before.config.tls == config.tls && before.config.protocol == config.protocol;
        let before = before.filter(same).filter(|_| fresh);
        if let Some(tls) = before.and_then(|before| before.endpoints.iter().find_map(|one| one.target.tls.as_ref())) {
            return Ok((Arc::clone(&tls.any), Arc::clone(&tls.http1)));
        }
        let mut made = self.upstream_tls.borrow_mut();
        if let Some((.., pair)) = made.iter().find(|known| (known.0, known.1) == (&config.tls, config.protocol)) {
            return Ok(pair.clone());
        }
        let any = tls::client_config(&config.tls, config.protocol)?;
        let pair = (any, tls::client_config(&config.tls, Protocol::Http1)?);
        made.push((&config.tls, config.protocol, pair.clone()));
        Ok(pair)
    }

    fn service_live(&self, name: &str, config: &config::Service, before: Option<&Arc<Service>>) -> Arc<service::Live> {
        match before {
            None => Arc::new(service::Live {
                position: Arc::default(),
                changes: Arc::default(),
                budget: Arc::new(RetryBudget::new(&config.retry.budget)),
                since: clock(),
                client_pins: client_pins(config),
                in_flight: Arc::default(),
                metrics: self.ground.metrics.service(name),
            }),
            Some(before) if before.config.sticky == config.sticky => Arc::clone(&before.live),
            Some(before) => Arc::new(before.live.with_client_pins(client_pins(config))),
        }
    }

    fn listeners(&self, services: &Services) -> Result<Listeners, CompileError> {
        let first_tls = self.config.listeners.values().find(|listener| listener.tls.is_some());
        let https_port = first_tls.map(|listener| listener.address.port());
        let compile = |(name, listener): (&String, &listener::Listener)| {
            let (router, compiled) = self.routes(name, services)?;
            let view = ListenerView {
                name: name.as_str().into(),
                config: listener.clone(),
                tls: self.listener_tls(name, listener)?,
                unrouted: self.ground.metrics.route(name, "", ""),
                traefik_names: self.config.telemetry.metrics.traefik_names,
                https_port: if listener.redirect_https { https_port } else { None },
                router,
                routes: compiled,
            };
            Ok((Arc::clone(&view.name), Arc::new(view)))
        };
        self.config.listeners.iter().map(compile).collect()
    }

    /// While a listener's settings are as before, its store is kept, and with it the session tickets; renewed pairs
    /// reach it through [`CertificateStore::refresh`], which keeps the old one of a half-renewed pair.
    fn listener_tls(&self, name: &str, listener: &listener::Listener) -> Result<Option<ListenerTls>, CompileError> {
        let wrong = |source| CompileError::Tls { place: format!("listener `{name}`"), source };
        let Some(config) = &listener.tls else { return Ok(None) };
        let fresh = config.client_auth.as_ref().is_none_or(|auth| !self.before.stale.contains(&auth.ca));
        let before = self.before.snapshot.and_then(|before| before.listeners.get(name));
        let unchanged = before.filter(|before| fresh && before.config.tls.as_ref() == Some(config));
        if let Some(tls) = unchanged.and_then(|before| before.tls.clone()) {
            return Ok(Some(tls));
        }
        let store = CertificateStore::load(&config.certificates).map_err(wrong)?;
        let config = tls::server_config(config, Arc::clone(&store)).map_err(wrong)?;
        Ok(Some(ListenerTls { store, config }))
    }

    fn routes(&self, listener: &str, services: &Services) -> Result<(Router, Vec<Arc<RouteView>>), CompileError> {
        let applying: Vec<_> = self.config.routes_of(listener).collect();
        let router = Router::new(applying.iter().map(|(_, route)| *route).enumerate())
            .map_err(|source| CompileError::Route { listener: listener.to_owned(), source })?;
        let compile = |(name, route): &(&String, &Route)| {
            let metrics = self.ground.metrics.route(listener, name, &route.service);
            let (chain, service) = (self.chain(name, route)?, service_of(name, route, services)?);
            let timeout = route.timeouts.request.map(|limit| limit.0);
            let (name, pattern) = (name.as_str().into(), pattern(route));
            Ok(Arc::new(RouteView { name, pattern, chain, service, timeout, metrics }))
        };
        Ok((router, applying.iter().map(compile).collect::<Result<_, _>>()?))
    }

    fn chain(&self, name: &str, route: &Route) -> Result<Chain, CompileError> {
        Chain::build(&route.middlewares, &self.config.middlewares)
            .map_err(|source| CompileError::Middleware { route: name.to_owned(), source })
    }
}

fn access_log(config: &Config, before: Before<'_>, ground: &Ground) -> Result<Option<AccessLog>, CompileError> {
    let Some(wanted) = &config.telemetry.access_log else { return Ok(None) };
    let same = |before: &&Snapshot| before.config.telemetry.access_log.as_ref() == Some(wanted);
    match before.snapshot.filter(same).and_then(|before| before.access_log.clone()) {
        Some(log) => Ok(Some(log)),
        None => AccessLog::open(wanted, &ground.metrics).map(Some).map_err(CompileError::AccessLog),
    }
}

/// The same as before while its settings, and the files that they name, are.
fn tracer(config: &Config, before: Before<'_>, ground: &Ground) -> Result<Option<Tracer>, CompileError> {
    let Some(wanted) = &config.telemetry.tracing else { return Ok(None) };
    let fresh = !before.stale.iter().any(|path| wanted.tls.files().any(|file| file == path));
    let same = |before: &&Snapshot| fresh && before.config.telemetry.tracing.as_ref() == Some(wanted);
    if let Some(tracer) = before.snapshot.filter(same).and_then(|before| before.tracer.clone()) {
        return Ok(Some(tracer));
    }
    let tls =
        collector_tls(wanted).map_err(|source| CompileError::Tls { place: "telemetry.tracing".to_owned(), source })?;
    Tracer::start(wanted, tls, &ground.metrics).map(Some).map_err(CompileError::Traces)
}

fn collector_tls(tracing: &Tracing) -> Result<Option<CollectorTls>, TlsError> {
    if !tracing.otlp.tls {
        return Ok(None);
    }
    let protocol = match tracing.protocol {
        OtlpProtocol::Grpc => Protocol::H2c,
        OtlpProtocol::Http => Protocol::Http1,
    };
    let config = tls::client_config(&tracing.tls, protocol)?;
    Ok(Some(CollectorTls { config, server_name: tls::server_name(&tracing.tls, &tracing.otlp.host)? }))
}

fn pattern(route: &Route) -> Option<Arc<str>> {
    let path = route.path.as_deref().map(Arc::from);
    let prefix = || route.path_prefix.as_deref().map(|prefix| format!("{}/*", prefix.trim_end_matches('/')).into());
    let regex = || route.path_regex.as_ref().map(|regex| regex.to_string().into());
    path.or_else(prefix).or_else(regex)
}

fn service_of(name: &str, route: &Route, services: &Services) -> Result<Arc<Service>, CompileError> {
    let missing = || CompileError::NoService { route: name.to_owned(), service: route.service.clone() };
    services.get(route.service.as_str()).cloned().ok_or_else(missing)
}

fn client_pins(config: &config::Service) -> Option<Arc<ClientIpPins>> {
    match &config.sticky {
        Some(Sticky::ClientIp(sticky)) => Some(Arc::new(ClientIpPins::new(sticky.client_ip.0))),
        _ => None,
    }
}

/// The same endpoint in the generation before: the same name at the same URL.
struct Predecessor<'a> {
    service: &'a Service,
    endpoint: &'a Endpoint,
}

impl<'a> Predecessor<'a> {
    fn of(service: &'a Service, endpoint: &config::Endpoint) -> Option<Predecessor<'a>> {
        let before = service.endpoint(&endpoint.name)?;
        (before.config.url == endpoint.url).then_some(Predecessor { service, endpoint: before })
    }

    /// Its health and load go on.
    fn live(&self) -> Arc<endpoint::Live> {
        Arc::clone(&self.endpoint.live)
    }

    /// Its idle connections go on while what they were opened with is the same.
    fn pool(&self, config: &config::Service) -> Option<Arc<Pool>> {
        let before = &self.service.config;
        let same = before.tls == config.tls && before.protocol == config.protocol && before.pool == config.pool;
        same.then(|| Arc::clone(&self.endpoint.pool))
    }
}

fn new_live(config: &config::Service, metrics: Arc<crate::telemetry::metrics::EndpointMetrics>) -> endpoint::Live {
    endpoint::Live {
        load: Arc::default(),
        health: Arc::new(Health::new(config.health_check.as_ref())),
        standing: Standing::default(),
        drained: false.into(),
        suspect: Arc::new(Notify::new()),
        removed: CancellationToken::new(),
        metrics,
    }
}
