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

use crate::{eventually, http2};

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
        self.send_to("localhost", ("GET", path)).await
    }

    async fn send_to(&mut self, host: &str, (method, path): (&str, &str)) -> io::Result<()> {
        self.0.write_all(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await
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

/// A connection to admin, which is asked by its address: any other name would look like DNS rebinding to it.
pub(crate) struct Admin(Connection, String);

impl Admin {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Admin> {
        Ok(Admin(Connection::open(address).await?, address.to_string()))
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str) -> io::Result<Reply> {
        self.0.send_to(&self.1, (method, path)).await?;
        self.0.reply().await
    }

    /// The sum of all series whose lines begin so.
    pub(crate) async fn figure(&mut self, series: &str) -> u64 {
        let page = self.ask("GET", "/metrics").await.unwrap().body;
        let lines = page.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// Clients that ask without a pause until they are told to stop, half of them over a new connection each time, half
/// over one as long as it lasts. A connection that was announced to end is replaced; nothing else is forgiven.
pub(crate) struct Hammer {
    end: CancellationToken,
    clients: Vec<JoinHandle<()>>,
    tally: Arc<Tally>,
}

/// What the clients have seen.
#[derive(Default)]
pub(crate) struct Tally {
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn answered(&self) {
        // Relaxed: a count, read to see progress.
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, why: String) {
        self.failed.lock().push(why);
    }
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

    /// And so many who ask over HTTP/2.
    pub(crate) fn with_http2(mut self, address: SocketAddr, clients: usize) -> Hammer {
        let client = |_| tokio::spawn(http2::client(address, self.end.clone(), Arc::clone(&self.tally)));
        self.clients.extend((0..clients).map(client));
        self
    }

    /// Returns when so many more requests have been answered.
    pub(crate) async fn goes_on(&self, requests: usize) {
        let before = self.answered();
        eventually!(self.answered() >= before + requests);
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

/// A few hundred requests a second are enough; the rest of the machine is for others.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

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
                tally.answered();
                if keep == Keep::Never || reply.closes() {
                    open = None;
                }
            }
            Ok(reply) => tally.failed(reply.head),
            Err(error) => {
                let on = if open.take().is_some() { "a kept connection" } else { "a new connection" };
                tally.failed(format!("on {on}: {error}"));
            }
        }
        tokio::time::sleep(PAUSE).await;
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
