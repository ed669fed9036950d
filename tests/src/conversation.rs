//! A WebSocket to the fleet's echo that is kept open while other things change.

use std::net::SocketAddr;

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

use crate::websocket::{self, WebSocket};

/// An open WebSocket and who is at its other end.
#[derive(Debug)]
pub struct Conversation {
    socket: WebSocket,
    /// The container.
    pub upstream: String,
}

impl Conversation {
    /// Opens `/ws` and waits for the container to say who it is.
    pub async fn open(address: SocketAddr) -> Conversation {
        let mut socket = websocket::open(address, "/ws").await.unwrap_or_else(|error| panic!("{error}"));
        let upstream = websocket::text(&mut socket).await.expect("the container says its name");
        Conversation { socket, upstream }
    }

    /// Whether a message still comes back.
    pub async fn echoes(&mut self, text: &str) -> bool {
        let sent = self.socket.send(Message::text(text)).await;
        sent.is_ok() && websocket::text(&mut self.socket).await.is_ok_and(|echo| echo == text)
    }

    /// Waits for the end: the close code, or `None` if the connection ended without one.
    pub async fn ended(&mut self) -> Option<u16> {
        websocket::ended(&mut self.socket).await
    }
}
