//! Which of the available endpoints gets this request?
//!
//! One trait, one algorithm a file. A balancer sees available endpoints and a key, nothing else: whether an endpoint
//! is up, drained or full was decided before. It is immutable and built anew whenever the available set changes; what
//! has to outlive that (where round robin stands) is the service's [`Position`].

mod hash;
mod least_request;
mod random;
mod round_robin;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use waypost_config::service::Balancer as Kind;

use self::hash::Hash;
use self::least_request::LeastRequest;
use self::random::Random;
use self::round_robin::RoundRobin;

/// Spreads requests over the slots it was built with.
pub trait Balancer: Send + Sync + fmt::Debug {
    /// The index of a slot for which `open(index)` holds (not full, not tried yet), or `None` if there is none.
    ///
    /// `key` decides in consistent hashing and is ignored otherwise; it should be well mixed. `open` may be asked
    /// several times about one slot. A slot of weight 0 is never picked, unless all weights are 0.
    fn pick(&self, key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize>;
}

/// One available endpoint as a balancer sees it.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The endpoint's name: its identity on the hash ring.
    pub name: Arc<str>,
    /// Its share, relative to the other slots; 0 gets nothing unless all are 0.
    pub weight: u32,
    /// Requests in flight, kept by the endpoint.
    pub load: Arc<AtomicUsize>,
}

/// Where the turns of a service stand. Belongs to the service and outlives its balancers.
#[derive(Debug, Default)]
pub struct Position(AtomicU64);

impl Position {
    // Relaxed in all: each ticket only has to be unique, it guards no other memory. 64 bits never wrap.
    fn ticket(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// A ticket was of no use. Of two who do this at once, or beside a pick, one turn may come twice.
    fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Uses up the tickets that were passed over.
    fn skip(&self, tickets: u64) {
        self.0.fetch_add(tickets, Ordering::Relaxed);
    }
}

/// The balancer of this kind over these slots; `pick` answers with indices into `slots`.
pub fn build(kind: Kind, slots: Vec<Slot>, position: &Arc<Position>) -> Box<dyn Balancer> {
    let members = members(slots);
    match kind {
        Kind::RoundRobin => Box::new(RoundRobin::new(&members, Arc::clone(position))),
        Kind::LeastRequest => Box::new(LeastRequest::new(members, Arc::clone(position))),
        Kind::Random => Box::new(Random::new(&members)),
        Kind::Hash => Box::new(Hash::new(&members)),
    }
}

/// A slot that takes part: its weight is at least 1.
#[derive(Debug)]
struct Member {
    index: u32,
    weight: u32,
    name: Arc<str>,
    load: Arc<AtomicUsize>,
}

impl Member {
    fn index(&self) -> usize {
        self.index as usize
    }
}

fn members(slots: Vec<Slot>) -> Vec<Member> {
    let none_weighs = slots.iter().all(|slot| slot.weight == 0);
    let numbered = (0_u32..).zip(slots);
    let taking_part = numbered.filter(|(_, slot)| none_weighs || slot.weight > 0);
    taking_part
        .map(|(index, slot)| Member { index, weight: slot.weight.max(1), name: slot.name, load: slot.load })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn slots(weights: &[u32]) -> Vec<Slot> {
        let slot = |(index, weight): (usize, &u32)| Slot {
            name: format!("web-{index}").into(),
            weight: *weight,
            load: Arc::default(),
        };
        weights.iter().enumerate().map(slot).collect()
    }

    pub(super) fn balancer(kind: Kind, weights: &[u32]) -> Box<dyn Balancer> {
        build(kind, slots(weights), &Arc::default())
    }

    const KINDS: [Kind; 4] = [Kind::RoundRobin, Kind::LeastRequest, Kind::Random, Kind::Hash];

    #[test]
    fn empty_fleet_has_nothing_to_pick() {
        for kind in KINDS {
            assert_eq!(balancer(kind, &[]).pick(7, &|_| true), None, "{kind:?}");
        }
    }

    #[test]
    fn weight_zero_gets_nothing() {
        for kind in KINDS {
            let balancer = balancer(kind, &[0, 1, 0, 3]);
            for key in 0..1000_u64 {
                let picked = balancer.pick(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &|_| true);
                assert!(matches!(picked, Some(1 | 3)), "{kind:?} picked {picked:?}");
            }
            assert_eq!(balancer.pick(1, &|index| index == 0 || index == 2), None, "{kind:?}");
        }
    }

    #[test]
    fn all_weights_zero_count_as_equal() {
        for kind in KINDS {
            let balancer = balancer(kind, &[0, 0, 0]);
            let mut seen = [0; 3];
            for key in 0..600_u64 {
                seen[balancer.pick(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &|_| true).unwrap()] += 1;
            }
            assert!(seen.iter().all(|count| *count > 50), "{kind:?}: {seen:?}");
        }
    }

    proptest! {
        #[test]
        fn pick_is_open_and_none_only_if_nothing_is(
            slots in prop::collection::vec((0_u32..=6, any::<bool>()), 0..24),
            keys in prop::collection::vec(any::<u64>(), 1..40),
        ) {
            let (weights, open): (Vec<_>, Vec<_>) = slots.into_iter().unzip();
            let none_weighs = weights.iter().all(|weight| *weight == 0);
            let possible = |index: usize| open[index] && (none_weighs || weights[index] > 0);
            let any_possible = (0..weights.len()).any(possible);
            for kind in KINDS {
                let balancer = balancer(kind, &weights);
                for key in &keys {
                    match balancer.pick(*key, &|index| open[index]) {
                        Some(index) => prop_assert!(possible(index), "{:?} picked {}", kind, index),
                        None => prop_assert!(!any_possible, "{:?} found nothing", kind),
                    }
                }
            }
        }
    }
}
