//! The bodies of answers: whole ones without a box, streamed ones in a box, and broken ones that take the connection
//! down with them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};

use crate::socket::{Fate, Line};

/// An error that ends a body; hyper breaks the transfer off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A whole body, or a stream.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BodyError>>;

/// A multiple of the alphabet, near the size that a socket takes at once.
const BLOCK_LEN: usize = 26 * 2520;
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| (b'a'..=b'z').cycle().take(BLOCK_LEN).collect());

/// A body that is there in full.
pub(super) fn whole(bytes: Bytes) -> Body {
    Body::Left(Full::new(bytes))
}

/// Any other body.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    Body::Right(body.map_err(Into::into).boxed_unsync())
}

/// A body of unknown length whose pieces are sent as they come.
pub(super) fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    boxed(StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)))))
}

/// The letter at this place of a generated body: the alphabet over and over.
pub(super) fn letter(place: u64) -> Bytes {
    let at = usize::try_from(place % 26).expect("a remainder of 26 fits");
    BLOCK.slice(at..=at)
}

/// The alphabet over and over, without holding it in memory.
pub(super) struct Alphabet {
    left: u64,
    place: u64,
    piece: usize,
    length: Option<u64>,
}

impl Alphabet {
    /// A body that says how long it is.
    pub(super) fn sized(length: u64) -> Self {
        Self { left: length, place: 0, piece: BLOCK_LEN, length: Some(length) }
    }

    /// A body of unknown length in pieces of this size (at most about 64 KiB each).
    pub(super) fn pieces(length: u64, piece: usize) -> Self {
        Self { left: length, place: 0, piece: piece.max(1), length: None }
    }

    fn next(&mut self) -> Bytes {
        let start = usize::try_from(self.place % 26).expect("a remainder of 26 fits");
        let rest = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = BLOCK.slice(start..BLOCK_LEN.min(start.saturating_add(self.piece.min(rest))));
        self.left -= piece.len() as u64;
        self.place += piece.len() as u64;
        piece
    }
}

impl HttpBody for Alphabet {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = (self.left > 0).then(|| Ok(Frame::data(self.next())));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |_| SizeHint::with_exact(self.left))
    }
}

/// Sends a part of a body and then ends the connection instead of the body.
pub(super) struct Broken {
    part: Option<Bytes>,
    warned: bool,
    line: Arc<Line>,
    fate: Fate,
}

impl Broken {
    pub(super) fn new(part: Bytes, line: Arc<Line>, fate: Fate) -> Self {
        Self { part: Some(part), warned: false, line, fate }
    }
}

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if self.warned {
            // The flush that follows ends the connection, and this body with it.
            return Poll::Pending;
        }
        self.warned = true;
        self.line.end_when_flushed(self.fate);
        // HTTP/2 writes in another task, which may have flushed already: an empty frame makes it flush once more.
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

/// A body that has the connection say more than it should as soon as the body's last bytes are written.
pub(super) struct Exceeding {
    body: Body,
    line: Arc<Line>,
}

impl Exceeding {
    pub(super) fn new(body: Body, line: Arc<Line>) -> Self {
        Self { body, line }
    }
}

impl HttpBody for Exceeding {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.line.exceed();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn generated_bodies_are_the_alphabet_whatever_the_pieces() {
        for piece in [1, 7, 1024, BLOCK_LEN, usize::MAX] {
            let length = 200_000;
            let body = Alphabet::pieces(length, piece).collect().await.unwrap().to_bytes();
            assert_eq!(body.len() as u64, length, "pieces of {piece}");
            let differs = body.iter().enumerate().find(|&(place, &byte)| letter(place as u64)[0] != byte);
            assert_eq!(differs, None, "pieces of {piece}");
        }
    }
}
