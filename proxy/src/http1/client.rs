//! A connection to an endpoint: one request after another, each driven by the task that waits for its answer.
//!
//! There is no task per connection: whoever polls for the head or the body of the response also sends what is left of
//! the request. So nothing is handed between tasks, and an idle connection is memory and a socket. Owns the socket and
//! what is known of the message on it; decides whether it can serve another one. Never decides what a failure means for
//! the request: it says what was sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header, request, response};
use http_body::{Body, Frame};

use super::Transport;
use super::decode::{Decoder, Piece};
use super::encode::{self, Encoder};
use super::head::{self, Limits, Malformed};
use super::inbox::{Inbox, NoHead};
use super::length::{self, Length};
use super::options::Options;
use super::outbox::Outbox;
use super::splice::{self, Pipe};

/// A connection with a message on it, or none. `B` is what requests carry.
#[derive(Debug)]
pub struct Connection<S, B> {
    stream: S,
    inbox: Inbox,
    outbox: Outbox,
    /// The request's body while it is being sent.
    body: Option<B>,
    encoder: Encoder,
    decoder: Decoder,
    method: Method,
    sending: Sending,
    /// Whether the last response leaves the connection open.
    persistent: bool,
}

/// How far a request has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// The kernel has taken nothing of it.
    Nothing,
    /// The kernel has taken some of it.
    Begun,
    /// All of it is gone.
    Done,
    /// The endpoint takes no more. It may have answered nevertheless.
    Refused,
}

/// What a response's head may be.
const LIMITS: Limits = Limits { bytes: 256 * 1024, fields: 256 };

/// Interim responses to one request: more are nobody's progress report.
const INTERIM: usize = 32;

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection failed, or ended too early.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// Not HTTP, or not to be trusted.
    #[error("{0}")]
    Invalid(&'static str),
    /// The request's body could not be had, or was not as long as announced.
    #[error("the request's body broke off")]
    Upload,
}

