//! Promise: whatever happens to a fleet, retries, balancers and counters keep their rules.
//!
//! From a seed comes a history in simulated time: requests and what becomes of them, endpoints that go up and down, drain
//! and change their weights, reloads, clients that leave. The code that serves runs it, from the pick to the last byte,
//! with a fleet that is played; beside it runs a model, the rules as plainly as they can be written. Each choice is held
//! against the model. `WAYPOST_PROPERTY_SEED=17` repeats one seed, `WAYPOST_PROPERTY_SEEDS=10000` holds so many.
#![allow(clippy::unwrap_used)]

mod fleet;
mod history;
mod life;
mod model;
mod plan;

use std::thread;

use http::{HeaderMap, Method};
use waypost::upstream::retry::{self, Failed, Repeatable};
use waypost_config::service::Retry;
use waypost_config::value::RetryOn;

/// Held in every test run.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_fleet_keeps_its_rules_in_every_history() {
    if let Some(seed) = number("WAYPOST_PROPERTY_SEED") {
        let broken = history::play(seed);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        return;
    }
    let (seeds, workers) = (number("WAYPOST_PROPERTY_SEEDS").unwrap_or(SEEDS), 2);
    let broken: Vec<(u64, Vec<String>)> = thread::scope(|scope| {
        let played = |first: u64| {
            let all = (first..seeds).step_by(workers).map(|seed| (seed, history::play(seed)));
            all.filter(|(_, broken)| !broken.is_empty()).take(3).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..workers as u64).map(|first| scope.spawn(move || played(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let first = broken.first().map_or(0, |(seed, _)| *seed);
    assert!(broken.is_empty(), "WAYPOST_PROPERTY_SEED={first} repeats the first of {broken:#?}");
}

/// Every case there is, against the table in the docs.
#[test]
fn what_is_repeated_is_what_the_table_says() {
    let policy = Retry { max_attempts: 3, on: vec![RetryOn::Reset, RetryOn::Status(503)], ..Retry::default() };
    let kinds = [None, Some(RetryOn::ConnectFailure), Some(RetryOn::Reset), Some(RetryOn::Status(503))];
    let either = [false, true];
    let mut seen = [0, 0];
    for (attempt, on) in (1..=4).flat_map(|attempt| kinds.map(|on| (attempt, on))) {
        for (sent, idempotent) in either.iter().flat_map(|sent| either.map(|idempotent| (*sent, idempotent))) {
            for (body, whole_body) in [(false, false), (true, false), (true, true)] {
                let request = Repeatable { idempotent, body, whole_body };
                let named = matches!(on, Some(RetryOn::Reset | RetryOn::Status(503)));
                let expected = match (attempt < 3 && named, sent) {
                    (false, _) => false,
                    // No method may be repeated whose body is gone.
                    (true, false) => body,
                    (true, true) => idempotent && whole_body,
                };
                let allowed = retry::allows(&policy, attempt, Failed { on, sent, faded: false }, request);
                assert_eq!(allowed, expected, "attempt {attempt}, {on:?}, sent: {sent}, {request:?}");
                seen[usize::from(expected)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
}

#[test]
fn who_may_be_repeated_is_idempotent_or_says_so() {
    let keyed: HeaderMap = [("idempotency-key".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    for (method, idempotent) in [("GET", true), ("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false)] {
        let method: Method = method.parse().unwrap();
        assert_eq!(retry::is_idempotent(&method, &HeaderMap::new()), idempotent, "{method}");
        assert!(retry::is_idempotent(&method, &keyed), "{method}");
    }
}
