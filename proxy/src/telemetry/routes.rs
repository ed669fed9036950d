//! What is counted of requests, by route.
//!
//! Owns all figures of a route, kept together: with ten thousand routes in use a request finds its own cold, and each
//! line of memory it has to fetch costs more than counting. Never looks a label up on the data path. What only Traefik
//! tells apart is kept beside it, and only for those who want that.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily};

use super::family::{Definition, Tokens};
use super::histogram::Durations;
use super::history::{Classes, Counted};
use super::live::Lease;
use super::metrics::{BY_ROUTE, Families};
use super::shards::Shards;
use super::traefik::{Apart, Books, Left, Manner};

/// The labels of all figures but one.
pub(super) const LABELS: [&str; 3] = ["listener", "route", "service"];

/// The figures of all routes. A clone is the same one.
#[derive(Clone)]
pub(super) struct Routes(Arc<Inner>);

struct Inner {
    descs: [Desc; BY_ROUTE.len()],
    figures: Mutex<BTreeMap<[String; 3], Arc<Figures>>>,
    /// Locked only while `figures` is, so that nothing is counted twice or not at all while a route goes.
    left: Mutex<Left>,
}

impl Default for Routes {
    fn default() -> Routes {
        let descs = BY_ROUTE.each_ref().map(Definition::desc);
        Routes(Arc::new(Inner { descs, figures: Mutex::default(), left: Mutex::default() }))
    }
}

impl Routes {
    fn figures(&self, labels: &[String; 3]) -> Arc<Figures> {
        Arc::clone(self.0.figures.lock().entry(labels.clone()).or_default())
    }

    fn remove(&self, labels: &[String; 3]) {
        let mut figures = self.0.figures.lock();
        let gone = figures.remove(labels);
        if let Some(apart) = gone.as_ref().and_then(|gone| gone.apart.get()) {
            self.0.left.lock().take((labels, apart), figures.keys());
        }
    }

    /// What all of them have counted, as Traefik tells requests apart.
    pub(super) fn told_apart(&self) -> Books {
        let figures = self.0.figures.lock();
        let routes = figures.iter().map(|(labels, figures)| (labels, figures.apart.get().map(|apart| &**apart)));
        self.0.left.lock().books(routes)
    }
}

impl Collector for Routes {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut shown: [Vec<proto::Metric>; BY_ROUTE.len()] = Default::default();
        for (labels, figures) in self.0.figures.lock().iter() {
            figures.show(labels, &mut shown);
        }
        BY_ROUTE.iter().zip(shown).map(|(definition, metrics)| definition.family(metrics)).collect()
    }
}

/// What is counted of a route.
#[derive(Default)]
struct Figures {
    cells: Shards<Page>,
    /// Answers of a kind for which a worker's page has no room.
    others: Mutex<BTreeMap<u16, u64>>,
    /// For Traefik's names, once somebody has wanted them.
    apart: OnceLock<Box<Apart>>,
}

/// What one worker has counted. In the order of use: the first two lines of memory are all that most requests need.
#[derive(Default)]
#[repr(C, align(64))]
struct Page {
    in_flight: AtomicI64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    upgrades: AtomicU64,
    first: [Tally; 4],
    durations: Durations,
    more: [Tally; 12],
}

/// How many answers there were of one kind: the kind in the upper 16 bits, and it is 0 while nobody has taken the tally.
/// What is left is room for a million answers a second over eight years.
#[derive(Default)]
struct Tally(AtomicU64);

const KIND: u32 = 48;

impl Tally {
    /// Counts one of `kind`, if that is what is counted here.
    fn count(&self, kind: u16) -> bool {
        // Relaxed throughout: a figure guards no other memory, and a page of metrics is a moment old anyway.
        let held = self.0.load(Ordering::Relaxed);
        let mine = u64::from(kind) << KIND;
        let is_mine = held >> KIND == u64::from(kind)
            || held == 0
                && match self.0.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => true,
                    Err(taken) => taken >> KIND == u64::from(kind),
                };
        if is_mine {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        is_mine
    }

    /// The kind and the count, if somebody has taken it.
    fn get(&self) -> Option<(u16, u64)> {
        let held = self.0.load(Ordering::Relaxed);
        let kind = u16::try_from(held >> KIND).ok().filter(|kind| *kind > 0)?;
        Some((kind, held & ((1 << KIND) - 1)))
    }
}

impl Page {
    fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.first.iter().chain(&self.more)
    }
}

