//! One sending thread: its event loop, its lanes and its users.
//!
//! A *lane* is room for one request at a time: a connection with HTTP/1.1, a stream of one with HTTP/2. In a closed
//! loop every lane sends as fast as it is answered. In an open loop the pacer puts a permit down whenever a request
//! falls due; a free lane takes it, and if none is free, another lane is opened. A request that finds no lane waits,
//! and its waiting counts, because its latency runs from when it was due.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::Full;
use tokio::{
    runtime::Runtime,
    sync::{Barrier, Semaphore},
    task::{JoinSet, LocalSet},
};

use crate::{
    connection::{Answer, Body, Dialer, Link},
    plan::{self, Opening, Plan, Reuse},
    recorder::{Recorder, Took},
    report::ErrorKind,
    schedule::{Schedule, Share},
    ticker::Ticker,
    user::User,
};

/// The longest sleep of the pacer, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(20);
/// From the moment all workers are ready to the first request being due.
const LEAD: Duration = Duration::from_millis(5);
/// After a failure to connect in a closed loop, which would otherwise spin against a closed port.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// What all threads of a load share and others may watch.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) begun: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// Workers that have ended.
    pub(crate) ended: AtomicU64,
}

/// When loads begin that begin together.
#[derive(Debug)]
pub(crate) struct Begin {
    /// Where their workers wait for each other before the first request is due.
    ready: Barrier,
    /// When time begins to count; known once all workers are ready.
    pub(crate) at: OnceLock<Instant>,
}

impl Begin {
    pub(crate) fn of(workers: usize) -> Self {
        Self { ready: Barrier::new(workers), at: OnceLock::new() }
    }

    /// Waits until all workers are ready; one of them says when to begin.
    async fn agree(&self) {
        if self.ready.wait().await.is_leader() {
            // Only one is the leader, so nobody has set it.
            let _ = self.at.set(Instant::now() + LEAD);
        }
        self.ready.wait().await;
    }
}

impl Progress {
    fn stopped(&self) -> bool {
        // Relaxed: nothing else is published with it, and a late look costs one nap.
        self.stop.load(Ordering::Relaxed)
    }
}

/// Everything a worker needs to begin; crosses to its thread.
pub(crate) struct Start {
    pub(crate) plan: Arc<Plan>,
    pub(crate) dialer: Dialer,
    pub(crate) progress: Arc<Progress>,
    pub(crate) share: Share,
    pub(crate) begin: Arc<Begin>,
    /// Prefix of the keys of this load.
    pub(crate) key: Arc<str>,
}

/// Runs a worker to its end on this thread.
pub(crate) fn work(start: Start, runtime: &Runtime) -> std::io::Result<Recorder> {
    let worker = Rc::new(Worker::new(start));
    LocalSet::new().block_on(runtime, Rc::clone(&worker).run())?;
    Ok(worker.recorder.replace(Recorder::new()))
}

struct Worker {
    start: Start,
    schedule: Schedule,
    templates: Vec<Template>,
    weights: u64,
    /// Whether all requests of the mix are equally likely.
    even: bool,
    recorder: RefCell<Recorder>,
    users: RefCell<VecDeque<User>>,
    random: RefCell<fastrand::Rng>,
    links: Vec<Link>,
    permits: Semaphore,
    /// Requests of the schedule that lanes have taken.
    taken: Cell<u64>,
    /// Requests of the schedule there will be; shrinks when the load is stopped.
    offered: Cell<u64>,
}

impl Worker {
    fn new(start: Start) -> Self {
        let plan = &start.plan;
        let own = |count: usize| part(count, start.share);
        let schedule = Schedule::new(&plan.phases(), plan.requests, start.share).taking_turns(plan.turn);
        Self {
            templates: plan.mix.iter().map(|request| Template::new(plan, request)).collect(),
            even: plan.mix.iter().all(|request| request.weight == 1),
            weights: plan.mix.iter().map(|request| u64::from(request.weight)).sum(),
            recorder: RefCell::new(Recorder::new()),
            users: RefCell::new((0..own(plan.users)).map(|_| User::default()).collect()),
            random: RefCell::new(fastrand::Rng::with_seed(start.share.index)),
            links: (0..own(plan.connections)).map(|_| Link::default()).collect(),
            permits: Semaphore::new(0),
            taken: Cell::new(0),
            offered: Cell::new(schedule.total()),
            schedule,
            start,
        }
    }

