//! HTTP/1.1 on the wire: from bytes to heads and bodies, and back (RFC 9112).
//!
//! What is read here is read strictly, for a proxy that guesses is the gap that smuggled requests pass through. Owns
//! both ends of the data path: [`server`] towards clients, [`client`] towards endpoints. Knows nothing of routes,
//! services or endpoints. HTTP/2 is hyper's.

use std::fmt::Debug;
use std::io;
use std::task::Poll;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub mod server;
pub mod client;
pub mod line;
pub mod respond;
pub mod head;
pub mod length;
pub mod options;
pub mod decode;
pub mod chunked;
pub mod encode;
pub mod date;
pub mod inbox;
pub mod outbox;
pub mod splice;
pub mod trailers;

pub use head::{Limits, Malformed};
pub use length::{Ambiguous, content_length, of_request as request_length};
pub use line::{Incoming, Line, Lost, Upgraded};
pub use options::takes_trailers;
pub use trailers::sift as sift_trailers;

/// A socket, or TLS on one.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Debug {
    /// The socket itself, if bytes pass through it as they are.
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    /// The rest of an upload that nobody wanted has come: what is read from now on is a head.
    fn rested(&self) {}

    /// Bytes were read from [`Transport::plain`] past this transport.
    fn received(&self, _bytes: usize) {}

    /// Bytes were written to [`Transport::plain`] past this transport, or could not be.
    fn passed(&self, _written: &Poll<io::Result<usize>>) {}
}

impl Transport for TokioIo<hyper::upgrade::Upgraded> {}
