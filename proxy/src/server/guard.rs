//! Watches what a published config does to its routes, and takes it back if that is harm (`server.guard`).
//!
//! Owns the counts of the minutes before. Decides by a route's share of answers of 500 and above, beside the same route's
//! before; never guards what was brought back, or it would go to and fro. A config that comes while another is watched is
//! watched with it, and what is brought back is the last that was trusted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use waypost_config::server::Guard;

use super::Process;
use super::tasks::{Earlier, Order};
use crate::reload::{Generation, Origin};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Answered;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// What counts as before a config was published.
const BEFORE: Duration = Duration::from_mins(2);

/// How far apart the counts of that time are.
const APART: Duration = Duration::from_secs(10);

/// One task: looks, and gives the order.
pub(super) async fn keep(process: Arc<Process>) {
    let (mut watch, mut looks) = (Watch::default(), interval(LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let snapshot = process.shared.snapshot.load_full();
        let Some(rules) = &snapshot.config.server.guard else {
            watch = Watch::default();
            continue;
        };
        let harm = watch.look(&process.reloader.serving(), counts(&snapshot), (rules, Instant::now()));
        drop(snapshot);
        if let Some(harm) = harm {
            take_back(&process, &harm).await;
        }
    }
}

async fn take_back(process: &Process, harm: &Harm) {
    let Harm { route, before, after, trusted } = harm;
    let shown = |share: &f64| format!("{:.1} %", 100.0 * share);
    let (before, after) = (shown(before), shown(after));
    tracing::error!(%route, before, after, trusted, "config does harm, the last trusted one is brought back");
    let order = Order { rollback: Some(Earlier::Number(*trusted)), ..Order::default() };
    if let Err(refusal) = process.ask(order).await {
        tracing::error!(reason = %refusal, "the trusted config cannot be brought back");
    }
}

/// Of every route by name, over all listeners.
type Counts = HashMap<Arc<str>, Answered>;

fn counts(snapshot: &Snapshot) -> Counts {
    let mut counts = Counts::new();
    for route in snapshot.listeners.values().flat_map(|listener| listener.routes()) {
        *counts.entry(Arc::clone(&route.name)).or_default() += route.metrics.answered();
    }
    counts
}

/// A route that fails more than before.
#[derive(Debug, PartialEq)]
struct Harm {
    route: String,
    before: f64,
    after: f64,
    /// The generation to return to.
    trusted: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Watch {
    /// The generation of the last look.
    generation: Option<u64>,
    /// Of the time before, the oldest first.
    samples: VecDeque<(Instant, Counts)>,
    last: Counts,
    probation: Option<Probation>,
}

/// A config that has yet to show that it does no harm.
#[derive(Debug)]
struct Probation {
    until: Instant,
    /// The generation before it, and before all that came while that was watched.
    trusted: u64,
    routes: Vec<Suspect>,
}

/// A route that the config has changed.
#[derive(Debug, Clone)]
struct Suspect {
    name: String,
    /// Its share of failures before.
    before: f64,
    /// Its counts when the config was published.
    start: Answered,
}

impl Watch {
    fn look(&mut self, published: &Generation, now: Counts, (rules, at): (&Guard, Instant)) -> Option<Harm> {
        let known = self.generation.replace(published.number);
        if let Some(known) = known.filter(|known| *known != published.number) {
            let guarded = published.origin == Origin::Reload;
            self.probation = guarded.then(|| self.probation(published, known, at + rules.window.0));
        }
        let harm = self.probation.as_ref().and_then(|probation| probation.harm(&now, rules));
        let over = self.probation.as_ref().is_some_and(|probation| at >= probation.until);
        if over || harm.is_some() {
            self.probation = None;
        }
        self.remember(at, now);
        harm
    }

    fn probation(&self, published: &Generation, before: u64, until: Instant) -> Probation {
        let empty = Counts::new();
        let oldest = self.samples.front().map_or(&empty, |(_, counts)| counts);
        let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or_default();
        let suspect = |name: &String| {
            let start = of(&self.last, name);
            Suspect { name: name.clone(), before: start.since(of(oldest, name)).failed_share(), start }
        };
        let running = self.probation.as_ref();
        let still = running.into_iter().flat_map(|probation| &probation.routes).cloned();
        let added = published.routes.iter().filter(|name| !running.is_some_and(|probation| probation.watches(name)));
        let routes = still.chain(added.map(suspect)).collect();
        Probation { until, trusted: running.map_or(before, |probation| probation.trusted), routes }
    }

    fn remember(&mut self, at: Instant, now: Counts) {
        if self.samples.back().is_none_or(|(last, _)| at >= *last + APART) {
            self.samples.push_back((at, now.clone()));
        }
        // The oldest one is at the beginning of the time before, or as near to that as there is one.
        while self.samples.get(1).is_some_and(|(second, _)| at >= *second + BEFORE) {
            self.samples.pop_front();
        }
        self.last = now;
    }
}

impl Probation {
    fn watches(&self, route: &str) -> bool {
        self.routes.iter().any(|suspect| suspect.name == route)
    }

    fn harm(&self, now: &Counts, rules: &Guard) -> Option<Harm> {
        self.routes.iter().find_map(|suspect| {
            let answered = now.get(suspect.name.as_str())?.since(suspect.start);
            let (before, after) = (suspect.before, answered.failed_share());
            let harmful = answered.requests >= rules.min_requests && after - before > rules.max_error_ratio_increase.0;
            harmful.then(|| Harm { route: suspect.name.clone(), before, after, trusted: self.trusted })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use waypost_config::value::{self, Percent};

    use super::*;

    fn rules() -> Guard {
        Guard { window: value::Duration::seconds(30), max_error_ratio_increase: Percent(0.05), min_requests: 100 }
    }

    fn generation(number: u64, origin: Origin) -> Generation {
        let (published, text) = (SystemTime::UNIX_EPOCH, "".into());
        Generation { number, published, origin, changes: Vec::new(), routes: vec!["shop".to_owned()], text }
    }

    /// Requests and failures of the route `shop`, all told, at so many seconds.
    struct Scene {
        watch: Watch,
        begun: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            Scene { watch: Watch::default(), begun: Instant::now() }
        }

        fn look(&mut self, published: &Generation, (second, requests, failed): (u64, u64, u64)) -> Option<Harm> {
            let counts =
                [("shop", Answered { requests, failed }), ("other", Answered { requests: 9000, failed: 9000 })];
            let counts = counts.into_iter().map(|(name, counts)| (name.into(), counts)).collect();
            self.watch.look(published, counts, (&rules(), self.begun + Duration::from_secs(second)))
        }
    }

    #[test]
    fn route_that_fails_more_than_before_is_harm_once_there_are_enough_requests() {
        let (first, second) = (generation(1, Origin::Start), generation(2, Origin::Reload));
        let mut scene = Scene::new();
        assert_eq!(scene.look(&first, (0, 0, 0)), None);
        assert_eq!(scene.look(&first, (60, 1000, 20)), None, "nobody has changed anything");
        assert_eq!(scene.look(&second, (61, 1000, 20)), None);
        assert_eq!(scene.look(&second, (62, 1099, 119)), None, "too few requests to say");
        let harm = scene.look(&second, (63, 1200, 36)).unwrap();
        assert_eq!(harm, Harm { route: "shop".to_owned(), before: 0.02, after: 0.08, trusted: 1 });
        assert_eq!(scene.look(&second, (64, 1300, 136)), None, "it was said once");
    }

    #[test]
    fn what_has_failed_before_may_go_on_failing() {
        let (first, second) = (generation(1, Origin::Start), generation(2, Origin::Reload));
        let mut scene = Scene::new();
        scene.look(&first, (0, 0, 0));
        scene.look(&first, (60, 1000, 500));
        assert_eq!(scene.look(&second, (61, 1000, 500)), None);
        assert_eq!(scene.look(&second, (70, 2000, 1049)), None);
    }

    #[test]
    fn after_its_window_a_config_is_trusted() {
        let (first, second) = (generation(1, Origin::Start), generation(2, Origin::Reload));
        let mut scene = Scene::new();
        scene.look(&first, (0, 1000, 0));
        scene.look(&second, (1, 1000, 0));
        assert_eq!(scene.look(&second, (31, 2000, 0)), None);
        assert_eq!(scene.look(&second, (32, 3000, 1000)), None);
    }

    #[test]
    fn config_that_comes_meanwhile_does_not_save_the_harmful_one_before_it() {
        let (first, second) = (generation(1, Origin::Start), generation(2, Origin::Reload));
        let third = Generation { routes: vec!["other".to_owned()], ..generation(3, Origin::Reload) };
        let mut scene = Scene::new();
        scene.look(&first, (0, 1000, 0));
        assert_eq!(scene.look(&second, (1, 1000, 0)), None);
        assert_eq!(scene.look(&third, (2, 1050, 50)), None, "too few requests to say");
        let harm = scene.look(&third, (3, 1200, 150)).unwrap();
        assert_eq!(harm, Harm { route: "shop".to_owned(), before: 0.0, after: 0.75, trusted: 1 });
    }

    #[test]
    fn what_was_brought_back_is_not_guarded() {
        let (first, back) = (generation(1, Origin::Start), generation(3, Origin::Rollback(1)));
        let mut scene = Scene::new();
        scene.look(&first, (0, 1000, 0));
        scene.look(&back, (1, 1000, 0));
        assert_eq!(scene.look(&back, (2, 2000, 1000)), None);
    }

    #[test]
    fn new_series_of_a_route_with_another_service_begin_at_nothing() {
        let (first, second) = (generation(1, Origin::Start), generation(2, Origin::Reload));
        let mut scene = Scene::new();
        scene.look(&first, (0, 0, 0));
        scene.look(&first, (60, 1000, 0));
        scene.look(&second, (61, 0, 0));
        let harm = scene.look(&second, (62, 200, 150)).unwrap();
        assert_eq!(harm, Harm { route: "shop".to_owned(), before: 0.0, after: 0.75, trusted: 1 });
    }
}
