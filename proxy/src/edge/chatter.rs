//! What an HTTP/2 client says without asking for anything: PING, SETTINGS, `RST_STREAM`, empty frames and the like.
//!
//! Decides when talk becomes a flood: each such frame is cheap to send and costs us work and often an answer. Reads the
//! head of every frame on its way past (RFC 9113 section 4.1); never changes a byte.

use std::time::{Duration, Instant};

/// Frames that nothing accounts for, within [`WINDOW`]: far above what keep-alives and measurements of a line need, and few
/// enough to be worked off between two requests of others.
const MOST: u32 = 250;

/// A client that says little, but for days, is none that floods.
const WINDOW: Duration = Duration::from_secs(10);

/// A request may come with a priority, be taken back, and be asked after.
const PER_REQUEST: u32 = 4;

/// Bytes of ours that account for a frame: clients measure the line with a PING for each small message they get.
const PER_FRAME: usize = 32;

/// The client's first words (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Follows one client's frames.
#[derive(Debug)]
pub(super) struct Chatter {
    head: [u8; HEAD],
    /// Bytes of `head` that have come.
    come: usize,
    /// Bytes of a payload, or of the preface, that are to come.
    rest: usize,
    /// Frames that nothing accounts for so far.
    excess: u32,
    /// Since when they are counted.
    since: Instant,
    /// Bytes sent that do not make up for a frame yet.
    sent: usize,
}

impl Chatter {
    /// Of a connection of which nothing has been read.
    pub(super) fn new(now: Instant) -> Chatter {
        Chatter { head: [0; HEAD], come: 0, rest: PREFACE, excess: 0, since: now, sent: 0 }
    }

    /// The client's next bytes. Whether it floods us.
    pub(super) fn heard(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.come).min(bytes.len());
            self.head[self.come..self.come + taken].copy_from_slice(&bytes[..taken]);
            self.come += taken;
            bytes = &bytes[taken..];
            if self.come == HEAD {
                self.frame();
            }
        }
        self.excess > MOST && self.is_too_fast(Instant::now())
    }

    /// So many bytes went to the client.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.sent += bytes;
        let frames = self.sent / PER_FRAME;
        self.sent %= PER_FRAME;
        self.excess = self.excess.saturating_sub(u32::try_from(frames).unwrap_or(u32::MAX));
    }

    fn frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        // 24 bits fit whatever a usize is here.
        self.rest = length as usize;
        self.come = 0;
        match kind {
            HEADERS => self.excess = self.excess.saturating_sub(PER_REQUEST),
            DATA if length > 0 => self.excess = self.excess.saturating_sub(1),
            DATA if flags & END_STREAM != 0 => {}
            _ => self.excess = self.excess.saturating_add(1),
        }
    }

    fn is_too_fast(&mut self, now: Instant) -> bool {
        let fast = now.saturating_duration_since(self.since) < WINDOW;
        if !fast {
            (self.excess, self.since) = (0, now);
        }
        fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload).unwrap().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], &vec![0; payload]].concat()
    }

    fn chatter() -> Chatter {
        let mut chatter = Chatter::new(Instant::now());
        assert!(!chatter.heard(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        chatter
    }

    /// Whether so many of these frames are a flood, however they are cut.
    fn floods(frame: &[u8], count: usize) -> bool {
        let all = frame.repeat(count);
        let cut = |size| {
            let mut chatter = chatter();
            all.chunks(size).any(|bytes| chatter.heard(bytes))
        };
        let whole = cut(all.len());
        assert_eq!((cut(1), cut(7), cut(10)), (whole, whole, whole));
        whole
    }

    #[test]
    fn frames_that_ask_for_nothing_are_a_flood() {
        for frame in [frame(PING, 0, 8), frame(4, 0, 0), frame(8, 0, 4), frame(3, 0, 4), frame(DATA, 0, 0)] {
            assert!(!floods(&frame, 250));
            assert!(floods(&frame, 251));
        }
    }

    #[test]
    fn requests_and_bodies_are_none() {
        assert!(!floods(&frame(HEADERS, 0, 50), 20_000));
        assert!(!floods(&frame(DATA, 0, 1), 20_000));
        assert!(!floods(&frame(DATA, END_STREAM, 0), 20_000));
        assert!(!floods(&[frame(HEADERS, 0, 50), frame(3, 0, 4)].concat(), 5_000));
    }

    #[test]
    fn a_ping_for_each_small_message_is_none() {
        let mut chatter = chatter();
        for _ in 0..20_000 {
            assert!(!chatter.heard(&frame(PING, 0, 8)));
            // The message and the answer to the PING.
            chatter.answered(20 + 17);
        }
    }

    #[test]
    fn who_talks_slowly_may_talk_for_ever() {
        let long_ago = Instant::now().checked_sub(WINDOW).unwrap();
        let mut chatter = Chatter { since: long_ago, ..chatter() };
        assert!(!chatter.heard(&frame(PING, 0, 8).repeat(2_000)));
        assert!(chatter.heard(&frame(PING, 0, 8).repeat(2_000)));
    }
}
