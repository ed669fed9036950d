//! A fleet: which of its endpoints are available, and which of those gets this request.
//!
//! Owns the one available set, rebuilt when an endpoint's state changes and asked once per request, and the live
//! state that a reload carries over. Never connects.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use waypost_config::service as config;

use super::balancer::{self, Balancer, Position, Slot};
use super::endpoint::Endpoint;
use super::hash_key;
use super::health::State;
use super::health::circuit_breaker::Pass;
use super::retry::{Failed, Verdict};
use super::retry_budget::RetryBudget;
use super::standing::clock;
use super::sticky::{ClientConnection, ClientIpPins, CookiePins, Pin, ProcessKey};
use crate::context::RequestContext;
use crate::reply::Cause;
use crate::telemetry::metrics::ServiceMetrics;

/// A service in one generation: unchanging settings around living state.
#[derive(Debug)]
pub struct Service {
    /// Its name in the file.
    pub name: Arc<str>,
    /// What the file says of it.
    pub config: config::Service,
    /// Every endpoint, in file order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What outlives a reload.
    pub live: Arc<Live>,
    cookie: Option<CookiePins>,
    by_name: HashMap<Arc<str>, usize>,
    available: ArcSwap<Available>,
    /// How many changes of its endpoints the available set knows of.
    known: AtomicU64,
    refreshing: Mutex<()>,
}

/// What a service is made of beside its config.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Every endpoint, in file order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Carried over from the generation before, or new.
    pub live: Arc<Live>,
    /// Seals cookies if the config has no secrets.
    pub process_key: &'a ProcessKey,
}

/// The state of a service that a reload does not touch.
#[derive(Debug)]
pub struct Live {
    /// Where round robin stands.
    pub position: Arc<Position>,
    /// How often the state of an endpoint has changed. Told to the generation that serves; requests of the ones before
    /// may have attempts to come.
    pub changes: Arc<AtomicU64>,
    /// How many retries it bears.
    pub budget: Arc<RetryBudget>,
    /// The moment the budget counts from.
    pub since: Instant,
    /// Pins by client address.
    pub client_pins: Option<Arc<ClientIpPins>>,
    /// Requests in flight over all endpoints, of those that came while there was a `max_in_flight`.
    pub in_flight: Arc<AtomicUsize>,
    /// Its figures.
    pub metrics: Arc<ServiceMetrics>,
}

/// The endpoints that may take a new client now: the first tier that has an open one, so backups come last.
#[derive(Debug)]
struct Available(Vec<Tier>);

/// Endpoints of equal rank, never none, and how to choose among them.
#[derive(Debug)]
struct Tier {
    endpoints: Vec<Arc<Endpoint>>,
    balancer: Box<dyn Balancer>,
}

/// Where this client was before.
#[derive(Debug)]
pub enum Affinity {
    /// The service pins nobody.
    None,
    /// Pinned by cookie, if a valid one came.
    Cookie(Option<Pin>),
    /// Pinned by address.
    Client(IpAddr, Option<Arc<str>>),
}

impl Live {
    /// The same state with other pins by address, for a service whose `sticky` has changed.
    #[must_use]
    pub fn with_client_pins(&self, client_pins: Option<Arc<ClientIpPins>>) -> Live {
        Live {
            position: Arc::clone(&self.position),
            changes: Arc::clone(&self.changes),
            budget: Arc::clone(&self.budget),
            since: self.since,
            client_pins,
            in_flight: Arc::clone(&self.in_flight),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl Affinity {
    /// The name of the endpoint.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Affinity::None => None,
            Affinity::Cookie(pin) => pin.as_ref().map(|pin| pin.endpoint.as_str()),
            Affinity::Client(_, name) => name.as_deref(),
        }
    }
}

/// The endpoint for one attempt. The request is counted in until this is dropped, when the exchange is over.
#[derive(Debug)]
pub struct Picked {
    /// Where to go.
    pub endpoint: Arc<Endpoint>,
    /// How it passes the endpoint's circuit, until it is known what became of it.
    pass: Pass,
    /// What is known of it so far.
    verdict: Option<Verdict>,
}

impl Picked {
    /// What became of the attempt, if that says anything about the endpoint.
    pub fn became(&mut self, verdict: Option<Verdict>) {
        let Some(verdict) = verdict else { return };
        if self.verdict == Some(Verdict::Bad) {
            // The body of a response that is a failure already breaks off: that is no second one.
            return;
        }
        let pass = mem::replace(&mut self.pass, Pass::Free);
        self.verdict = Some(verdict);
        match verdict {
            Verdict::Good => self.endpoint.answered(pass),
            Verdict::Bad => self.endpoint.failed(pass),
        }
    }

