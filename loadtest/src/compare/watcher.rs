//! Who watches a proxy while it works: a Prometheus, a `waypost top`, and somebody who listens to its events.
//!
//! Asks as often as they do and reads all that is answered. A cost that was not caused must not be quoted as none, so the
//! first question without an answer is told at the end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is asked in each look: by Prometheus, then by `waypost top`.
const LOOK: [&str; 4] = ["/metrics", "/metrics", "/api/generations", "/api/services"];
/// What is listened to all the time.
const EVENTS: &str = "/api/events";

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    task: JoinHandle<io::Result<()>>,
    stop: DropGuard,
}

impl Watcher {
    /// Begins at once, and looks so often, at the admin address of a proxy on this machine.
    pub(super) fn start(port: u16, every: Duration) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch((Ipv4Addr::LOCALHOST, port).into(), every, stop.clone()));
        Self { task, stop: stop.drop_guard() }
    }

    /// Ends it; an error if it was not answered.
    pub(super) async fn end(self) -> io::Result<()> {
        drop(self.stop);
        self.task.await.map_err(io::Error::other)?
    }
}

async fn watch(address: SocketAddr, every: Duration, stop: CancellationToken) -> io::Result<()> {
    let mut events = open(address, EVENTS).await?;
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = [0; 4096];
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            read = events.read(&mut heard) => if read? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the events ended"));
            },
            _ = looks.tick() => look(address).await?,
        }
    }
}

async fn look(address: SocketAddr) -> io::Result<()> {
    for path in LOOK {
        open(address, path).await?.read_to_end(&mut Vec::new()).await?;
    }
    Ok(())
}

/// Asks; returns when the answer has begun, and with a good status.
async fn open(address: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).await?;
    if &status == b"HTTP/1.1 200" {
        return Ok(stream);
    }
    Err(io::Error::other(format!("{path} was answered with {}", String::from_utf8_lossy(&status))))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

    use tokio::net::TcpListener;

    use super::*;

    type Asked = Arc<Mutex<BTreeMap<String, usize>>>;

    /// Answers everything with this status, and says what it was asked. Events go on for ever.
    async fn serve(status: &'static str) -> (u16, Asked) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Asked::default());
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut events = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                let path = String::from_utf8_lossy(&request[..read]).split(' ').nth(1).unwrap().to_owned();
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
                *seen.lock().unwrap().entry(path.clone()).or_default() += 1;
                if path == EVENTS {
                    events.push(stream);
                }
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn everything_is_asked_again_and_again_and_events_once() {
        let (port, asked) = serve("200 OK").await;
        let watcher = Watcher::start(port, Duration::from_millis(1));
        let count = |path: &str| asked.lock().unwrap().get(path).copied().unwrap_or_default();
        while count("/api/services") < 3 {
            tokio::task::yield_now().await;
        }
        watcher.end().await.unwrap();
        assert!(count("/metrics") >= 6 && count("/api/generations") >= 3);
        assert_eq!(count(EVENTS), 1);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_told_at_the_end() {
        let (port, _) = serve("404 Not Found").await;
        let mut watcher = Watcher::start(port, Duration::from_secs(1));
        let said = (&mut watcher.task).await.unwrap().unwrap_err().to_string();
        assert_eq!(said, "/api/events was answered with HTTP/1.1 404");
    }
}
