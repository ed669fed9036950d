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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waypost_config::service::Balancer as Kind;

    use super::super::tests::slots;
    use super::super::{Slot, build};
    use super::*;

    fn loaded(weights: &[u32], loads: &[usize]) -> Vec<Slot> {
        let slots = slots(weights);
        slots.iter().zip(loads).for_each(|(slot, load)| slot.load.store(*load, Ordering::Relaxed));
        slots
    }

    #[track_caller]
    fn check(weights: &[u32], loads: &[usize], expected: &[usize]) {
        let balancer = build(Kind::LeastRequest, loaded(weights, loads), &Arc::default());
        let picks: Vec<_> = expected.iter().map(|_| balancer.pick(0, &|_| true).unwrap()).collect();
        assert_eq!(picks, expected, "{weights:?} with {loads:?}");
    }

    #[test]
    fn least_loaded_for_its_weight_is_picked_and_ties_rotate() {
        check(&[1, 1, 1], &[3, 1, 2], &[1, 1]);
        check(&[4, 1, 1], &[3, 1, 2], &[0, 0]);
        check(&[1, 1, 1], &[0, 0, 0], &[0, 1, 2, 0]);
        check(&[1, 1, 1], &[0, 5, 0], &[0, 2, 2, 0]);
        check(&[2, 1], &[0, 0], &[0, 1, 0]);
    }

    #[test]
    fn large_fleet_avoids_the_busy() {
        let mut loads = [1; 100];
        loads[..50].fill(10);
        let slots = loaded(&[1; 100], &loads);
        fastrand::seed(7);
        let balancer = build(Kind::LeastRequest, slots, &Arc::default());
        let busy = (0..10_000).filter(|_| balancer.pick(0, &|_| true).unwrap() < 50).count();
        // Both of the two are busy once in four.
        assert!((2200..2800).contains(&busy), "{busy}");
    }

    #[test]
    fn anybody_but_the_first_may_be_the_second() {
        for idle in 0..9 {
            let mut loads = [5; 9];
            loads[idle] = 0;
            fastrand::seed(7);
            let balancer = build(Kind::LeastRequest, loaded(&[1; 9], &loads), &Arc::default());
            let picked = (0..9000).filter(|_| balancer.pick(0, &|_| true) == Some(idle)).count();
            // In turn once in nine, and as the second of the two as often.
            assert!((1850..2150).contains(&picked), "{idle}: {picked}");
        }
    }

    #[test]
    fn large_idle_fleet_is_served_in_turn() {
        let balancer = build(Kind::LeastRequest, slots(&[1; 20]), &Arc::default());
        let picks: Vec<_> = (0..40).map(|_| balancer.pick(0, &|_| true).unwrap()).collect();
        assert_eq!(picks, (0..20).chain(0..20).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn nobody_open_is_less_loaded_in_a_small_fleet(
            fleet in prop::collection::vec((1_u32..=10, 0_usize..20, any::<bool>()), 1..=COMPARE_ALL),
            turns in 0_u64..100,
        ) {
            let weights: Vec<_> = fleet.iter().map(|slot| slot.0).collect();
            let loads: Vec<_> = fleet.iter().map(|slot| slot.1).collect();
            let position = Arc::new(Position::default());
            position.skip(turns);
            let balancer = build(Kind::LeastRequest, loaded(&weights, &loads), &position);
            if let Some(picked) = balancer.pick(0, &|index| fleet[index].2) {
                let ratio = |index: usize| f64::from(u32::try_from(loads[index]).unwrap()) / f64::from(weights[index]);
                let open = (0..fleet.len()).filter(|index| fleet[*index].2);
                prop_assert!(open.map(ratio).all(|other| ratio(picked) <= other));
            }
        }
    }
}
