//! An endpoint that takes nothing for granted: it notes what it is sent, byte for byte, and answers as it is told.
//!
//! Owns the record of whole requests. A request that broke off is no request; whoever looks at the record waits until no
//! connection is open, so that nothing can be on its way. Reads the wire by its own few rules, and none of the proxy's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What is answered to everything that no script is for.
pub const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/// What is sent behind the request under test: it closes the connection, and is served only if the origin, too, takes
/// it for a request of its own.
pub const BEHIND: &str = "GET /behind HTTP/1.1\r\nhost: behind\r\nconnection: close\r\n\r\n";

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The request line.
    pub line: String,
    /// The field lines, names and values as they came.
    pub fields: Vec<(String, String)>,
    /// The field lines that say how long the body is.
    pub framing: String,
    /// The body without its chunks.
    pub body: String,
    /// The lines behind the last chunk.
    pub trailers: Vec<String>,
}

impl Received {
    /// The values of this field, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    }
}

/// What an origin does.
#[derive(Debug, Clone)]
pub struct Script {
    /// Sent as soon as a request is whole.
    pub answer: Vec<u8>,
    /// What becomes of the connection.
    pub then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection stays open for the next request.
    Stay,
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
}

/// The endpoint.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    received: Mutex<Vec<Received>>,
    script: Mutex<Script>,
    /// The sending side of the latest connection that was answered by the script.
    latest: Mutex<Option<Arc<Mutex<OwnedWriteHalf>>>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

impl Origin {
    /// Listens on a free port.
    pub async fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            script: Mutex::new(Script { answer: GOOD.into(), then: Then::Stay }),
            latest: Mutex::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.accepted.fetch_add(1, Ordering::SeqCst);
                serving.open.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    shared.serve(stream).await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Origin { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is answered from now on to all but [`BEHIND`].
    pub async fn plays(&self, answer: impl AsRef<[u8]>, then: Then) {
        *self.shared.script.lock().await = Script { answer: answer.as_ref().into(), then };
    }

    /// Sends more over the connection that the last answer of the script went over.
    pub async fn adds(&self, bytes: &[u8]) {
        let latest = self.shared.latest.lock().await.clone().expect("something was answered");
        // Whoever has closed it already does not listen.
        let _ = latest.lock().await.write_all(bytes).await;
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The whole requests since the last call.
    pub async fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.shared.received.lock().await)
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).expect("a fresh socket takes its options");
        let (reading, writing) = stream.into_split();
        let (mut reading, writing) = (BufReader::new(reading), Arc::new(Mutex::new(writing)));
        while let Some(request) = receive(&mut reading).await {
            let behind = request.line.contains("/behind");
            let head = request.line.starts_with("HEAD ");
            self.received.lock().await.push(request);
            let script = if behind {
                Script { answer: GOOD.into(), then: Then::Stay }
            } else {
                *self.latest.lock().await = Some(Arc::clone(&writing));
                self.script.lock().await.clone()
            };
            // An answer to HEAD ends with its head, unless it is the script that is under test.
            let good = script.answer == GOOD.as_bytes();
            let answer = if head && good { &script.answer[..GOOD.len() - 4] } else { &script.answer };
            let sent = writing.lock().await.write_all(answer).await;
            match script.then {
                _ if sent.is_err() => break,
                Then::Stay => {}
                Then::Close => break,
                Then::Reset => {
                    let writing = writing.lock().await;
                    let _ = writing.as_ref().set_zero_linger();
                    break;
                }
            }
        }
        self.latest.lock().await.take_if(|latest| Arc::ptr_eq(latest, &writing));
    }
}

type Reading = BufReader<OwnedReadHalf>;

/// The next whole request; `None` if the connection ends before.
async fn receive(reading: &mut Reading) -> Option<Received> {
    let line = line(reading).await?;
    let mut fields = Vec::new();
    for text in lines(reading).await? {
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let frames = |(name, _): &&(String, String)| {
        ["content-length", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing))
    };
    let framing = fields.iter().filter(frames).map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
    let framing = framing.join(", ");
    let mut received = Received { line, fields, framing, body: String::new(), trailers: Vec::new() };
    if received.framing.contains("chunked") {
        received.body = chunks(reading).await?;
        received.trailers = lines(reading).await?;
    } else if let Some(length) = received.all("content-length").first() {
        let length = length.parse().ok()?;
        received.body = bytes(reading, length).await?;
    }
    Some(received)
}

async fn line(reading: &mut Reading) -> Option<String> {
    let mut line = Vec::new();
    reading.read_until(b'\n', &mut line).await.ok()?;
    let text = line.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(text).into_owned())
}

async fn lines(reading: &mut Reading) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        match line(reading).await? {
            empty if empty.is_empty() => return Some(lines),
            text => lines.push(text),
        }
    }
}

async fn chunks(reading: &mut Reading) -> Option<String> {
    let mut whole = String::new();
    loop {
        match usize::from_str_radix(&line(reading).await?, 16).ok()? {
            0 => return Some(whole),
            size => whole += &bytes(reading, size).await?,
        }
        if !line(reading).await?.is_empty() {
            return None;
        }
    }
}

async fn bytes(reading: &mut Reading, length: usize) -> Option<String> {
    let mut bytes = vec![0; length];
    reading.read_exact(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
