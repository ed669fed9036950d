//! The floor of a comparison: bytes handed on between two connections, with no HTTP at all.
//!
//! Every client's connection gets one of its own to an upstream. A request and its answer are then four system calls
//! (two receives, two sends), which no proxy can do without; what a proxy costs above that is its own. Never looks at
//! what it carries, and repeats nothing.

use std::{io, net::SocketAddr};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

/// Bytes of each of a connection's two buffers: a large body costs few calls then, and a small one no more.
const BUFFER: usize = 64 * 1024;

/// Relays what comes to `listen` to the upstreams in turn, until it can accept no more.
pub async fn serve(listen: SocketAddr, upstreams: &[SocketAddr]) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    LocalSet::new().run_until(accept(listener, upstreams)).await
}

async fn accept(listener: TcpListener, upstreams: &[SocketAddr]) -> io::Result<()> {
    if upstreams.is_empty() {
        return Err(io::Error::other("no upstream to relay to"));
    }
    for &upstream in upstreams.iter().cycle() {
        let (client, _) = listener.accept().await?;
        // A connection that breaks is the two ends' business, and they see it.
        tokio::task::spawn_local(relay(client, upstream));
    }
    Ok(())
}

async fn relay(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn bound() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Says its name and then what it hears.
    async fn parrot(listener: TcpListener, name: &'static [u8]) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                stream.write_all(name).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_connections_to_the_upstreams_in_turn() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let (relay, (a, at_a), (b, at_b)) = (bound().await, bound().await, bound().await);
                tokio::task::spawn_local(parrot(a, b"a"));
                tokio::task::spawn_local(parrot(b, b"b"));
                tokio::task::spawn_local(async move { accept(relay.0, &[at_a, at_b]).await });
                for name in [b"a", b"b", b"a"] {
                    let mut stream = TcpStream::connect(relay.1).await.unwrap();
                    stream.write_all(b"hello").await.unwrap();
                    stream.shutdown().await.unwrap();
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await.unwrap();
                    assert_eq!(heard, [name, &b"hello"[..]].concat(), "and the end goes through too");
                }
            })
            .await;
    }
}
