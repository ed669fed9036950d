//! The body of an endpoint's response, and the connection it comes over.
//!
//! Owns the connection until the body has ended; then it goes back to the pool at once, or is closed. Never looks into
//! the bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::pool::{Http1, Pool, StreamGuard};
use crate::body::{BodyError, sifted};
use crate::http1::Upgraded;
use crate::http1::client::Broken;
use crate::http1::splice::Pipe;
use crate::tunnel::Side;

/// A response body on its way from an endpoint.
#[derive(Debug)]
pub enum Incoming {
    /// From a connection of its own.
    Http1 {
        /// `None` once it has gone back.
        http1: Option<Box<Http1>>,
        /// Where it goes back to.
        pool: Arc<Pool>,
    },
    /// From one stream of a shared connection.
    Http2 {
        /// The stream.
        body: hyper::body::Incoming,
        /// Counts the stream while it is open.
        _stream: StreamGuard,
    },
}

impl Incoming {
    /// The body that follows the head which `http1` has just brought.
    pub fn http1(http1: Box<Http1>, pool: &Arc<Pool>) -> Incoming {
        let mut incoming = Incoming::Http1 { http1: Some(http1), pool: Arc::clone(pool) };
        incoming.release();
        incoming
    }

    /// The connection goes back if nothing more comes over it.
    fn release(&mut self) {
        if let Incoming::Http1 { http1, pool } = self
            && let Some(ended) = http1.take_if(|http1| http1.connection.is_reusable())
        {
            pool.give_back(ended);
        }
    }

    /// The endpoint's side of an upgraded connection.
    pub fn tunnel(response: &mut Response<Incoming>) -> Side {
        if let Incoming::Http1 { http1, .. } = response.body_mut() {
            return Side::Here(http1.take().map(|http1| {
                let (stream, read) = http1.connection.into_parts();
                Upgraded { stream: Box::new(stream), read }
            }));
        }
        Side::Http2(hyper::upgrade::on(response))
    }
}

impl Incoming {
    /// Whether the next bytes can go through a pipe.
    pub fn splices(&self) -> bool {
        matches!(self, Incoming::Http1 { http1: Some(http1), .. } if http1.connection.splices())
    }

    /// Sends what there is of the request while its response is not asked for.
    pub fn go_on(&mut self, cx: &mut Context<'_>) {
        if let Incoming::Http1 { http1: Some(http1), .. } = self {
            http1.connection.go_on(cx);
        }
    }

    /// Moves some of them into `pipe`; returns how many.
    pub fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let Incoming::Http1 { http1: Some(http1), .. } = self else { return Poll::Ready(Ok(0)) };
        let moved = ready!(http1.connection.poll_splice(pipe, cx)).map_err(Broken::Connection)?;
        self.release();
        Poll::Ready(Ok(moved))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Incoming::Http1 { http1: None, .. } => Poll::Ready(None),
            Incoming::Http1 { http1: Some(http1), .. } => {
                let frame = ready!(http1.connection.poll_frame(cx));
                self.release();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Incoming::Http2 { body, .. } => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(sifted(frame?))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Http1 { http1, .. } => http1.as_ref().is_none_or(|http1| http1.connection.is_end_stream()),
            Incoming::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Http1 { http1: None, .. } => SizeHint::with_exact(0),
            Incoming::Http1 { http1: Some(http1), .. } => {
                http1.connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Incoming::Http2 { body, .. } => body.size_hint(),
        }
    }
}
