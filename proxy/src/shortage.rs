//! Is it this machine that lacks something? Then a failure says nothing about whoever was to be reached.
//!
//! Owns the list of such errors, and the reserve of descriptors into which no client is let. Judges nobody: whoever
//! would hold a failure against an endpoint asks here first.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

/// How long to leave a call alone that failed for a lack of descriptors: it would fail again at once, and somebody
/// else's end is what mends it.
pub const PAUSE: Duration = Duration::from_millis(20);

/// At most so many descriptors are kept from clients, however many there are.
const LARGEST_RESERVE: u64 = 4_096;

/// Whether the system refused us a descriptor or memory (socket(2), connect(2), accept(2)).
pub fn is_ours(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Whether there is no descriptor at this moment; for failures that do not tell, such as a resolver's.
pub fn is_felt() -> bool {
    fcntl_dupfd_cloexec(io::stderr(), 0).is_err_and(|error| error == Errno::MFILE)
}

/// The error of a call that found no descriptor.
pub fn error() -> io::Error {
    Errno::MFILE.into()
}

/// Descriptors that clients leave to their requests: to connections to endpoints, probes, reloads and logs. Without it
/// clients would take all of them and could not be served.
#[derive(Debug, Clone, Copy)]
pub struct Reserve {
    /// The first of them: the system gives the lowest number that is free, so all below it are in use.
    from: u64,
}

impl Reserve {
    /// A quarter of what the process may have now.
    pub fn of_process() -> Reserve {
        Reserve::of_limit(getrlimit(Resource::Nofile).current)
    }

    fn of_limit(limit: Option<u64>) -> Reserve {
        Reserve { from: limit.map_or(u64::MAX, |limit| limit - (limit / 4).min(LARGEST_RESERVE)) }
    }

    /// Whether this descriptor is one of them.
    pub fn holds(self, descriptor: &impl AsRawFd) -> bool {
        // A descriptor is never negative.
        u64::from(descriptor.as_raw_fd().unsigned_abs()) >= self.from
    }

    /// Whether the next descriptor would be one of them, or there is none; `any` is one that can be doubled.
    pub fn is_reached(self, any: impl AsFd) -> bool {
        fcntl_dupfd_cloexec(any, 0).map_or(true, |next| self.holds(&next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_system_refused_us_is_ours() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(is_ours(&errno.into()), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::TIMEDOUT, Errno::CONNRESET] {
            assert!(!is_ours(&errno.into()), "{errno}");
        }
        assert!(is_ours(&error()) && !is_felt());
    }

    #[test]
    fn reserve_is_a_quarter_and_no_more_than_enough() {
        assert_eq!(Reserve::of_limit(Some(1_024)).from, 768);
        assert_eq!(Reserve::of_limit(Some(1_048_576)).from, 1_048_576 - 4_096);
        assert_eq!(Reserve::of_limit(None).from, u64::MAX);
    }

    #[test]
    fn lowest_free_descriptor_tells_what_is_left() {
        let (none, all) = (Reserve { from: u64::MAX }, Reserve { from: 0 });
        assert!(!none.is_reached(io::stderr()) && all.is_reached(io::stderr()));
    }
}
