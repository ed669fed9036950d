//! Who is behind the load balancer in front of us? The header of the PROXY protocol, versions 1 and 2, inbound.
//!
//! A pure parser over the first bytes of a connection (`proxy-protocol.txt` of `HAProxy`, sections 2.1 and 2.2). Decides
//! whether they are a whole header, may still become one, or never will. Never reads a socket and never decides whom
//! to believe: `edge` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header accepted, in bytes; a reader needs no larger buffer.
///
/// Version 1 ends within 107 bytes. Version 2 could go on for 64 KiB of type-length-values; what load balancers send
/// is far below 4 KiB.
pub const MAX_HEADER: usize = 4096;

/// The longest line of version 1, with its CRLF.
const V1_MAX: usize = 107;
const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header; more bytes decide.
    Incomplete,
    /// No header, whatever comes next.
    Invalid(&'static str),
    /// A whole header.
    Header {
        /// Its length: the bytes after it belong to the connection.
        consumed: usize,
        /// The client's address. `None` for the sender's own connections (LOCAL, a probe for example) and for
        /// protocols without an address (UNKNOWN, UNSPEC, UNIX): then the peer's address counts.
        source: Option<SocketAddr>,
        /// The address that the client connected to; `None` whenever `source` is.
        destination: Option<SocketAddr>,
    },
}

/// Reads a header from the first bytes of a connection.
///
/// The answer depends on the bytes up to the header's end only: give all bytes seen so far, with or without what
/// follows.
pub fn parse(bytes: &[u8]) -> Parsed {
    let outcome = if may_become(bytes, V2_SIGNATURE) {
        version_2(bytes)
    } else if may_become(bytes, V1_PREFIX) {
        version_1(bytes)
    } else {
        Err(Stop::Invalid("neither version 1 nor version 2"))
    };
    match outcome {
        Ok(header) => header,
        Err(Stop::Incomplete) => Parsed::Incomplete,
        Err(Stop::Invalid(reason)) => Parsed::Invalid(reason),
    }
}

/// Why parsing ends before the header does.
enum Stop {
    Incomplete,
    Invalid(&'static str),
}

type Addresses = Option<(SocketAddr, SocketAddr)>;

fn may_become(bytes: &[u8], start: &[u8]) -> bool {
    let seen = bytes.len().min(start.len());
    bytes[..seen] == start[..seen]
}

fn header(consumed: usize, addresses: Addresses) -> Parsed {
    let (source, destination) = addresses.unzip();
    Parsed::Header { consumed, source, destination }
}

/// Section 2.1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn version_1(bytes: &[u8]) -> Result<Parsed, Stop> {
    let within = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return Err(if bytes.len() < V1_MAX { Stop::Incomplete } else { Stop::Invalid("version 1 line is too long") });
    };
    let line = str::from_utf8(&bytes[..end]).map_err(|_| Stop::Invalid("version 1 line is not text"))?;
    Ok(header(end + 2, v1_addresses(line)?))
}

fn v1_addresses(line: &str) -> Result<Addresses, Stop> {
    let mut words = line.split(' ').skip(1);
    match words.next() {
        Some("TCP4") => v1_pair::<Ipv4Addr>(words).map(Some),
        Some("TCP6") => v1_pair::<Ipv6Addr>(words).map(Some),
        // What follows UNKNOWN is ignored up to the end of the line.
        Some("UNKNOWN") => Ok(None),
        _ => Err(Stop::Invalid("version 1 protocol is not TCP4, TCP6 or UNKNOWN")),
    }
}

/// `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`, one space between, nothing after.
fn v1_pair<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Result<(SocketAddr, SocketAddr), Stop>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let source: A = word(words.next(), "version 1 source address")?;
    let destination: A = word(words.next(), "version 1 destination address")?;
    let source_port = port(words.next())?;
    let destination_port = port(words.next())?;
    match words.next() {
        None => {
            Ok((SocketAddr::new(source.into(), source_port), SocketAddr::new(destination.into(), destination_port)))
        }
        Some(_) => Err(Stop::Invalid("version 1 line goes on after the ports")),
    }
}

fn word<T: std::str::FromStr>(word: Option<&str>, invalid: &'static str) -> Result<T, Stop> {
    word.and_then(|word| word.parse().ok()).ok_or(Stop::Invalid(invalid))
}

