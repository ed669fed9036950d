//! What the last fifteen minutes were like: requests, failures, latencies and what was in flight, step by step.
//!
//! Owns the steps, of the whole and of each service, route and endpoint, and decides how much is kept. Pure: who looks at
//! the counters, and when, is `server::history`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

pub use super::histogram::Counts;
use super::histogram::quantile;
use super::timestamp::Timestamp;

/// How long a step is.
pub const STEP: Duration = Duration::from_secs(5);

/// How many steps are kept: fifteen minutes of them.
pub const KEPT: usize = 180;

/// Of how many services, routes and endpoints together steps are kept. They take 4.3 KB each, hence 2.2 MB at most.
pub const PARTS: usize = 500;

/// How many answers begin with which digit; those at 0 have no proper status.
pub type Classes = [u64; 6];

/// What was counted of something since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that are over; of an endpoint, attempts.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long they took; fewer than `requests`, because upgraded connections are not among them.
    pub durations: Counts,
    /// What is in flight now.
    pub in_flight: i64,
    /// Answers by class; of an endpoint, none.
    pub classes: Classes,
    /// Nobody has looked before: all of it is of this step.
    pub is_new: bool,
}

impl Counted {
    /// What came after `earlier`. Counts that are less than then began anew, at nothing.
    fn since(&self, earlier: &Counted) -> Counted {
        if self.requests < earlier.requests {
            return *self;
        }
        let mut more = *self;
        more.requests -= earlier.requests;
        more.failed = more.failed.saturating_sub(earlier.failed);
        less(&mut more.durations, &earlier.durations);
        less(&mut more.classes, &earlier.classes);
        more
    }

    /// What is known of a step at whose beginning nobody looked: whoever was away and returns, because something was in
    /// flight or a reload took it back, may bring along what it has counted in days.
    fn at_first_sight(&self) -> Counted {
        if self.is_new { *self } else { Counted { in_flight: self.in_flight, ..Counted::default() } }
    }
}

fn less(now: &mut [u64], then: &[u64]) {
    now.iter_mut().zip(then).for_each(|(now, then)| *now = now.saturating_sub(*then));
}

impl AddAssign<&Counted> for Counted {
    fn add_assign(&mut self, other: &Counted) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.in_flight += other.in_flight;
        self.durations.iter_mut().zip(&other.durations).for_each(|(sum, more)| *sum += more);
        self.classes.iter_mut().zip(&other.classes).for_each(|(sum, more)| *sum += more);
    }
}

/// Who counts. What belongs together is added up after it was compared with the look before, for a reload may take a part
/// of it away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A route on a listener; without a name, the requests that found none.
    Route {
        /// The listener.
        listener: Arc<str>,
        /// The route.
        route: Arc<str>,
        /// Where it leads.
        service: Arc<str>,
    },
    /// An endpoint of a service.
    Endpoint(Arc<str>, Arc<str>),
}

/// Of what steps are kept. In this order there is room for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Whole,
    Service(Arc<str>),
    Route(Arc<str>),
    Endpoint(Arc<str>, Arc<str>),
}

impl Source {
    fn parts(&self) -> Vec<Part> {
        match self {
            Source::Route { route, service, .. } if service.is_empty() => {
                vec![Part::Whole, Part::Route(Arc::clone(route))]
            }
            Source::Route { route, service, .. } => {
                vec![Part::Whole, Part::Route(Arc::clone(route)), Part::Service(Arc::clone(service))]
            }
            Source::Endpoint(service, endpoint) => vec![Part::Endpoint(Arc::clone(service), Arc::clone(endpoint))],
        }
    }
}

/// All that the counters say at one moment.
#[derive(Debug, Default)]
pub struct Look {
    /// Everybody who counts, each once.
    pub sources: Vec<(Source, Counted)>,
    /// Open client connections.
    pub connections: usize,
}

/// One step of something. Rates are per second, latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    requests: f32,
    failed: f32,
    /// p50, p95 and p99; not a number if nothing has ended.
    quantiles: [f32; 3],
    in_flight: f32,
}

/// Nothing has happened.
impl Default for Step {
    fn default() -> Step {
        Step { requests: 0.0, failed: 0.0, quantiles: [f32::NAN; 3], in_flight: 0.0 }
    }
}

impl Step {
    fn of(more: &Counted, seconds: f64) -> Step {
        let latency = |share| quantile(&more.durations, share).map_or(f32::NAN, |seconds| short(1000.0 * seconds));
        Step {
            requests: short(more.requests as f64 / seconds),
            failed: short(more.failed as f64 / seconds),
            quantiles: [0.5, 0.95, 0.99].map(latency),
            in_flight: short(more.in_flight.max(0) as f64),
        }
    }
}

