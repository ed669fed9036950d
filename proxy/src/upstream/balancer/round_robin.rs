//! In turn, by weight, exact.
//!
//! The whole period (the sum of the weights, reduced by their common divisor) is laid out once per build; a pick
//! takes a ticket from the service's position and looks up whose turn it is. After every ticket each endpoint has had
//! its ideal share give or take less than one turn, whichever thread drew which ticket. A rebuild goes on amid a period;
//! counted from there it is less than one turn still if weights are equal, and less than two if not.
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
/// a build to about half a megabyte and some thirty milliseconds.
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
        let found = (1..members).map(|step| (start + step) % members).find(|member| open(*member));
        if found.is_none() {
            // Whoever asks again, with other wishes or another tier, has the same turn: with two tickets each time, it
            // would always be the same of two endpoints.
            self.position.give_back();
        }
        found
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

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use waypost_config::service::Balancer as Kind;

    use super::super::tests::{balancer, slots};
    use super::super::{build, members};
    use super::*;

    /// The greatest deviation from the ideal over all prefixes of two periods, in turns times the sum of weights.
    fn worst_deviation(weights: &[u32], turns: &[u32]) -> u64 {
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut counts = vec![0_u64; weights.len()];
        let mut worst = 0;
        for (now, member) in (1_u64..).zip(turns.iter().chain(turns)) {
            counts[*member as usize] += 1;
            let off = |(count, weight): (&u64, &u32)| (count * sum).abs_diff(u64::from(*weight) * now);
            worst = worst.max(counts.iter().zip(weights).map(off).max().unwrap());
        }
        worst
    }

    fn laid_out(weights: &[u32]) -> Vec<u32> {
        sequence(&weights.iter().map(|weight| u64::from(*weight)).collect::<Vec<_>>())
    }

    fn counts(weights: &[u32], picks: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut counts = vec![0; weights.len()];
        picks.into_iter().for_each(|index| counts[index] += 1);
        counts
    }

    #[track_caller]
    fn check(weights: &[u32], expected: &[usize]) {
        let balancer = balancer(Kind::RoundRobin, weights);
        let picks: Vec<_> = expected.iter().map(|_| balancer.pick(0, &|_| true).unwrap()).collect();
        assert_eq!(picks, expected, "{weights:?}");
    }

    #[test]
    fn turns_are_spread_not_bunched() {
        check(&[1], &[0, 0]);
        check(&[7, 7, 7], &[0, 1, 2, 0, 1, 2]);
        check(&[2, 1], &[0, 1, 0, 0, 1, 0]);
        check(&[5, 1, 1], &[0, 0, 1, 0, 0, 2, 0]);
        check(&[500, 0, 500], &[0, 2, 0, 2]);
    }

    #[test]
    fn equal_weights_need_one_turn_each() {
        assert_eq!(laid_out(&vec![1000; 5000]).len(), 5000);
    }

    #[test]
    fn nobody_is_off_by_a_turn_where_the_smooth_rule_is() {
        let weights = [20, 3, 3, 1, 1, 20, 20, 1, 3, 3, 1, 2, 1, 20];
        assert!(worst_deviation(&weights, &laid_out(&weights)) < 99);
    }

    #[test]
    fn longest_period_is_bounded_and_leaves_nobody_out() {
        let weights: Vec<u32> = (0..5000).map(|index| 1 + index * 7919 % 1000).collect();
        let turns = laid_out(&weights);
        assert!(turns.len() as u64 <= LONGEST_PERIOD + 5000, "{}", turns.len());
        let counts = counts(&weights, turns.iter().map(|member| *member as usize));
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let ideal = u64::from(*weight) * turns.len() as u64 / sum;
            assert!((1..=ideal + 1).contains(count) && count + 2 > ideal, "{count} for {ideal}");
        }
    }

    #[test]
    fn position_survives_a_rebuild() {
        let position = Arc::new(Position::default());
        let mut picks = Vec::new();
        for _ in 0..7 {
            let balancer = build(Kind::RoundRobin, slots(&[1, 1, 1]), &position);
            picks.extend((0..2).map(|_| balancer.pick(0, &|_| true).unwrap()));
        }
        assert_eq!(picks, [0, 1, 2].repeat(5)[..14]);
    }

    #[test]
    fn closed_slot_leaves_the_others_their_proportions() {
        let weights = [1, 1, 1, 1];
        let balancer = balancer(Kind::RoundRobin, &weights);
        let picks = (0..300).map(|_| balancer.pick(0, &|index| index != 1).unwrap());
        assert_eq!(counts(&weights, picks), [100, 0, 100, 100]);
    }

    #[test]
    fn whoever_finds_nobody_uses_up_no_turn() {
        let position = Arc::default();
        let [first, second] = [(); 2].map(|()| build(Kind::RoundRobin, slots(&[1, 1]), &position));
        let picks = (0..6).map(|_| {
            assert_eq!(first.pick(0, &|_| false), None);
            second.pick(0, &|_| true).unwrap()
        });
        assert_eq!(picks.collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn rare_slot_is_found_when_it_alone_is_open() {
        let balancer = balancer(Kind::RoundRobin, &[1000, 1, 999]);
        assert_eq!(balancer.pick(0, &|index| index == 1), Some(1));
    }

    #[test]
    fn shares_are_exact_under_concurrency() {
        let weights = [5, 3, 1];
        let balancer = balancer(Kind::RoundRobin, &weights);
        // 4 threads, 9001 tickets: not a whole number of periods.
        let picks: Vec<usize> = thread::scope(|scope| {
            let drawn = |count: usize| (0..count).map(|_| balancer.pick(0, &|_| true).unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = [2250, 2250, 2250, 2251].map(|count| scope.spawn(move || drawn(count))).into();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        for (count, weight) in counts(&weights, picks).into_iter().zip(weights) {
            assert!((count * 9).abs_diff(u64::from(weight) * 9001) < 9, "{count} for {weight}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_ever_a_turn_off_its_share(
            weights in prop_oneof![
                prop::collection::vec(1_u32..=12, 1..30),
                prop::collection::vec(1_u32..=1000, 1..8),
                prop::collection::vec(prop_oneof![Just(1_u32), Just(20), Just(1000)], 1..16),
            ]
        ) {
            let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let turns = laid_out(&weights);
            prop_assert!(worst_deviation(&weights, &turns) < sum);
            prop_assert_eq!(turns.len() as u64 * weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))), sum);
            prop_assert_eq!(members(slots(&weights)).len(), weights.len());
        }
    }
}
