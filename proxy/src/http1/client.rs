//! A connection to an endpoint: one request after another, each driven by the task that waits for its answer.
//!
//! There is no task per connection: whoever polls for the head or the body of the response also sends what is left of
//! the request. So nothing is handed between tasks, and an idle connection is memory and a socket. Owns the socket and
//! what is known of the message on it; decides whether it can serve another one. Never decides what a failure means for
//! the request: it says what was sent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, request, response};
use http_body::Frame;
use tokio::task::unconstrained;

use super::Transport;
use super::decode::{Decoder, Piece};
use super::encode::{self, Encoder};
use super::head::{self, Limits, Malformed};
use super::inbox::{Inbox, NoHead};
use super::length::{self, Length};
use super::options::Options;
use super::outbox::Outbox;
use super::splice::{self, Pipe, Spliced, Splicing};

/// A connection with a message on it, or none. `B` is what requests carry.
#[derive(Debug)]
pub struct Connection<S, B> {
    stream: S,
    inbox: Inbox,
    outbox: Outbox,
    /// The request's body while it is being sent.
    body: Option<B>,
    splicing: Splicing,
    encoder: Encoder,
    decoder: Decoder,
    method: Method,
    sending: Sending,
    /// Interim responses to the present request.
    interim: usize,
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

/// RFC 8446 section 5.1.
const TLS_RECORD: usize = 16 * 1024;

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
    B: Spliced<Data = Bytes> + Unpin,
{
    /// A new connection.
    pub fn new(stream: S) -> Connection<S, B> {
        Connection {
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            body: None,
            splicing: Splicing::Never,
            encoder: Encoder::None,
            decoder: Decoder::Ended,
            method: Method::GET,
            sending: Sending::Done,
            interim: 0,
            persistent: true,
        }
    }

    /// Whether an idle connection is still one. Bytes that nobody asked for end it: whoever sent them may mean them to be
    /// taken for the next answer.
    pub fn is_open(&mut self) -> bool {
        let Connection { inbox, stream, .. } = self;
        // However much the task has done already: a pending read must mean that there is nothing.
        let mut read = pin!(unconstrained(poll_fn(|cx| inbox.poll_fill(stream, cx, 0))));
        read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Puts a request on an idle connection. Nothing is sent before it is polled for.
    pub fn begin(&mut self, head: &request::Parts, body: Option<B>) {
        debug_assert!(self.is_reusable(), "a connection carries one message at a time");
        let bytes = self.outbox.bytes();
        encode::request_head(bytes, head);
        self.encoder = match &body {
            None => Encoder::None,
            Some(_) => Encoder::new(framed(head)),
        };
        if let Encoder::Chunked { .. } = self.encoder {
            encode::framing_field(bytes, Length::Chunked);
        }
        encode::end_head(bytes);
        self.splicing = if self.encoder.is_plain() { Splicing::May } else { Splicing::Never };
        self.body = body;
        self.method = head.method.clone();
        self.sending = Sending::Nothing;
        self.interim = 0;
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

    /// Whether not a byte of an answer has come.
    pub fn is_unanswered(&self) -> bool {
        self.inbox.is_empty() && self.interim == 0
    }

    /// Whether another request may follow.
    pub fn is_reusable(&self) -> bool {
        self.persistent && self.sending == Sending::Done && self.decoder.is_ended() && self.inbox.is_empty()
    }

    /// Sends the request and waits for the head of its response.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Broken>> {
        self.drive(cx)?;
        while self.interim < INTERIM {
            let parse = |bytes: &[u8]| head::response(bytes, LIMITS);
            let head = match ready!(self.inbox.poll_head(&mut self.stream, cx, parse)) {
                Ok(head) => head,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            // 103 could be passed on, but not yet to every client; 100 was for us.
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(self.answered(head));
            }
            self.interim += 1;
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

    /// Sends what there is of the request while its response is not asked for.
    pub fn go_on(&mut self, cx: &mut Context<'_>) {
        if self.drive(cx).is_err() {
            // The answer came before the end of the upload, and may be whole without it.
            self.sending = Sending::Refused;
        }
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
            Poll::Ready(Err(Broken::Connection(error))) if self.is_unsent() => {
                // TLS makes several records of a large write, of which the first may have left.
                if self.stream.plain().is_none() && self.outbox.len() > TLS_RECORD {
                    self.sending = Sending::Begun;
                }
                Err(Broken::Connection(error))
            }
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
            ready!(self.poll_splice_body(cx))?;
            match (&self.body, waits) {
                (None, _) => return Poll::Ready(Ok(())),
                (Some(_), true) => return Poll::Pending,
                (Some(_), false) => {}
            }
        }
    }

    /// Moves what is large of the request's body from socket to socket. The outbox is empty.
    fn poll_splice_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Connection { body: Some(body), splicing, encoder, stream, .. } = self else { return Poll::Ready(Ok(())) };
        let Some(pipe) = splicing.pipe(body.splices(), || stream.plain().is_some()) else { return Poll::Ready(Ok(())) };
        loop {
            while pipe.held() > 0 {
                let Some(socket) = stream.plain() else { return Poll::Ready(Err(Broken::Upload)) };
                let poured = ready!(pipe.poll_pour(socket, cx))?;
                encoder.passed(poured).map_err(|_| Broken::Upload)?;
            }
            if !body.splices() {
                return Poll::Ready(Ok(()));
            }
            ready!(body.poll_splice(pipe, cx)).map_err(|_| Broken::Upload)?;
        }
    }

    /// Whether the body has nothing to give at the moment.
    fn fill_outbox(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        while let Some(body) = &mut self.body
            && !self.outbox.is_full()
            && !self.splicing.is_next(body.splices())
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
        self.go_on(cx);
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

/// How a request's body is framed. Its length was found good when the head was read; if it is not, the body is found too
/// long for it, rather than framed in two ways.
fn framed(head: &request::Parts) -> Length {
    match length::content_length(&head.headers) {
        Ok(Some(length)) => Length::Known(length),
        Ok(None) => Length::Chunked,
        Err(_) => Length::NONE,
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
