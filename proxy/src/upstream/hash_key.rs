//! What the `hash` balancer hashes: a part of the request as a number that is the same in every process.
//!
//! Never keeps anything; a request without the named header or cookie hashes by its client's address.

use std::net::IpAddr;

use http::HeaderMap;
use waypost_config::value::HashKey;

use crate::context::RequestContext;
use crate::cookies;

/// The number for this request.
pub fn of(key: &HashKey, headers: &HeaderMap, path: &str, context: &RequestContext) -> u64 {
    let named = match key {
        HashKey::ClientIp => None,
        HashKey::Path => Some(path.as_bytes()),
        HashKey::Header(name) => headers.get(name.as_str()).map(http::HeaderValue::as_bytes),
        HashKey::Cookie(name) => cookies::find(headers, name),
    };
    match (named, context.client_ip) {
        (Some(bytes), _) => mixed(bytes),
        (None, IpAddr::V4(address)) => mixed(&address.octets()),
        (None, IpAddr::V6(address)) => mixed(&address.octets()),
    }
}

/// FNV-1a, and the finaliser of `MurmurHash3`, for FNV leaves the high bits of short keys poorly mixed.
fn mixed(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_addresses_land_far_apart() {
        let near = mixed(&[10, 0, 0, 1]).abs_diff(mixed(&[10, 0, 0, 2]));
        assert!(near > u64::MAX / 1000, "{near}");
    }

    #[test]
    fn the_number_never_changes() {
        assert_eq!(mixed(b"web"), mixed(b"web"));
        assert_eq!(mixed(b""), 0xefd0_1f60_ba99_2926);
    }
}
