//! The rules of a service as plainly as they can be written, and what has broken them.
//!
//! Told of everything that happens, in the order in which it happens. Never asks the code what it thinks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use waypost::reply::Cause;
use waypost::upstream::health::State;
use waypost_config::service::{Balancer, Endpoint, OnAllDown, Service, Sticky};
use waypost_config::value::RetryOn;

use crate::life::{Life, Purse, Time};

/// An endpoint's life, which its name and its place in the line of reloads say.
pub(crate) type LifeId = usize;

/// One generation of the service.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) service: Service,
    /// The life of each endpoint, by name.
    pub(crate) lives: BTreeMap<String, LifeId>,
    /// Those that take new clients, the first tier first; as it was when anything was said to have changed.
    tiers: Vec<Vec<LifeId>>,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) generation: usize,
    pub(crate) client: u8,
    pub(crate) idempotent: bool,
    pin: Option<String>,
    tried: Vec<LifeId>,
    /// The endpoint it counts at.
    at: Option<LifeId>,
    /// Another attempt is due: since when, and how long it may take to begin.
    owed: Option<(Time, Duration)>,
    last: Option<Cause>,
    /// The last response was a failure.
    bad: bool,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) on: Option<RetryOn>,
    pub(crate) sent: bool,
    /// What the client is told if nothing follows; `None` for a response.
    pub(crate) cause: Option<Cause>,
}

/// All that is known of a history.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) generations: Vec<Generation>,
    pub(crate) lives: Vec<Life>,
    pub(crate) asked: HashMap<u64, Asked>,
    pub(crate) admitted: usize,
    pub(crate) broken: Vec<String>,
    purse: Purse,
    pins: HashMap<u8, (String, Time)>,
    /// First attempts since the tiers last changed, while nothing disturbed their turns.
    turns: Vec<LifeId>,
    /// The tier they were among.
    turns_of: Option<usize>,
    hashed: HashMap<u8, LifeId>,
}

impl Model {
    fn hold(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.len() < 5 {
            self.broken.push(what());
        }
    }

    pub(crate) fn published(&mut self, service: &Service, now: Time) {
        let before = self.generations.last();
        let carried = |endpoint: &Endpoint| before.and_then(|before| before.lives.get(&endpoint.name)).copied();
        let lives: Vec<Option<LifeId>> = service.endpoints.iter().map(carried).collect();
        let names = service.endpoints.iter().map(|endpoint| endpoint.name.clone());
        let lives = lives.into_iter().map(|life| {
            life.unwrap_or_else(|| {
                self.lives.push(Life::new(now));
                self.lives.len() - 1
            })
        });
        let lives = names.zip(lives).collect();
        self.generations.push(Generation { service: service.clone(), lives, tiers: Vec::new() });
        self.changed();
    }

    /// Health or a drain mark has changed: who is available is found out anew, in every generation that has requests.
    pub(crate) fn changed(&mut self) {
        for generation in &mut self.generations {
            generation.tiers = tiers(&generation.service, &generation.lives, &self.lives);
        }
        self.turns.clear();
        self.hashed.clear();
    }

    /// A request comes in; whether the service takes it.
    pub(crate) fn comes(&mut self, taken: bool) {
        let max = self.generations.last().and_then(|generation| generation.service.max_in_flight);
        let admitted = self.admitted;
        let expected = max.is_none_or(|max| admitted < max);
        self.hold(taken == expected, || format!("taken in: {taken}, with {admitted} of {max:?}"));
        self.admitted += usize::from(taken && max.is_some());
    }

    /// Its attempts begin. `pin` is where it is held to, as the code says.
    pub(crate) fn begins(&mut self, id: u64, asked: (u8, bool), pin: Option<String>, now: Time) {
        let (client, idempotent) = asked;
        let expected = self.pinned(client, now);
        self.hold(pin == expected, || format!("{id}: pinned to {pin:?}, not {expected:?}"));
        self.purse.deposit(now);
        let generation = self.generations.len() - 1;
        let new = Asked {
            generation,
            client,
            idempotent,
            pin,
            tried: Vec::new(),
            at: None,
            owed: None,
            last: None,
            bad: false,
        };
        self.asked.insert(id, new);
    }