    /// The response came to its end.
    pub fn delivered(&self) {
        if self.verdict == Some(Verdict::Good) {
            self.endpoint.live.standing.delivered();
        }
    }
}

/// A request that may go on; counted, if the service has a `max_in_flight`.
#[derive(Debug)]
pub struct Admission(Option<Arc<Live>>);

impl Service {
    /// A service made of these parts.
    pub fn new(name: Arc<str>, config: config::Service, parts: Parts<'_>) -> Service {
        let Parts { endpoints, live, process_key } = parts;
        let by_name =
            endpoints.iter().enumerate().map(|(index, endpoint)| (Arc::clone(&endpoint.name), index)).collect();
        let cookie = match &config.sticky {
            Some(config::Sticky::Cookie(cookie)) => Some(CookiePins::new(&name, cookie, process_key)),
            _ => None,
        };
        let known = AtomicU64::new(live.changes.load(Ordering::Acquire));
        let available = ArcSwap::from_pointee(available(&endpoints, &config, &live));
        Service { name, config, endpoints, live, cookie, by_name, available, known, refreshing: Mutex::default() }
    }

    /// Rebuilds the available set after an endpoint's health or drain mark has changed.
    pub fn refresh(&self) {
        self.count_available(self.look_again(1));
    }

    /// The like before anybody else has to know: this generation does not serve yet.
    pub fn rebuild(&self) {
        self.count_available(self.look_again(0));
    }

    fn count_available(&self, count: usize) {
        self.live.metrics.endpoints_available.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The available set. It is found out of date only by a request of a generation that serves no more: in the one that
    /// serves, whoever changes something has rebuilt it before anybody hears of the change.
    fn available(&self) -> Guard<Arc<Available>> {
        // In this order: who sees the change sees what this generation knows of it.
        let changes = self.live.changes.load(Ordering::Acquire);
        if self.known.load(Ordering::Relaxed) < changes {
            self.look_again(0);
        }
        self.available.load()
    }

    /// Rebuilds the available set, with so many changes of which the other generations do not know; how many are in it.
    fn look_again(&self, news: u64) -> usize {
        // One after another: of two at once, the one that has seen less could store last.
        let _alone = self.refreshing.lock();
        // Before the look, so that what changes during it is looked at again.
        let changes = self.live.changes.load(Ordering::Acquire);
        let available = available(&self.endpoints, &self.config, &self.live);
        let count = available.first().len();
        self.available.store(Arc::new(available));
        self.known.store(changes + news, Ordering::Relaxed);
        self.live.changes.fetch_add(news, Ordering::Release);
        count
    }

    /// The endpoint of this name.
    pub fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.by_name.get(name).map(|index| &self.endpoints[*index])
    }

    /// How many endpoints may take a new client now.
    pub fn available_count(&self) -> usize {
        self.available.load().first().len()
    }

    /// Whether the endpoint may take a new client now.
    pub fn is_available(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.available.load().first().iter().any(|available| Arc::ptr_eq(available, endpoint))
    }

    /// Counts a request in, unless `max_in_flight` are there already.
    pub fn admit(&self) -> Option<Admission> {
        // Without a limit there is no count that all workers would have to change.
        let Some(max) = self.config.max_in_flight else { return Some(Admission(None)) };
        let before = self.live.in_flight.fetch_add(1, Ordering::Relaxed);
        let admission = Admission(Some(Arc::clone(&self.live)));
        (before < max).then_some(admission)
    }

    /// Counts a request, which began at `now`, towards what retries may follow.
    pub fn deposit(&self, now: Instant) {
        self.live.budget.deposit(now.saturating_duration_since(self.live.since));
    }

    /// Whether the budget has room for one more retry. What was not sent has burdened nobody and costs nothing.
    pub fn bears_retry(&self, failed: Failed) -> bool {
        let bears = !failed.sent || self.live.budget.withdraw(clock().saturating_duration_since(self.live.since));
        if !bears {
            self.live.metrics.retry_budget_exhausted.inc();
        }
        bears
    }

