//! One history, from its seed to its end: what happens when, and each request's way.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderValue, Method, Request, header, request};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use waypost::context::RequestContext;
use waypost::downstream::{Activity, Downstream};
use waypost::drain::Lifecycle;
use waypost::exchange::{Books, Exchange};
use waypost::failover::Failover;
use waypost::forwarding::address_value;
use waypost::snapshot::{Before, Ground, Snapshot, compile};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::health::{ProbeFailure, State};
use waypost::upstream::service::Affinity;
use waypost::upstream::sticky::{ClientConnection, ProcessKey};
use waypost_config::Config;

use crate::fleet::{Played, World};
use crate::plan;

static GROUND: LazyLock<Ground> =
    LazyLock::new(|| Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers: 1 });

/// What a history is long.
const STEPS: usize = 60;

/// Plays the history of a seed; what was broken in it.
pub(crate) fn play(seed: u64) -> Vec<String> {
    // What the code itself draws: jitter, the random balancer, the share of a returning endpoint.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { History::begin(seed).play().await })
}

struct History {
    world: Arc<World>,
    rng: Rng,
    config: Config,
    requests: JoinSet<()>,
    /// The endpoints that ever were.
    lives: Vec<Arc<waypost::upstream::endpoint::Live>>,
    clients: Arc<Cookies>,
    asked: u64,
}

/// The cookie of each client.
type Cookies = Mutex<[Option<HeaderValue>; 4]>;

impl History {
    fn begin(seed: u64) -> History {
        let mut rng = Rng::with_seed(seed);
        let config = plan::draw(&mut rng);
        let snapshot = compiled(&config, None);
        let world = Arc::new(World::new(Arc::clone(&snapshot), rng.fork()));
        let lives = lives(&snapshot);
        world.lock().model.published(&config.services["shop"], world.now());
        let (requests, clients) = (JoinSet::new(), Arc::default());
        History { world, rng, config, requests, lives, clients, asked: 0 }
    }

    async fn play(mut self) -> Vec<String> {
        for _ in 0..STEPS {
            self.step();
            let pause = match self.rng.u8(..20) {
                0 => self.rng.u64(1_000..15_000),
                1..8 => 0,
                _ => self.rng.u64(..150),
            };
            sleep(Duration::from_millis(pause)).await;
            self.world.lock().look_around();
        }
        while let Some(ended) = self.requests.join_next().await {
            ended.expect("no request panics");
        }
        self.at_rest()
    }

    fn step(&mut self) {
        match self.rng.u8(..40) {
            0..4 => self.probe(),
            4 => self.drain(),
            5..7 => self.fall_ill(),
            7 => self.reload(),
            _ => self.ask(),
        }
    }

    fn probe(&mut self) {
        let passes = self.rng.u8(..4) > 0;
        let service = self.world.lock().service();
        let all = self.rng.bool();
        let some = self.rng.usize(..service.endpoints.len());
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            if !all && index != some {
                continue;
            }
            let outcome = if passes { Ok(()) } else { Err(ProbeFailure::Refused) };
            let now = Instant::now().into_std();
            let transition = endpoint.live.health.record(&outcome, now);
            if transition.is_some_and(|transition| (transition.from, transition.to) == (State::Down, State::Up)) {
                endpoint.live.standing.warm_up();
            }
            let model = &mut self.world.lock().model;
            let check = service.config.health_check.clone().expect("every history has one");
            let life = model.generations.last().expect("there is one").lives[&*endpoint.name];
            model.lives[life].probed(passes, &check);
        }
        service.refresh();
        self.world.lock().model.changed();
    }

    fn drain(&mut self) {
        let service = self.world.lock().service();
        let endpoint = self.rng.choice(&service.endpoints).expect("not empty");
        let drained = !endpoint.live.drained.load(Ordering::Relaxed);
        endpoint.live.drained.store(drained, Ordering::Relaxed);
        service.refresh();
        let model = &mut self.world.lock().model;
        let life = model.generations.last().expect("there is one").lives[&*endpoint.name];
        model.lives[life].drained = drained;
        model.changed();
    }

    fn fall_ill(&mut self) {
        let (who, how) = (self.rng.usize(..8), *self.rng.choice(&[0, 0, 4, 8, 16]).expect("not empty"));
        self.world.lock().illness[who] = how;
    }

    fn reload(&mut self) {
        self.config = plan::reload(&self.config, &mut self.rng);
        let mut inner = self.world.lock();
        inner.snapshot = compiled(&self.config, Some(&inner.snapshot));
        self.lives.extend(lives(&inner.snapshot));
        inner.model.published(&self.config.services["shop"], self.world.now());
    }

    fn ask(&mut self) {
        self.asked += 1;
        let asking = Asking {
            played: Played { world: Arc::clone(&self.world), id: self.asked },
            client: self.rng.u8(..4),
            method: if self.rng.bool() { Method::GET } else { Method::POST },
            key: self.rng.u8(..4) == 0,
            body: Duration::from_millis(self.rng.u64(..200)),
            end: *self.rng.choice(&[End::Whole, End::Whole, End::Whole, End::Broken, End::Left]).expect("not empty"),
            cookies: Arc::clone(&self.clients),
        };
        let patience = if self.rng.u8(..8) == 0 { self.rng.u64(..300) } else { 100_000 };
        self.requests.spawn(async move {
            // A client that leaves takes everything with it, wherever it is.
            let _ = timeout(Duration::from_millis(patience), asking.run()).await;
        });
    }

    fn at_rest(self) -> Vec<String> {
        let mut inner = self.world.lock();
        inner.look_around();
        let mut broken = std::mem::take(&mut inner.model.broken);
        let left = self.lives.iter().map(|live| live.load.load(Ordering::Relaxed)).sum::<usize>();
        broken.extend((left > 0).then(|| format!("{left} in flight at the end")));
        broken.extend((!inner.model.asked.is_empty()).then(|| "requests of the model are left".to_owned()));
        let service = inner.service().live.in_flight.load(Ordering::Relaxed);
        broken.extend((service > 0).then(|| format!("{service} in flight at the service at the end")));
        broken
    }
}

