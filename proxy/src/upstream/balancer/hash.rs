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