    /// Where this client was before; takes the sticky cookie out of the request.
    pub fn affinity(&self, headers: &mut HeaderMap, client: IpAddr) -> Affinity {
        if let Some(cookie) = &self.cookie {
            let pin = cookie.open(headers, SystemTime::now());
            cookie.strip(headers);
            return Affinity::Cookie(pin);
        }
        match &self.live.client_pins {
            Some(pins) => Affinity::Client(client, pins.get(client, clock())),
            None => Affinity::None,
        }
    }

    /// The same for those who only want to know: it is no use of a pin.
    pub fn peek_affinity(&self, headers: &mut HeaderMap, client: IpAddr) -> Affinity {
        match &self.live.client_pins {
            Some(pins) => Affinity::Client(client, pins.peek(client, clock())),
            None => self.affinity(headers, client),
        }
    }

    /// What the balancer is to hash; 0 for those that do not.
    pub fn hash_key(&self, headers: &HeaderMap, path: &str, context: &RequestContext) -> u64 {
        match (self.config.balancer, &self.config.hash_key) {
            (config::Balancer::Hash, None) => {
                hash_key::of(&waypost_config::value::HashKey::ClientIp, headers, path, context)
            }
            (config::Balancer::Hash, Some(key)) => hash_key::of(key, headers, path, context),
            _ => 0,
        }
    }

    /// The endpoint for the next attempt: the client's own if it can serve, or the balancer's choice. Never one of
    /// `tried`. `None` when there is none left.
    pub fn pick(&self, affinity: &Affinity, key: u64, tried: &[Arc<Endpoint>]) -> Option<Picked> {
        let available = self.available();
        let mut taken;
        let mut tried = tried;
        loop {
            let endpoint = match self.pinned(affinity, tried) {
                Some(endpoint) => endpoint,
                None => available.pick(key, tried)?,
            };
            if let Some(pass) = endpoint.pass() {
                endpoint.enter();
                return Some(Picked { endpoint: Arc::clone(endpoint), pass, verdict: None });
            }
            // Another request has just taken the one place that there was.
            taken = [tried, &[Arc::clone(endpoint)]].concat();
            tried = &taken;
        }
    }

    /// Whether another attempt would find an endpoint.
    pub fn has_another(&self, tried: &[Arc<Endpoint>]) -> bool {
        self.available().endpoints().any(|endpoint| is_open(endpoint, tried))
    }

    /// Why no endpoint was found for a request that has tried none.
    pub fn refusal(&self) -> Cause {
        let cut_off = self.available.load().endpoints().any(|endpoint| !endpoint.is_connected());
        if cut_off { Cause::CircuitOpen } else { Cause::NoEndpoint }
    }

    /// The pinned endpoint: it may be draining, but it must be well; or as well as all that is there.
    fn pinned(&self, affinity: &Affinity, tried: &[Arc<Endpoint>]) -> Option<&Arc<Endpoint>> {
        let endpoint = self.endpoint(affinity.endpoint()?)?;
        let serves = endpoint.state() == State::Up || self.is_available(endpoint);
        (serves && is_open(endpoint, tried) && !endpoint.is_ejected()).then_some(endpoint)
    }

    /// Who would get a request now, and nobody else: the client's own endpoint, the one that the key's hash falls on, or all
    /// among whom the balancer chooses. For people who ask; nothing is counted.
    pub fn candidates(&self, affinity: &Affinity, key: u64) -> Vec<Arc<Endpoint>> {
        if let Some(pinned) = self.pinned(affinity, &[]) {
            return vec![Arc::clone(pinned)];
        }
        let available = self.available();
        if self.config.balancer == config::Balancer::Hash {
            return available.pick(key, &[]).into_iter().cloned().collect();
        }
        available.candidates()
    }

    /// Pins the client to the endpoint that answered: the `Set-Cookie` to send, if one is needed.
    pub fn pin(&self, affinity: &Affinity, endpoint: &Endpoint, connection: ClientConnection) -> Option<HeaderValue> {
        match affinity {
            Affinity::None => None,
            Affinity::Client(client, _) => {
                self.count_pin(affinity, endpoint);
                if let Some(pins) = &self.live.client_pins {
                    pins.set(*client, Arc::clone(&endpoint.name), clock());
                }
                None
            }
            Affinity::Cookie(pin) => {
                self.count_pin(affinity, endpoint);
                let (cookie, now) = (self.cookie.as_ref()?, SystemTime::now());
                let same = pin.as_ref().filter(|pin| *pin.endpoint == *endpoint.name);
                let fresh = same.is_some_and(|pin| !cookie.needs_renewal(pin, now));
                if fresh { None } else { Some(cookie.set_cookie(same, &endpoint.name, connection, now)) }
            }
        }
    }

