//! A connection from a client: heads in, responses out, one exchange after another.
//!
//! Owns the order of things on a [`Line`]: whether another request may follow, and what becomes of an upload that nobody
//! reads. Knows no clock: whoever serves the connection watches the time, and drops it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header, request};
use tokio::sync::oneshot;

use super::Transport;
use super::head::{Limits, Malformed};
use super::inbox::NoHead;
use super::length;
use super::line::{Announced, Incoming, Line, REST, Upgraded};
use super::options::{self, Options};
use super::respond::{Asked, Responding};
use super::splice::Spliced;

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// As it should.
    Closed,
    /// After its last response, with bytes of the client's on their way: to close at once would reset it.
    Unread,
    /// It has left HTTP.
    Upgraded,
    /// It began with HTTP/2's preface: what was read is still there.
    Http2,
    /// What came instead of a head. Nothing has been answered.
    Refused(Malformed),
    /// It failed, or the client left amid something.
    Lost(io::Error),
}

/// Serves the connection to its end: each request goes to `answer`, and its response back. Dropping the future gives up
/// what is going on.
pub async fn serve<S, F, B>(line: &Arc<Line<S>>, limits: Limits, answer: impl Fn(Request<Incoming>) -> F) -> End
where
    S: Transport + 'static,
    F: Future<Output = Response<B>>,
    B: Spliced<Data = Bytes> + Unpin,
{
    loop {
        let head = match poll_fn(|cx| line.poll_head(cx, limits)).await {
            Ok(head) => head,
            Err(NoHead::Malformed(_)) if line.begins_http2() => return End::Http2,
            Err(error) => return End::from(error),
        };
        match exchange(line, head, &answer).await {
            Ok(Next::Request) => {}
            Ok(Next::Nothing) if line.has_unread() => return End::Unread,
            Ok(Next::Nothing) => return End::Closed,
            Ok(Next::Upgraded) => return End::Upgraded,
            Err(error) => return End::Lost(error),
        }
    }
}

/// What follows an exchange.
enum Next {
    Request,
    Nothing,
    Upgraded,
}

async fn exchange<S, F, B>(
    line: &Arc<Line<S>>,
    head: request::Parts,
    answer: impl Fn(Request<Incoming>) -> F,
) -> io::Result<Next>
where
    S: Transport + 'static,
    F: Future<Output = Response<B>>,
    B: Spliced<Data = Bytes> + Unpin,
{
    let options = Options::of(&head.headers);
    let (mut asked, announced) = read(&head, options);
    let (upgraded, upgrade) = options.upgrade.then(oneshot::channel).unzip();
    let body = line.begin(announced, upgrade);
    let response = answered(line, answer(Request::from_parts(head, body))).await?;
    asked.persistent &= line.answers() && !line.is_last();
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut responding = Responding::new(&asked, response);
    let sent = poll_fn(|cx| responding.poll(line, cx)).await;
    if sent.is_err() && responding.ends_by_close() {
        line.reset();
    }
    sent?;
    if let (true, Some(upgraded)) = (switches, upgraded) {
        // Whoever asked for it may be gone; then the connection is closed with what is returned.
        drop(line.take().map(|(stream, read)| upgraded.send(Upgraded { stream: Box::new(stream), read })));
        return Ok(Next::Upgraded);
    }
    let persistent = responding.is_persistent();
    drop(responding);
    let mut budget = REST;
    let follows = persistent && poll_fn(|cx| line.poll_rest(cx, &mut budget)).await && !line.is_last();
    Ok(if follows { Next::Request } else { Next::Nothing })
}

/// The response, unless the client leaves first.
async fn answered<S, T>(line: &Line<S>, answering: impl Future<Output = T>) -> io::Result<T>
where
    S: Transport + 'static,
{
    let mut answering = pin!(answering);
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Ok(response)),
        Poll::Pending => line.poll_gone(cx).map(Err),
    })
    .await
}

/// What a head says about its own body and about the response. A body whose length cannot be told is none, and nothing
/// can follow it: whoever answers refuses the request.
fn read(head: &request::Parts, options: Options) -> (Asked, Announced) {
    let length = length::of_request(head);
    let http11 = head.version == Version::HTTP_11;
    let asked = Asked {
        version: head.version,
        method: head.method.clone(),
        trailers: options::takes_trailers(&head.headers),
        persistent: length.is_ok() && !options.close && (http11 || options.keep_alive),
    };
    let expects_continue = http11 && head.headers.contains_key(header::EXPECT);
    (asked, Announced { length: length.ok(), expects_continue })
}

impl From<NoHead> for End {
    fn from(error: NoHead) -> End {
        match error {
            NoHead::Closed => End::Closed,
            NoHead::Malformed(reason) => End::Refused(reason),
            NoHead::Incomplete => End::Lost(io::ErrorKind::UnexpectedEof.into()),
            NoHead::Io(error) => End::Lost(error),
        }
    }
}
