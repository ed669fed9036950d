//! Clients that stay for long: a WebSocket that talks, a download that is taken slowly, one that comes slowly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use upstream_mock::checksum;

use crate::http2;

/// More than the buffers of two sockets and of a pipe between them, so that most of it is still with the endpoint.
const SIZE: usize = 16 * 1024 * 1024;
/// What is taken of it at a time.
const PIECE: usize = 128 * 1024;
/// A byte every 50 ms: longer than two upgrades.
const TRICKLE: &str = "/trickle?bytes=40&every=50ms";
/// No echo and no byte takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

type WebSocket = tokio_tungstenite::WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Three clients of one process.
pub(crate) struct Guests {
    silence: CancellationToken,
    talk: JoinHandle<usize>,
    pieces: Arc<Semaphore>,
    taken: JoinHandle<Vec<u8>>,
    trickled: JoinHandle<Vec<u8>>,
}

impl Guests {
    /// Returns when all of them have had an answer.
    pub(crate) async fn arrive(address: SocketAddr) -> Guests {
        let (silence, pieces) = (CancellationToken::new(), Arc::new(Semaphore::new(1)));
        let socket = websocket(address).await;
        let download = begin_download(address).await;
        let trickle = http2::open(address).await.unwrap().send_request(http2::get(TRICKLE)).await.unwrap();
        Guests {
            talk: tokio::spawn(talk(socket, silence.clone())),
            taken: tokio::spawn(take(download, Arc::clone(&pieces))),
            trickled: tokio::spawn(async { trickle.into_body().collect().await.unwrap().to_bytes().to_vec() }),
            silence,
            pieces,
        }
    }

    /// Takes a sixteenth of the download.
    pub(crate) fn take_some(&self) {
        self.pieces.add_permits(SIZE / PIECE / 16);
    }

    /// Nothing has come to its end but what ends by itself.
    #[track_caller]
    pub(crate) fn are_all_here(&self) {
        assert!(!self.talk.is_finished(), "the WebSocket has ended");
        assert!(!self.taken.is_finished(), "the download has ended");
    }

    /// Takes the rest of the downloads, which must be whole.
    pub(crate) async fn finish_downloads(&mut self) {
        self.are_all_here();
        self.pieces.add_permits(SIZE / PIECE);
        check(&(&mut self.taken).await.unwrap(), SIZE);
        check(&(&mut self.trickled).await.unwrap(), 40);
    }

    /// Closes the WebSocket in order; how often it had an echo.
    pub(crate) async fn leave(self) -> usize {
        self.silence.cancel();
        self.talk.await.unwrap()
    }
}

/// The mock's bodies are the alphabet over and over.
#[track_caller]
fn check(body: &[u8], size: usize) {
    let expected: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
    assert_eq!((body.len(), checksum(body)), (size, checksum(&expected)));
}

/// A WebSocket that has been greeted.
pub(crate) async fn websocket(address: SocketAddr) -> WebSocket {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    socket
}

/// One numbered message after another, each echoed before the next one goes.
async fn talk(mut socket: WebSocket, silence: CancellationToken) -> usize {
    let mut echoed = 0;
    while !silence.is_cancelled() {
        let said = Message::text(format!("number {echoed}"));
        socket.send(said.clone()).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap(), said);
        echoed += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    socket.close(None).await.unwrap();
    while timeout(PATIENCE, socket.next()).await.unwrap().is_some_and(|message| message.is_ok()) {}
    echoed
}

/// Asks over a socket with a small buffer, and reads no more than the head.
async fn begin_download(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(u32::try_from(PIECE).unwrap()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET /bytes/{SIZE} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A piece at a time, when it is told to.
async fn take(mut stream: TcpStream, pieces: Arc<Semaphore>) -> Vec<u8> {
    let mut body = vec![0; SIZE];
    for piece in body.chunks_mut(PIECE) {
        pieces.acquire().await.unwrap().forget();
        timeout(PATIENCE, stream.read_exact(piece)).await.unwrap().unwrap();
    }
    body
}
