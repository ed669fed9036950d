//! By chance, by weight.
//!
//! Needs no state shared between workers; in large fleets as even as round robin, in small ones noisier.

use super::{Balancer, Member};

/// The `random` balancer.
#[derive(Debug)]
pub(super) struct Random {
    /// Slots with the sum of the weights up to and with their own, which is therefore increasing.
    shares: Box<[Share]>,
    total: u64,
}

#[derive(Debug)]
struct Share {
    index: usize,
    weight: u64,
    up_to: u64,
}

impl Random {
    pub(super) fn new(members: &[Member]) -> Random {
        let mut total = 0;
        let share = |member: &Member| {
            let weight = u64::from(member.weight);
            total += weight;
            Share { index: member.index(), weight, up_to: total }
        };
        let shares = members.iter().map(share).collect();
        Random { shares, total }
    }

    /// A weighted draw among the open slots, in one pass: each takes over with the chance of its weight in the sum
    /// so far.
    #[cold]
    fn among_open(&self, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut picked = None;
        for share in self.shares.iter().filter(|share| open(share.index)) {
            total += share.weight;
            if fastrand::u64(..total) < share.weight {
                picked = Some(share.index);
            }
        }
        picked
    }
}

impl Balancer for Random {
    fn pick(&self, _key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        let drawn = fastrand::u64(..self.total);
        let share = &self.shares[self.shares.partition_point(|share| share.up_to <= drawn)];
        if open(share.index) { Some(share.index) } else { self.among_open(open) }
    }
}

#[cfg(test)]
mod tests {
    use waypost_config::service::Balancer as Kind;

    use super::super::tests::balancer;

    #[track_caller]
    fn check(open: &[bool], expected: [usize; 4]) {
        fastrand::seed(42);
        let balancer = balancer(Kind::Random, &[1, 2, 3, 4]);
        let mut counts = [0_usize; 4];
        for _ in 0..10_000 {
            counts[balancer.pick(0, &|index| open[index]).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip(expected) {
            assert!(count.abs_diff(expected) <= expected / 10, "{counts:?} for {open:?}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        check(&[true; 4], [1000, 2000, 3000, 4000]);
    }

    #[test]
    fn share_of_a_closed_slot_spreads_by_weight() {
        // Its 3000 among weights 1, 2 and 4.
        check(&[true, true, false, true], [1428, 2857, 0, 5714]);
        check(&[true, false, false, false], [10_000, 0, 0, 0]);
    }
}