impl Figures {
    fn count(&self, kind: u16) {
        if !self.cells.mine().tallies().any(|tally| tally.count(kind)) {
            *self.others.lock().entry(kind).or_default() += 1;
        }
    }

    fn answers(&self) -> BTreeMap<u16, u64> {
        let mut answers = self.others.lock().clone();
        for (kind, count) in self.cells.all().flat_map(Page::tallies).filter_map(Tally::get) {
            *answers.entry(kind).or_default() += count;
        }
        answers
    }

    fn sum(&self, figure: impl Fn(&Page) -> &AtomicU64) -> u64 {
        self.cells.all().map(|page| figure(page).load(Ordering::Relaxed)).sum()
    }

    fn in_flight(&self) -> i64 {
        self.cells.all().map(|page| page.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Adds to each metric name what this route has, in the order of [`BY_ROUTE`].
    fn show(&self, labels: &[String; 3], shown: &mut [Vec<proto::Metric>; BY_ROUTE.len()]) {
        let [requests, duration, in_flight, request_bytes, response_bytes, upgrades] = shown;
        let [listener, route, service] = labels.each_ref().map(String::as_str);
        let labels = LABELS.into_iter().zip([listener, route, service]);
        requests.extend(self.answers().into_iter().map(|(kind, count)| {
            let (method, status) = (method_of(kind), status_of(kind));
            let more = [("listener", listener), ("method", method), ("route", route), ("service", service)];
            counted(more.into_iter().chain([("status", &*status)]), count)
        }));
        let mut lasted = labelled(labels.clone());
        lasted.set_histogram(Durations::sum(self.cells.all().map(|page| &page.durations)));
        duration.push(lasted);
        let mut present = labelled(labels.clone());
        let mut gauge = proto::Gauge::default();
        gauge.set_value(self.in_flight() as f64);
        present.set_gauge(gauge);
        in_flight.push(present);
        request_bytes.push(counted(labels.clone(), self.sum(|page| &page.request_bytes)));
        response_bytes.push(counted(labels.clone(), self.sum(|page| &page.response_bytes)));
        upgrades.push(counted(labels, self.sum(|page| &page.upgrades)));
    }
}

/// A metric with these labels, which are in alphabetical order.
pub(super) fn labelled<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> proto::Metric {
    let pairs = labels.map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

pub(super) fn counted<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, count: u64) -> proto::Metric {
    let (mut metric, mut counter) = (labelled(labels), proto::Counter::default());
    counter.set_value(count as f64);
    metric.set_counter(counter);
    metric
}

/// What a route counts, per listener and service.
pub struct RouteMetrics {
    figures: Arc<Figures>,
    replies: Tokens,
    lease: Lease<RouteMetrics>,
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The response's status; 499 when the client left before a head was there.
    pub status: u16,
    /// From the request's head to the response's last byte.
    pub elapsed: Duration,
    /// Size of the request's body.
    pub bytes_in: u64,
    /// Size of the response's body.
    pub bytes_out: u64,
}

/// Requests that were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// All of them.
    pub requests: u64,
    /// Those with a status of 500 and above, whoever said so.
    pub failed: u64,
}

impl AddAssign for Answered {
    fn add_assign(&mut self, other: Answered) {
        self.requests += other.requests;
        self.failed += other.failed;
    }
}

impl Answered {
    /// Those that came after `earlier`. Counts that are less than then began anew, at nothing.
    #[must_use]
    pub fn since(self, earlier: Answered) -> Answered {
        if self.requests < earlier.requests || self.failed < earlier.failed {
            return self;
        }
        Answered { requests: self.requests - earlier.requests, failed: self.failed - earlier.failed }
    }

    /// The share of those that failed; 0 of none.
    pub fn failed_share(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failed as f64 / self.requests as f64 }
    }
}

impl RouteMetrics {
    pub(super) fn new(families: &Families, lease: Lease<RouteMetrics>, labels: [&str; 3]) -> RouteMetrics {
        let (routes, key) = (families.routes.clone(), labels.map(str::to_owned));
        let figures = routes.figures(&key);
        lease.series.take_along(move || routes.remove(&key));
        RouteMetrics { figures, replies: Tokens::new(&families.replies, &lease.series, &labels), lease }
    }

