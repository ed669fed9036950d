//! How do listening sockets outlive the process? They are handed to its successor, over a Unix socket.
//!
//! The running process makes an [`Offer`]; the new one calls [`take`], claims the sockets it needs, starts to serve and
//! says so. Only then does the old one let go, and it says so too. Whatever goes wrong before that leaves the old one
//! serving as if nothing had happened. Both sides check that the other belongs to the same user, or to root. Never
//! knows what the sockets are for: keys are the caller's.
//!
//! ```text
//! new                              old
//!  | hello {version, pid}         ->|
//!  |<-             sockets {keys}   |   or refused {reason}
//!  |<-  one byte + SCM_RIGHTS       |   as often as needed
//!  | ready                        ->|   or failed {reason}, or the end of the stream
//!  |<-                     released |   or refused {reason}: it took too long
//! ```

mod inherited;
mod offer;
mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

pub use self::inherited::{Inherited, take};
pub use self::offer::{Draft, Offer, Outcome, Request};

/// One message each way between two local processes: more means that the other side hangs.
const STEP: Duration = Duration::from_secs(5);

/// From the last socket to `ready`: the new process reads its config and opens what is new in it.
const START: Duration = Duration::from_mins(1);

/// Why a new process has no sockets to inherit, or may not keep them.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// No process listens at the path: start cold.
    #[error("no running process offers its sockets")]
    NobodyThere,
    /// The process at the path belongs to somebody else.
    #[error("the process that offers sockets runs as user {uid}")]
    Stranger {
        /// Its user.
        uid: u32,
    },
    /// The old process keeps its sockets and goes on serving.
    #[error("the running process keeps its sockets: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The old process said something that this version does not understand.
    #[error("the running process answered out of turn")]
    OutOfTurn,
    /// Fewer or more descriptors than keys.
    #[error("{expected} sockets were announced but {received} arrived")]
    Incomplete {
        /// The keys announced.
        expected: usize,
        /// The descriptors received.
        received: usize,
    },
    /// The stream failed, ended or was silent for too long.
    #[error("hand-over of sockets failed: {0}")]
    Io(#[from] io::Error),
}
