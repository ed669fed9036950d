//! A WebSocket client that talks to the fleet's echo.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<TcpStream>,
    /// The container at its other end.
    pub upstream: String,
}

impl WebSocket {
    /// Opens `/ws` and waits for the container to say who it is.
    pub async fn open(address: SocketAddr) -> WebSocket {
        WebSocket::at(address, "/ws").await
    }

    /// The same at another path.
    pub async fn at(address: SocketAddr, path: &str) -> WebSocket {
        let tcp = TcpStream::connect(address).await.expect("somebody listens");
        let url = format!("ws://test.example{path}");
        let (stream, _) = tokio_tungstenite::client_async(url, tcp).await.expect("the handshake succeeds");
        let mut socket = WebSocket { stream, upstream: String::new() };
        socket.upstream = socket.next_text().await.expect("the container says its name");
        socket
    }

    /// Whether a message still comes back.
    pub async fn echoes(&mut self, text: &str) -> bool {
        self.stream.send(Message::text(text)).await.is_ok() && self.next_text().await.as_deref() == Some(text)
    }

    /// Reads to the end; the code of the close frame, `None` if the connection ended without one.
    pub async fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.stream.next().await {
            if let Message::Close(Some(frame)) = message {
                code = Some(frame.code.into());
            }
        }
        code
    }

    async fn next_text(&mut self) -> Option<String> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Some(text.to_string()),
            _ => None,
        }
    }
}