    async fn run(self: Rc<Self>) -> std::io::Result<()> {
        let mut lanes = JoinSet::new();
        if self.start.plan.opening == Opening::AllAtOnce {
            let open = async {
                for link in &self.links {
                    link.warm(&self.start.dialer).await;
                }
            };
            // A server that takes no connections is met again, and counted, by the requests.
            let _ = tokio::time::timeout(self.start.plan.timeout, open).await;
        }
        self.start.begin.agree().await;
        if self.start.plan.pace == plan::Pace::Full {
            for lane in 0..self.lanes() {
                lanes.spawn_local(Rc::clone(&self).closed_lane(lane));
            }
        } else {
            self.pace(&mut lanes).await?;
        }
        while let Some(ended) = lanes.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        Ok(())
    }

    /// When time begins to count.
    fn at(&self) -> Instant {
        *self.start.begin.at.get().expect("the leader sets it before anybody passes the barrier")
    }

    /// How many requests may be in flight at once.
    fn lanes(&self) -> usize {
        let lanes = self.links.len() * self.start.plan.streams;
        match self.users.borrow().len() {
            0 => lanes,
            // A user has one request in flight at most.
            users => lanes.min(users),
        }
    }

    /// Puts down a permit for each request as it falls due, and opens lanes for those that find none.
    async fn pace(self: &Rc<Self>, lanes: &mut JoinSet<()>) -> std::io::Result<()> {
        let ticker = Ticker::new()?;
        let most = self.lanes();
        let mut released = 0;
        if self.start.plan.opening == Opening::AllAtOnce {
            self.grow(lanes, most);
        }
        while let Some(next) = self.schedule.due(released) {
            ticker.sleep_until((self.at() + next).min(Instant::now() + NAP)).await?;
            if self.start.progress.stopped() {
                break;
            }
            let Some(elapsed) = Instant::now().checked_duration_since(self.at()) else { continue };
            let due = self.schedule.due_by(elapsed);
            self.permits.add_permits(usize::try_from(due.saturating_sub(released)).unwrap_or(usize::MAX));
            released = released.max(due);
            self.grow(lanes, self.permits.available_permits().min(most - lanes.len()));
        }
        self.offered.set(released);
        // One more for each lane: the sign that nothing follows.
        self.permits.add_permits(lanes.len());
        Ok(())
    }

    fn grow(self: &Rc<Self>, lanes: &mut JoinSet<()>, count: usize) {
        for lane in lanes.len()..lanes.len() + count {
            lanes.spawn_local(Rc::clone(self).open_lane(lane));
        }
    }

    async fn open_lane(self: Rc<Self>, lane: usize) {
        let link = self.links[lane % self.links.len()].clone();
        loop {
            self.permits.acquire().await.expect("the semaphore is never closed").forget();
            let n = self.taken.replace(self.taken.get() + 1);
            if n >= self.offered.get() {
                return;
            }
            let due = self.schedule.due(n).expect("offered requests are in the schedule");
            // Counted already; the schedule goes on whatever came of it.
            let _ = self.request(&link, n, self.at() + due).await;
        }
    }

