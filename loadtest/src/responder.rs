//! The cheapest upstream there is: any request, a small fixed response.
//!
//! Written by hand, because its cost is on the load's core and must leave room there. It trusts its peers: they are
//! proxies under comparison. Understands `Content-Length` bodies only; anything else closes the connection.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Size of a read, and the longest head that is understood.
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
    let name = listener.local_addr()?.port();
    let answers = Arc::new(Answers { small: answer(name, b"hello, world\n"), large: answer(name, &vec![b'x'; LARGE]) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse(stream, Arc::clone(&answers)));
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

fn answer(name: u16, body: &[u8]) -> Vec<u8> {
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
        stream.write_all(if request.large { &answers.large } else { &answers.small }).await?;
        if request.last {
            return Ok(());
        }
    }
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Bytes of the head itself, the empty line included.
    size: usize,
    /// Bytes of its body.
    body: usize,
    large: bool,
    /// Whether the connection ends with it.
    last: bool,
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
    let mut found = Head { size: head.len(), body: 0, large: path.starts_with("/1m"), last: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            found.body = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
            found.last = true;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, found: Option<(usize, bool, bool)>) {
        let expected = found.map(|(body, large, last)| Head { size: head.len(), body, large, last });
        assert_eq!(parse(head.as_bytes()), expected, "{head}");
    }

    #[test]
    fn heads_are_read_for_length_size_and_end() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some((0, false, false)));
        check("GET /1m HTTP/1.1\r\nconnection: Close\r\n\r\n", Some((0, true, true)));
        check("POST /x HTTP/1.1\r\ncontent-length: 65536\r\n\r\n", Some((65536, false, false)));
        check("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", None);
    }
}
