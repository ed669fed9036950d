//! The cheapest upstream there is: any request, a small fixed response; any `WebSocket`, its own messages back.
//!
//! Written by hand, because its cost is on the load's core and must leave room there. It trusts its peers: they are
//! proxies under comparison. Understands `Content-Length` bodies only; anything else closes the connection.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::websocket::{self, Frame};

/// Size of a read, and the longest head or message that is understood.
const BUFFER: usize = 64 * 1024;
/// Bytes of the body of `/1m`.
const LARGE: usize = 1024 * 1024;

/// Serves at all addresses until one of them fails.
pub async fn serve(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut accepting = JoinSet::new();
    for address in addresses {
        accepting.spawn(accept(TcpListener::bind(address).await?));
    }
    match accepting.join_next().await {
        Some(Ok(Err(error))) => Err(error),
        _ => Ok(()),
    }
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let answers = Arc::new(Answers::new(listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse(stream, Arc::clone(&answers)));
    }
}

struct Answers {
    name: SocketAddr,
    small: Vec<u8>,
    /// Made when it is first asked for: a thousand addresses would hold a GiB of it.
    large: OnceLock<Vec<u8>>,
}

impl Answers {
    fn new(name: SocketAddr) -> Self {
        Self { name, small: answer(name, b"hello, world\n"), large: OnceLock::new() }
    }

    fn to(&self, request: &Head) -> &[u8] {
        if request.large {
            return self.large.get_or_init(|| answer(self.name, &vec![b'x'; LARGE]));
        }
        &self.small
    }
}

fn answer(name: SocketAddr, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nX-Upstream: {name}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn converse(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let Some(request) = read_head(&mut stream, &mut buffer, &mut filled).await? else { return Ok(()) };
        if let Some(key) = &request.upgrade {
            stream.write_all(websocket::agreement(key).as_bytes()).await?;
            buffer.copy_within(request.size..filled, 0);
            return echo(stream, buffer, filled - request.size).await;
        }
        let mut rest = request.body;
        let buffered = rest.min(filled - request.size);
        buffer.copy_within(request.size + buffered..filled, 0);
        filled -= request.size + buffered;
        rest -= buffered;
        while rest > 0 {
            let room = rest.min(buffer.len());
            match stream.read(&mut buffer[..room]).await? {
                0 => return Ok(()),
                read => rest -= read,
            }
        }
        stream.write_all(answers.to(&request)).await?;
        if request.last {
            return Ok(());
        }
    }
}

/// Sends back every message that is whole, all that came with one read in one write.
async fn echo(mut stream: TcpStream, mut buffer: Vec<u8>, mut filled: usize) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let Some(used) = reflect(&mut buffer[..filled], &mut out) else { return Ok(()) };
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        if filled == buffer.len() {
            return Ok(());
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
}

/// Puts the whole messages of `bytes` into `out` and returns their size; `None` if one of them is the last.
fn reflect(bytes: &mut [u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut used = 0;
    while let Some(frame) = Frame::parse(&bytes[used..]) {
        if frame.closes() {
            return None;
        }
        if frame.size() > bytes.len() - used {
            break;
        }
        let payload = &mut bytes[used + frame.head..used + frame.size()];
        websocket::apply(payload, frame.mask.unwrap_or_default());
        websocket::put(out, payload, None);
        used += frame.size();
    }
    Some(used)
}

/// What matters of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    /// Bytes of the head itself, the empty line included.
    size: usize,
    /// Bytes of its body.
    body: usize,
    large: bool,
    /// Whether the connection ends with it.
    last: bool,
    /// The key of an upgrade to a `WebSocket`.
    upgrade: Option<String>,
}

/// `None` at the end of the connection, or if the head is longer than the buffer or not understood.
async fn read_head(stream: &mut TcpStream, buffer: &mut [u8], filled: &mut usize) -> io::Result<Option<Head>> {
    loop {
        if let Some(end) = buffer[..*filled].windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(parse(&buffer[..end + 4]));
        }
        match stream.read(&mut buffer[*filled..]).await? {
            0 => return Ok(None),
            read => *filled += read,
        }
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?;
    let mut found = Head { size: head.len(), large: path.starts_with("/1m"), ..Head::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            found.body = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
            found.last = true;
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            found.upgrade = Some(value.trim().to_owned());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, found: Option<Head>) {
        let expected = found.map(|found| Head { size: head.len(), ..found });
        assert_eq!(parse(head.as_bytes()), expected, "{head}");
    }

    #[test]
    fn heads_are_read_for_length_size_end_and_upgrade() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Head::default()));
        let last = Head { large: true, last: true, ..Head::default() };
        check("GET /1m HTTP/1.1\r\nconnection: Close\r\n\r\n", Some(last));
        check("POST /x HTTP/1.1\r\ncontent-length: 65536\r\n\r\n", Some(Head { body: 65536, ..Head::default() }));
        check("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", None);
        let upgrade = Head { upgrade: Some("abc=".to_owned()), ..Head::default() };
        check("GET /ws HTTP/1.1\r\nSec-WebSocket-Key: abc=\r\n\r\n", Some(upgrade));
    }

    #[test]
    fn whole_messages_come_back_unmasked_and_a_close_ends_it() {
        let (mut bytes, mut expected, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for message in [&b"one"[..], b"", b"three"] {
            websocket::put(&mut bytes, message, Some([7, 0, 255, 9]));
            websocket::put(&mut expected, message, None);
        }
        let whole = bytes.len();
        bytes.extend([0x82, 0x85, 1]);
        assert_eq!(reflect(&mut bytes, &mut out), Some(whole), "the rest is not whole yet");
        assert_eq!(out, expected);
        assert_eq!(reflect(&mut [0x88, 0x80, 0, 0, 0, 0], &mut out), None);
    }
}
