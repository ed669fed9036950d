//! Hostile TLS: handshakes that are left or not gone on with, and second ones on a connection that has had its own.

use std::{io, sync::Arc};

use rustls::ClientConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    attack::Tls,
    ending::{Ending, How},
};

/// By turns: a whole handshake and nothing more; one that is left after its first words; one that stays there.
pub(super) async fn handshake(tls: &Tls, mut tcp: TcpStream, n: usize) -> Ending {
    if n.is_multiple_of(3) {
        let connecting = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.name.clone(), tcp);
        return if connecting.await.is_ok() { How::Left.into() } else { How::Refused.into() };
    }
    let Ok(hello) = client_hello(tls) else { return How::Left.into() };
    if tcp.write_all(&hello).await.is_err() {
        return How::Closed.into();
    }
    if n % 3 == 1 {
        return How::Left.into();
    }
    end_of(tcp).await
}

/// TLS 1.2, a whole handshake, and the first words of another one.
pub(super) async fn renegotiation(tls: &Tls, tcp: TcpStream) -> Ending {
    let connecting = TlsConnector::from(Arc::clone(&tls.old)).connect(tls.name.clone(), tcp);
    let (Ok(stream), Ok(hello)) = (connecting.await, client_hello(tls)) else { return How::Refused.into() };
    let (mut tcp, _) = stream.into_inner();
    if tcp.write_all(&hello).await.is_err() {
        return How::Closed.into();
    }
    end_of(tcp).await
}

/// As a record, the way a connection begins.
fn client_hello(tls: &Tls) -> io::Result<Vec<u8>> {
    let mut client = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

/// Reads until the server has had enough.
async fn end_of(mut tcp: TcpStream) -> Ending {
    let mut bytes = [0; 4096];
    while tcp.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    How::Closed.into()
}
