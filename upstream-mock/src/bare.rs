//! The cheapest upstream there can be: fixed bytes for any request, so that a benchmark measures the proxy.
//!
//! HTTP/1.1 only, on keep-alive connections. It looks for the end of the head, for `GET /1m`, and for a content-length;
//! nothing else of a request is read. Never use it to see whether a proxy speaks HTTP well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Body bytes of `/1m`.
const MEGABYTE: usize = 1 << 20;
/// Bytes that are read at once, and the longest head that is understood.
const BUFFER: usize = 64 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A bare responder that runs in the background. Dropping it stops it.
///
/// `GET /1m` answers 1 MiB; every other request, with or without a body of known length, answers a small text. A chunked
/// body is refused with 411.
#[derive(Debug)]
pub struct Bare {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Bare {
    /// Listens on this address (port 0: any) and answers as `name`.
    ///
    /// # Errors
    /// When the address cannot be opened.
    pub async fn start(name: &str, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::new(Pages::of(name)), stop.clone()));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whole responses, head and body.
struct Pages {
    small: Vec<u8>,
    large: Vec<u8>,
    refused: Vec<u8>,
}

impl Pages {
    fn of(name: &str) -> Self {
        let page = |status: &str, body: &[u8]| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nx-upstream: {name}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
            );
            [head.as_bytes(), body].concat()
        };
        Self {
            small: page("200 OK", format!("hello from {name}\n").as_bytes()),
            large: page("200 OK", &vec![b'x'; MEGABYTE]),
            refused: page("411 Length Required", b"this responder needs a content-length\n"),
        }
    }
}

async fn accept(listener: TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let (stop, pages) = (stop.clone(), pages.clone());
        connections.spawn(async move { drop(stop.run_until_cancelled(converse(stream, pages)).await) });
    }
}

/// Answers request after request until the client closes or sends a head that does not fit.
async fn converse(mut stream: TcpStream, pages: Arc<Pages>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    while filled < buffer.len() {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut start = 0;
        while let Some(head) = end_of_head(&buffer[start..filled]).map(|end| &buffer[start..start + end]) {
            let Some(length) = body_length(head) else { return stream.write_all(&pages.refused).await };
            let page = if head.starts_with(b"GET /1m ") { &pages.large } else { &pages.small };
            start += head.len();
            let here = length.min(filled - start);
            start += here;
            skip(&mut stream, length - here).await?;
            stream.write_all(page).await?;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
    Ok(())
}

/// Reads and forgets the rest of a body.
async fn skip(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    if length > 0 {
        tokio::io::copy(&mut stream.take(length as u64), &mut tokio::io::sink()).await?;
    }
    Ok(())
}

/// How many bytes the first head takes, its empty line included.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD).map(|at| at + END_OF_HEAD.len())
}

/// The length of the body; nothing if it is chunked or cannot be read.
fn body_length(head: &[u8]) -> Option<usize> {
    // GET and HEAD, which need no look at their headers.
    if matches!(head.first(), Some(b'G' | b'H')) {
        return Some(0);
    }
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            return std::str::from_utf8(&value[1..]).ok()?.trim().parse().ok();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
    }
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_announces_a_body_has_one() {
        assert_eq!(body_length(b"GET / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"), Some(0));
        assert_eq!(body_length(b"POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 65536\r\n\r\n"), Some(65536));
        assert_eq!(body_length(b"DELETE / HTTP/1.1\r\nhost: a\r\n\r\n"), Some(0));
        assert_eq!(body_length(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), None);
        assert_eq!(body_length(b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n"), None);
    }

    #[test]
    fn heads_end_at_their_empty_line() {
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(end_of_head(b"POST / HTTP/1.1\r\n\r\nab\r\n\r\n"), Some(19));
    }
}