impl<S, B> Connection<S, B>
where
    S: Transport,
    B: Body<Data = Bytes> + Unpin,
{
    /// A new connection.
    pub fn new(stream: S) -> Connection<S, B> {
        Connection {
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            body: None,
            encoder: Encoder::None,
            decoder: Decoder::Ended,
            method: Method::GET,
            sending: Sending::Done,
            persistent: true,
        }
    }

    /// Whether an idle connection is still one. Bytes that nobody asked for end it: whoever sent them may mean them to be
    /// taken for the next answer.
    pub fn is_open(&mut self) -> bool {
        let read = self.inbox.poll_fill(&mut self.stream, &mut Context::from_waker(Waker::noop()), 0);
        read.is_pending() && self.inbox.is_empty()
    }

    /// Puts a request on an idle connection. Nothing is sent before it is polled for.
    pub fn begin(&mut self, head: &request::Parts, body: Option<B>) {
        debug_assert!(self.is_reusable(), "a connection carries one message at a time");
        let bytes = self.outbox.bytes();
        encode::request_head(bytes, head);
        self.encoder = match &body {
            None => Encoder::None,
            // The length was found good when the head was read: `framing::check`.
            Some(_) => Encoder::new(length::of_request(head).unwrap_or(Length::Chunked)),
        };
        if body.is_some() && !head.headers.contains_key(header::CONTENT_LENGTH) {
            self.encoder = Encoder::new(Length::Chunked);
            encode::framing_field(bytes, Length::Chunked);
        }
        encode::end_head(bytes);
        self.body = body;
        self.method = head.method.clone();
        self.sending = Sending::Nothing;
        self.decoder = Decoder::UntilClose;
    }

    /// The exchange is over, and it is not known when the next one begins.
    pub fn rest(&mut self) {
        self.inbox.rest();
    }

    /// Whether the endpoint cannot have seen anything of the request.
    pub fn is_unsent(&self) -> bool {
        self.sending == Sending::Nothing
    }

    /// Whether another request may follow.
    pub fn is_reusable(&self) -> bool {
        self.persistent && self.sending == Sending::Done && self.decoder.is_ended() && self.inbox.is_empty()
    }

    /// Sends the request and waits for the head of its response.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Broken>> {
        self.drive(cx)?;
        for _ in 0..INTERIM {
            let parse = |bytes: &[u8]| head::response(bytes, LIMITS);
            let head = match ready!(self.inbox.poll_head(&mut self.stream, cx, parse)) {
                Ok(head) => head,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            // 103 could be passed on, but not yet to every client; 100 was for us.
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(self.answered(head));
            }
        }
        Poll::Ready(Err(Broken::Invalid("nothing but interim responses")))
    }

    fn answered(&mut self, head: response::Parts) -> Result<response::Parts, Broken> {
        let length = length::of_response(&head, &self.method);
        let length = length.map_err(|_| Broken::Invalid("the length of the response is ambiguous"))?;
        self.decoder = Decoder::new(length);
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        self.persistent = !switches && length != Length::UntilClose && is_persistent(&head);
        Ok(head)
    }

    /// Sends what there is of the request. Only a body that cannot be had is an error: an endpoint that takes no more may
    /// have said why.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if matches!(self.sending, Sending::Done | Sending::Refused) {
            return Ok(());
        }
        match self.poll_send(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.sending = Sending::Done;
                Ok(())
            }
            Poll::Ready(Err(Broken::Connection(error))) if self.is_unsent() => Err(Broken::Connection(error)),
            Poll::Ready(Err(Broken::Connection(_))) => {
                self.sending = Sending::Refused;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let waits = self.fill_outbox(cx)?;
            let sent = self.outbox.poll_send(&mut self.stream, cx);
            if self.sending == Sending::Nothing && self.outbox.has_begun() {
                self.sending = Sending::Begun;
            }
            ready!(sent)?;
            match (&self.body, waits) {
                (None, _) => return Poll::Ready(Ok(())),
                (Some(_), true) => return Poll::Pending,
                (Some(_), false) => {}
            }
        }
    }

    /// Whether the body has nothing to give at the moment.
    fn fill_outbox(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        while let Some(body) = &mut self.body
            && !self.outbox.is_full()
        {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(_))) => return Err(Broken::Upload),
                Poll::Ready(Some(Ok(frame))) => {
                    let ended = body.is_end_stream();
                    self.encode(frame, ended)?;
                }
                Poll::Ready(None) => self.end_body(None)?,
            }
        }
        Ok(false)
    }

    fn encode(&mut self, frame: Frame<Bytes>, ended: bool) -> Result<(), Broken> {
        match frame.into_data() {
            Ok(data) => {
                self.encoder.data(&mut self.outbox, data).map_err(|_| Broken::Upload)?;
                // The last chunk can only follow data that was copied.
                if ended && !self.outbox.is_full() { self.end_body(None) } else { Ok(()) }
            }
            Err(frame) => self.end_body(frame.trailers_ref()),
        }
    }

    fn end_body(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Broken> {
        self.body = None;
        self.encoder.end(&mut self.outbox, trailers).map_err(|_| Broken::Upload)
    }

    /// The next part of the response's body; `None` at its end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.drive(cx).is_err() {
            // The answer came before the end of the upload, and may be whole without it.
            self.sending = Sending::Refused;
        }
        loop {
            match self.decoder.decode(self.inbox.bytes()) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(fields))) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
                Ok(None) => {}
            }
            let expected = self.decoder.expects();
            if ready!(self.inbox.poll_fill(&mut self.stream, cx, expected))? == 0 && !self.decoder.close() {
                return Poll::Ready(Some(Err(Broken::Connection(io::ErrorKind::UnexpectedEof.into()))));
            }
        }
    }

    /// Whether what comes next is large, and nothing has to be looked at on its way.
    pub fn splices(&self) -> bool {
        let large = matches!(self.decoder, Decoder::Known(splice::LARGE..));
        large && self.sending == Sending::Done && self.inbox.is_empty() && self.stream.plain().is_some()
    }

    /// Moves some of the response's body into `pipe`. Only while [`Connection::splices`].
    pub fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (Decoder::Known(left), Some(socket)) = (&mut self.decoder, self.stream.plain()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let moved = ready!(pipe.poll_fill(socket, *left, cx))?;
        *left -= moved as u64;
        if *left == 0 {
            self.decoder = Decoder::Ended;
        }
        Poll::Ready(if moved == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(moved) })
    }

    /// Whether the response has no more to give.
    pub fn is_end_stream(&self) -> bool {
        self.decoder.is_ended()
    }

    /// How much is to come, if it is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.decoder {
            Decoder::Known(left) => Some(left),
            Decoder::Ended => Some(0),
            _ => None,
        }
    }

    /// The connection itself, after 101 (RFC 9110 section 7.8), and what has been read of the other protocol.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.inbox.into_bytes())
    }
}

/// RFC 9112 section 9.3.
fn is_persistent(head: &response::Parts) -> bool {
    let options = Options::of(&head.headers);
    !options.close && (head.version == Version::HTTP_11 || options.keep_alive)
}

impl From<NoHead> for Broken {
    fn from(error: NoHead) -> Broken {
        match error {
            NoHead::Closed => {
                Broken::Connection(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))
            }
            NoHead::Incomplete => {
                Broken::Connection(io::Error::new(io::ErrorKind::UnexpectedEof, "closed amid a head"))
            }
            NoHead::Io(error) => Broken::Connection(error),
            NoHead::Malformed(error) => error.into(),
        }
    }
}

impl From<Malformed> for Broken {
    fn from(error: Malformed) -> Broken {
        match error {
            Malformed::Syntax => Broken::Invalid("not HTTP/1.1"),
            Malformed::TooLarge | Malformed::TargetTooLong => Broken::Invalid("too large"),
        }
    }
}