fn compiled(config: &Config, before: Option<&Snapshot>) -> Arc<Snapshot> {
    let before = Before { snapshot: before, stale: &[] };
    let snapshot = compile(config.clone(), before, &GROUND).expect("what is planned compiles");
    snapshot.settle(Instant::now().into_std());
    Arc::new(snapshot)
}

fn lives(snapshot: &Snapshot) -> Vec<Arc<waypost::upstream::endpoint::Live>> {
    snapshot.endpoints().map(|(_, endpoint)| Arc::clone(&endpoint.live)).collect()
}

/// What becomes of a response's body.
#[derive(Clone, Copy)]
enum End {
    Whole,
    /// By the endpoint.
    Broken,
    /// The client has gone.
    Left,
}

/// A request that is about to be made.
struct Asking {
    played: Played,
    client: u8,
    method: Method,
    /// Whether it has an `Idempotency-Key`.
    key: bool,
    body: Duration,
    end: End,
    cookies: Arc<Cookies>,
}

/// Tells the model that a request is over, however it ends.
struct Leaves<'a>(&'a Played);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.world.lock().model.leaves(self.0.id);
    }
}

/// The like for a service that has taken it in.
struct Admitted<'a>(&'a Played);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.world.lock().model.admitted -= 1;
    }
}

impl Asking {
    async fn run(self) {
        let Played { world, id } = &self.played;
        let snapshot = Arc::clone(&world.lock().snapshot);
        let listener = &snapshot.listeners["web"];
        let (mut head, downstream) = (self.head(), self.downstream());
        let context = RequestContext::identify(&downstream, &head, "shop.example", &[]);
        let unrouted = Arc::clone(&listener.unrouted);
        let books = Books { unrouted, access_log: None, trace: None, receipt: false, protocol: None };
        let mut exchange = Exchange::begin(books, &downstream, &head, context);
        let route = Arc::clone(listener.find(&head, &exchange.context).expect("one route takes all"));
        exchange.routed(&route);
        let admission = route.service.admit();
        world.lock().model.comes(admission.is_some());
        let Some(admission) = admission else { return };
        exchange.admitted(admission);
        let _admitted = route.service.config.max_in_flight.is_some().then(|| Admitted(&self.played));
        let affinity = route.service.affinity(&mut head.headers, exchange.context.client_ip);
        let idempotent = self.key || self.method == Method::GET;
        world.lock().model.begins(*id, (self.client, idempotent), pin_of(&affinity), world.now());
        let _leaves = Leaves(&self.played);
        let result = Failover::new(&exchange, &route, &affinity, &mut head).run_by(&self.played, &mut exchange).await;
        world.lock().model.settled(*id, result.as_ref().err().copied(), world.now());
        let Ok(response) = result else { return };
        let name = exchange.endpoint().expect("one answered").name.to_string();
        let cookie = route.service.pin(&affinity, exchange.endpoint().expect("one answered"), ClientConnection::Plain);
        world.lock().model.pins(*id, &name, cookie.is_some(), world.now());
        self.keep(cookie);
        exchange.answered(response.status(), None);
        sleep(self.body).await;
        self.end(&mut exchange);
    }

    fn end(&self, exchange: &mut Exchange) {
        let Played { world, id } = &self.played;
        let mut inner = world.lock();
        inner.look_around();
        match self.end {
            End::Whole => {
                exchange.delivered();
                inner.model.delivered(*id);
            }
            End::Broken => {
                exchange.upstream_broke_off();
                inner.model.broke_off(*id, world.now());
            }
            End::Left => {}
        }
    }

    fn head(&self) -> request::Parts {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method.clone();
        if self.key {
            head.headers.insert("idempotency-key", HeaderValue::from_static("1"));
        }
        let cookies = self.cookies.lock().expect("nobody panics with it");
        if let Some(cookie) = &cookies[usize::from(self.client)] {
            head.headers.insert(header::COOKIE, cookie.clone());
        }
        head
    }

    fn keep(&self, cookie: Option<HeaderValue>) {
        let Some(cookie) = cookie else { return };
        let text = cookie.to_str().expect("ASCII").split(';').next().unwrap_or_default().to_owned();
        let mut cookies = self.cookies.lock().expect("nobody panics with it");
        cookies[usize::from(self.client)] = Some(HeaderValue::try_from(text).expect("ASCII"));
    }

    fn downstream(&self) -> Arc<Downstream> {
        let address = IpAddr::from([192, 0, 2, self.client]);
        Arc::new(Downstream {
            listener: Arc::from("web"),
            peer: SocketAddr::new(address, 40_000),
            tls: None,
            certificates: None,
            peer_ip: address_value(address),
            local_port: HeaderValue::from_static("80"),
            tls_log: None,
            activity: Activity::new(std::time::Instant::now()),
            lifecycle: Lifecycle::new(),
        })
    }
}

fn pin_of(affinity: &Affinity) -> Option<String> {
    match affinity {
        Affinity::None => None,
        Affinity::Cookie(pin) => pin.as_ref().map(|pin| pin.endpoint.clone()),
        Affinity::Client(_, name) => name.as_ref().map(ToString::to_string),
    }
}