/// With four digits that count: nobody sees more in a chart, and they all go over the wire.
fn short(value: f64) -> f32 {
    if value == 0.0 {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small, and four digits are what is wanted")]
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    #[expect(clippy::cast_possible_truncation, reason = "four digits fit")]
    let rounded = ((value * scale).round() / scale) as f32;
    rounded
}

/// The steps of something, the oldest first; as many as there are of the whole.
type Steps = VecDeque<Step>;

/// The last fifteen minutes.
#[derive(Debug)]
pub struct History {
    since: Timestamp,
    /// The number of the last step, counted from 1.
    last: u64,
    /// When it ended.
    until: Timestamp,
    /// What everybody had counted then.
    counted: HashMap<Source, Counted>,
    steps: BTreeMap<Part, Steps>,
    /// Of the whole only: answers by class, and connections.
    answers: VecDeque<([f32; 6], usize)>,
}

impl History {
    /// Begins at this moment, when nothing was counted yet.
    pub fn new(at: SystemTime) -> History {
        History {
            since: Timestamp(at),
            last: 0,
            until: Timestamp(at),
            counted: HashMap::new(),
            steps: BTreeMap::new(),
            answers: VecDeque::with_capacity(KEPT),
        }
    }

    /// A step is over, that took so long.
    pub fn step(&mut self, look: Look, (at, took): (SystemTime, Duration)) {
        let seconds = took.as_secs_f64().max(f64::MIN_POSITIVE);
        let grown = self.grown(&look.sources);
        let classes = grown[&Part::Whole].classes.map(|count| short(count as f64 / seconds));
        let length = self.answers.len();
        self.steps.retain(|part, _| *part == Part::Whole || grown.contains_key(part));
        for (part, more) in grown {
            if self.steps.len() <= PARTS || self.steps.contains_key(&part) {
                let steps = self.steps.entry(part).or_insert_with(|| still(length));
                push(steps, Step::of(&more, seconds));
            }
        }
        push(&mut self.answers, (classes, look.connections));
        (self.last, self.until) = (self.last + 1, Timestamp(at));
        self.counted = look.sources.into_iter().collect();
    }

    /// What each part has counted since the last look.
    fn grown(&self, sources: &[(Source, Counted)]) -> BTreeMap<Part, Counted> {
        let mut grown = BTreeMap::from([(Part::Whole, Counted::default())]);
        for (source, counted) in sources {
            let more =
                self.counted.get(source).map_or_else(|| counted.at_first_sight(), |before| counted.since(before));
            for part in source.parts() {
                *grown.entry(part).or_default() += &more;
            }
        }
        grown
    }

    /// The steps after the one with this number; all of them if it has not come yet, for then it is of another process.
    pub fn after(&self, step: u64) -> Told {
        let missed = if step > self.last { self.last } else { self.last - step };
        let told = usize::try_from(missed).map_or(KEPT, |missed| missed.min(self.answers.len()));
        let from = self.answers.len() - told;
        let mut parts = Told::new(self);
        for (part, steps) in &self.steps {
            parts.put(part, Columns::of(steps.range(from..)));
        }
        let answers = self.answers.range(from..);
        parts.whole.connections = answers.clone().map(|(_, connections)| *connections).collect();
        let class = |class: usize| answers.clone().map(|(classes, _)| classes[class]).collect();
        parts.whole.classes = CLASSES.iter().enumerate().map(|(number, name)| (*name, class(number))).collect();
        parts
    }
}

/// So many steps in which nothing has happened, and room for no more than will be kept.
fn still(length: usize) -> Steps {
    let mut steps = Steps::with_capacity(KEPT);
    steps.resize(length, Step::default());
    steps
}

/// The names of [`Classes`].
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn push<T>(steps: &mut VecDeque<T>, step: T) {
    if steps.len() == KEPT {
        steps.pop_front();
    }
    steps.push_back(step);
}

/// Steps as the admin API tells them: every list has a value for each step, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// When this history began; another one is of another process, whose steps have other numbers.
    pub since: Timestamp,
    /// How long a step is.
    pub step_seconds: u64,
    /// How many are kept.
    pub kept: usize,
    /// The number of the last step; 0 before the first.
    pub last: u64,
    /// When it ended.
    pub until: Timestamp,
    /// All requests.
    pub whole: Whole,
    /// By service.
    pub services: BTreeMap<Arc<str>, Columns>,
    /// By route; those that found none are under the empty name.
    pub routes: BTreeMap<Arc<str>, Columns>,
    /// Attempts by service and endpoint.
    pub endpoints: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Columns>>,
}

/// What is told of all requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Whole {
    /// As of any part.
    #[serde(flatten)]
    pub columns: Columns,
    /// Answers per second by the class of their status.
    pub classes: BTreeMap<&'static str, Vec<f32>>,
    /// Open client connections at the end of each step.
    pub connections: Vec<usize>,
}