    async fn closed_lane(self: Rc<Self>, lane: usize) {
        let link = self.links[lane % self.links.len()].clone();
        let Start { plan, progress, .. } = &self.start;
        let limit = plan.requests.unwrap_or(u64::MAX);
        while !progress.stopped() && self.at().elapsed() < plan.duration {
            // Relaxed: only the count itself matters.
            if progress.begun.fetch_add(1, Ordering::Relaxed) >= limit {
                return;
            }
            let n = self.taken.replace(self.taken.get() + 1);
            if self.request(&link, n, Instant::now()).await.is_err_and(ErrorKind::is_connect) {
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    /// One request from due to counted.
    async fn request(&self, link: &Link, n: u64, due: Instant) -> Result<(), ErrorKind> {
        let mut user = self.users.borrow_mut().pop_front();
        let template = self.draw();
        let late = due.elapsed();
        self.recorder.borrow_mut().began(late, template.bytes);
        let request = self.compose(template, n, user.as_ref());
        let outcome = self.exchange(link, request, self.start.plan.timeout.saturating_sub(late)).await;
        let outcome = self.record(outcome, user.as_mut(), due);
        self.users.borrow_mut().extend(user);
        outcome
    }

    async fn exchange(&self, link: &Link, request: Request<Body>, left: Duration) -> Result<Answer, ErrorKind> {
        if left.is_zero() {
            return Err(ErrorKind::NoConnection);
        }
        let exchange = link.exchange(&self.start.dialer, request);
        tokio::time::timeout(left, exchange).await.unwrap_or(Err(ErrorKind::Timeout))
    }

    fn record(
        &self,
        outcome: Result<Answer, ErrorKind>,
        mut user: Option<&mut User>,
        due: Instant,
    ) -> Result<(), ErrorKind> {
        let warm = due.saturating_duration_since(self.at()) >= self.start.plan.warm_up;
        let latency = warm.then(|| Took { turn: self.turn(due), time: due.elapsed() });
        let mut recorder = self.recorder.borrow_mut();
        recorder.last = self.at().elapsed();
        let verdict = outcome.and_then(|Answer { head, bytes }| {
            recorder.answered(head.status.as_u16(), bytes, latency);
            if let Some(user) = user.as_deref_mut() {
                user.absorb(&head.headers);
            }
            let name = head.headers.get(&self.start.plan.upstream_header);
            if let Some(name) = name.and_then(|name| name.to_str().ok()) {
                recorder.served(name, user);
            }
            ErrorKind::of_status(head.status, &self.start.plan.accept)
        });
        if let Err(kind) = verdict {
            recorder.failed(kind, latency);
            self.start.progress.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.start.progress.done.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    /// In which of this load's turns a request was due.
    fn turn(&self, due: Instant) -> usize {
        self.start.plan.turn.map_or(0, |turn| turn.number(due.saturating_duration_since(self.at())))
    }

    /// A request of the mix, by weight.
    fn draw(&self) -> &Template {
        if let [only] = self.templates.as_slice() {
            return only;
        }
        // A mix of ten thousand routes must not cost a walk through it.
        if self.even {
            return &self.templates[self.random.borrow_mut().usize(0..self.templates.len())];
        }
        let mut point = self.random.borrow_mut().u64(0..self.weights);
        let hit = self.templates.iter().find(|template| match point.checked_sub(template.weight) {
            Some(beyond) => {
                point = beyond;
                false
            }
            None => true,
        });
        hit.expect("the point is below the sum of the weights")
    }

    fn compose(&self, template: &Template, n: u64, user: Option<&User>) -> Request<Body> {
        let mut request = Request::new(Full::new(template.request.body.clone()));
        *request.method_mut() = template.request.method.clone();
        *request.uri_mut() = template.uri.clone();
        *request.headers_mut() = template.headers.clone();
        if let Some(name) = &template.request.key_header {
            let key = format!("{}-{}-{n}", self.start.key, self.start.share.index);
            let key = HeaderValue::try_from(key).expect("letters, digits and hyphens");
            request.headers_mut().insert(name, key);
        }
        if let Some(cookie) = user.and_then(User::cookie) {
            request.headers_mut().insert(header::COOKIE, cookie.clone());
        }
        request
    }
}

/// A request of the mix, prepared as far as it is the same every time.
struct Template {
    request: plan::Request,
    uri: Uri,
    headers: HeaderMap,
    weight: u64,
    /// Bytes of its body.
    bytes: u64,
}

impl Template {
    fn new(plan: &Plan, request: &plan::Request) -> Self {
        let mut headers = request.headers.clone();
        let http1 = plan.protocol.begins_as_http1();
        if http1 && !headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(plan.target.authority.as_str()).expect("an authority is visible ASCII");
            headers.insert(header::HOST, host);
        }
        if plan.reuse == Reuse::Close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let uri = if http1 { request.path.clone() } else { format!("{}{}", plan.target, request.path) };
        Self {
            uri: uri.parse().unwrap_or_default(),
            headers,
            weight: request.weight.into(),
            bytes: request.body.len() as u64,
            request: request.clone(),
        }
    }
}

/// This worker's part of `count` things.
fn part(count: usize, share: Share) -> usize {
    let (index, of) = (usize::try_from(share.index).unwrap_or(0), usize::try_from(share.of).unwrap_or(1));
    count / of + usize::from(index < count % of)
}
