//! A socket for what no HTTP library would send: bytes out, text in.
//!
//! Owns the deadline of every read: a test that waits for an answer that never comes fails within ten seconds.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest wait for bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection without manners.
#[derive(Debug)]
pub struct Raw<S> {
    stream: BufReader<S>,
}

impl Raw<TcpStream> {
    /// Opens a TCP connection.
    pub async fn connect(address: SocketAddr) -> Raw<TcpStream> {
        let stream = TcpStream::connect(address).await.expect("the address accepts connections");
        stream.set_nodelay(true).expect("a fresh socket takes its options");
        Raw::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Speaks over this stream.
    pub fn over(stream: S) -> Raw<S> {
        Raw { stream: BufReader::new(stream) }
    }

    /// Sends these bytes at once; a peer that has closed already is not an error, for its answer may be there.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// The next head, up to and with its empty line; what came before the end of the stream if there is none.
    pub async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = timeout(PATIENCE, self.stream.read_line(&mut head)).await;
            match line.unwrap_or_else(|_| panic!("no whole head came: {head:?}")) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        head
    }

    /// So many bytes of a body.
    pub async fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut body)).await;
        read.expect("the body comes in time").expect("the body is whole");
        String::from_utf8(body).expect("the body is text")
    }

    /// Everything up to the end of the stream, which a reset is, too.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        // What was read before a reset is kept.
        let _ =
            read.unwrap_or_else(|_| panic!("the connection stayed open after {:?}", String::from_utf8_lossy(&rest)));
        String::from_utf8_lossy(&rest).into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Whether the stream ends by a reset, whatever came before.
    pub async fn is_reset(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut Vec::new())).await;
        read.expect("the connection ends in time").is_err()
    }
}

/// Sends these bytes over a connection of their own and returns all that comes back until the peer closes.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    raw.send(bytes).await;
    raw.rest().await
}

/// The status of an answer as it came over the wire; 0 if there is none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A field of an answer's head as it came over the wire; empty if it is not there.
pub fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

/// One response out of many on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The head, with its empty line.
    pub head: String,
    /// The body without its chunks.
    pub body: String,
    /// Whether its end was seen.
    pub whole: bool,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        status(&self.head)
    }

    /// A field; empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        field(&self.head, name)
    }
}

/// The responses that these bytes are, to requests with these methods (the last one holds for the rest); 100 is none.
pub fn answers(mut bytes: &str, methods: &[&str]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.find("\r\n\r\n").map_or(bytes.len(), |end| end + 4);
        let (head, rest) = bytes.split_at(end);
        let method = methods.get(answers.len()).or(methods.last()).copied().unwrap_or("GET");
        let bodyless = method == "HEAD" || matches!(status(head), 100..=199 | 204 | 304);
        let chunked = field(head, "transfer-encoding").eq_ignore_ascii_case("chunked");
        let (body, whole, rest) = match field(head, "content-length").parse::<usize>() {
            _ if !head.ends_with("\r\n\r\n") => (String::new(), false, ""),
            _ if bodyless => (String::new(), true, rest),
            _ if chunked => unchunked(rest),
            Ok(length) if length <= rest.len() => (rest[..length].to_owned(), true, &rest[length..]),
            Ok(_) => (rest.to_owned(), false, ""),
            Err(_) => (rest.to_owned(), true, ""),
        };
        if status(head) != 100 {
            answers.push(Answer { head: head.to_owned(), body, whole });
        }
        bytes = rest;
    }
    answers
}

/// A body out of its chunks, whether it is whole, and what follows it.
fn unchunked(mut rest: &str) -> (String, bool, &str) {
    let mut body = String::new();
    loop {
        let Some((size, after)) = rest.split_once("\r\n") else { return (body, false, "") };
        let Ok(size) = usize::from_str_radix(size, 16) else { return (body, false, "") };
        if size == 0 {
            let end = if after.starts_with("\r\n") { Some(2) } else { after.find("\r\n\r\n").map(|end| end + 4) };
            return end.map_or((body.clone(), false, ""), |end| (body, true, &after[end..]));
        }
        let Some(data) = after.get(..size) else { return (body + after, false, "") };
        body += data;
        match after[size..].strip_prefix("\r\n") {
            Some(next) => rest = next,
            None => return (body, false, ""),
        }
    }
}
