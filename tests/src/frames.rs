//! HTTP/2 frame by frame: whatever can be written can be sent, and of what comes back as much is understood as a test has
//! to know.
//!
//! Fields are written as literals without indexing (RFC 7541 section 6.2.2), so that no table has to be kept. Owns no rule
//! of the protocol: who uses it is free to break them all.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client begins with (RFC 9113 section 3.4), before its settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 section 6.1.
pub const DATA: u8 = 0;
/// Section 6.2.
pub const HEADERS: u8 = 1;
/// Section 6.3.
pub const PRIORITY: u8 = 2;
/// Section 6.4.
pub const RST_STREAM: u8 = 3;
/// Section 6.5.
pub const SETTINGS: u8 = 4;
/// Section 6.6.
pub const PUSH_PROMISE: u8 = 5;
/// Section 6.7.
pub const PING: u8 = 6;
/// Section 6.8.
pub const GOAWAY: u8 = 7;
/// Section 6.9.
pub const WINDOW_UPDATE: u8 = 8;
/// Section 6.10.
pub const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Flag of DATA and HEADERS.
pub const PADDED: u8 = 8;
/// Flag of HEADERS.
pub const WITH_PRIORITY: u8 = 0x20;
/// HEADERS that are a whole request or response.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// The longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// A field: its name and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Which stream it belongs to; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block.
pub fn block(fields: &[Field<'_>]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A HEADERS frame with these fields.
pub fn headers(stream: u32, flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

/// A DATA frame.
pub fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

/// A string without Huffman's code (RFC 7541 section 5.2).
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match bytes.len() {
        short @ 0..127 => text.push(u8::try_from(short).expect("it is below 127")),
        long => {
            let mut rest = long - 127;
            text.push(127);
            while rest >= 128 {
                text.push(u8::try_from(rest % 128).expect("it is below 128") | 128);
                rest /= 128;
            }
            text.push(u8::try_from(rest).expect("it is below 128"));
        }
    }
    text.extend_from_slice(bytes);
    text
}

/// The status in the first field of a response's block; 0 if there is none.
pub fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [indexed @ 0x88..=0x8e, ..] => STATIC[usize::from(indexed - 0x88)],
        [0x48 | 0x08, length, rest @ ..] if length & 0x80 != 0 => digits(&rest[..usize::from(length & 0x7f)]),
        [0x48 | 0x08, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).map_or(0, |text| text.parse().unwrap_or(0)),
        _ => 0,
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): five bits up to 2, six above.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u16> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let mut rest = &bits[..];
    let mut number = 0;
    for _ in 0..3 {
        let value = |bits: &[u16]| bits.iter().fold(0, |value, bit| value << 1 | bit);
        let short = value(&rest[..5]);
        let (digit, length) = if short <= 2 { (short, 5) } else { (value(&rest[..6]) - 0x19 + 3, 6) };
        number = number * 10 + digit;
        rest = &rest[length..];
    }
    number
}

/// A connection on which frames are written by hand.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Opens a connection and says nothing.
    pub async fn connect(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(address).await.expect("the address accepts connections"))
    }

    /// Speaks over this connection.
    pub fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).expect("a fresh socket takes its options");
        Wire { stream }
    }

    /// Sends these bytes; a peer that has closed already is not an error, for its last words may be there.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Passes over so many bytes.
    pub async fn skip(&mut self, length: usize) {
        let _ = timeout(PATIENCE, self.stream.read_exact(&mut vec![0; length])).await.expect("bytes come in time");
    }

    /// The next frame; `None` at the end of the connection, which a reset is, too.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read()).await.expect("a frame or the end comes in time").ok()
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }
}
