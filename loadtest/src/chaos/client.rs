//! A client that keeps one connection, asks for this and that, and notes exactly what became of each request.
//!
//! Owns what counts as whole and right: every answer is checked against what the endpoint must have said.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// No answer may take longer, bodies included.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the system keeps for a client that does not read.
const RECEIVED: u32 = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A small GET.
    Get,
    /// A GET with a large answer.
    Download,
    /// A PUT.
    Put,
    /// A POST with an `Idempotency-Key`.
    KeyedPost,
    /// A POST that must not be done twice.
    Post,
    /// A GET whose client goes away before the answer.
    Abandoned,
}

impl Kind {
    /// Whether the proxy may repeat it.
    pub fn is_idempotent(self) -> bool {
        self != Kind::Post
    }

    fn any(rng: &mut Rng) -> Kind {
        match rng.u8(..100) {
            0..40 => Kind::Get,
            40..58 => Kind::Download,
            58..65 => Kind::Put,
            65..75 => Kind::KeyedPost,
            75..97 => Kind::Post,
            _ => Kind::Abandoned,
        }
    }

    /// What a pinned user asks for.
    fn of_user(rng: &mut Rng) -> Kind {
        if rng.u8(..10) == 0 { Kind::Download } else { Kind::Get }
    }
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What was asked for.
    pub kind: Kind,
    /// The key under which the fleet has booked it.
    pub key: String,
    /// Who asked, if it is a pinned user.
    pub user: Option<usize>,
    /// When it was sent.
    pub begin: Duration,
    /// When its end was seen.
    pub end: Duration,
    /// The endpoint that the user was pinned to before.
    pub pinned: Option<String>,
    /// Who answered, as the answer says.
    pub endpoint: Option<String>,
    /// An idle connection was found closed, and the request repeated by the client.
    pub stale: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An endpoint's answer, whole and right.
    Answered,
    /// An answer that claims to be whole and is not what it must be.
    Wrong(String),
    /// The answer's head came, and its body visibly broke off.
    Broken(String),
    /// An endpoint's own error.
    PassedOn(u16),
    /// The proxy's own answer.
    Replied(u16, String),
    /// An answer neither of an endpoint nor with a reason, or both.
    Unexplained(String),
    /// The connection ended without an answer.
    Lost(String),
    /// No answer in all this time.
    Silent,
    /// The client went away.
    Left,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    web: SocketAddr,
    source: Ipv4Addr,
    name: String,
    user: Option<usize>,
    rng: Rng,
    connection: Option<http1::SendRequest<Body>>,
    cookie: Option<String>,
    pinned: Option<String>,
    count: u64,
}

/// What goes out, and how its answer is checked.
struct Ask {
    kind: Kind,
    key: String,
    method: Method,
    path: String,
    body: Bytes,
    chunked: bool,
    /// How long the client does not read, when the answer's head is there.
    late: Duration,
}

/// Why there is no answer.
enum Missing {
    /// Nothing of the request was sent.
    Unsent(String),
    /// The connection was new or old, and ended.
    Ended { reused: bool, why: String },
}

