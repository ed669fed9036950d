//! Clients over HTTP/2: one stream after another, and another connection once this one was told to go.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::client::{PAUSE, Tally};

/// A connection, ready for a request.
pub(crate) type Sender = SendRequest<Empty<Bytes>>;

pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

/// Asks until it is told to end. A connection that takes no request any more is replaced; a request that was taken must
/// be answered.
pub(crate) async fn client(address: SocketAddr, end: CancellationToken, tally: Arc<Tally>) {
    let mut kept = None;
    while !end.is_cancelled() {
        match once(address, &mut kept).await {
            Ok(Some(StatusCode::OK)) => tally.answered(),
            Ok(Some(status)) => tally.failed(format!("over HTTP/2: {status}")),
            Ok(None) => kept = None,
            Err(error) => {
                kept = None;
                tally.failed(format!("over HTTP/2: {error:#}"));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `None` if the connection has come to its end, and nothing was sent that will be answered.
async fn once(address: SocketAddr, kept: &mut Option<Sender>) -> anyhow::Result<Option<StatusCode>> {
    let mut sender = match kept.take() {
        Some(sender) => sender,
        None => open(address).await?,
    };
    if sender.ready().await.is_err() {
        return Ok(None);
    }
    let response = match sender.try_send_request(get("/")).await {
        Ok(response) => response,
        Err(error) if error.message().is_some() || is_goodbye(error.error()) => return Ok(None),
        Err(error) => return Err(error.into_error().into()),
    };
    let status = response.status();
    response.into_body().collect().await?;
    *kept = Some(sender);
    Ok(Some(status))
}

/// GOAWAY without a reason to complain: it says that this stream, unlike those before it, is not looked at
/// (RFC 9113 section 6.8).
fn is_goodbye(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}
