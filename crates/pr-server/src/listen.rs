//! The socket that clients connect to: made here, or by systemd.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::FileTypeExt as _, fs::MetadataExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

/// As many as the kernel allows (`net.core.somaxconn`): a host that starts all its guests at once.
const BACKLOG: i32 = 4096;

/// Owner and permissions of a socket that we make.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("{0}: another process answers on this socket; stop it first, or choose another path")]
    Live(PathBuf),
    #[error("{0}: exists and is not a socket; it is left alone: remove it, or choose another path")]
    NotASocket(PathBuf),
    #[error("{path}: {doing}: {error}")]
    Path { path: PathBuf, doing: &'static str, error: io::Error },
    #[error("socket activation: {0} sockets were passed where one is expected")]
    Many(usize),
    #[error("socket activation: the descriptor passed is not a listening Unix stream socket")]
    Unsuitable,
    #[error("socket activation: {0}")]
    Activation(io::Error),
    #[error(
        "--socket cannot be used with socket activation: the unit's ListenStream= is the place for the path"
    )]
    Both,
}

/// A listening socket. Dropped, it removes its file, if it made that.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    file: Option<File>,
}

/// The file of a socket, known again by its inode.
#[derive(Debug, Clone)]
pub(crate) struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens on `path`. Takes the place of a socket that nobody listens on; of nothing else.
    pub(crate) fn bind(path: &Path, access: &Access) -> Result<Self, ListenError> {
        let failed =
            |doing| move |error: io::Error| ListenError::Path { path: path.to_owned(), doing, error };
        let address =
            SocketAddrUnix::new(path).map_err(|error| failed("not a path for a socket")(error.into()))?;
        let (_lock, _) = lock_directory(path).map_err(failed("cannot open its directory"))?;
        make_way(path, &address)?;

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed("socket")(error.into()))?;
        rustix::net::bind(&socket, &address).map_err(|error| failed("cannot be bound")(error.into()))?;
        // From here on the file goes again if anything fails.
        let file = File::of(path).map_err(failed("cannot be examined"))?;
        let listener = Self { socket, file: Some(file) };
        if access.owner.is_some() || access.group.is_some() {
            std::os::unix::fs::chown(path, access.owner, access.group)
                .map_err(failed("cannot change its owner"))?;
        }
        if let Some(mode) = access.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(failed("cannot change its mode"))?;
        }
        // Last: who can connect finds everything as it was ordered.
        rustix::net::listen(&listener.socket, BACKLOG).map_err(|error| failed("listen")(error.into()))?;
        Ok(listener)
    }

    /// Takes the socket that systemd passed, after making sure that it is one to listen on.
    pub(crate) fn from_activation(socket: OwnedFd) -> Result<Self, ListenError> {
        use rustix::net::sockopt;
        let suitable = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
            && sockopt::socket_acceptconn(&socket) == Ok(true);
        if !suitable {
            return Err(ListenError::Unsuitable);
        }
        let flags =
            rustix::fs::fcntl_getfl(&socket).map_err(|error| ListenError::Activation(error.into()))?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)
            .map_err(|error| ListenError::Activation(error.into()))?;
        Ok(Self { socket, file: None })
    }

    /// The socket's file, if it was made here.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Whether a client waits to be accepted.
    pub(crate) fn has_waiting(&self) -> bool {
        let mut events = [PollFd::new(&self.socket, PollFlags::IN)];
        rustix::event::poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Listener {
    /// Takes no more clients, and closes nothing: those that have connected and wait may have sent what blocks then.
    pub(crate) fn retire(&mut self) {
        // One that was passed may be somebody else's, too, who keeps it for the next to come. The file is removed once: it
        // may be another's then, and its inode the same.
        if let Some(file) = self.file.take() {
            file.remove();
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

impl File {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still there, and still the same.
    pub(crate) fn is_there(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| (now.device, now.inode) == (self.device, self.inode))
    }

    /// Removes the file if its maker has ended and left it behind.
    pub(crate) fn remove_if_left_behind(&self) {
        let is_abandoned = || -> io::Result<bool> {
            let address = SocketAddrUnix::new(&self.path)?;
            Ok(matches!(try_to_connect(&address), Err(Errno::CONNREFUSED)))
        };
        // Without the lock it could be that of one who has bound it and is about to listen.
        let Ok((_lock, true)) = lock_directory(&self.path) else { return };
        if is_abandoned().unwrap_or(false) {
            self.remove();
        }
    }

    /// Removes the file if it is still the one that was made.
    fn remove(&self) {
        if !self.is_there() {
            log::debug!("{}: no longer ours, left alone", self.path.display());
        } else if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: cannot be removed: {error}", self.path.display());
        }
    }
}

/// Keeps two helpers that start at once from each finding the other's socket dead: one goes first. The lock is given
/// back with the descriptor. Returns also whether there is one.
fn lock_directory(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let descriptor =
        rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Anybody may hold this lock, for as long as they like: so it is not waited for long.
    for _ in 0..20 {
        match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(50)),
            Err(Errno::INTR) => {}
            Ok(()) => return Ok((descriptor, true)),
            // A file system without locks is no reason not to start.
            Err(_) => break,
        }
    }
    Ok((descriptor, false))
}

