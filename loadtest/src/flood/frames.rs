//! HTTP/2 frames as bytes, right or wrong (RFC 9113, RFC 7541), and what a server's frames say.
//!
//! Written by hand, because no library would send what these tests do. Header fields are literals without Huffman coding
//! and without indexing, so no state is kept. Checks nothing.

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame type: DATA.
pub const DATA: u8 = 0;
/// A frame type: HEADERS.
pub const HEADERS: u8 = 1;
/// A frame type: `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// A frame type: SETTINGS.
pub const SETTINGS: u8 = 4;
/// A frame type: PING.
pub const PING: u8 = 6;
/// A frame type: GOAWAY.
pub const GOAWAY: u8 = 7;
/// A frame type: `WINDOW_UPDATE`.
pub const WINDOW_UPDATE: u8 = 8;
/// A frame type: CONTINUATION.
pub const CONTINUATION: u8 = 9;

/// A flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// A flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// A flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// A setting.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// The error of a client that has changed its mind.
pub const CANCEL: u32 = 8;

/// Bytes of a frame's head.
pub const HEAD: usize = 9;

/// Frames one behind the other.
#[derive(Debug, Clone, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a client begins with, and these settings.
    pub fn preface(settings: &[(u16, u32)]) -> Self {
        Self(PREFACE.to_vec()).settings(settings)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Any frame.
    ///
    /// # Panics
    /// If the payload is longer than 24 bits can tell.
    #[must_use]
    pub fn frame(mut self, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).expect("a payload is short").to_be_bytes();
        assert_eq!(length[0], 0, "24 bits");
        self.0.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
        self.0.extend_from_slice(&stream.to_be_bytes());
        self.0.extend_from_slice(payload);
        self
    }

    /// SETTINGS.
    #[must_use]
    pub fn settings(self, settings: &[(u16, u32)]) -> Self {
        let pairs = settings.iter().map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let payload: Vec<u8> = pairs.flatten().collect();
        self.frame((SETTINGS, 0), 0, &payload)
    }

    /// A request without a body.
    #[must_use]
    pub fn get(self, stream: u32, block: &[u8]) -> Self {
        self.frame((HEADERS, END_HEADERS | END_STREAM), stream, block)
    }

    /// The client takes a stream back.
    #[must_use]
    pub fn cancel(self, stream: u32) -> Self {
        self.frame((RST_STREAM, 0), stream, &CANCEL.to_be_bytes())
    }

    /// PING.
    #[must_use]
    pub fn ping(self, flags: u8) -> Self {
        self.frame((PING, flags), 0, &[7; 8])
    }

    /// All of it so many times.
    #[must_use]
    pub fn repeat(self, count: usize) -> Self {
        Self(self.0.repeat(count))
    }
}

/// The header block of a request.
pub fn request(method: &str, host: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)] {
        field(&mut block, name, value);
    }
    block
}

/// Adds a field to a header block: a literal without indexing, with a new name (RFC 7541 section 6.2.2).
pub fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    let byte = |n: usize| u8::try_from(n).expect("seven bits and one");
    if length < PREFIX {
        return block.push(byte(length));
    }
    block.push(byte(PREFIX));
    let mut rest = length - PREFIX;
    while rest >= 128 {
        block.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    block.push(byte(rest));
}

/// What a server has said.
#[derive(Debug, Default)]
pub struct Heard {
    bytes: Vec<u8>,
    /// Streams that it reset.
    pub resets: u64,
    /// The error of its last GOAWAY.
    pub goaway: Option<u32>,
    /// PINGs that wait for an answer.
    pub pings: usize,
}

impl Heard {
    /// Its next bytes.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(head) = self.bytes.get(at..at + HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.bytes.get(at + HEAD..at + HEAD + length) else { break };
            match kind {
                RST_STREAM => self.resets += 1,
                PING if flags & ACK == 0 => self.pings += 1,
                GOAWAY => {
                    self.goaway = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
                }
                _ => {}
            }
            at += HEAD + length;
        }
        self.bytes.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_head_of_nine_bytes() {
        let frames = Frames::new().ping(0).cancel(5);
        assert_eq!(frames.bytes()[..HEAD], [0, 0, 8, PING, 0, 0, 0, 0, 0]);
        assert_eq!(frames.bytes()[HEAD + 8..], [0, 0, 4, RST_STREAM, 0, 0, 0, 0, 5, 0, 0, 0, 8]);
        assert_eq!(Frames::preface(&[(INITIAL_WINDOW_SIZE, 1)]).bytes()[24 + HEAD..], [0, 4, 0, 0, 0, 1]);
    }

    #[test]
    fn long_texts_have_a_length_of_several_bytes() {
        let lengths = |count| {
            let mut block = Vec::new();
            length(&mut block, count);
            block
        };
        // RFC 7541 appendix C.1, with a prefix of seven bits instead of five.
        assert_eq!(lengths(10), [10]);
        assert_eq!(lengths(127), [127, 0]);
        assert_eq!(lengths(127 + 1337 - 31), [127, 154, 10]);
    }

    #[test]
    fn what_a_server_says_is_understood_however_it_is_cut() {
        let goaway = [&[0, 0, 0, 9][..], &[0, 0, 0, 11], b"calm"].concat();
        let frames = Frames::new().settings(&[]).ping(0).ping(ACK).cancel(1).frame((GOAWAY, 0), 0, &goaway);
        for size in [1, 5, 9, 100] {
            let mut heard = Heard::default();
            frames.bytes().chunks(size).for_each(|bytes| heard.hear(bytes));
            assert_eq!((heard.resets, heard.goaway, heard.pings, heard.bytes.len()), (1, Some(11), 1, 0));
        }
    }
}
