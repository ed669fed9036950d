//! The first bytes of a connection as a PROXY header: the same however they are split, and not one byte more than it has.

use std::net::SocketAddr;

use waypost::edge::proxy_protocol::{MAX_HEADER, Parsed, parse};

/// Reads `data` as it arrives, byte by byte.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(MAX_HEADER + 64)];
    let mut before = Parsed::Incomplete;
    for length in 0..=data.len() {
        let now = parse(&data[..length]);
        match (before, now) {
            (Parsed::Incomplete, Parsed::Header { consumed, .. }) => {
                assert_eq!(consumed, length, "known with its last byte, and none more is taken");
            }
            (Parsed::Incomplete, _) => {}
            _ => assert_eq!(now, before, "more bytes have changed it, {length}"),
        }
        before = now;
    }
    assert!(before != Parsed::Incomplete || data.len() < MAX_HEADER, "a reader would wait for ever");
    if let Parsed::Header { consumed, source, destination } = before {
        assert_eq!(source.is_some(), destination.is_some());
        if let (Some(source), Some(destination)) = (source, destination) {
            is_read_in_one_way(&data[..consumed], source, destination);
        }
    }
}

/// Both versions of a header with these addresses say the same. In version 1 an IPv4 address has one spelling.
fn is_read_in_one_way(read: &[u8], source: SocketAddr, destination: SocketAddr) {
    for written in [version_1(source, destination), version_2(source, destination)] {
        let expected = Parsed::Header { consumed: written.len(), source: Some(source), destination: Some(destination) };
        assert_eq!(parse(&written), expected, "{}", written.escape_ascii());
    }
    if read.starts_with(b"PROXY TCP4") {
        assert_eq!(read, version_1(source, destination), "{}", read.escape_ascii());
    }
}

fn version_1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn version_2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let body = [octets(source), octets(destination), ports].concat();
    let length = u16::try_from(body.len()).expect("two addresses").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21".as_slice(), &[family], &length, &body].concat()
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    }
}
