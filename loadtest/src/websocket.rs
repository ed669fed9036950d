//! `WebSocket` frames (RFC 6455) as far as an echo needs them, and the client's end of such a connection.
//!
//! Written by hand, because both ends share a core with each other and must cost less than the proxy between them.
//! Messages are single frames; fragments, extensions and control frames other than a close are not understood, for
//! both ends are ours. Never judges what it carries beyond its length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::report::ErrorKind;

/// First byte of a whole binary message: FIN and opcode 2.
const WHOLE_BINARY: u8 = 0x82;
/// Opcode of a close frame.
const CLOSE: u8 = 8;
/// Set in the second byte if the payload is masked, as every client's is.
const MASKED: u8 = 0x80;
/// The longest payload whose length fits the second byte.
const SHORT: usize = 125;
/// In place of a length: two bytes of it follow, or eight.
const MEDIUM: u8 = 0x7e;
const LONG: u8 = 0x7f;
/// The longest answer to the upgrade.
const MOST_HEAD: usize = 16 * 1024;
/// The key of our upgrades; it guards against caches, of which there is none.
const KEY: &str = "bG9hZHRlc3QgZWNobyBrZXk=";

/// What a stream must be for a `WebSocket`.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    /// Bytes before the payload.
    pub(crate) head: usize,
    /// Bytes of the payload.
    pub(crate) payload: usize,
    pub(crate) mask: Option<[u8; 4]>,
}

impl Frame {
    /// The frame that `bytes` begin with; `None` until its head is whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (payload, mut head) = match second & !MASKED {
            MEDIUM => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            LONG => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
            short => (short.into(), 2),
        };
        let mask = if second & MASKED == 0 {
            None
        } else {
            head += 4;
            Some(*bytes.get(head - 4..)?.first_chunk()?)
        };
        Some(Self { opcode: first & 0x0f, head, payload, mask })
    }

    /// Bytes of the whole frame.
    pub(crate) fn size(self) -> usize {
        self.head.saturating_add(self.payload)
    }

    pub(crate) fn closes(self) -> bool {
        self.opcode == CLOSE
    }
}

/// Appends a message as one frame.
pub(crate) fn put(out: &mut Vec<u8>, message: &[u8], mask: Option<[u8; 4]>) {
    let flag = if mask.is_some() { MASKED } else { 0 };
    out.push(WHOLE_BINARY);
    match (u8::try_from(message.len()), u16::try_from(message.len())) {
        (Ok(short), _) if message.len() <= SHORT => out.push(flag | short),
        (_, Ok(medium)) => {
            out.push(flag | MEDIUM);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(flag | LONG);
            out.extend((message.len() as u64).to_be_bytes());
        }
    }
    out.extend(mask.into_iter().flatten());
    let begin = out.len();
    out.extend_from_slice(message);
    if let Some(mask) = mask {
        apply(&mut out[begin..], mask);
    }
}

/// Masks or unmasks.
pub(crate) fn apply(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The 101 that answers an upgrade with this key.
pub(crate) fn agreement(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// The client's end.
pub(crate) struct Socket {
    stream: Box<dyn Duplex>,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Socket {
    /// Upgrades a fresh connection.
    pub(crate) async fn open(stream: Box<dyn Duplex>, host: &str, path: &str) -> Result<Self, ErrorKind> {
        let mut socket = Self { stream, out: Vec::new(), buffer: vec![0; MOST_HEAD], filled: 0 };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes()).await.map_err(|error| broken(&error))?;
        let end = loop {
            if let Some(at) = socket.buffer[..socket.filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            socket.fill().await?;
        };
        agreed(&socket.buffer[..end])?;
        socket.consume(end);
        Ok(socket)
    }

    /// Sends a message and waits for the next one, whose length it returns.
    pub(crate) async fn echo(&mut self, message: &[u8]) -> Result<usize, ErrorKind> {
        self.out.clear();
        put(&mut self.out, message, Some(fastrand::u32(..).to_ne_bytes()));
        self.stream.write_all(&self.out).await.map_err(|error| broken(&error))?;
        loop {
            match Frame::parse(&self.buffer[..self.filled]) {
                Some(frame) if frame.closes() => return Err(ErrorKind::Reset),
                Some(frame) if frame.size() <= self.filled => {
                    self.consume(frame.size());
                    return Ok(frame.payload);
                }
                Some(frame) if frame.size() > self.buffer.len() => self.buffer.resize(frame.size(), 0),
                _ => {}
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), ErrorKind> {
        if self.filled == self.buffer.len() {
            return Err(ErrorKind::Invalid);
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await.map_err(|error| broken(&error))? {
            0 => Err(ErrorKind::ClosedBeforeHead),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

/// Whether the head of the answer agrees to the upgrade, and to ours.
fn agreed(head: &[u8]) -> Result<(), ErrorKind> {
    let text = std::str::from_utf8(head).map_err(|_| ErrorKind::Invalid)?;
    let mut lines = text.split("\r\n");
    match lines.next().and_then(|line| line.split(' ').nth(1)) {
        Some("101") => {}
        Some(status) if status.starts_with('4') => return Err(ErrorKind::Status4xx),
        Some(status) if status.starts_with('5') => return Err(ErrorKind::Status5xx),
        _ => return Err(ErrorKind::Invalid),
    }
    let expected = derive_accept_key(KEY.as_bytes());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let accepted =
        |(name, value): (&str, &str)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == expected;
    if fields.any(accepted) { Ok(()) } else { Err(ErrorKind::Invalid) }
}

fn broken(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ErrorKind::Reset,
        io::ErrorKind::UnexpectedEof => ErrorKind::ClosedBeforeHead,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: usize, mask: Option<[u8; 4]>, head: usize) {
        let message: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        let mut bytes = Vec::new();
        put(&mut bytes, &message, mask);
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame, Frame { opcode: 2, head, payload: length, mask });
        assert_eq!(frame.size(), bytes.len());
        let payload = &mut bytes[frame.head..];
        apply(payload, mask.unwrap_or_default());
        assert_eq!(payload, message);
        for cut in 0..head {
            assert_eq!(Frame::parse(&bytes[..cut]), None, "{cut} of {head} bytes of the head");
        }
    }

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            check(length, None, head);
            check(length, Some([1, 2, 3, 250]), head + 4);
        }
    }

    #[test]
    fn only_an_upgrade_with_our_key_is_agreement() {
        assert_eq!(agreed(agreement(KEY).as_bytes()), Ok(()));
        assert_eq!(agreed(agreement("another").as_bytes()), Err(ErrorKind::Invalid));
        assert_eq!(agreed(b"HTTP/1.1 200 OK\r\n\r\n"), Err(ErrorKind::Invalid));
        assert_eq!(agreed(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), Err(ErrorKind::Status5xx));
    }

    #[test]
    fn the_answer_to_the_standard_s_own_key_is_the_standard_s() {
        assert!(agreement("dGhlIHNhbXBsZSBub25jZQ==").contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    }
}