impl Client {
    /// Client `number` of the trial with this seed; it behaves the same each time.
    pub fn new(web: SocketAddr, (seed, number): (u64, usize), user: Option<usize>) -> Client {
        let small = u8::try_from(number % 200).unwrap_or_default() + 1;
        Client {
            web,
            // Each has an address of its own, for pins by address.
            source: Ipv4Addr::new(127, 0, 9, small),
            name: format!("{seed}-{number}"),
            user,
            rng: Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64)),
            connection: None,
            cookie: None,
            pinned: None,
            count: 0,
        }
    }

    /// Asks until told to stop; the last request is brought to its end.
    pub async fn run(mut self, begin: Instant, pause: Duration, stop: CancellationToken) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let pause = pause.mul_f64(2.0 * self.rng.f64());
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return seen;
            }
            seen.push(self.one(begin).await);
        }
    }

    async fn one(&mut self, begin: Instant) -> Seen {
        let ask = self.ask();
        if self.rng.u8(..20) == 0 {
            self.connection = None;
        }
        let mut seen = Seen {
            kind: ask.kind,
            key: ask.key.clone(),
            user: self.user,
            begin: begin.elapsed(),
            end: Duration::ZERO,
            pinned: self.pinned.clone(),
            endpoint: None,
            stale: false,
            outcome: Outcome::Left,
        };
        let patience = match ask.kind {
            Kind::Abandoned => Duration::from_millis(self.rng.u64(..30)),
            _ => PATIENCE,
        };
        let over = timeout(patience, self.exchange(&ask, &mut seen)).await;
        seen.outcome = over.unwrap_or_else(|_| {
            // Only a closed connection tells the other side.
            self.connection = None;
            if ask.kind == Kind::Abandoned { Outcome::Left } else { Outcome::Silent }
        });
        seen.end = begin.elapsed();
        seen
    }

    fn ask(&mut self) -> Ask {
        let rng = &mut self.rng;
        let kind = if self.user.is_some() { Kind::of_user(rng) } else { Kind::any(rng) };
        self.count += 1;
        let once = if kind == Kind::Post { "once" } else { "again" };
        let key = format!("{once}-{}-{}", self.name, self.count);
        let late = if kind == Kind::Download && rng.u8(..10) == 0 { rng.u64(..200) } else { 0 };
        let late = Duration::from_millis(late);
        let text = |length| Bytes::from("0123456789abcdef".repeat(length / 16));
        let (method, path, body) = match kind {
            Kind::Get | Kind::Abandoned => (Method::GET, "/echo".to_owned(), Bytes::new()),
            Kind::Download => {
                let length = if late.is_zero() { rng.usize(256..1 << 20) } else { rng.usize(1 << 20..6 << 20) };
                let path =
                    if rng.bool() { format!("/bytes/{length}") } else { format!("/chunked/{length}?chunk=8000") };
                (Method::GET, path, Bytes::new())
            }
            // Short enough to be there at once: what is not whole yet when an attempt fails cannot be repeated.
            Kind::Put => (Method::PUT, "/upload".to_owned(), text(rng.usize(16..1500))),
            Kind::KeyedPost => (Method::POST, "/upload".to_owned(), text(rng.usize(16..1500))),
            Kind::Post => {
                let length = if rng.u8(..5) == 0 { rng.usize(16..200_000) } else { rng.usize(16..1500) };
                (Method::POST, "/upload".to_owned(), text(length))
            }
        };
        let chunked = !body.is_empty() && kind == Kind::Post && rng.u8(..4) == 0;
        Ask { kind, key, method, path, body, chunked, late }
    }

    fn request(&self, ask: &Ask) -> Request<Body> {
        let key_name = if ask.kind == Kind::KeyedPost { "idempotency-key" } else { "x-request-key" };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(&ask.path)
            .header("host", "shop.example")
            .header(key_name, &ask.key);
        if let Some(cookie) = self.cookie.as_ref().filter(|_| self.user.is_some()) {
            request = request.header("cookie", cookie);
        }
        let body = if ask.chunked {
            let pieces: Vec<_> =
                ask.body.chunks(4000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
            StreamBody::new(stream::iter(pieces)).boxed_unsync()
        } else {
            Full::new(ask.body.clone()).boxed_unsync()
        };
        request.body(body).expect("all parts are well formed")
    }

    async fn exchange(&mut self, ask: &Ask, seen: &mut Seen) -> Outcome {
        let response = loop {
            match self.send(ask).await {
                Ok(response) => break response,
                // What an idle connection's end has swallowed, any client sends again if it may (RFC 9112 section 9.3.1).
                Err(Missing::Ended { reused: true, .. }) if ask.kind.is_idempotent() => seen.stale = true,
                Err(Missing::Unsent(_)) if !seen.stale => seen.stale = true,
                Err(Missing::Unsent(why) | Missing::Ended { why, .. }) => return Outcome::Lost(why),
            }
        };
        let (head, body) = response.into_parts();
        seen.endpoint = text(&head.headers, "x-upstream");
        self.learn(&head.headers, seen.endpoint.as_ref());
        sleep(ask.late).await;
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                self.connection = None;
                return Outcome::Broken(chain(&error));
            }
        };
        judge(ask, head.status, (&head.headers, &body))
    }

    /// Where a pinned user belongs from now on: whoever answered last.
    fn learn(&mut self, headers: &HeaderMap, endpoint: Option<&String>) {
        let Some(endpoint) = endpoint.filter(|_| self.user.is_some()) else { return };
        self.pinned = Some(endpoint.clone());
        if let Some(cookie) = text(headers, "set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
    }

    async fn send(&mut self, ask: &Ask) -> Result<Response<Incoming>, Missing> {
        let (mut connection, reused) = match self.idle().await {
            Some(connection) => (connection, true),
            None => (self.connect().await.map_err(Missing::Unsent)?, false),
        };
        let answered = connection.try_send_request(self.request(ask)).await;
        self.connection = Some(connection);
        match answered {
            Ok(response) => Ok(response),
            Err(mut error) => {
                self.connection = None;
                let unsent = error.take_message().is_some();
                let why = chain(&error.into_error());
                Err(if unsent { Missing::Unsent(why) } else { Missing::Ended { reused, why } })
            }
        }
    }

    /// The connection of the request before, if it is still open.
    async fn idle(&mut self) -> Option<http1::SendRequest<Body>> {
        let mut connection = self.connection.take()?;
        connection.ready().await.is_ok().then_some(connection)
    }

    async fn connect(&self) -> Result<http1::SendRequest<Body>, String> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            // What waits for a client that reads late is then mostly with the proxy.
            socket.set_recv_buffer_size(RECEIVED)?;
            socket.bind((self.source, 0).into())?;
            let stream = socket.connect(self.web).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = connect.await.map_err(|error| format!("no connection to the proxy: {error}"))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What an answer is that came to its end.
fn judge(ask: &Ask, status: StatusCode, (headers, body): (&HeaderMap, &Bytes)) -> Outcome {
    let (endpoint, reason) = (text(headers, "x-upstream"), text(headers, "x-waypost-reason"));
    match (endpoint, reason) {
        (None, Some(reason)) => Outcome::Replied(status.as_u16(), reason),
        (Some(_), None) if status.is_server_error() => Outcome::PassedOn(status.as_u16()),
        (Some(endpoint), None) => match wrong(ask, status, body) {
            None => Outcome::Answered,
            Some(what) => Outcome::Wrong(format!("{what}, from {endpoint}")),
        },
        (endpoint, reason) => Outcome::Unexplained(format!("{status} from {endpoint:?} for {reason:?}")),
    }
}

/// What is wrong with an endpoint's answer.
fn wrong(ask: &Ask, status: StatusCode, body: &Bytes) -> Option<String> {
    if status != StatusCode::OK {
        return Some(format!("status {status}"));
    }
    let text = String::from_utf8_lossy(body);
    match ask.kind {
        Kind::Get | Kind::Abandoned if text.contains(&ask.key) => None,
        Kind::Get | Kind::Abandoned => Some(format!("another's echo: {}", beginning(&text))),
        Kind::Download => wrong_download(&ask.path, body),
        Kind::Put | Kind::KeyedPost | Kind::Post => {
            let sum = upstream_mock::checksum(&ask.body);
            let right = text.contains(&sum) && text.contains(&format!("\"length\":{}", ask.body.len()));
            (!right).then(|| format!("{} bytes with checksum {sum} became {}", ask.body.len(), beginning(&text)))
        }
    }
}

fn wrong_download(path: &str, body: &Bytes) -> Option<String> {
    let length: usize = path.split(['/', '?']).nth(2)?.parse().ok()?;
    if body.len() != length {
        return Some(format!("{} bytes instead of {length}, as if whole", body.len()));
    }
    // Whole alphabets, many at a time.
    let should: Vec<u8> = (b'a'..=b'z').cycle().take(26 * 1024).collect();
    let (number, piece) = body.chunks(should.len()).enumerate().find(|(_, piece)| !should.starts_with(piece))?;
    let differs = piece.iter().zip(&should).position(|(is, should)| is != should)?;
    Some(format!("byte {} of {length} is not what was sent", number * should.len() + differs))
}

fn beginning(text: &str) -> String {
    text.chars().take(120).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_looked_at_to_its_last_byte() {
        let mut body: Vec<u8> = (b'a'..=b'z').cycle().take(60_000).collect();
        let wrong = |body: &[u8]| wrong_download("/bytes/60000", &Bytes::copy_from_slice(body));
        assert_eq!(wrong(&body), None);
        assert!(wrong(&body[1..]).unwrap().contains("59999 bytes"));
        body[59_999] = b'!';
        assert_eq!(wrong(&body).unwrap(), "byte 59999 of 60000 is not what was sent");
    }
}
