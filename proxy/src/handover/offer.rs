//! The old side: offers sockets, waits until the new process serves, and only then lets go.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::UnixListener;

use super::wire::{Message, VERSION, Wire};
use super::{START, STEP};

/// The Unix socket where a new process asks for the sockets; its file goes when this is dropped.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
    file: FileId,
}

/// An offer that nobody can find yet: what can fail about it is behind us, and whoever offers at its path is not
/// disturbed. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Draft {
    socket: net::UnixListener,
    file: DraftFile,
    path: PathBuf,
}

/// A file that is gone by another name when all goes well.
#[derive(Debug)]
struct DraftFile(PathBuf);

/// A new process that asks.
#[derive(Debug)]
pub struct Request {
    wire: Wire,
    pid: u32,
}

/// How a hand-over ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new process serves and knows that we let go: drain.
    TakenOver,
    /// It does not, and this is why: go on serving.
    Failed(String),
}

/// Device and inode: tells our file from one that a successor put in its place.
type FileId = (u64, u64);

impl Offer {
    /// Gets ready to listen at `path`. Anything but a socket at `path` is left alone and is an error.
    pub fn draft(path: &Path) -> io::Result<Draft> {
        refuse_other_files(path)?;
        let file = DraftFile(draft_of(path));
        remove_if_there(&file.0)?;
        Ok(Draft { socket: bound(&file.0)?, file, path: path.to_owned() })
    }

    /// Listens at `path`: [`Offer::draft`] and [`Draft::place`] in one.
    pub fn listen(path: &Path) -> io::Result<Offer> {
        Offer::draft(path)?.place()
    }

    /// The next new process that may have the sockets and speaks our version; others are turned away here.
    ///
    /// Dropping the future turns away whoever was being listened to.
    pub async fn accept(&self) -> io::Result<Request> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match Request::greet(Wire::new(stream)).await {
                Ok(request) => return Ok(request),
                Err(error) => tracing::warn!(%error, "socket hand-over refused"),
            }
        }
    }
}

impl Draft {
    /// Listens, in place of whatever socket is at the path: a dead process's, or a predecessor's that drains.
    ///
    /// The file has mode 0600 before anybody can connect, and takes its place in one step. Must be called within a
    /// tokio runtime.
    pub fn place(self) -> io::Result<Offer> {
        let Draft { socket, file: draft, path } = self;
        let file = file_id(&draft.0)?;
        fs::rename(&draft.0, &path)?;
        Ok(Offer { listener: UnixListener::from_std(socket)?, path, file })
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        // Once it has its place there is none; and one that is left behind harms nobody.
        drop(fs::remove_file(&self.0));
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|file| file == self.file) {
            // Nothing depends on it: a file left behind is replaced by the next offer.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Request {
    /// The new process, for the log.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends the sockets, each with the key under which the new process claims it. Keys are unique.
    pub async fn send(&mut self, sockets: &[(String, BorrowedFd<'_>)]) -> io::Result<()> {
        let (keys, descriptors): (Vec<_>, Vec<_>) = sockets.iter().cloned().unzip();
        self.wire.write(&Message::Sockets { keys }).await?;
        self.wire.write_descriptors(&descriptors).await
    }

    /// Waits until the new process serves, at most 60 seconds, and tells it that we let go.
    pub async fn outcome(mut self) -> Outcome {
        let reason = match self.wire.read(START).await {
            Ok(Message::Ready) => return self.release().await,
            Ok(Message::Failed { reason }) => return Outcome::Failed(reason),
            Ok(_) => "the new process answered out of turn".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the new process went away".to_owned(),
            Err(error) => error.to_string(),
        };
        // It may yet become ready; then it must know that it is too late.
        drop(self.wire.write(&Message::Refused { reason: reason.clone() }).await);
        Outcome::Failed(reason)
    }

    async fn release(mut self) -> Outcome {
        match self.wire.write(&Message::Released).await {
            Ok(()) => Outcome::TakenOver,
            Err(error) => Outcome::Failed(format!("the new process went away: {error}")),
        }
    }

    async fn greet(mut wire: Wire) -> io::Result<Request> {
        if let Some(uid) = wire.stranger()? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as user {uid}")));
        }
        let reason = match wire.read(STEP).await? {
            Message::Hello { version: VERSION, pid } => return Ok(Request { wire, pid }),
            Message::Hello { version, .. } => format!("it speaks version {version}, we speak {VERSION}"),
            _ => "it did not say hello".to_owned(),
        };
        // It may have gone already; why it was refused is for our log in any case.
        drop(wire.write(&Message::Refused { reason: reason.clone() }).await);
        Err(io::Error::other(reason))
    }
}

/// Binds without listening, narrows the mode, then listens: until then nobody can connect.
fn bound(path: &Path) -> io::Result<net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    listen(&socket, 8)?;
    Ok(socket.into())
}

fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    draft.into()
}

fn refuse_other_files(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not a socket", path.display())))
        }
        _ => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
