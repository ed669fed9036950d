//! Large bodies from socket to socket, moved by the kernel without passing through our memory (splice(2)).
//!
//! Owns the pipes that such bytes go through. A pipe is two descriptors, so a body has one only while there are bytes in
//! it: whoever sends slowly has none, and one that is empty again is kept for the next bytes on the same thread.

use std::cell::RefCell;
use std::io;
use std::mem;
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

/// What goes through memory at once while there are no descriptors for a pipe.
const BUFFER: usize = 16 * 1024;

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
            *self = if open() { Splicing::Through(Pipe::default()) } else { Splicing::Never };
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
#[derive(Debug, Default)]
pub struct Pipe {
    place: Place,
    held: usize,
}

/// Where they are.
#[derive(Debug, Default)]
enum Place {
    /// There are none.
    #[default]
    Nowhere,
    Kernel(Ends),
    /// There were no descriptors for a pipe. What has left is cut off at the front.
    Memory(Vec<u8>),
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// How many bytes it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from a socket into it; 0 at the socket's end. It must be empty: of a pipe with something
    /// in it, the kernel would not say which of the two is not ready.
    pub fn poll_fill(&mut self, from: &TcpStream, most: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill_at(Place::free, from, most, cx)
    }

    fn poll_fill_at(
        &mut self,
        place: fn() -> Place,
        from: &TcpStream,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(CAPACITY);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let mut place = place();
            let moved = done(place.fill(from, most));
            if let Ok(Some(moved @ 1..)) = moved {
                (self.place, self.held) = (place, moved);
            } else {
                place.vacate();
            }
            if let Some(moved) = moved? {
                return Poll::Ready(Ok(moved));
            }
        }
    }

    /// Moves what it holds, or some of it, into a socket.
    pub fn poll_pour(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            if let Some(moved) = done(self.place.pour(to, self.held))? {
                self.held -= moved;
                if self.held == 0 {
                    mem::take(&mut self.place).vacate();
                }
                return Poll::Ready(Ok(moved));
            }
        }
    }
}

impl Place {
    /// An empty one.
    fn free() -> Place {
        let spare = PIPES.with_borrow_mut(Vec::pop);
        spare.map_or_else(Ends::new, Ok).map_or_else(|_| Place::memory(), Place::Kernel)
    }

    fn memory() -> Place {
        Place::Memory(Vec::new())
    }

    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        match self {
            Place::Nowhere => Ok(0),
            Place::Kernel(ends) => {
                from.try_io(Interest::READABLE, || Ok(splice(from, None, &ends.into, None, most.min(CAPACITY), FLAGS)?))
            }
            Place::Memory(bytes) => {
                bytes.resize(most.min(BUFFER), 0);
                let read = from.try_read(bytes)?;
                bytes.truncate(read);
                Ok(read)
            }
        }
    }

    fn pour(&mut self, to: &TcpStream, held: usize) -> io::Result<usize> {
        match self {
            Place::Nowhere => Ok(0),
            Place::Kernel(ends) => {
                to.try_io(Interest::WRITABLE, || Ok(splice(&ends.out, None, to, None, held, FLAGS)?))
            }
            Place::Memory(bytes) => {
                let written = to.try_write(bytes)?;
                bytes.drain(..written);
                Ok(written)
            }
        }
    }

    /// It is empty, and of no more use here.
    fn vacate(self) {
        let Place::Kernel(ends) = self else { return };
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < SPARE {
                pipes.push(ends);
            }
        });
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

    /// Sends a megabyte through a pipe whose bytes are held at `place`, and looks at the pipe's place after each pour.
    async fn send_through(place: fn() -> Place, look: impl Fn(&Pipe)) {
        let ((mut sender, from), (to, mut receiver)) = (pair().await, pair().await);
        let sent: Vec<u8> =
            (0..1_000_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { sender.write_all(&sent).await });
        let receiving = tokio::spawn(async move {
            let mut whole = Vec::new();
            receiver.read_to_end(&mut whole).await.map(|_| whole)
        });
        let mut pipe = Pipe::default();
        while poll_fn(|cx| pipe.poll_fill_at(place, &from, 300_000, cx)).await.unwrap() > 0 {
            while pipe.held() > 0 {
                poll_fn(|cx| pipe.poll_pour(&to, cx)).await.unwrap();
                look(&pipe);
            }
        }
        drop(to);
        sending.await.unwrap().unwrap();
        assert!(receiving.await.unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn bytes_go_from_socket_to_socket() {
        send_through(Place::free, |pipe| assert_eq!(pipe.held() > 0, matches!(pipe.place, Place::Kernel(_)))).await;
        assert_eq!(PIPES.with_borrow(Vec::len), 1);
    }

    #[tokio::test]
    async fn without_descriptors_they_go_through_memory() {
        send_through(Place::memory, |pipe| assert_eq!(pipe.held() > 0, matches!(pipe.place, Place::Memory(_)))).await;
        assert_eq!(PIPES.with_borrow(Vec::len), 0);
    }

    #[tokio::test]
    async fn who_sends_nothing_has_no_descriptors() {
        let (_sender, from) = pair().await;
        let mut pipe = Pipe::default();
        assert!(poll_fn(|cx| Poll::Ready(pipe.poll_fill(&from, 9, cx))).await.is_pending());
        assert!(matches!(pipe.place, Place::Nowhere));
    }

    #[tokio::test]
    async fn only_an_empty_pipe_is_kept() {
        let (mut sender, from) = pair().await;
        sender.write_all(b"something").await.unwrap();
        let mut full = Pipe::default();
        poll_fn(|cx| full.poll_fill(&from, 9, cx)).await.unwrap();
        drop(full);
        assert_eq!(PIPES.with_borrow(Vec::len), 0);
    }
}