    fn pinned(&mut self, client: u8, now: Time) -> Option<String> {
        let service = &self.generations.last().expect("there is one").service;
        let ttl = match &service.sticky {
            None => return None,
            // Cookies live by the clock on the wall, which a history hardly moves.
            Some(Sticky::Cookie(_)) => Duration::MAX,
            Some(Sticky::ClientIp(sticky)) => sticky.client_ip.0,
        };
        let alive = self.pins.get(&client).is_some_and(|(_, used)| now.saturating_sub(*used) <= ttl);
        if !alive {
            self.pins.remove(&client);
        }
        let (name, used) = self.pins.get_mut(&client)?;
        *used = now;
        Some(name.clone())
    }

    fn is_open(&self, generation: &Generation, life: LifeId, tried: &[LifeId], now: Time) -> bool {
        let service = &generation.service;
        let endpoint = service.endpoints.iter().find(|endpoint| generation.lives[&endpoint.name] == life);
        let full = endpoint.and_then(|endpoint| endpoint.max_in_flight);
        let life_of = &self.lives[life];
        full.is_none_or(|max| life_of.in_flight < max)
            && life_of.passes(service.circuit_breaker.as_ref(), now)
            && !tried.contains(&life)
    }

    fn is_ejected(&self, generation: &Generation, life: LifeId, now: Time) -> bool {
        self.lives[life].is_ejected(generation.service.outlier.as_ref(), now)
    }

    /// Where the next attempt may go: the pin, or any of the best that there are.
    fn candidates(&self, asked: &Asked, now: Time) -> Vec<LifeId> {
        let generation = &self.generations[asked.generation];
        let open = |life: LifeId| self.is_open(generation, life, &asked.tried, now);
        let good = |life: LifeId| open(life) && !self.is_ejected(generation, life, now);
        let pin = asked.pin.as_ref().and_then(|name| generation.lives.get(name)).copied();
        let first = generation.tiers.first().map_or(&[][..], |tier| tier);
        let serves = |life: &LifeId| self.lives[*life].health == State::Up || first.contains(life);
        if let Some(pin) = pin.filter(serves).filter(|life| good(*life)) {
            return vec![pin];
        }
        let best = |wanted: &dyn Fn(LifeId) -> bool| {
            let tiers = generation.tiers.iter();
            tiers
                .map(|tier| tier.iter().copied().filter(|life| wanted(*life)).collect())
                .find(|tier: &Vec<_>| !tier.is_empty())
        };
        best(&good).or_else(|| best(&open)).unwrap_or_default()
    }

    /// An attempt begins at this endpoint.
    pub(crate) fn attempts(&mut self, id: u64, name: &str, now: Time) {
        let asked = self.asked.remove(&id).expect("it began");
        let life = self.generations[asked.generation].lives[name];
        let candidates = self.candidates(&asked, now);
        self.hold(!asked.tried.contains(&life), || format!("{id}: twice to {name}"));
        self.hold(candidates.contains(&life), || format!("{id}: to {name}, not to {candidates:?} at {now:?}"));
        self.is_due(id, &asked, now);
        self.is_the_balancers(id, &asked, (life, &candidates));
        let rule = self.generations[asked.generation].service.circuit_breaker.clone();
        self.lives[life].entered(rule.as_ref(), id);
        if let Some(before) = asked.at {
            self.lives[before].left(id);
        }
        self.asked.insert(id, Asked { at: Some(life), owed: None, ..asked });
    }

    fn is_due(&mut self, id: u64, asked: &Asked, now: Time) {
        match (asked.owed, asked.tried.is_empty()) {
            (None, first) => self.hold(first, || format!("{id}: an attempt that nothing allows")),
            (Some((since, wait)), _) => {
                self.hold(now <= since + wait, || {
                    format!("{id}: waited {:?}, not {wait:?}", now.saturating_sub(since))
                });
            }
        }
    }

