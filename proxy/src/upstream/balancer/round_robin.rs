//! In turn, by weight, exact.
//!
//! The whole period (the sum of the weights, reduced by their common divisor) is laid out once per build; a pick
//! takes a ticket from the service's position and looks up whose turn it is. After every ticket each endpoint has had
//! its ideal share give or take less than one turn, whichever thread drew which ticket.
//!
//! The layout is R. Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980), which has
//! the smallest greatest deviation there is, `1 - 1/(2n-2)`. The "smooth" rule known from nginx has no such bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use super::{Balancer, Member, Position};

/// The longest period laid out, in turns. 131 endpoints of weight 1000 still fit exactly; in a larger fleet weights
/// are scaled down to fit (at least one turn each), which puts a share off by at most one turn in a period. It bounds
/// a build to half a megabyte and about ten milliseconds.
const LONGEST_PERIOD: u64 = 1 << 17;

/// The `round_robin` balancer.
#[derive(Debug)]
pub(super) struct RoundRobin {
    turns: Turns,
}

impl RoundRobin {
    pub(super) fn new(members: &[Member], position: Arc<Position>) -> RoundRobin {
        RoundRobin { turns: Turns::new(members, position) }
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, _key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let indices = &self.turns.indices;
        self.turns.next(&|member| open(indices[member] as usize)).map(|member| indices[member] as usize)
    }
}

/// Whose turn it is among members. Also breaks the ties of other balancers.
#[derive(Debug)]
pub(super) struct Turns {
    /// Positions in `indices`, one a turn.
    sequence: Box<[u32]>,
    /// The slot of each member.
    indices: Box<[u32]>,
    position: Arc<Position>,
}

impl Turns {
    pub(super) fn new(members: &[Member], position: Arc<Position>) -> Turns {
        let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight)).collect();
        let indices = members.iter().map(|member| member.index).collect();
        Turns { sequence: sequence(&weights).into(), indices, position }
    }

    /// The next open member in turn. Closed ones lose their turn, so the others keep their proportions.
    pub(super) fn next(&self, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.sequence.is_empty() {
            return None;
        }
        let ticket = self.position.ticket();
        let first = self.at(ticket);
        if open(first) { Some(first) } else { self.walk_on(ticket, open) }
    }

    /// As many turns as there are members, which is everybody if weights are equal; then all members in order.
    #[cold]
    fn walk_on(&self, ticket: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let members = self.indices.len();
        if let Some(skipped) = (1..=members as u64).find(|skipped| open(self.at(ticket.wrapping_add(*skipped)))) {
            self.position.skip(skipped);
            return Some(self.at(ticket.wrapping_add(skipped)));
        }
        let start = self.at(ticket);
        (1..members).map(|step| (start + step) % members).find(|member| open(*member))
    }

    fn at(&self, ticket: u64) -> usize {
        let turn = ticket % self.sequence.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "smaller than the length of a slice")]
        let turn = turn as usize;
        self.sequence[turn] as usize
    }
}

/// One period of turns: each position in `weights` (all at least 1) as often as its reduced weight says.
fn sequence(weights: &[u64]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    let weights: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..).take(weights.len()).collect();
    }
    lay_out(&fitted(weights))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Weights whose sum is about [`LONGEST_PERIOD`] at most, or one turn each where the fleet alone is larger.
fn fitted(weights: Vec<u64>) -> Vec<u64> {
    let sum: u64 = weights.iter().sum();
    if sum <= LONGEST_PERIOD {
        return weights;
    }
    let scaled = |weight: u64| ((weight * LONGEST_PERIOD + sum / 2) / sum).max(1);
    weights.into_iter().map(scaled).collect()
}

/// Tijdeman's rule as earliest deadline first: turn `j` of a weight may come no sooner than its share has grown to
/// `j + 1/(2n-2)` turns, and must come before it passes `j + 1 - 1/(2n-2)`.
fn lay_out(weights: &[u64]) -> Vec<u32> {
    let period: u64 = weights.iter().sum();
    let unit = (2 * weights.len() as u64).saturating_sub(2).max(1);
    let earliest = |weight: u64, j: u64| ((j * unit + 1) * period).div_ceil(weight * unit);
    let latest = |weight: u64, j: u64| ((j + 1) * unit - 1) * period / (weight * unit);

    let mut waiting: BinaryHeap<_> =
        (0_u32..).zip(weights).map(|(member, weight)| Reverse((earliest(*weight, 0), member, 0_u64))).collect();
    let mut ready = BinaryHeap::new();
    let mut turns = Vec::new();
    for now in 1..=period {
        while let Some(next) = waiting.peek_mut().filter(|next| next.0.0 <= now) {
            let Reverse((_, member, j)) = PeekMut::pop(next);
            ready.push(Reverse((latest(weights[member as usize], j), member, j)));
        }
        let Reverse((_, member, j)) = ready.pop().expect("Tijdeman 1980: somebody is always entitled to the next turn");
        turns.push(member);
        waiting.push(Reverse((earliest(weights[member as usize], j + 1), member, j + 1)));
    }
    turns
}
