//! Always the same endpoint for the same key.
//!
//! A ketama ring over names and weights: when an endpoint comes or goes, only the keys that it gains or loses move.
//! A key whose endpoint is not open goes to the next one on the ring, so the keys of a full endpoint spread over all.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use aws_lc_rs::digest;
use pingora_ketama::{Bucket, Continuum};

use super::{Balancer, Member};

/// The most weight laid on the ring (160 points a unit, about 10 MB). Beyond it weights are halved, at least 1 each,
/// until they fit; a fleet that crosses this border moves keys.
const MOST_WEIGHT: u64 = 8192;

/// The most slots a ring tells apart: ketama counts them in 16 bits.
const MOST_SLOTS: usize = 1 << 16;

/// Points looked at before all slots are looked through in order: a few hundred miss nobody of a small fleet.
const WALK: usize = 512;

/// The `hash` balancer.
pub(super) struct Hash {
    ring: Continuum,
    /// The slots on the ring.
    indices: Box<[usize]>,
}

impl Hash {
    pub(super) fn new(members: &[Member]) -> Hash {
        let members = &members[..members.len().min(MOST_SLOTS)];
        let halvings = halvings(members);
        let bucket = |member: &Member| Bucket::new(address(member), (member.weight >> halvings).max(1));
        let buckets: Vec<Bucket> = members.iter().map(bucket).collect();
        Hash { ring: Continuum::new(&buckets), indices: members.iter().map(Member::index).collect() }
    }

    /// Every slot once, beginning with one that the key decides.
    #[cold]
    fn look_through(&self, key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let count = self.indices.len();
        #[expect(clippy::cast_possible_truncation, reason = "smaller than the length of a slice")]
        let start = (key % count.max(1) as u64) as usize;
        let (before, from) = self.indices.split_at(start);
        from.iter().chain(before).copied().find(|index| open(*index))
    }
}

impl Balancer for Hash {
    fn pick(&self, key: u64, open: &dyn Fn(usize) -> bool) -> Option<usize> {
        let near = self.ring.node_iter(&key.to_le_bytes()).take(WALK).map(slot_at);
        near.into_iter().find(|index| open(*index)).or_else(|| self.look_through(key, open))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hash").field("slots", &self.indices).finish_non_exhaustive()
    }
}

fn halvings(members: &[Member]) -> u32 {
    let weight = |halvings: u32| members.iter().map(|member| u64::from(member.weight >> halvings).max(1)).sum::<u64>();
    (0..u32::BITS - 1).find(|halvings| weight(*halvings) <= MOST_WEIGHT).unwrap_or(u32::BITS - 1)
}

/// Ketama knows socket addresses only. It hashes the address and the port, here a digest of the name; the flow label,
/// which it leaves alone, carries the slot's index.
fn address(member: &Member) -> SocketAddr {
    let digest = digest::digest(&digest::SHA256, member.name.as_bytes());
    let (ip, rest) = digest.as_ref().split_first_chunk::<16>().expect("SHA-256 has 32 bytes");
    let port = u16::from_be_bytes([rest[0], rest[1]]);
    SocketAddrV6::new(Ipv6Addr::from(*ip), port, member.index, 0).into()
}

fn slot_at(address: &SocketAddr) -> usize {
    match address {
        SocketAddr::V6(address) => address.flowinfo() as usize,
        SocketAddr::V4(_) => unreachable!("every address on the ring comes from `address`"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use waypost_config::service::Balancer as Kind;

    use super::super::tests::{balancer, slots};
    use super::super::{Slot, build, members};
    use super::*;

    fn keys(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn names(fleet: &[Slot], count: u64) -> Vec<Arc<str>> {
        let balancer = build(Kind::Hash, fleet.to_vec(), &Arc::default());
        keys(count).map(|key| Arc::clone(&fleet[balancer.pick(key, &|_| true).unwrap()].name)).collect()
    }

    #[test]
    fn share_on_the_ring_follows_the_weight() {
        let balancer = balancer(Kind::Hash, &[1, 1, 2]);
        let mut counts = [0_u64; 3];
        keys(40_000).for_each(|key| counts[balancer.pick(key, &|_| true).unwrap()] += 1);
        for (count, expected) in counts.into_iter().zip([10_000, 10_000, 20_000]) {
            assert!(count.abs_diff(expected) < expected / 4, "{counts:?}");
        }
    }

    #[test]
    fn order_of_the_slots_does_not_matter() {
        let fleet = slots(&[1, 2, 3, 4]);
        let reversed: Vec<_> = fleet.iter().rev().cloned().collect();
        assert_eq!(names(&fleet, 2000), names(&reversed, 2000));
    }

    #[test]
    fn heavy_fleet_is_scaled_to_fit() {
        assert_eq!(halvings(&members(slots(&vec![1; 5000]))), 0);
        assert_eq!(halvings(&members(slots(&[100; 50]))), 0);
        assert_eq!(halvings(&members(slots(&[1000; 50]))), 3);
        assert_eq!(halvings(&members(slots(&[u32::MAX; 3]))), 21);
        assert!(halvings(&members(slots(&vec![1; 9000]))) < u32::BITS);
    }

    #[test]
    fn keys_of_a_closed_slot_spread_over_the_others() {
        let balancer = balancer(Kind::Hash, &[1; 5]);
        let mut moved = [0; 5];
        for key in keys(10_000) {
            let home = balancer.pick(key, &|_| true).unwrap();
            let next = balancer.pick(key, &|index| index != 0).unwrap();
            if home == 0 {
                moved[next] += 1;
            } else {
                assert_eq!(home, next);
            }
        }
        assert!(moved[0] == 0 && moved[1..].iter().all(|count| *count > 100), "{moved:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn removing_one_moves_only_its_keys(
            weights in prop::collection::vec(1_u32..=5, 2..12),
            gone in any::<prop::sample::Index>(),
        ) {
            let fleet = slots(&weights);
            let gone = gone.index(fleet.len());
            let mut rest = fleet.clone();
            let removed = rest.remove(gone);
            for (before, after) in names(&fleet, 500).into_iter().zip(names(&rest, 500)) {
                prop_assert!(before == after || before == removed.name, "{} moved to {}", before, after);
            }
        }
    }
}