    fn is_the_balancers(&mut self, id: u64, asked: &Asked, (life, candidates): (LifeId, &[LifeId])) {
        let generation = &self.generations[asked.generation];
        let present = asked.generation + 1 == self.generations.len();
        let whole = generation.tiers.iter().position(|tier| tier == candidates).filter(|_| present);
        let free = asked.pin.is_none() || candidates.len() > 1;
        if whole != self.turns_of {
            self.turns.clear();
            self.hashed.clear();
            self.turns_of = whole;
        }
        if whole.is_none() || !free || generation.service.slow_start.is_some() {
            self.turns.clear();
            return;
        }
        let weights = weights(generation, candidates);
        match generation.service.balancer {
            Balancer::RoundRobin => {
                self.turns.push(life);
                let off = unfair(&self.turns, candidates, &weights);
                self.hold(off.is_none(), || format!("{id}: {}", off.unwrap_or_default()));
            }
            Balancer::LeastRequest => {
                let load = |life: &LifeId| self.lives[*life].in_flight as u64;
                let weight = |life: &LifeId| weights[candidates.iter().position(|other| other == life).unwrap()];
                let least = |other: &LifeId| load(&life) * weight(other) <= load(other) * weight(&life);
                let holds = candidates.iter().all(least);
                self.hold(holds, || format!("{id}: to {life}, which is not the least busy"));
            }
            Balancer::Hash => {
                let before = *self.hashed.entry(asked.client).or_insert(life);
                self.hold(before == life, || format!("{id}: client {} to {life}, not {before}", asked.client));
            }
            Balancer::Random => {}
        }
    }

    /// What became of the attempt that is going on.
    pub(crate) fn became(&mut self, id: u64, outcome: Outcome, now: Time) {
        let mut asked = self.asked.remove(&id).expect("it began");
        let life = asked.at.expect("an attempt is going on");
        let service = self.generations[asked.generation].service.clone();
        let verdict = match outcome {
            Outcome { on: Some(RetryOn::Status(status)), .. } => Some(status >= 500),
            Outcome { on: None, .. } => None,
            _ => Some(true),
        };
        if let Some(bad) = verdict {
            let rules = (service.outlier.as_ref(), service.circuit_breaker.as_ref());
            self.lives[life].judged(bad, id, rules, now);
        }
        asked.tried.push(life);
        (asked.last, asked.bad) = (outcome.cause, verdict == Some(true));
        let named = outcome.on.is_some_and(|on| service.retry.on.contains(&on));
        let more = asked.tried.len() < service.retry.max_attempts as usize;
        let safe = !outcome.sent || asked.idempotent;
        if named && more && safe && self.is_another_there(&asked, now) {
            let budget = self.generations.last().expect("there is one").service.retry.budget.clone();
            if !outcome.sent {
                asked.owed = Some((now, Duration::ZERO));
            } else if self.purse.withdraw(&budget, now) {
                let number = u32::try_from(asked.tried.len()).expect("few");
                let wait = service.retry.backoff.base.0 * 2_u32.pow(number - 1);
                // The timer counts whole milliseconds.
                asked.owed = Some((now, wait.min(service.retry.backoff.max.0) + Duration::from_millis(1)));
            }
        }
        self.asked.insert(id, asked);
    }

    fn is_another_there(&self, asked: &Asked, now: Time) -> bool {
        let generation = &self.generations[asked.generation];
        generation.tiers.iter().flatten().any(|life| self.is_open(generation, *life, &asked.tried, now))
    }

    /// No attempt follows. `cause` is what the client is told; `None` for an endpoint's response.
    pub(crate) fn settled(&mut self, id: u64, cause: Option<Cause>, now: Time) {
        let asked = self.asked.remove(&id).expect("it began");
        let left = self.candidates(&asked, now);
        let over = asked.owed.is_none() && !asked.tried.is_empty() || left.is_empty();
        self.hold(over, || format!("{id}: given up although {left:?} are left: {asked:?}"));
        let told = match (asked.tried.is_empty(), asked.owed.is_some()) {
            (true, _) => matches!(cause, Some(Cause::NoEndpoint | Cause::CircuitOpen)),
            (false, true) => cause == Some(asked.last.unwrap_or(Cause::UpstreamReset)),
            (false, false) => cause == asked.last,
        };
        self.hold(told, || format!("{id}: told {cause:?} after {asked:?}"));
        self.asked.insert(id, asked);
    }

    /// The client has its endpoint. `told`: a cookie was sent.
    pub(crate) fn pins(&mut self, id: u64, name: &str, told: bool, now: Time) {
        let asked = &self.asked[&id];
        let (client, other) = (asked.client, asked.pin.as_deref() != Some(name));
        let sticky = self.generations[asked.generation].service.sticky.clone();
        let by_cookie = matches!(sticky, Some(Sticky::Cookie(_)));
        self.hold(told == (by_cookie && other), || format!("{id}: told of {name}: {told}"));
        // A client that asks twice at once has the cookie that it was told last.
        if told || sticky.is_some() && !by_cookie {
            self.pins.insert(client, (name.to_owned(), now));
        }
    }