/// Removes a socket that nobody listens on.
fn make_way(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let failed = |doing| move |error: io::Error| ListenError::Path { path: path.to_owned(), doing, error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot be examined")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match try_to_connect(address) {
        Err(Errno::CONNREFUSED) => {
            log::info!("{}: replacing a socket that nobody listens on", path.display());
            fs::remove_file(path).map_err(failed("cannot be replaced"))
        }
        // A full queue has somebody who is slow to empty it; another kind of socket, somebody else.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(ListenError::Live(path.to_owned())),
        Err(error) => Err(failed("cannot tell whether it is in use")(error.into())),
    }
}

/// Finds out whether anybody listens on a socket: who does may see a client that says nothing.
fn try_to_connect(address: &SocketAddrUnix) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&probe, address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        (directory, path)
    }

    #[test]
    fn a_socket_comes_and_goes_with_its_listener() {
        let (_directory, path) = place();
        let listener = Listener::bind(&path, &Access { mode: Some(0o640), ..Access::default() }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path, &Access::default()).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::Live(_))));
        UnixStream::connect(&path).expect("the first is still there");
        drop(listener);
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::Live(_))));
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let (_directory, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::NotASocket(_))));
    }

    #[test]
    fn only_the_socket_that_was_made_is_removed() {
        let (_directory, path) = place();
        let listener = Listener::bind(&path, &Access::default()).unwrap();
        fs::rename(&path, path.with_extension("old")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_removed_and_one_in_use_is_not() {
        let (_directory, path) = place();
        let first = UnixListener::bind(&path).unwrap();
        let file = File::of(&path).unwrap();
        file.remove_if_left_behind();
        assert!(path.exists(), "it is in use");
        drop(first);
        file.remove_if_left_behind();
        assert!(!path.exists());
        file.remove_if_left_behind();

        let lock = lock_directory(&path).unwrap();
        assert!(lock.1);
        drop(UnixListener::bind(&path).unwrap());
        File::of(&path).unwrap().remove_if_left_behind();
        assert!(path.exists(), "somebody is at it");
        drop(lock);
        let _successor = UnixListener::bind(path.with_extension("new")).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        file.remove_if_left_behind();
        assert!(path.exists(), "it is another's");
    }

    #[test]
    fn only_a_listening_unix_stream_socket_is_taken_from_systemd() {
        let (_directory, path) = place();
        let listening = UnixListener::bind(&path).unwrap();
        assert!(Listener::from_activation(listening.into()).is_ok());
        let (connected, _peer) = UnixStream::pair().unwrap();
        assert!(matches!(Listener::from_activation(connected.into()), Err(ListenError::Unsuitable)));
        let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Listener::from_activation(internet.into()), Err(ListenError::Unsuitable)));
        let file = fs::File::open("/dev/null").unwrap();
        assert!(matches!(Listener::from_activation(file.into()), Err(ListenError::Unsuitable)));
    }
}
