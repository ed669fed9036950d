//! One client connection: who is at its other end, and what it is doing now.
//!
//! Owns the facts that all requests of a connection share, formatted once, and its [`Activity`], by which the edge
//! knows whose turn it is to speak. Never reads or writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::drain::Lifecycle;
use crate::telemetry::access_log;
use crate::tls::{CertificateStore, TlsInfo};

/// A client's connection.
#[derive(Debug)]
pub struct Downstream {
    /// The listener it came in on.
    pub listener: Arc<str>,
    /// The socket's other end, or what the PROXY protocol said of it.
    pub peer: SocketAddr,
    /// What the TLS handshake agreed on; `None` in plain text.
    pub tls: Option<TlsInfo>,
    /// The certificates it could have been served with.
    pub certificates: Option<Arc<CertificateStore>>,
    /// The peer's address as a header value.
    pub peer_ip: HeaderValue,
    /// The port it came in on as a header value.
    pub local_port: HeaderValue,
    /// The TLS session in the access log's words.
    pub tls_log: Option<Arc<access_log::Tls>>,
    /// What it is doing.
    pub activity: Activity,
    /// Knows when upgraded connections must end too.
    pub lifecycle: Arc<Lifecycle>,
}

/// What a connection is doing, and since when. Shared by the socket, which sees bytes, and the exchanges, which know
/// what they mean.
#[derive(Debug)]
pub struct Activity {
    epoch: Instant,
    /// Requests between their head and their last response byte.
    exchanges: AtomicU32,
    /// Those of them that have become tunnels.
    tunnels: AtomicU32,
    /// Milliseconds since `epoch`: the begin of an unfinished head, or 0 while none has begun.
    head_since: AtomicU64,
    /// Milliseconds since `epoch`: the end of the last exchange.
    idle_since: AtomicU64,
    /// Milliseconds since `epoch`: since when the client takes nothing of what we write, or 0 while it does.
    blocked_since: AtomicU64,
    /// Requests that the client took back before their response began, less those that were answered since.
    abandoned: AtomicU32,
    /// Something has been done for the client.
    met: AtomicBool,
    /// Whatever has not been taken is not to be waited for.
    given_up: AtomicBool,
}

/// Whose turn it is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The client has said nothing since the last exchange, for so long.
    Idle(Duration),
    /// The client has begun a head and not ended it, for so long.
    Head(Duration),
    /// An exchange is going on, and has its own limits.
    Busy,
}

// All orderings are relaxed: the numbers are read by the connection's own task, at timers that are seconds long.
impl Activity {
    /// A connection that has just been accepted.
    pub fn new(now: Instant) -> Activity {
        Activity {
            epoch: now,
            exchanges: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            abandoned: AtomicU32::new(0),
            met: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    /// Bytes came from the client.
    pub fn received(&self) {
        let waiting = self.exchanges.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0;
        if waiting {
            self.head_since.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    /// The client takes nothing of what we want to write.
    pub fn blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    /// The client has taken bytes.
    pub fn unblocked(&self) {
        self.blocked_since.store(0, Ordering::Relaxed);
    }

    /// Whether the client has taken nothing for so long although there was something.
    pub fn is_blocked_for(&self, limit: Duration) -> bool {
        let since = self.blocked_since.load(Ordering::Relaxed);
        since > 0 && Duration::from_millis(self.now().saturating_sub(since)) >= limit
    }

    /// Nothing that was written and not taken is worth waiting for: the connection is about to be cut.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// A head is complete.
    pub fn begin(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    /// What was read belonged to no head: from now on the client is silent.
    pub fn rested(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// The last byte of a response has gone, or will never go.
    pub fn end(&self, now: Instant) {
        self.exchanges.fetch_sub(1, Ordering::Relaxed);
        self.idle_since.store(self.millis(now), Ordering::Relaxed);
    }

    /// The client took a request back before its response began.
    pub fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// A response began: the client does wait for some.
    pub fn answered(&self) {
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        if abandoned > 0 {
            self.abandoned.store(abandoned - 1, Ordering::Relaxed);
        }
    }

    /// An endpoint works for the client, or there is a response for it.
    pub fn met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// Whether nothing has been done for the client yet, or what was done it has taken back.
    pub fn is_new(&self) -> bool {
        !self.met.load(Ordering::Relaxed) || self.abandoned.load(Ordering::Relaxed) > 0
    }

    /// Whether the client has taken back so many requests more than it let us answer.
    pub fn is_fickle(&self, most: u32) -> bool {
        self.abandoned.load(Ordering::Relaxed) > most
    }

    /// An exchange has become a tunnel.
    pub fn tunnel_begun(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// A tunnel is over; its exchange ends with it.
    pub fn tunnel_ended(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether nothing but tunnels, if anything, is going on.
    pub fn is_tunnels_only(&self) -> bool {
        self.exchanges.load(Ordering::Relaxed) == self.tunnels.load(Ordering::Relaxed)
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        let since =
            |millis: &AtomicU64| Duration::from_millis(self.now().saturating_sub(millis.load(Ordering::Relaxed)));
        if self.exchanges.load(Ordering::Relaxed) > 0 {
            Turn::Busy
        } else if self.head_since.load(Ordering::Relaxed) > 0 {
            Turn::Head(since(&self.head_since))
        } else {
            Turn::Idle(since(&self.idle_since))
        }
    }

    /// For how long no exchange has been going on; `None` while one is.
    pub fn idle_for(&self) -> Option<Duration> {
        match self.turn() {
            Turn::Busy => None,
            _ => Some(Duration::from_millis(self.now().saturating_sub(self.idle_since.load(Ordering::Relaxed)))),
        }
    }

    fn now(&self) -> u64 {
        self.millis(Instant::now())
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_back_what_was_done_is_new_again() {
        let activity = Activity::new(Instant::now());
        assert!(activity.is_new());
        activity.met();
        assert!(!activity.is_new());
        activity.abandoned();
        assert!(activity.is_new());
        activity.answered();
        assert!(!activity.is_new());
    }
}