    fn count_pin(&self, before: &Affinity, endpoint: &Endpoint) {
        self.live.metrics.sticky(match before.endpoint() {
            None => "new",
            Some(name) if *name == *endpoint.name => "pinned",
            Some(_) => "repinned",
        });
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.endpoint.live.standing.abandoned(self.pass);
        self.endpoint.leave();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(live) = &self.0 {
            // A count for a limit; publishes nothing.
            live.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn is_open(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> bool {
    !endpoint.is_full()
        && endpoint.is_connected()
        && !tried.iter().any(|tried| Arc::ptr_eq(&tried.live, &endpoint.live))
}

impl Available {
    /// Those whose turn it is while any of them is open.
    fn first(&self) -> &[Arc<Endpoint>] {
        self.0.first().map_or(&[], |tier| &tier.endpoints)
    }

    fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.0.iter().flat_map(|tier| &tier.endpoints)
    }

    /// The balancer's choice among those whose turn it is, or else of those that are still warming up, for nobody else of
    /// their tier could have it; when all are ejected, among all: the last ones are never ejected.
    fn pick(&self, key: u64, tried: &[Arc<Endpoint>]) -> Option<&Arc<Endpoint>> {
        let open = |endpoint: &Arc<Endpoint>| is_open(endpoint, tried);
        let willing = |endpoint: &Arc<Endpoint>| open(endpoint) && endpoint.is_willing();
        let good = |endpoint: &Arc<Endpoint>| open(endpoint) && !endpoint.is_ejected();
        let choice = self.0.iter().find_map(|tier| tier.pick(key, willing).or_else(|| tier.pick(key, good)));
        choice.or_else(|| self.0.iter().find_map(|tier| tier.pick(key, open)))
    }

    /// All that [`Available::pick`] may choose from, if nobody were warming up.
    fn candidates(&self) -> Vec<Arc<Endpoint>> {
        let first = |fits: &dyn Fn(&Endpoint) -> bool| {
            let fitting = |tier: &Tier| -> Vec<_> { tier.endpoints.iter().filter(|one| fits(one)).cloned().collect() };
            self.0.iter().map(fitting).find(|endpoints| !endpoints.is_empty())
        };
        let open = |endpoint: &Endpoint| !endpoint.is_full() && endpoint.is_connected();
        let good = first(&|endpoint| open(endpoint) && !endpoint.is_ejected());
        good.or_else(|| first(&open)).unwrap_or_default()
    }
}

impl Tier {
    fn pick(&self, key: u64, open: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
        let index = self.balancer.pick(key, &|index| open(&self.endpoints[index]))?;
        Some(&self.endpoints[index])
    }
}

fn available(endpoints: &[Arc<Endpoint>], config: &config::Service, live: &Live) -> Available {
    let slot = |endpoint: &Arc<Endpoint>| Slot {
        name: Arc::clone(&endpoint.name),
        weight: endpoint.config.weight,
        load: Arc::clone(&endpoint.live.load),
    };
    let tier = |endpoints: Vec<Arc<Endpoint>>| {
        let slots = endpoints.iter().map(slot).collect();
        Tier { balancer: balancer::build(config.balancer, slots, &live.position), endpoints }
    };
    Available(tiers(endpoints, config.on_all_down).into_iter().map(tier).collect())
}

/// What is up, and behind it the backups that are up. If nothing is: what nobody has checked yet, or else, if the file
/// says so, all there is. What drains or has no weight takes no new clients anywhere.
fn tiers(endpoints: &[Arc<Endpoint>], on_all_down: config::OnAllDown) -> Vec<Vec<Arc<Endpoint>>> {
    let open = |endpoint: &Endpoint| !endpoint.is_draining() && endpoint.config.weight > 0;
    let tier = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<Arc<Endpoint>> {
        endpoints.iter().filter(|endpoint| open(endpoint) && wanted(endpoint)).cloned().collect()
    };
    let up = |backup: bool| tier(&|endpoint| endpoint.state() == State::Up && endpoint.config.backup == backup);
    let mut tiers = vec![up(false), up(true)];
    if tiers.iter().all(Vec::is_empty) {
        tiers = vec![tier(&|endpoint| endpoint.state() == State::Checking)];
    }
    if tiers.iter().all(Vec::is_empty) && on_all_down == config::OnAllDown::Open {
        tiers = vec![tier(&|_| true)];
    }
    tiers.retain(|tier| !tier.is_empty());
    tiers
}
