//! The new side: takes sockets over, and tells the old process when it may let go.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::net::UnixStream;

use super::wire::{Message, VERSION, Wire};
use super::{HandoverError, STEP};

/// Sockets of the old process, which still serves. Dropping this tells it to go on.
#[derive(Debug)]
pub struct Inherited {
    wire: Wire,
    sockets: HashMap<String, OwnedFd>,
}

/// Asks the process at `path` for its sockets.
pub async fn take(path: &Path) -> Result<Inherited, HandoverError> {
    let mut wire = Wire::new(UnixStream::connect(path).await.map_err(unreachable)?);
    if let Some(uid) = wire.stranger()? {
        return Err(HandoverError::Stranger { uid });
    }
    wire.write(&Message::Hello { version: VERSION, pid: std::process::id() }).await?;
    let keys = match wire.read(STEP).await? {
        Message::Sockets { keys } => keys,
        Message::Refused { reason } => return Err(HandoverError::Refused { reason }),
        _ => return Err(HandoverError::OutOfTurn),
    };
    let descriptors = wire.read_descriptors(keys.len()).await?;
    if descriptors.len() != keys.len() {
        return Err(HandoverError::Incomplete { expected: keys.len(), received: descriptors.len() });
    }
    Ok(Inherited { wire, sockets: keys.into_iter().zip(descriptors).collect() })
}

impl Inherited {
    /// The socket sent under this key; at most once. The rest is closed with this value, or when it is ready.
    pub fn claim(&mut self, key: &str) -> Option<OwnedFd> {
        self.sockets.remove(key)
    }

    /// The keys nobody has claimed yet, in no order.
    pub fn unclaimed(&self) -> impl Iterator<Item = &str> {
        self.sockets.keys().map(String::as_str)
    }

    /// Tells the old process that this one serves, and waits for it to let go.
    ///
    /// Fine, too, if the old process is gone without a word: then nobody else serves. On an error it goes on serving
    /// (it may have waited too long for this call), and this process should end.
    pub async fn ready(mut self) -> Result<(), HandoverError> {
        self.sockets.clear();
        // A failed write says less than the word that may still wait to be read.
        drop(self.wire.write(&Message::Ready).await);
        match self.wire.read(STEP).await {
            Ok(Message::Released) => Ok(()),
            Ok(Message::Refused { reason }) => Err(HandoverError::Refused { reason }),
            Ok(_) => Err(HandoverError::OutOfTurn),
            Err(error) if is_end(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the old process why this one cannot serve.
    pub async fn failed(mut self, reason: &str) -> Result<(), HandoverError> {
        Ok(self.wire.write(&Message::Failed { reason: reason.to_owned() }).await?)
    }
}

fn unreachable(error: io::Error) -> HandoverError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => HandoverError::NobodyThere,
        _ => error.into(),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
