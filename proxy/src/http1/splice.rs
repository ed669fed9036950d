//! Large bodies from socket to socket, moved by the kernel without passing through our memory (splice(2)).
//!
//! Owns the pipes that such bytes go through; one that is empty again is kept for the next body on the same thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use http_body::Body;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Less is read into memory and written together with its head.
pub const LARGE: u64 = 32 * 1024;

/// What a pipe holds. The kernel may refuse so much to a user who has many; then it stays as small as it is made.
const CAPACITY: usize = 256 * 1024;

/// Empty pipes kept by a thread.
const SPARE: usize = 16;

thread_local! {
    static PIPES: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// A body of which the kernel may move large parts by itself.
pub trait Spliced: Body {
    /// Whether the next bytes can go through a pipe.
    fn splices(&self) -> bool;

    /// Moves some of them into `pipe`, which is empty. Only while [`Spliced::splices`].
    fn poll_splice(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Goes on with whatever the sender of the body has to be sent, while the body itself is not asked for.
    fn drive(&mut self, _cx: &mut Context<'_>) {}
}

/// How a message's body goes out.
#[derive(Debug, Default)]
pub enum Splicing {
    /// Large parts past our memory, if there are any.
    #[default]
    May,
    /// They do.
    Through(Pipe),
    /// They cannot.
    Never,
}

impl Splicing {
    /// The pipe for a body that wants to go through one; `None` if it has to go through memory. `open` tells whether the
    /// recipient takes bytes as they are.
    pub fn pipe(&mut self, wanted: bool, open: impl FnOnce() -> bool) -> Option<&mut Pipe> {
        if let (Splicing::May, true) = (&self, wanted) {
            // Without descriptors for a pipe the bytes go through memory.
            let pipe = if open() { Pipe::new().ok() } else { None };
            *self = pipe.map_or(Splicing::Never, Splicing::Through);
        }
        if let Splicing::Through(pipe) = self { Some(pipe) } else { None }
    }

    /// Whether nothing may go out past the pipe: it still holds bytes that come before all others, or the body goes
    /// `on` through it.
    pub fn is_next(&self, on: bool) -> bool {
        match self {
            Splicing::May => on,
            Splicing::Through(pipe) => on || pipe.held() > 0,
            Splicing::Never => false,
        }
    }
}

/// Bytes between two sockets.
#[derive(Debug)]
pub struct Pipe {
    /// `None` once they have been put aside for the next one.
    ends: Option<Ends>,
    held: usize,
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// An empty one.
    pub fn new() -> io::Result<Pipe> {
        let spare = PIPES.with_borrow_mut(Vec::pop);
        let ends = spare.map_or_else(Ends::new, Ok)?;
        Ok(Pipe { ends: Some(ends), held: 0 })
    }

    /// How many bytes it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from a socket into it; 0 at the socket's end. It must be empty: of a pipe with something
    /// in it, the kernel would not say which of the two is not ready.
    pub fn poll_fill(&mut self, from: &TcpStream, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let most = usize::try_from(most).map_or(CAPACITY, |most| most.min(CAPACITY));
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || Ok(splice(from, None, &ends.into, None, most, FLAGS)?));
            if let Some(moved) = done(moved)? {
                self.held += moved;
                return Poll::Ready(Ok(moved));
            }
        }
    }

    /// Moves what it holds, or some of it, into a socket.
    pub fn poll_pour(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || Ok(splice(&ends.out, None, to, None, self.held, FLAGS)?));
            if let Some(moved) = done(moved)? {
                self.held -= moved;
                return Poll::Ready(Ok(moved));
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// `None` if the socket was not ready after all: tokio has taken note of it.
fn done(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(moved) => Ok(Some(moved)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Ends {
    fn new() -> io::Result<Ends> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // If it stays small, more calls are needed, and nothing else changes.
        let _ = fcntl_setpipe_size(&into, CAPACITY);
        Ok(Ends { out, into })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(ends) = self.ends.take_if(|_| self.held == 0) {
            // At the end of the thread there is no next one.
            let _ = PIPES.try_with(|pipes| {
                let mut pipes = pipes.borrow_mut();
                if pipes.len() < SPARE {
                    pipes.push(ends);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_go_from_socket_to_socket() {
        let ((mut sender, from), (to, mut receiver)) = (pair().await, pair().await);
        let sent: Vec<u8> =
            (0..1_000_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { sender.write_all(&sent).await });
        let receiving = tokio::spawn(async move {
            let mut whole = Vec::new();
            receiver.read_to_end(&mut whole).await.map(|_| whole)
        });
        let mut pipe = Pipe::new().unwrap();
        while poll_fn(|cx| pipe.poll_fill(&from, 300_000, cx)).await.unwrap() > 0 {
            while pipe.held() > 0 {
                poll_fn(|cx| pipe.poll_pour(&to, cx)).await.unwrap();
            }
        }
        drop(to);
        sending.await.unwrap().unwrap();
        assert!(receiving.await.unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn only_an_empty_pipe_is_kept() {
        let (mut sender, from) = pair().await;
        sender.write_all(b"something").await.unwrap();
        let mut full = Pipe::new().unwrap();
        poll_fn(|cx| full.poll_fill(&from, 9, cx)).await.unwrap();
        drop(full);
        assert_eq!(PIPES.with_borrow(Vec::len), 0);
        drop(Pipe::new().unwrap());
        assert_eq!(PIPES.with_borrow(Vec::len), 1);
    }
}
