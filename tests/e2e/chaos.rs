//! Faults, load and reloads at random, and no invariant is violated; the long form is `loadtest chaos`.
//!
//! `WAYPOST_CHAOS_SEED=17` holds the trial of that seed alone.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::chaos::setting::{Setting, Surroundings};
use loadtest::chaos::{Change, ChaosError, Extent, Subject, Trial, audit, drive};
use waypost_tests::Stack;

/// Short enough for every test run, long enough for some ten faults.
const EXTENT: Extent = Extent {
    length: Duration::from_millis(3500),
    clients: 8,
    users: 4,
    pause: Duration::from_millis(60),
    change_every: Duration::from_millis(700),
    upgrade_every: None,
    quick: true,
};

struct InProcess<'a>(&'a Stack);

impl Subject for InProcess<'_> {
    fn web(&self) -> SocketAddr {
        self.0.address("web")
    }

    fn admin(&self) -> SocketAddr {
        self.0.waypost.admin_address().expect("the config has an admin address")
    }

    async fn change(&mut self, change: &Change) -> Result<(), ChaosError> {
        match change {
            Change::Reload(setting) => self.0.reload(&config(setting)).await,
            Change::Again => drop(self.0.waypost.reload().await.expect("what serves is valid")),
            Change::Upgrade => unreachable!("a trial in process has no upgrades"),
        }
        Ok(())
    }
}

fn config(setting: &Setting) -> String {
    setting.toml(|name| format!("{{{name}}}"), Surroundings { server: "" })
}

/// The violations, each with its seed, and the script that led to them.
async fn trial(seed: u64) -> Vec<String> {
    let names = ["web-1", "web-2", "web-3"].map(str::to_owned);
    let trial = Trial::random(seed, &names, EXTENT, None);
    let stack = Stack::start(&config(&trial.setting)).await;
    let evidence = drive(&trial, &stack.fleet, &mut InProcess(&stack)).await.unwrap();
    let summary = audit::summary(&evidence);
    assert!(evidence.seen.len() > 50, "seed {seed}: {summary}");
    let violations = audit::violations(&trial, &evidence);
    if !violations.is_empty() {
        eprintln!("seed {seed}: {summary}\n{}\n{}", config(&trial.setting), trial.script);
    }
    violations.iter().map(|violation| format!("WAYPOST_CHAOS_SEED={seed}: {violation}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_invariant_is_violated_whatever_fails() {
    let seeds = match std::env::var("WAYPOST_CHAOS_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => vec![1, 2, 3, 4],
    };
    let violations = join_all(seeds.into_iter().map(trial)).await.concat();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
