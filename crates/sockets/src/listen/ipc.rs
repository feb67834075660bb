//! `ipc` endpoints: a socket file that belongs to its listener.
//!
//! A file without a listener is replaced, and a listener takes its own file away when it ends.
//! While a program does either it holds a lock on the directory, so that two that start or end
//! together never take each other's file.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

use super::BACKLOG;

/// Longest wait for the lock of a directory. It is held for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two attempts to have it.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A listener, and its file.
#[derive(Debug)]
pub struct IpcListener {
    listener: UnixListener,
    path: PathBuf,
    /// The identity of the file. No other has this pair while the listener is open.
    file: Option<FileId>,
}

/// Device and inode.
type FileId = (u64, u64);

impl IpcListener {
    /// Listens at `path`. The file has `mode` from the beginning, or what the umask leaves.
    ///
    /// # Errors
    /// Another program listens there, there is another file, or what the system says.
    pub async fn bind(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        let _lock = lock(path).await?;
        clear_stale(path).await?;
        let listener = listen(path, mode)?;
        // From here on the file is taken away if something fails.
        let bound = Self { listener, path: path.to_owned(), file: file_id(path) };
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(bound)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a connection. May be dropped at any time.
    ///
    /// # Errors
    /// What the system says: mostly that there are no file descriptors left.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for IpcListener {
    fn drop(&mut self) {
        // Without waiting: the holder of the lock finds that this listener lives, and leaves its
        // file alone.
        let directory = File::open(directory(&self.path)).ok();
        let _lock =
            directory.filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if self.file.is_some() && file_id(&self.path) == self.file {
            // It may be gone by now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // On Linux the file then never has more than this; elsewhere it has what the umask leaves
        // for a moment.
        let _ = fchmod(&socket, Mode::from_raw_mode(mode));
    }
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// The lock of the file's directory; none if the directory cannot be opened or its file system has
/// no locks.
async fn lock(path: &Path) -> io::Result<Option<File>> {
    let Ok(directory) = File::open(directory(path)) else { return Ok(None) };
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOCK_PAUSE).await,
            Err(Errno::WOULDBLOCK) => {
                let text = "another program keeps its directory locked";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            Err(_) => return Ok(None),
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket file without a listener; anything else at that path stays.
async fn clear_stale(path: &Path) -> io::Result<()> {
    let in_use = || Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        )),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => in_use(),
            // Its queue of connections is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => in_use(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}