/// Decimal, without sign or leading zeros, 0 to 65535.
fn port(text: Option<&str>) -> Result<u16, Stop> {
    let text = text.filter(|text| *text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9')));
    word(text, "version 1 port")
}

/// Section 2.2: signature, version and command, family, length, addresses, type-length-values (skipped).
fn version_2(bytes: &[u8]) -> Result<Parsed, Stop> {
    let local = v2_command(at(bytes, 12)?)?;
    let family = at(bytes, 13)?;
    let body_len = usize::from(u16::from_be_bytes([at(bytes, 14)?, at(bytes, 15)?]));
    let end = V2_FIXED + body_len;
    if end > MAX_HEADER {
        return Err(Stop::Invalid("version 2 header is too long"));
    }
    let body = bytes.get(V2_FIXED..end).ok_or(Stop::Incomplete)?;
    let addresses = if local { None } else { v2_addresses(family, body)? };
    Ok(header(end, addresses))
}

fn at(bytes: &[u8], index: usize) -> Result<u8, Stop> {
    bytes.get(index).copied().ok_or(Stop::Incomplete)
}

/// Whether the connection is the sender's own.
fn v2_command(version_and_command: u8) -> Result<bool, Stop> {
    match version_and_command {
        0x20 => Ok(true),
        0x21 => Ok(false),
        _ => Err(Stop::Invalid("version 2 command is not LOCAL or PROXY")),
    }
}

/// The high half of `family` is the address family, the low half the transport.
fn v2_addresses(family: u8, body: &[u8]) -> Result<Addresses, Stop> {
    match family {
        0x11 => v2_pair::<4>(body).map(Some),
        0x21 => v2_pair::<16>(body).map(Some),
        // UNSPEC, and UNIX streams and datagrams: nothing of them is an address of ours.
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Stop::Invalid("version 2 family is not TCP over IPv4 or IPv6")),
    }
}

