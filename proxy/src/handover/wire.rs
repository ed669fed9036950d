//! What goes over the Unix socket: messages as JSON behind a length, and descriptors in batches of their own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Both sides must speak the same one.
pub(super) const VERSION: u32 = 1;

/// Linux carries 253 descriptors in a message (`SCM_MAX_FD`).
pub(super) const BATCH: usize = 250;

/// Thousands of listeners fit; a length beyond it is garbage.
const MAX_MESSAGE: usize = 1024 * 1024;

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Message {
    Hello { version: u32, pid: u32 },
    Sockets { keys: Vec<String> },
    Ready,
    Failed { reason: String },
    Released,
    Refused { reason: String },
}

/// A connection between the two processes.
#[derive(Debug)]
pub(super) struct Wire(UnixStream);

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Wire {
        Wire(stream)
    }

    /// The other side's user, if it is neither ours nor root.
    pub(super) fn stranger(&self) -> io::Result<Option<u32>> {
        let uid = self.0.peer_cred()?.uid();
        Ok((uid != 0 && uid != rustix::process::geteuid().as_raw()).then_some(uid))
    }

    pub(super) async fn write(&mut self, message: &Message) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        within(super::STEP, self.0.write_all(&[&length.to_be_bytes(), text.as_slice()].concat())).await
    }

    /// Reads exactly one message: a byte more could be the one that carries descriptors, and lose them.
    pub(super) async fn read(&mut self, patience: Duration) -> io::Result<Message> {
        within(patience, async {
            let length = self.0.read_u32().await? as usize;
            if length > MAX_MESSAGE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "message is too long"));
            }
            let mut text = vec![0; length];
            self.0.read_exact(&mut text).await?;
            Ok(serde_json::from_slice(&text)?)
        })
        .await
    }

    /// Sends the descriptors, [`BATCH`] at a time.
    pub(super) async fn write_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        for batch in descriptors.chunks(BATCH) {
            within(super::STEP, self.0.async_io(Interest::WRITABLE, || send_batch(&self.0, batch))).await?;
        }
        Ok(())
    }

    /// Receives `count` descriptors; fewer or more when the other side did not keep its word.
    pub(super) async fn read_descriptors(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut received = Vec::with_capacity(count);
        for _ in 0..count.div_ceil(BATCH) {
            received.extend(within(super::STEP, self.0.async_io(Interest::READABLE, || receive_batch(&self.0))).await?);
        }
        Ok(received)
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let in_time = tokio::time::timeout(patience, work).await;
    in_time.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("silent for {patience:?}"))))
}

/// A stream carries descriptors only along with a byte; one cannot be sent in part.
fn send_batch(stream: &UnixStream, batch: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(batch)), "the space is for a whole batch");
    sendmsg(stream, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // Also when this process has no room for more descriptors.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were lost; is the limit of open files too low?"));
    }
    Ok(control.drain().flat_map(rights).collect())
}

fn rights(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    }
}
