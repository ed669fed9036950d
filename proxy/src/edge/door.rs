//! A listening socket as one worker accepts from it.
//!
//! Owns the order of the system calls: `accept` makes a socket before it finds that nobody is waiting, so whether a
//! second one is worth it is asked by the cheaper `poll`. Knows when descriptors run out. Decides nothing about who is
//! let in.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::shortage::{self, Reserve};

/// A listening socket.
#[derive(Debug)]
pub(super) struct Door {
    socket: AsyncFd<TcpListener>,
    /// Whether somebody came in since the socket was last found ready: then nobody need be waiting.
    opened: bool,
    reserve: Reserve,
    /// Whether the last one who came in took of the reserve, or found no descriptor at all.
    crowded: bool,
}

impl Door {
    /// Of a socket that does not block.
    #[expect(deprecated, reason = "its successor is unsafe for what does not own its descriptor; a TcpListener does")]
    pub(super) fn new(socket: TcpListener) -> io::Result<Door> {
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Door { socket, opened: false, reserve: Reserve::of_process(), crowded: false })
    }

    /// Waits for a connection.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let mut ready = self.socket.readable().await?;
            let opened = &mut self.opened;
            let taken = ready.try_io(|socket| {
                if *opened && !has_visitor(socket.get_ref())? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                accept(socket.get_ref())
            });
            self.opened = taken.is_ok();
            if let Ok(accepted) = taken {
                self.crowded = match &accepted {
                    Ok((stream, _)) => self.reserve.holds(stream),
                    Err(error) => shortage::is_ours(error),
                };
                return accepted;
            }
        }
    }

    /// Whether nobody else should come in until there [is room](Door::has_room).
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Whether the next one would leave the reserve untouched.
    pub(super) fn has_room(&self) -> bool {
        !self.reserve.is_reached(self.socket.get_ref())
    }

    /// Whoever is waiting, and nobody who comes later.
    pub(super) fn rest(self) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
        let socket = self.socket.into_inner();
        std::iter::from_fn(move || accept(&socket).ok())
    }
}

fn has_visitor(socket: &TcpListener) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now))? > 0)
}

fn accept(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((TcpStream::from_std(stream.into())?, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> (Door, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (Door::new(socket).unwrap(), address)
    }

    #[tokio::test]
    async fn all_who_knock_are_let_in_together_or_one_by_one() {
        let (mut door, address) = door();
        for together in [1, 1, 5, 1, 3] {
            let mut outside = Vec::new();
            for _ in 0..together {
                outside.push(TcpStream::connect(address).await.unwrap());
            }
            for _ in 0..together {
                let (inside, peer) = door.accept().await.unwrap();
                assert_eq!(inside.local_addr().unwrap(), address);
                assert!(outside.iter().any(|stream| stream.local_addr().unwrap() == peer));
            }
        }
    }

    #[tokio::test]
    async fn who_knocks_while_nobody_is_waiting_is_heard() {
        let (mut door, address) = door();
        for _ in 0..3 {
            let (accepted, connected) = tokio::join!(door.accept(), TcpStream::connect(address));
            assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn rest_is_who_has_knocked_already() {
        let (door, address) = door();
        let outside = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        assert_eq!(door.rest().count(), outside.len());
    }
}
