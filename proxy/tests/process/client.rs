//! Clients on bare sockets, so that every byte and every end of a connection is seen.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One HTTP/1.1 connection.
pub(crate) struct Connection(TcpStream);

/// What came back; the head is in lower case.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn closes(&self) -> bool {
        self.head.contains("connection: close")
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Connection> {
        Ok(Connection(TcpStream::connect(address).await?))
    }

    pub(crate) async fn send(&mut self, path: &str) -> io::Result<()> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: test.example\r\n\r\n").as_bytes()).await
    }

    /// Reads one response with a content-length.
    pub(crate) async fn reply(&mut self) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        loop {
            if let Some(reply) = whole(&bytes) {
                return Ok(reply);
            }
            if self.0.read_buf(&mut bytes).await? == 0 {
                let so_far = String::from_utf8_lossy(&bytes).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("ended after {so_far:?}")));
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send(path).await?;
        self.reply().await
    }

    /// Returns when the other side has ended the connection without another word.
    pub(crate) async fn end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

fn whole(bytes: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
    (body.len() == length).then(|| Reply { head, body: body.to_owned() })
}

/// GET over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    Connection::open(address).await?.get(path).await
}

/// Clients that ask without a pause until they are told to stop, half of them over a new connection each time, half
/// over one as long as it lasts. A connection that was announced to end is replaced; nothing else is forgiven.
pub(crate) struct Hammer {
    end: CancellationToken,
    clients: Vec<JoinHandle<()>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Hammer {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Hammer {
        let (end, tally) = (CancellationToken::new(), Arc::new(Tally::default()));
        let client = |index: usize| {
            let keep = if index.is_multiple_of(2) { Keep::Never } else { Keep::Alive };
            tokio::spawn(client(address, keep, end.clone(), Arc::clone(&tally)))
        };
        Hammer { clients: (0..clients).map(client).collect(), end, tally }
    }

    /// Requests answered up to now.
    pub(crate) fn answered(&self) -> usize {
        // Relaxed: a count, read to see progress.
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Ends it, and says what failed.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.end.cancel();
        for client in self.clients {
            client.await.unwrap();
        }
        std::mem::take(&mut *self.tally.failed.lock())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Alive,
    Never,
}

async fn client(address: SocketAddr, keep: Keep, end: CancellationToken, tally: Arc<Tally>) {
    let mut open = None;
    while !end.is_cancelled() {
        match once(address, &mut open).await {
            Ok(reply) if reply.status() == 200 => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                if keep == Keep::Never || reply.closes() {
                    open = None;
                }
            }
            Ok(reply) => tally.failed.lock().push(reply.head),
            Err(error) => {
                let on = if open.take().is_some() { "a kept connection" } else { "a new connection" };
                tally.failed.lock().push(format!("on {on}: {error}"));
            }
        }
        // A few hundred requests a second are enough; the rest of the machine is for others.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn once(address: SocketAddr, open: &mut Option<Connection>) -> io::Result<Reply> {
    if open.is_none() {
        *open = Some(Connection::open(address).await?);
    }
    match open {
        Some(connection) => connection.get("/").await,
        None => unreachable!("it was opened above"),
    }
}
