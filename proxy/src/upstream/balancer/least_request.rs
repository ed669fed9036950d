//! The fewest requests in flight for its weight.
//!
//! A small fleet is looked through; in a larger one the endpoint whose turn it is competes with one picked at random,
//! which is nearly as good (M. Mitzenmacher, "The power of two choices", 2001) and costs the same in any fleet.
//! Whoever is in turn wins ties, so an idle fleet is served in exact weighted rotation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::round_robin::Turns;
use super::{Balancer, Member, Position};

/// Up to this many slots all are compared: as cheap as two random picks, and exact.
const COMPARE_ALL: usize = 8;

/// The `least_request` balancer.
#[derive(Debug)]
pub(super) struct LeastRequest {
    members: Box<[Member]>,
    turns: Turns,
}

impl LeastRequest {
    pub(super) fn new(members: Vec<Member>, position: Arc<Position>) -> LeastRequest {
        LeastRequest { turns: Turns::new(&members, position), members: members.into() }
    }

    fn of_two(&self, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let first = self.turns.next(&|member| open(self.members[member].index()))?;
        let step = fastrand::usize(1..self.members.len());
        let second = (first + step) % self.members.len();
        let (first, second) = (&self.members[first], &self.members[second]);
        Some(if busier(first, second) && open(second.index()) { second.index() } else { first.index() })
    }

    fn of_all(&self, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let first = self.turns.next(&|member| open(self.members[member].index()))?;
        let mut least = &self.members[first];
        let others = self.members[first + 1..].iter().chain(&self.members[..first]);
        for member in others {
            if busier(least, member) && open(member.index()) {
                least = member;
            }
        }
        Some(least.index())
    }
}

impl Balancer for LeastRequest {
    fn pick(&self, _key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.members.len() <= COMPARE_ALL { self.of_all(open) } else { self.of_two(open) }
    }
}

/// Whether `a` has more in flight for its weight than `b`.
fn busier(a: &Member, b: &Member) -> bool {
    // Relaxed: a load that is a moment old is as good as any, it changes right after anyway.
    let load = |member: &Member| member.load.load(Ordering::Relaxed) as u64;
    load(a).saturating_mul(u64::from(b.weight)) > load(b).saturating_mul(u64::from(a.weight))
}