    /// It is over, one way or another.
    pub(crate) fn leaves(&mut self, id: u64) {
        if let Some(life) = self.asked.remove(&id).and_then(|asked| asked.at) {
            self.lives[life].left(id);
        }
    }

    /// A response came to its end.
    pub(crate) fn delivered(&mut self, id: u64) {
        if let Some((life, false)) = self.asked.get(&id).and_then(|asked| Some((asked.at?, asked.bad))) {
            self.lives[life].delivered();
        }
    }

    /// Its body broke off. A request fails once, whatever else is wrong with its response.
    pub(crate) fn broke_off(&mut self, id: u64, now: Time) {
        let asked = &self.asked[&id];
        if let (Some(life), false) = (asked.at, asked.bad) {
            let service = &self.generations[asked.generation].service;
            let rules = (service.outlier.as_ref(), service.circuit_breaker.as_ref());
            self.lives[life].judged(true, id, rules, now);
        }
    }

    /// The code counts as many in flight as there are.
    pub(crate) fn counts(&mut self, name: &str, life: LifeId, load: usize) {
        let expected = self.lives[life].in_flight;
        self.hold(load == expected, || format!("{name}: {load} in flight, not {expected}"));
    }

    pub(crate) fn counts_service(&mut self, load: usize) {
        let expected = self.admitted;
        self.hold(load == expected, || format!("the service: {load} in flight, not {expected}"));
    }
}

/// Those that take new clients, the first tier first.
fn tiers(service: &Service, names: &BTreeMap<String, LifeId>, lives: &[Life]) -> Vec<Vec<LifeId>> {
    let endpoints: Vec<(&Endpoint, LifeId)> =
        service.endpoints.iter().map(|endpoint| (endpoint, names[&endpoint.name])).collect();
    let tier = |wanted: &dyn Fn(&Endpoint, &Life) -> bool| -> Vec<LifeId> {
        let takes = |(endpoint, life): &&(&Endpoint, LifeId)| {
            let life = &lives[*life];
            endpoint.weight > 0 && !endpoint.drain && !life.drained && wanted(endpoint, life)
        };
        endpoints.iter().filter(takes).map(|(_, life)| *life).collect()
    };
    let up = |backup: bool| tier(&|endpoint, life| life.health == State::Up && endpoint.backup == backup);
    let mut tiers = vec![up(false), up(true)];
    if tiers.concat().is_empty() {
        tiers = vec![tier(&|_, life| life.health == State::Checking)];
    }
    if tiers.concat().is_empty() && service.on_all_down == OnAllDown::Open {
        tiers = vec![tier(&|_, _| true)];
    }
    tiers.retain(|tier| !tier.is_empty());
    tiers
}

fn weights(generation: &Generation, lives: &[LifeId]) -> Vec<u64> {
    let of = |life: &LifeId| {
        let mut endpoints = generation.service.endpoints.iter();
        let found = endpoints.find(|endpoint| generation.lives[&endpoint.name] == *life);
        found.map_or(0, |endpoint| u64::from(endpoint.weight))
    };
    lives.iter().map(of).collect()
}

/// Whose share of the turns is off: by a turn over a whole cycle, by two (by one with equal weights) before.
fn unfair(turns: &[LifeId], lives: &[LifeId], weights: &[u64]) -> Option<String> {
    let sum: u64 = weights.iter().sum();
    let bound = if weights.iter().all(|weight| *weight == weights[0]) { 1 } else { 2 };
    let count = |turns: &[LifeId], life: LifeId| turns.iter().filter(|turn| **turn == life).count() as u64;
    let cycle = usize::try_from(sum).expect("weights are small");
    for (life, weight) in lives.iter().zip(weights) {
        let all = count(turns, *life) * sum;
        if all.abs_diff(weight * turns.len() as u64) >= bound * sum {
            return Some(format!("{life} had {all}/{sum} of {} turns, with {weight} of {sum}", turns.len()));
        }
        let last = turns.len().checked_sub(cycle).map(|start| count(&turns[start..], *life));
        if last.is_some_and(|last| last != *weight) {
            return Some(format!("{life} had {last:?} turns of the last {sum}, not {weight}"));
        }
    }
    None
}
