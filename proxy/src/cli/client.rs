//! Asks the admin API of a running Waypost.
//!
//! Owns the little HTTP that this takes: no runtime, no connection that is kept, every call within its time.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;
use http::{Method, Uri};

/// Which process is asked.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Ask the process with this admin address, instead of the file
    #[arg(long = "admin", value_name = "http://HOST:PORT", env = "WAYPOST_ADMIN")]
    url: Option<String>,
    /// Its token, if it wants one
    #[arg(long, value_name = "TOKEN", env = "WAYPOST_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// How long a question may take that is not about health.
const PATIENCE: Duration = Duration::from_secs(10);

impl Remote {
    /// What the process answers to this path; `None` if no process was named.
    pub(super) fn ask(&self, method: &Method, path: &str, body: &str) -> Option<io::Result<Reply>> {
        let url = format!("{}{path}", self.url.as_ref()?.trim_end_matches('/'));
        let call = Call { method, url: &url, token: self.token.as_deref(), body };
        Some(call.send(Instant::now() + PATIENCE))
    }
}

/// One question.
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) body: &'a str,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn read(text: &str) -> Option<Reply> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some(Reply { status, body: body.to_owned() })
    }
}

impl Call<'_> {
    /// HTTP/1.0, so that the body is all that follows, without chunks, up to the end of the connection.
    pub(super) fn send(&self, deadline: Instant) -> io::Result<Reply> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a URL of the form http://host:port/path");
        let uri: Uri = self.url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut stream = connect(authority.host(), authority.port_u16().unwrap_or(80), deadline)?;
        stream.set_write_timeout(Some(left(deadline)?))?;
        let token = self.token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let (method, length) = (self.method, self.body.len());
        write!(stream, "{method} {path} HTTP/1.0\r\nhost: {authority}\r\n{token}content-length: {length}\r\n\r\n")?;
        stream.write_all(self.body.as_bytes())?;
        let text = read(&mut stream, deadline)?;
        Reply::read(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// More than is told of the largest config.
const ANSWER_LIMIT: usize = 64 << 20;

fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 16384]);
    while text.len() < ANSWER_LIMIT {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(too_late()) } else { Ok(left) }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let reply = Reply::read("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{}").unwrap();
        assert_eq!((reply.status, reply.body.as_str(), reply.is_good()), (503, "{}", false));
        assert!(Reply::read("SSH-2.0-x\r\n\r\n").is_none());
    }
}