    /// A request has begun; exactly one of the `finish` calls must follow.
    pub fn begin(&self) {
        self.figures.cells.mine().in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that has begun is over, with its last byte.
    pub fn finish(&self, request: &Finished<'_>) {
        self.figures.cells.mine().durations.observe(request.elapsed.as_secs_f64());
        self.count(request);
    }

    /// An upgraded connection that began as a request is over. Its lifetime is not a latency.
    pub fn finish_upgrade(&self, request: &Finished<'_>) {
        self.figures.cells.mine().upgrades.fetch_add(1, Ordering::Relaxed);
        self.count(request);
    }

    /// The same request once more, told apart as Traefik does.
    pub fn tell_apart(&self, request: &Finished<'_>, manner: &Manner) {
        let apart = self.figures.apart.get_or_init(Box::default);
        apart.count(kind(request.method, request.status), request, manner);
    }

    /// Waypost answered by itself. `reason` is a [`Cause`](crate::reply::Cause) token.
    pub fn replied(&self, reason: &'static str) {
        self.replies.get(reason).inc();
    }

    /// Requests now being served.
    pub fn in_flight(&self) -> i64 {
        self.figures.in_flight()
    }

    /// Requests that were answered, and those of them that failed.
    pub fn answered(&self) -> Answered {
        let mut answered = Answered::default();
        for (kind, count) in self.figures.answers() {
            let failed = if kind & ((1 << STATUS) - 1) >= 500 { count } else { 0 };
            answered += Answered { requests: count, failed };
        }
        answered
    }

    /// All that was counted, and whether this is the first look at it.
    pub fn counted(&self) -> Counted {
        let (mut counted, mut classes) = (Counted::default(), Classes::default());
        counted.is_new = self.lease.series.is_first_look();
        for (kind, count) in self.figures.answers() {
            let status = kind & ((1 << STATUS) - 1);
            classes[usize::from(status / 100)] += count;
        }
        counted.requests = classes.iter().sum();
        counted.failed = classes[5];
        counted.classes = classes;
        counted.in_flight = self.figures.in_flight();
        self.figures.cells.all().for_each(|page| page.durations.add_to(&mut counted.durations));
        counted
    }

    fn count(&self, request: &Finished<'_>) {
        self.figures.count(kind(request.method, request.status));
        let page = self.figures.cells.mine();
        page.request_bytes.fetch_add(request.bytes_in, Ordering::Relaxed);
        page.response_bytes.fetch_add(request.bytes_out, Ordering::Relaxed);
        page.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The methods that are label values; any other one is `other`.
const METHODS: [&str; OTHER as usize] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "other"];

/// The number of `other`.
const OTHER: u16 = 10;

/// A kind of answer is a method's number, from 1 on, and a status in its lower bits, or 0 there for what is no status.
const STATUS: u32 = 10;

/// The number that stands for a method and a status; never 0.
fn kind(method: &Method, status: u16) -> u16 {
    let number = (1..).zip(METHODS).find(|(_, name)| *name == method.as_str()).map_or(OTHER, |(number, _)| number);
    let status = if (100..600).contains(&status) { status } else { 0 };
    number << STATUS | status
}

pub(super) fn method_of(kind: u16) -> &'static str {
    METHODS[usize::from(kind >> STATUS) - 1]
}

pub(super) fn status_of(kind: u16) -> String {
    match kind & ((1 << STATUS) - 1) {
        0 => "other".to_owned(),
        status => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_answer_has_its_own_words() {
        for (method, status, words) in [
            ("GET", 200, ("GET", "200")),
            ("GET", 100, ("GET", "100")),
            ("CONNECT", 599, ("CONNECT", "599")),
            ("BREW", 418, ("other", "418")),
            ("DELETE", 600, ("DELETE", "other")),
            ("DELETE", 99, ("DELETE", "other")),
        ] {
            let kind = kind(&Method::from_bytes(method.as_bytes()).unwrap(), status);
            assert_eq!((method_of(kind), &*status_of(kind)), words);
        }
    }

    #[test]
    fn more_kinds_of_answers_than_a_page_has_room_for_are_counted_too() {
        let figures = Figures::default();
        let kinds = (200..260).map(|status| kind(&Method::GET, status));
        for kind in kinds.clone().chain(kinds.clone()) {
            figures.count(kind);
        }
        assert_eq!(figures.answers(), kinds.map(|kind| (kind, 2)).collect());
    }

    #[test]
    fn what_most_requests_need_lies_in_two_lines() {
        assert_eq!(std::mem::offset_of!(Page, durations), 64);
        assert_eq!(std::mem::offset_of!(Page, more), 192);
    }
}