/// Steps of something.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Columns {
    /// Per second.
    pub requests: Vec<f32>,
    /// Per second, those answered with 500 and above; of an endpoint, those without an answer, too.
    pub failed: Vec<f32>,
    /// In milliseconds, null if nothing has ended; half took no longer.
    pub p50_ms: Vec<f32>,
    /// 95 of 100 took no longer.
    pub p95_ms: Vec<f32>,
    /// 99 of 100 took no longer.
    pub p99_ms: Vec<f32>,
    /// At the end of each step.
    pub in_flight: Vec<f32>,
}

impl Columns {
    fn of<'a>(steps: impl Iterator<Item = &'a Step>) -> Columns {
        let mut columns = Columns::default();
        for Step { requests, failed, quantiles: [p50, p95, p99], in_flight } in steps {
            columns.requests.push(*requests);
            columns.failed.push(*failed);
            columns.p50_ms.push(*p50);
            columns.p95_ms.push(*p95);
            columns.p99_ms.push(*p99);
            columns.in_flight.push(*in_flight);
        }
        columns
    }
}

impl Told {
    fn new(history: &History) -> Told {
        Told {
            since: history.since,
            step_seconds: STEP.as_secs(),
            kept: KEPT,
            last: history.last,
            until: history.until,
            whole: Whole::default(),
            services: BTreeMap::new(),
            routes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        }
    }

