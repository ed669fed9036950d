//! Connections that have sent one request each and then do nothing: what they cost a server is memory.
//!
//! Opens them, a few at a time, keeps them, and tells how many the server has kept. Understands answers with a
//! `Content-Length`. Never sends again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    connection::client_config,
    plan::{Handshakes, Protocol, Trust},
    websocket::Duplex,
};

/// Opened at once: a listener's queue is often 128 long.
const ABREAST: usize = 64;
/// Connections from one source address to one port, well below the ephemeral ports there are.
const FROM_ONE_ADDRESS: usize = 20_000;
/// The longest answer that is understood.
const MOST_ANSWER: usize = 16 * 1024;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\r\n";

/// What is spoken below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Nothing but TCP.
    Plain,
    /// TLS, whatever the certificate.
    Tls,
}

/// Open connections; they close when this is dropped.
#[derive(Debug)]
pub struct Held(Vec<Stream>);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens `count` connections to a loopback address and has one request answered on each.
///
/// Beyond 20 000 they come from further source addresses, 127.0.0.2 and so on.
pub async fn open(address: SocketAddr, layer: Layer, count: usize) -> io::Result<Held> {
    let tls = match layer {
        Layer::Plain => None,
        Layer::Tls => Some(connector()?),
    };
    let connections = stream::iter((0..count).map(|n| connect(address, tls.clone(), n)));
    Ok(Held(connections.buffer_unordered(ABREAST).try_collect().await?))
}

impl Held {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many of them the server has not closed.
    pub fn alive(&self) -> usize {
        self.0.iter().filter(|stream| stream.is_alive()).count()
    }
}

impl Stream {
    fn is_alive(&self) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        loop {
            match tcp.try_read(&mut [0; 4096]) {
                // Late tickets of TLS; or a farewell, which the end follows.
                Ok(1..) => {}
                Ok(0) => return false,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn connector() -> io::Result<Arc<ClientConfig>> {
    let trust = Trust { insecure: true, ..Trust::default() };
    client_config(&trust, Protocol::Http1, Handshakes::Full).map(Arc::new).map_err(io::Error::other)
}

async fn connect(address: SocketAddr, tls: Option<Arc<ClientConfig>>, n: usize) -> io::Result<Stream> {
    let mut tcp = dial(address, n / FROM_ONE_ADDRESS).await?;
    let Some(tls) = tls else {
        ask(&mut tcp).await?;
        return Ok(Stream::Plain(tcp));
    };
    let mut tls = TlsConnector::from(tls).connect(ServerName::from(address.ip()), tcp).await?;
    ask(&mut tls).await?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// From 127.0.0.1 as the system chooses, or from another address where its ports are used up.
async fn dial(address: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if source > 0 {
        let last = u8::try_from(source + 1).map_err(|_| io::Error::other("no source address left"))?;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    }
    socket.connect(address).await
}

async fn ask(stream: &mut impl Duplex) -> io::Result<()> {
    stream.write_all(REQUEST).await?;
    // TLS takes bytes that it has not sent yet, and this task's turn may be over in between.
    stream.flush().await?;
    let mut answer = Vec::new();
    while !is_whole(&answer)? {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn is_whole(answer: &[u8]) -> io::Result<bool> {
    if answer.len() > MOST_ANSWER {
        return Err(io::Error::other("the answer is too long"));
    }
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let head = String::from_utf8_lossy(&answer[..end]);
    if head.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("answered with {}", head.lines().next().unwrap_or_default())));
    }
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| io::Error::other("an answer without content-length"))?;
    Ok(answer.len() >= end + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, whole: Option<bool>) {
        assert_eq!(is_whole(answer.as_bytes()).ok(), whole, "{answer}");
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        check("", Some(false));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Some(false));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx", Some(false));
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxx", Some(true));
        check("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\n\r\n", None);
    }

    #[tokio::test]
    async fn held_connections_are_alive_until_the_server_closes_them() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..8 {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                kept.push(stream);
            }
            kept
        });
        let held = open(address, Layer::Plain, 8).await.unwrap();
        assert_eq!((held.count(), held.alive()), (8, 8));
        let mut kept = server.await.unwrap();
        kept.truncate(5);
        // The end of the stream arrives when the runtime has been told of it.
        while held.alive() > 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(held.alive(), 5);
        drop(kept);
    }
}
