//! The pages that only need their path and query: sizes, delays, statuses, headers, trailers, streams.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;

use super::body::{Alphabet, boxed, letter, streamed};
use super::query::Query;
use super::{Body, TEXT, Visit, text};
use crate::fault::duration;

/// What `/trickle` sends when it is not told how much.
const TRICKLED_BYTES: u64 = 10;
/// Bytes in a chunk that is not told its size.
const PIECE: usize = 1024;
/// The time between two pieces of a stream that is not told how fast.
const EVERY: Duration = Duration::from_millis(100);

/// The page at this path, if there is one.
pub(super) async fn page(visit: &Visit, path: &str, query: &Query) -> Option<Response<Body>> {
    let (page, argument) = path.strip_prefix('/')?.split_once('/').unwrap_or((&path[1..], ""));
    Some(match page {
        "" => text(StatusCode::OK, visit.container.greeting()),
        "bytes" => sized(argument),
        "chunked" => chunked(argument, query),
        "trickle" => trickle(query),
        "delay" => delay(visit, argument).await,
        "status" => status(argument, query),
        "headers" => headers(query),
        "trailers" => trailers(visit),
        "sse" => clock(visit, query),
        _ => return None,
    })
}

/// `/bytes/N`.
fn sized(length: &str) -> Response<Body> {
    let Ok(length) = length.parse() else { return misread("a number of bytes", length) };
    let mut response = with_type(TEXT, boxed(Alphabet::sized(length)));
    // hyper leaves it out for an empty body over HTTP/2.
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// `/chunked/N?chunk=1024`.
fn chunked(length: &str, query: &Query) -> Response<Body> {
    let Ok(length) = length.parse() else { return misread("a number of bytes", length) };
    let piece = query.parsed("chunk").unwrap_or(PIECE);
    with_type(TEXT, boxed(Alphabet::pieces(length, piece)))
}

/// `/trickle?bytes=10&every=100ms`: a byte at a time, each flushed.
fn trickle(query: &Query) -> Response<Body> {
    let (bytes, every) = (query.parsed("bytes").unwrap_or(TRICKLED_BYTES), query.duration_or("every", EVERY));
    let letters = stream::unfold(0, move |place| async move {
        if place == bytes {
            return None;
        }
        tokio::time::sleep(every).await;
        Some((letter(place), place + 1))
    });
    with_type(TEXT, streamed(letters))
}

/// `/delay/250ms`.
async fn delay(visit: &Visit, time: &str) -> Response<Body> {
    let Some(time) = duration(time) else { return misread("a time such as 250ms", time) };
    tokio::time::sleep(time).await;
    text(StatusCode::OK, visit.container.greeting())
}

/// `/status/503?retry_after=1`.
fn status(code: &str, query: &Query) -> Response<Body> {
    let Some(status) = code.parse().ok().filter(|status: &StatusCode| !status.is_informational()) else {
        return misread("a status from 200 on", code);
    };
    let bodyless = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = if bodyless { super::empty(status) } else { text(status, Bytes::from(format!("{status}\n"))) };
    if let Some(value) = query.get("retry_after").and_then(|value| HeaderValue::from_str(value).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// `/headers?name=value&name=other`: sets them all, in their order.
fn headers(query: &Query) -> Response<Body> {
    let mut response = text(StatusCode::OK, Bytes::from_static(b"see the headers\n"));
    for (name, value) in query.pairs() {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return misread("a header", name);
        };
        response.headers_mut().append(name, value);
    }
    response
}

/// `/trailers`: HTTP/1.1 clients see them only after saying `TE: trailers`.
fn trailers(visit: &Visit) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-mock-trailer", HeaderValue::from_static("the end"));
    let frames = [Frame::data(visit.container.greeting()), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
    let mut response = with_type(TEXT, boxed(body));
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-mock-trailer"));
    response
}

/// `/sse?every=100ms&count=10`: events with rising ids; endless without a count.
fn clock(visit: &Visit, query: &Query) -> Response<Body> {
    let (count, every) = (query.parsed("count").unwrap_or(u64::MAX), query.duration_or("every", EVERY));
    let container = visit.container.clone();
    let ticks = stream::unfold((1, container), move |(number, container)| async move {
        if number > count {
            return None;
        }
        tokio::time::sleep(every).await;
        let data = json!({ "container": container.name(), "tick": number });
        Some((event(number, &data.to_string()), (number + 1, container)))
    });
    events(streamed(ticks))
}

/// One server-sent event.
pub(super) fn event(id: u64, data: &str) -> Bytes {
    Bytes::from(format!("id: {id}\ndata: {data}\n\n"))
}

/// A response of server-sent events.
pub(super) fn events(body: Body) -> Response<Body> {
    let mut response = with_type(HeaderValue::from_static("text/event-stream"), body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn with_type(content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn misread(wanted: &str, got: &str) -> Response<Body> {
    text(StatusCode::BAD_REQUEST, Bytes::from(format!("wanted {wanted}, got `{got}`\n")))
}