    fn put(&mut self, part: &Part, columns: Columns) {
        match part {
            Part::Whole => self.whole.columns = columns,
            Part::Service(name) => drop(self.services.insert(Arc::clone(name), columns)),
            Part::Route(name) => drop(self.routes.insert(Arc::clone(name), columns)),
            Part::Endpoint(service, name) => {
                drop(self.endpoints.entry(Arc::clone(service)).or_default().insert(Arc::clone(name), columns));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(listener: &str, name: &str) -> Source {
        Source::Route { listener: listener.into(), route: name.into(), service: "shop".into() }
    }

    /// So many requests, all of which took between 10 and 25 ms.
    fn counted(requests: u64, failed: u64) -> Counted {
        let mut durations = Counts::default();
        durations[4] = requests;
        let classes = [0, 0, requests - failed, 0, 0, failed];
        Counted { requests, failed, durations, in_flight: 2, classes, is_new: false }
    }

    /// The same, and nobody has looked at it before.
    fn new(requests: u64) -> Counted {
        Counted { is_new: true, ..counted(requests, 0) }
    }

    /// So much was counted already.
    fn begun(sources: &[(Source, Counted)]) -> History {
        History { counted: sources.iter().cloned().collect(), ..History::new(SystemTime::UNIX_EPOCH) }
    }

    fn step(history: &mut History, sources: &[(Source, Counted)]) {
        let look = Look { sources: sources.to_vec(), connections: 7 };
        history.step(look, (SystemTime::UNIX_EPOCH + STEP, STEP));
    }

    #[test]
    fn step_says_what_has_come_since_the_one_before() {
        let endpoint = Source::Endpoint("shop".into(), "web-1".into());
        let mut history = begun(&[(route("web", "all"), counted(100, 0)), (endpoint.clone(), counted(90, 0))]);
        assert_eq!((history.after(0).last, history.after(0).whole.columns.requests.len()), (0, 0));
        step(&mut history, &[(route("web", "all"), counted(150, 5)), (endpoint, counted(100, 1))]);
        let told = history.after(0);
        assert_eq!((told.last, &told.whole.connections), (1, &vec![7]));
        assert_eq!((&told.whole.classes["2xx"], &told.whole.classes["5xx"]), (&vec![9.0], &vec![1.0]));
        for columns in [&told.whole.columns, &told.routes["all"], &told.services["shop"]] {
            assert_eq!((columns.requests[0], columns.failed[0], columns.in_flight[0]), (10.0, 1.0, 2.0));
            assert_eq!((columns.p50_ms[0], columns.p95_ms[0], columns.p99_ms[0]), (17.5, 24.25, 24.85));
        }
        let attempts = &told.endpoints["shop"]["web-1"];
        assert_eq!((attempts.requests[0], attempts.failed[0]), (2.0, 0.2));
    }

    #[test]
    fn what_a_reload_takes_away_or_begins_anew_does_not_disturb_the_rest() {
        let (web, secure) = (route("web", "all"), route("secure", "all"));
        let mut history = begun(&[(web.clone(), counted(1000, 0)), (secure, counted(500, 0))]);
        step(&mut history, &[(web.clone(), counted(1010, 0))]);
        step(&mut history, &[(web.clone(), counted(5, 0))]);
        step(&mut history, &[(web, counted(5, 0)), (route("web", "new"), new(10))]);
        let told = history.after(0);
        assert_eq!(told.routes["all"].requests, [2.0, 1.0, 0.0]);
        assert_eq!(told.routes["new"].requests, [0.0, 0.0, 2.0], "it has had nothing before it was there");
        assert!(told.routes["new"].p99_ms[0].is_nan() && told.routes["all"].p50_ms[2].is_nan());
        step(&mut history, &[]);
        let told = history.after(0);
        assert!(told.routes.is_empty(), "what is gone is forgotten");
        assert_eq!(told.whole.columns.requests, [2.0, 1.0, 2.0, 0.0]);
        assert_eq!(told.whole.classes["2xx"], [2.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn what_returns_does_not_bring_along_what_it_had_counted_before() {
        let (web, endpoint) = (route("web", "all"), Source::Endpoint("shop".into(), "web-1".into()));
        let mut history = begun(&[(web.clone(), counted(1000, 0)), (endpoint.clone(), counted(1000, 0))]);
        step(&mut history, &[]);
        // Something was in flight, so that its counts have outlived it.
        step(&mut history, &[(web.clone(), counted(1001, 0)), (endpoint.clone(), counted(1001, 0))]);
        step(&mut history, &[(web, counted(1006, 0)), (endpoint, counted(1011, 0))]);
        let told = history.after(0);
        assert_eq!(told.routes["all"].requests, [0.0, 0.0, 1.0]);
        assert_eq!(told.routes["all"].in_flight, [0.0, 2.0, 2.0]);
        assert!(told.routes["all"].p99_ms[1].is_nan());
        assert_eq!(told.endpoints["shop"]["web-1"].requests, [0.0, 0.0, 2.0]);
        assert_eq!(told.whole.columns.requests, [0.0, 0.0, 1.0]);
        assert_eq!(told.whole.classes["2xx"], [0.0, 0.0, 1.0]);
    }

    #[test]
    fn steps_take_no_more_memory_than_those_that_are_kept() {
        let mut history = begun(&[]);
        for count in 1..=2 * KEPT as u64 {
            step(&mut history, &[(route("web", "all"), counted(count, 0))]);
        }
        assert!(history.steps.values().all(|steps| steps.capacity() == KEPT), "{history:?}");
        assert_eq!((history.answers.capacity(), history.answers.len()), (KEPT, KEPT));
    }

    #[test]
    fn fifteen_minutes_are_kept_and_told_from_where_one_left_off() {
        let mut history = begun(&[]);
        for count in 1..=200 {
            step(
                &mut history,
                &[(route("web", "all"), Counted { is_new: count == 1, ..counted(5 * count * (count + 1) / 2, 0) })],
            );
        }
        let all = history.after(0);
        assert_eq!((all.last, all.routes["all"].requests.len(), all.whole.connections.len()), (200, KEPT, KEPT));
        assert_eq!((all.routes["all"].requests[0], all.routes["all"].requests[KEPT - 1]), (21.0, 200.0));
        let news = history.after(198);
        assert_eq!((news.whole.columns.requests, news.whole.classes["2xx"].len()), (vec![199.0, 200.0], 2));
        assert!(history.after(200).whole.columns.requests.is_empty());
        assert_eq!(history.after(1000).whole.columns.requests.len(), KEPT, "it knows another process");
    }

    #[test]
    fn more_parts_than_there_is_room_for_count_into_the_whole() {
        let sources: Vec<_> = (0..2 * PARTS).map(|number| (route("web", &format!("{number:04}")), new(5))).collect();
        let mut history = begun(&[]);
        step(&mut history, &sources);
        step(&mut history, &sources);
        let told = history.after(0);
        assert_eq!((told.services.len(), told.routes.len()), (1, PARTS - 1));
        assert_eq!(told.whole.columns.requests, [2.0 * PARTS as f32, 0.0]);
    }

    #[test]
    fn requests_without_a_route_are_told_under_the_empty_name() {
        let mut history = begun(&[]);
        let unrouted = Source::Route { listener: "web".into(), route: "".into(), service: "".into() };
        step(&mut history, &[(unrouted, new(5))]);
        let told = history.after(0);
        assert_eq!((told.routes[""].requests[0], told.services.len()), (1.0, 0));
        assert_eq!(told.whole.columns.requests, [1.0]);
    }

    #[test]
    fn figures_have_four_digits_and_none_is_null() {
        let shown = [0.0, 0.123_456, 12.345_67, 98_765.4, u64::MAX as f64].map(short);
        assert_eq!(serde_json::to_string(&shown[..4]).unwrap(), "[0.0,0.1235,12.35,98770.0]");
        assert!(shown[4].is_finite());
        let mut history = begun(&[]);
        step(&mut history, &[]);
        let told = serde_json::to_value(history.after(0)).unwrap();
        assert_eq!(told["whole"]["p50_ms"], serde_json::json!([null]));
        assert_eq!((&told["step_seconds"], &told["kept"]), (&5.into(), &180.into()));
    }
}
