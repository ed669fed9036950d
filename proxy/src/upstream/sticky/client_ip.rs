//! Pins in a table by client address, for clients that keep no cookies. Bounded; ends with the process.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Locks, each over its part of the table: two workers seldom want the same.
const SHARDS: usize = 64;

/// Clients remembered, about 10 MB. Beyond it the longest unseen go.
const MOST_CLIENTS: usize = 100_000;
const MOST_PER_SHARD: usize = MOST_CLIENTS / SHARDS;

/// The part of a full shard that makes room at once, so that looking for the oldest is rare.
const CLEARED_PART: usize = 8;

/// The pins of one service with `sticky = { client_ip = … }`.
#[derive(Debug)]
pub struct ClientIpPins {
    ttl: Duration,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

type Shard = HashMap<u128, Pinned>;

#[derive(Debug)]
struct Pinned {
    endpoint: Arc<str>,
    last_use: Instant,
}

impl ClientIpPins {
    /// An empty table; a pin ends when it was not used for `ttl`.
    pub fn new(ttl: Duration) -> ClientIpPins {
        ClientIpPins { ttl, hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The name of the client's endpoint; counts as a use.
    pub fn get(&self, client: IpAddr, now: Instant) -> Option<Arc<str>> {
        let key = key(client);
        let mut shard = self.shard(key).lock();
        let pinned = shard.get_mut(&key)?;
        if now.saturating_duration_since(pinned.last_use) > self.ttl {
            shard.remove(&key);
            return None;
        }
        pinned.last_use = now;
        Some(Arc::clone(&pinned.endpoint))
    }

    /// The name of the client's endpoint, for those who only want to know.
    pub fn peek(&self, client: IpAddr, now: Instant) -> Option<Arc<str>> {
        let key = key(client);
        let shard = self.shard(key).lock();
        let pinned = shard.get(&key)?;
        (now.saturating_duration_since(pinned.last_use) <= self.ttl).then(|| Arc::clone(&pinned.endpoint))
    }

    /// Pins the client, in the place of its former pin.
    pub fn set(&self, client: IpAddr, endpoint: Arc<str>, now: Instant) {
        let key = key(client);
        let mut shard = self.shard(key).lock();
        if shard.len() >= MOST_PER_SHARD && !shard.contains_key(&key) {
            make_room(&mut shard, now, self.ttl);
        }
        shard.insert(key, Pinned { endpoint, last_use: now });
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let hash = self.hasher.hash_one(key) as usize;
        &self.shards[hash % SHARDS]
    }
}

/// An IPv6 client has a /64 and may change addresses within it at will.
fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

fn make_room(shard: &mut Shard, now: Instant, ttl: Duration) {
    shard.retain(|_, pinned| now.saturating_duration_since(pinned.last_use) <= ttl);
    if shard.len() < MOST_PER_SHARD {
        return;
    }
    let mut excess = shard.len() / CLEARED_PART;
    let mut uses: Vec<Instant> = shard.values().map(|pinned| pinned.last_use).collect();
    let (_, oldest, _) = uses.select_nth_unstable(excess - 1);
    shard.retain(|_, pinned| {
        let goes = excess > 0 && pinned.last_use <= *oldest;
        excess -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(pinned: &str, asked: &str, found: Option<&str>) {
        let pins = ClientIpPins::new(MINUTE);
        let now = Instant::now();
        pins.set(ip(pinned), "web-1".into(), now);
        assert_eq!(pins.get(ip(asked), now).as_deref(), found, "{pinned} pinned, {asked} asked");
    }

    #[test]
    fn client_is_its_address_or_its_ipv6_network() {
        check("192.0.2.1", "192.0.2.1", Some("web-1"));
        check("192.0.2.1", "::ffff:192.0.2.1", Some("web-1"));
        check("192.0.2.1", "192.0.2.2", None);
        check("2001:db8::1", "2001:db8::ffff:0:2", Some("web-1"));
        check("2001:db8::1", "2001:db8:0:1::1", None);
        check("::1", "192.0.2.1", None);
    }

    #[test]
    fn pin_ends_when_unused_and_use_prolongs_it() {
        let pins = ClientIpPins::new(MINUTE);
        let start = Instant::now();
        pins.set(ip("192.0.2.1"), "web-1".into(), start);
        assert!(pins.get(ip("192.0.2.1"), start + MINUTE).is_some());
        assert!(pins.get(ip("192.0.2.1"), start + 2 * MINUTE).is_some());
        assert!(pins.get(ip("192.0.2.1"), start + 4 * MINUTE).is_none());
        assert!(pins.get(ip("192.0.2.1"), start + 2 * MINUTE).is_none(), "it is gone for good");
    }

    #[test]
    fn later_pin_takes_the_place_of_the_former() {
        let pins = ClientIpPins::new(MINUTE);
        let now = Instant::now();
        pins.set(ip("192.0.2.1"), "web-1".into(), now);
        pins.set(ip("192.0.2.1"), "web-2".into(), now);
        assert_eq!(pins.get(ip("192.0.2.1"), now).as_deref(), Some("web-2"));
    }

    #[test]
    fn flood_of_addresses_costs_the_oldest_pins_not_memory() {
        let pins = ClientIpPins::new(MINUTE);
        let start = Instant::now();
        let client = |number: u32| IpAddr::from(number.to_be_bytes());
        let at = |number: u32| start + Duration::from_micros(number.into());
        let endpoint: Arc<str> = "web-1".into();
        let flood = 150_000_u32;
        for number in 0..flood {
            pins.set(client(number), Arc::clone(&endpoint), at(number));
        }
        let kept: usize = pins.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!((MOST_CLIENTS * 3 / 4..=MOST_CLIENTS).contains(&kept), "{kept}");
        assert!((flood - 50_000..flood).all(|number| pins.get(client(number), at(flood)).is_some()));
        assert!((0..1000).all(|number| pins.get(client(number), at(flood)).is_none()));
    }

    #[test]
    fn flood_within_one_instant_is_bounded_too() {
        let pins = ClientIpPins::new(MINUTE);
        let now = Instant::now();
        (0..120_000_u32).for_each(|number| pins.set(IpAddr::from(number.to_be_bytes()), "web-1".into(), now));
        let kept: usize = pins.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!((MOST_CLIENTS * 3 / 4..=MOST_CLIENTS).contains(&kept), "{kept}");
    }
}
