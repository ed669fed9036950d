//! The bytes of a client's connection: the same messages however they are split, and what is passed on of them can be
//! read in one way only, as the same messages: nothing is smuggled.

mod plain;
mod script;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header, request};
use http_body::Body;
use waypost::context::RequestContext;
use waypost::downstream::{Activity, Downstream};
use waypost::drain::Lifecycle;
use waypost::http1::client::Connection;
use waypost::http1::head;
use waypost::http1::server::{self, End};
use waypost::http1::{Incoming, Limits, Line};
use waypost::{forwarding, framing};
use waypost_config::listener;

use script::{Script, Whole};

/// Reads `data` as what a client sends until it goes.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(64 * 1024)];
    let seen = read(Script::whole(data), HEAD);
    for pieces in [Script::single_bytes(data), Script::pieces(data, 3), Script::pieces(data, 11)] {
        assert_eq!(read(pieces, HEAD), seen, "split otherwise");
    }
    if let Some(Asked::Passed(message)) = seen.requests.first() {
        came_as_strictly(data, message);
    }
    let messages: Vec<&Message> = seen.requests.iter().filter_map(Asked::message).collect();
    let sent: Vec<Vec<u8>> = messages.iter().map(|message| message.sent()).collect();
    let mut rest = &sent.concat()[..];
    for message in &messages {
        let (read, behind) = plain::read(rest);
        assert_eq!(read, message.as_sent(), "as a plain reader reads it: {}", rest.escape_ascii());
        rest = behind;
    }
    assert!(rest.is_empty(), "behind the last message: {}", rest.escape_ascii());
    let again = read(Script::whole(&sent.concat()), LONGER);
    assert_eq!(again.requests.iter().filter_map(Asked::message).collect::<Vec<_>>(), messages, "sent on once more");
    assert_eq!(again.requests.len(), messages.len(), "sent on once more");
}

/// Whoever stands before us has seen the lines of the first message end where we did.
fn came_as_strictly(data: &[u8], message: &Message) {
    let Ok(Some((head, length))) = head::request(data, HEAD) else { panic!("passed on without a head") };
    let (lines, rest) = data.split_at(length);
    plain::has_whole_lines(lines);
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        assert_eq!(plain::chunks(rest).0, message.body, "{}", rest.escape_ascii());
    }
}

/// All that a connection brings.
#[derive(Debug, PartialEq)]
struct Seen {
    requests: Vec<Asked>,
    end: Parting,
}

/// One request.
#[derive(Debug, PartialEq)]
enum Asked {
    Passed(Box<Message>),
    /// Its body does not come to its end.
    Cut(String),
    /// With this reason.
    Refused(&'static str),
}

#[derive(Debug, PartialEq)]
enum Parting {
    Closed,
    Http2,
    /// Refused, or left amid something: which of the two may depend on how much came at once.
    Broken,
}

/// A message as it is passed on.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    method: String,
    target: String,
    fields: HeaderMap,
    body: Option<Vec<u8>>,
    trailers: HeaderMap,
}

impl Asked {
    fn message(&self) -> Option<&Message> {
        if let Asked::Passed(message) = self { Some(message) } else { None }
    }
}

/// Small enough to be reached.
const HEAD: Limits = Limits { bytes: 4096, fields: 32 };

/// With the fields that were added.
const LONGER: Limits = Limits { bytes: 16 * 1024, fields: 64 };

static CLIENT: LazyLock<Arc<Downstream>> = LazyLock::new(|| {
    Arc::new(Downstream {
        listener: Arc::from("web"),
        peer: SocketAddr::from(([192, 0, 2, 7], 40_000)),
        tls: None,
        certificates: None,
        peer_ip: HeaderValue::from_static("192.0.2.7"),
        local_port: HeaderValue::from_static("80"),
        tls_log: None,
        activity: Activity::new(Instant::now()),
        lifecycle: Lifecycle::new(),
    })
});

fn read(script: Script, limits: Limits) -> Seen {
    let requests = Mutex::new(Vec::new());
    let line = Line::new(script);
    let end = finish(server::serve(&line, limits, async |request| {
        let asked = answer(request).await;
        let goes_on = matches!(asked, Asked::Passed(_));
        requests.lock().expect("nobody panics with it").push(asked);
        response(goes_on)
    }));
    let end = match end {
        End::Closed | End::Unread => Parting::Closed,
        End::Http2 => Parting::Http2,
        _ => Parting::Broken,
    };
    Seen { requests: requests.into_inner().expect("nobody panics with it"), end }
}

/// What is refused ends the connection, as the pipeline has it.
fn response(goes_on: bool) -> Response<Whole> {
    let mut response = Response::new(Whole::default());
    if !goes_on {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// As the pipeline treats a head, and the whole of its body.
async fn answer(request: Request<Incoming>) -> Asked {
    let (mut head, mut body) = request.into_parts();
    let limits = listener::Limits::default();
    if let Err(cause) = framing::check(&mut head, &limits).and_then(|()| framing::normalise_target(&mut head)) {
        return Asked::Refused(cause.token());
    }
    let (method, target) = (head.method.to_string(), head.uri.to_string());
    let mut data = (!body.is_end_stream()).then(Vec::new);
    let mut trailers = HeaderMap::new();
    while let Some(frame) = std::future::poll_fn(|cx| pin!(&mut body).poll_frame(cx)).await {
        let Ok(frame) = frame else { return Asked::Cut(method) };
        match frame.into_data() {
            Ok(more) => data.get_or_insert_default().extend_from_slice(&more),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    prepare(&mut head);
    without_claims(&mut head.headers);
    Asked::Passed(Box::new(Message { method, target, fields: head.headers, body: data, trailers }))
}

fn prepare(head: &mut request::Parts) {
    let context = RequestContext::identify(&CLIENT, head, framing::host(head), &[]);
    forwarding::distrust(&mut head.headers, &context);
    forwarding::strip(&mut head.headers);
    forwarding::prepare(head, &context, &CLIENT);
}

/// What is made anew at each hop.
fn without_claims(fields: &mut HeaderMap) {
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip"] {
        fields.remove(name);
    }
    fields.remove(header::FORWARDED);
    fields.remove("x-request-id");
}

impl Message {
    /// The bytes that an endpoint gets.
    fn sent(&self) -> Vec<u8> {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method.parse().expect("it was one");
        head.uri = self.target.parse().expect("it was one");
        head.headers = self.fields.clone();
        prepare(&mut head);
        let body = self.body.as_ref().map(|body| Whole::new(Bytes::from(body.clone()), self.trailers.clone()));
        let mut connection = Connection::new(Script::whole(b""));
        connection.begin(&head, body);
        // Nobody answers; the request has been sent before that is noticed.
        let answered = finish(std::future::poll_fn(|cx| connection.poll_head(cx)));
        assert!(answered.is_err() && !connection.is_unsent());
        connection.into_parts().0.written
    }

    /// The same, with the field that says how its body is framed.
    fn as_sent(&self) -> Message {
        let mut message = self.clone();
        if self.body.is_some() && !self.fields.contains_key(header::CONTENT_LENGTH) {
            message.fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        message
    }
}

/// Polls to the end. Nothing here waits for anything but to be asked again.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
