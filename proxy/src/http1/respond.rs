//! A response on its way to a client: how it is framed, and its bytes.
//!
//! Decides the framing (RFC 9112 section 6) and the fields that speak for this connection only. Never changes what a
//! response says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, header, response};
use http_body::{Frame, SizeHint};

use super::Transport;
use super::date;
use super::encode::{self, Encoder};
use super::length::{self, Length};
use super::line::Line;
use super::options::Options;
use super::outbox::Outbox;
use super::splice::{Spliced, Splicing};

/// What a request asks of its response.
#[derive(Debug)]
pub struct Asked {
    /// What the client speaks.
    pub version: Version,
    /// Decides whether there is a body.
    pub method: Method,
    /// Whether the client takes trailers.
    pub trailers: bool,
    /// Whether another request may follow.
    pub persistent: bool,
}

/// A response of which some has not left.
pub struct Responding<B> {
    outbox: Outbox,
    encoder: Encoder,
    body: B,
    ended: bool,
    persistent: bool,
    splicing: Splicing,
}

impl<B: Spliced<Data = Bytes> + Unpin> Responding<B> {
    /// Frames a response and writes its head. The connection ends with it unless `asked.persistent`.
    pub fn new(asked: &Asked, response: Response<B>) -> Responding<B> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
            // Some clients would wait for it (RFC 9110 section 8.6).
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let framing = Framing::of(asked, &head, &body.size_hint());
        let closes = head.headers.contains_key(header::CONNECTION) && Options::of(&head.headers).close;
        let persistent = asked.persistent && !closes && !framing.until_close;
        let mut outbox = Outbox::with_capacity(HEAD);
        let out = outbox.bytes();
        encode::response_head(out, &head, asked.version);
        if let Some(length) = framing.field {
            encode::framing_field(out, length);
        }
        if !closes && head.status != StatusCode::SWITCHING_PROTOCOLS {
            connection_field(out, asked.version, persistent);
        }
        if !head.headers.contains_key(header::DATE) {
            date::field(out);
        }
        encode::end_head(out);
        let splicing = if framing.encoder.is_plain() { Splicing::May } else { Splicing::Never };
        Responding { outbox, encoder: framing.encoder, body, ended: false, persistent, splicing }
    }

    /// Whether another request may follow it.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether the end of the connection is the end of its body, too.
    pub fn ends_by_close(&self) -> bool {
        matches!(self.encoder, Encoder::UntilClose)
    }

    /// Sends it, to its end.
    pub fn poll<S: Transport + 'static>(&mut self, line: &Line<S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let filled = self.fill(cx);
            let sent = line.poll_send(cx, &mut self.outbox)?;
            if sent.is_pending() {
                // A client that sends before it reads must not wait for itself.
                self.body.drive(cx);
                return Poll::Pending;
            }
            ready!(self.poll_splice(line, cx))?;
            match filled {
                // What there was has left; that it ends here without an end is how the client learns of it.
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Filled::All) => return Poll::Ready(Ok(())),
                Ok(Filled::More) => {}
                Ok(Filled::Waits) => return line.poll_gone(cx).map(Err),
            }
        }
    }

    /// Moves what is large from socket to socket. The outbox is empty.
    fn poll_splice<S: Transport + 'static>(&mut self, line: &Line<S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wanted = self.is_spliced();
        let Some(pipe) = self.splicing.pipe(wanted, || line.takes_splices()) else { return Poll::Ready(Ok(())) };
        loop {
            while pipe.held() > 0 {
                let poured = ready!(line.poll_pour(cx, pipe))?;
                self.encoder.passed(poured).map_err(io::Error::other)?;
            }
            if !self.body.splices() {
                return Poll::Ready(Ok(()));
            }
            match self.body.poll_splice(pipe, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(io::Error::other("the body broke off"))),
                Poll::Pending => return line.poll_gone(cx).map(Err),
            }
        }
    }

    fn is_spliced(&self) -> bool {
        self.splicing.is_next(self.body.splices())
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> io::Result<Filled> {
        while !self.ended {
            if self.outbox.is_full() || self.is_spliced() {
                return Ok(Filled::More);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Filled::Waits),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Ok(frame))) => self.add(frame)?,
                Poll::Ready(Some(Err(_))) => return Err(io::Error::other("the body broke off")),
            }
        }
        Ok(Filled::All)
    }

    fn add(&mut self, frame: Frame<Bytes>) -> io::Result<()> {
        match frame.into_data() {
            Ok(data) => self.encoder.data(&mut self.outbox, data).map_err(io::Error::other),
            Err(frame) => self.end(frame.trailers_ref()),
        }
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> io::Result<()> {
        self.ended = true;
        self.encoder.end(&mut self.outbox, trailers).map_err(io::Error::other)
    }
}

/// Room for the head of most responses.
const HEAD: usize = 1024;

/// What came of asking the body for more.
enum Filled {
    /// It has ended.
    All,
    /// There is more once this has left.
    More,
    /// It has nothing at the moment.
    Waits,
}

struct Framing {
    encoder: Encoder,
    /// What the head does not say yet.
    field: Option<Length>,
    until_close: bool,
}

impl Framing {
    fn of(asked: &Asked, head: &response::Parts, hint: &SizeHint) -> Framing {
        // Endpoints' heads have been found good, and ours are.
        let announced = length::content_length(&head.headers).ok().flatten();
        if length::has_no_body(head.status, &asked.method) {
            // What a GET would have had, if we know it: an invented reply.
            let field = hint.exact().filter(|length| *length > 0 && announced.is_none()).map(Length::Known);
            return Framing { encoder: Encoder::None, field, until_close: false };
        }
        let (length, field) = match (announced, hint.exact()) {
            (Some(length), _) => (Length::Known(length), None),
            (None, Some(length)) => (Length::Known(length), Some(Length::Known(length))),
            (None, None) if asked.version == Version::HTTP_11 => (Length::Chunked, Some(Length::Chunked)),
            (None, None) => (Length::UntilClose, None),
        };
        let encoder = match length {
            Length::Chunked => Encoder::Chunked { trailers: asked.trailers },
            length => Encoder::new(length),
        };
        Framing { encoder, field, until_close: length == Length::UntilClose }
    }
}

/// HTTP/1.1 stays unless told otherwise, HTTP/1.0 goes (RFC 9112 section 9.3).
fn connection_field(out: &mut Vec<u8>, version: Version, persistent: bool) {
    match (version, persistent) {
        (Version::HTTP_11, false) => encode::field(out, "connection", b"close"),
        (Version::HTTP_10, true) => encode::field(out, "connection", b"keep-alive"),
        _ => {}
    }
}
