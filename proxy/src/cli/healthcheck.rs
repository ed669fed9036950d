//! `healthcheck`: is the Waypost beside me ready?
//!
//! Decides whom to ask and how long to wait. Needs neither a runtime nor a config without mistakes: a container's
//! engine calls it every few seconds, and kills what it calls ill.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use http::Uri;
use toml::de::DeTable;

use super::{Verdict, failed, print};

/// Asks `url`, or `/ready` on the admin address of the config at `path`, and says what came back.
pub(super) fn ask(url: Option<String>, path: &Path, timeout: Duration) -> Verdict {
    let url = match url.map_or_else(|| ready_url(path), Ok) {
        Ok(url) => url,
        Err(error) => return failed(&error),
    };
    match get(&url, Instant::now() + timeout) {
        Ok(reply) if reply.ready() => print(&format!("{}\n", reply.body.trim())),
        Ok(reply) => failed(&format!("{url} answered {}: {}", reply.status, reply.body.trim())),
        Err(error) => failed(&format!("{url}: {error}")),
    }
}

fn ready_url(path: &Path) -> Result<String, String> {
    let nowhere = || format!("{} has no admin address to ask; give one with --url", path.display());
    let address = match waypost_config::load(path) {
        Ok(loaded) => loaded.config.admin.map(|admin| admin.address),
        Err(_) => among_mistakes(path).map_err(|error| format!("can't read {}: {error}", path.display()))?,
    };
    Ok(format!("http://{}/ready", reachable(address.ok_or_else(nowhere)?)))
}

/// The admin address of a file with mistakes elsewhere.
fn among_mistakes(path: &Path) -> io::Result<Option<SocketAddr>> {
    let text = std::fs::read_to_string(path)?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let address = table.get_ref().get("admin").and_then(|admin| admin.get_ref().get("address"));
    Ok(address.and_then(|address| address.get_ref().as_str()?.parse().ok()))
}

/// One cannot ask "every address".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    fn ready(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn read(text: &str) -> Option<Reply> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some(Reply { status, body: body.to_owned() })
    }
}

/// HTTP/1.0, so that the body is all that follows, without chunks, up to the end of the connection.
fn get(url: &str, deadline: Instant) -> io::Result<Reply> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a URL of the form http://host:port/path");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut stream = connect(authority.host(), authority.port_u16().unwrap_or(80), deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {authority}\r\n\r\n")?;
    let text = read(&mut stream, deadline)?;
    Reply::read(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
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

/// More than any answer of `/ready`.
const ANSWER_LIMIT: usize = 64 * 1024;

fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
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
    fn unspecified_addresses_become_loopback() {
        for (configured, asked) in [
            ("0.0.0.0:9900", "127.0.0.1:9900"),
            ("[::]:9900", "[::1]:9900"),
            ("192.0.2.1:9900", "192.0.2.1:9900"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(reachable(configured.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn address_is_found_in_a_file_with_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, "[admin]\naddress = \"0.0.0.0:9900\"\n[listeners.web]\nadress = \n").unwrap();
        assert_eq!(ready_url(&path).unwrap(), "http://127.0.0.1:9900/ready");
        std::fs::write(&path, "version = 1\n[admin\n").unwrap();
        assert!(ready_url(&path).is_err());
    }

    #[test]
    fn status_and_body_are_told_apart() {
        let reply = Reply::read("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{}").unwrap();
        assert_eq!((reply.status, reply.body.as_str(), reply.ready()), (503, "{}", false));
        assert!(Reply::read("SSH-2.0-x\r\n\r\n").is_none());
    }
}