/// Source, destination, source port, destination port; `N` bytes an address.
fn v2_pair<const N: usize>(body: &[u8]) -> Result<(SocketAddr, SocketAddr), Stop>
where
    IpAddr: From<[u8; N]>,
{
    let short = || Stop::Invalid("version 2 addresses are cut off");
    let (source, rest) = body.split_first_chunk::<N>().ok_or_else(short)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or_else(short)?;
    let (source_port, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let destination_port = rest.first_chunk::<2>().ok_or_else(short)?;
    let address = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
    Ok((address(source, source_port), address(destination, destination_port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    fn v4_body() -> Vec<u8> {
        [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb].to_vec()
    }

    fn v6_body() -> Vec<u8> {
        let (source, destination): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "::1".parse().unwrap());
        [&source.octets()[..], &destination.octets(), &[0, 1, 0xff, 0xff]].concat()
    }

    /// Every shorter text is incomplete, and what follows the header changes nothing.
    #[track_caller]
    fn check(bytes: &[u8], source: Option<&str>, destination: Option<&str>) {
        let address = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let expected =
            Parsed::Header { consumed: bytes.len(), source: address(source), destination: address(destination) };
        assert_eq!(parse(bytes), expected);
        assert_eq!(parse(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), expected);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Parsed::Incomplete, "the first {cut} bytes");
        }
    }

    #[test]
    fn whole_headers_are_read_and_every_shorter_one_is_incomplete() {
        let v4 = (Some("192.0.2.1:56324"), Some("198.51.100.1:443"));
        let v6 = (Some("[2001:db8::1]:1"), Some("[::1]:65535"));

        check(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", v4.0, v4.1);
        check(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", v6.0, v6.1);
        check(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0:0"), Some("0.0.0.0:0"));
        check(b"PROXY UNKNOWN\r\n", None, None);
        check(b"PROXY UNKNOWN whatever follows is ignored\r\n", None, None);
        let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'f'; V1_MAX - 16], b"\r\n"].concat();
        check(&longest, None, None);

        check(&v2(0x21, 0x11, &v4_body()), v4.0, v4.1);
        check(&v2(0x21, 0x21, &v6_body()), v6.0, v6.1);
        check(&v2(0x21, 0x11, &[v4_body(), vec![0x04, 0, 2, 1, 1]].concat()), v4.0, v4.1);
        check(&v2(0x21, 0x11, &[v4_body(), vec![0; MAX_HEADER - 28]].concat()), v4.0, v4.1);
        check(&v2(0x20, 0x00, &[]), None, None);
        check(&v2(0x20, 0x11, &v4_body()), None, None);
        check(&v2(0x20, 0xff, b"ignored"), None, None);
        check(&v2(0x21, 0x00, b"ignored"), None, None);
        check(&v2(0x21, 0x31, &[0; 216]), None, None);
    }

    #[track_caller]
    fn check_invalid(bytes: &[u8], reason: &str) {
        match parse(bytes) {
            Parsed::Invalid(given) => assert!(given.contains(reason), "{given}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn anything_else_is_invalid_as_soon_as_it_shows() {
        check_invalid(b"GET / HTTP/1.1\r\n", "neither");
        check_invalid(b"\x16\x03\x01", "neither");
        check_invalid(b"PROXX", "neither");
        check_invalid(b"proxy TCP4", "neither");
        check_invalid(b"\r\n\r\n\0\r\nQUIT\r", "neither");

        check_invalid(b"PROXY \r\n", "protocol");
        check_invalid(b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", "protocol");
        check_invalid(b"PROXY TCP4\r\n", "source address");
        check_invalid(b"PROXY TCP4 ::1 ::1 1 2\r\n", "source address");
        check_invalid(b"PROXY TCP6 ::1 1.2.3.4 1 2\r\n", "destination address");
        check_invalid(b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "port");
        check_invalid(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", "port");
        check_invalid(b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", "port");
        check_invalid(b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "port");
        check_invalid(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", "after the ports");
        check_invalid(b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", "source address");
        check_invalid(b"PROXY TCP4 \xff.1.1.1 2.2.2.2 1 2\r\n", "not text");
        check_invalid(&[b"PROXY UNKNOWN ".as_slice(), &[b'f'; V1_MAX]].concat(), "too long");

        check_invalid(&v2(0x11, 0x11, &v4_body()), "command");
        check_invalid(&v2(0x22, 0x11, &v4_body()), "command");
        check_invalid(&v2(0x21, 0x12, &v4_body()), "family");
        check_invalid(&v2(0x21, 0x41, &v4_body()), "family");
        check_invalid(&v2(0x21, 0x11, &v4_body()[..11]), "cut off");
        check_invalid(&v2(0x21, 0x21, &v4_body()), "cut off");
        check_invalid(&v2(0x21, 0x11, &vec![0; MAX_HEADER - 15])[..16], "too long");
    }

    /// Random bytes seldom look like a header: begin like one, with random bytes after or in place of some.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let starts = prop_oneof![
            Just(Vec::new()),
            Just(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec()),
            Just(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n".to_vec()),
            Just(v2(0x21, 0x11, &v4_body())),
            Just(v2(0x21, 0x21, &v6_body())),
            Just(v2(0x20, 0x00, &[])),
        ];
        (starts, any::<prop::sample::Index>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..64)).prop_map(
            |(mut bytes, place, value, tail)| {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = value;
                }
                [bytes, tail].concat()
            },
        )
    }

    proptest! {
        /// Nothing panics; once decided, more bytes decide the same; a header lies within its bytes and the limit.
        #[test]
        fn decision_never_changes_with_more_bytes(bytes in plausible()) {
            let mut before = Parsed::Incomplete;
            for length in 0..=bytes.len() {
                let now = parse(&bytes[..length]);
                if before != Parsed::Incomplete {
                    prop_assert_eq!(now, before);
                }
                if let (Parsed::Header { consumed, .. }, Parsed::Incomplete) = (now, before) {
                    prop_assert_eq!(consumed, length);
                    prop_assert!(consumed <= MAX_HEADER);
                }
                before = now;
            }
        }

        #[test]
        fn limit_decides_for_every_length(tail in prop::collection::vec(any::<u8>(), MAX_HEADER)) {
            for start in [V1_PREFIX, V2_SIGNATURE] {
                let bytes = [start, &tail].concat();
                prop_assert_ne!(parse(&bytes), Parsed::Incomplete);
            }
        }
    }
}
