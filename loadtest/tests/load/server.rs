//! A server with the faults that the tests need; ends with the value.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::RwLock,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a test wants to know about the requests that came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) line: String,
    pub(crate) cookie: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) body: usize,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) came: Mutex<Vec<Came>>,
    pub(crate) count: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Held for writing while the server stalls.
    pub(crate) gate: RwLock<()>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers by path: `/status/N`; `/who` in turn by `a`, `b` and `c`, or by whom the cookie `lb` names.
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = bind().await;
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Hands every connection to `speak` after its first bytes have come.
    pub(crate) async fn raw<F: Future<Output = ()> + Send + 'static>(speak: fn(TcpStream) -> F) -> Self {
        let (listener, address) = bind().await;
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if stream.read(&mut [0; 4096]).await.is_ok() {
                        speak(stream).await;
                    }
                });
            }
        });
        Self { address, state: Arc::default(), task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.state.came.lock().unwrap().clone()
    }

    /// Answers nobody for so long.
    pub(crate) async fn stall(&self, time: Duration) {
        let _closed = self.state.gate.write().await;
        tokio::time::sleep(time).await;
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(request, Arc::clone(&state)));
        let builder = auto::Builder::new(TokioExecutor::new());
        let tls = tls.clone();
        tokio::spawn(async move {
            // What the client breaks off is its business.
            let _ = match tls {
                None => builder.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => Ok(()),
                },
            };
        });
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(state.gate.read().await);
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let came = Came {
        line: format!("{} {:?} {}", head.method, head.version, head.uri.path()),
        cookie: text("cookie"),
        key: text("x-request-key"),
        body: body.collect().await.map_or(0, |body| body.to_bytes().len()),
    };
    let n = state.count.fetch_add(1, Ordering::Relaxed);
    let name = match came.cookie.as_deref().and_then(|cookie| cookie.strip_prefix("lb=")) {
        Some(pinned) => pinned.to_owned(),
        None => ["a", "b", "c"][usize::try_from(n % 3).unwrap()].to_owned(),
    };
    let status = head.uri.path().strip_prefix("/status/").map_or(StatusCode::OK, |code| code.parse().unwrap());
    let fresh = head.uri.path() == "/sticky" && came.cookie.is_none();
    state.came.lock().unwrap().push(came);
    let mut response = Response::builder().status(status).header("x-upstream", &name);
    if fresh {
        response = response.header("set-cookie", format!("lb={name}; Path=/; HttpOnly"));
    }
    Ok(response.body(Full::from("hello")).unwrap())
}

/// Closes at once.
pub(crate) async fn close(_stream: TcpStream) {}

/// Promises ten bytes and sends four.
pub(crate) async fn truncate(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
}

/// Speaks something else.
pub(crate) async fn babble(mut stream: TcpStream) {
    let _ = stream.write_all(b"220 smtp.example ESMTP\r\n\r\n").await;
}

/// Resets, because there is something left unread when it closes.
pub(crate) async fn reset(stream: TcpStream) {
    let socket = stream.into_std().unwrap();
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Says nothing for as long as the client stays.
pub(crate) async fn hang(mut stream: TcpStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}
