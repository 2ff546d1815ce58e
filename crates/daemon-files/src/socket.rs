//! A listening Unix stream socket, bound to a path or passed by systemd.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{Place, sys};

/// Length of the accept queue, limited by the kernel to `net.core.somaxconn`: enough for a host that starts all its guests at
/// once.
const BACKLOG: i32 = 4096;

/// Owner and permissions of a socket's file.
#[derive(Debug, Default)]
pub struct Access {
    /// Permission bits. `None` means 0777 minus the umask.
    pub mode: Option<u32>,
    /// User ID of the owner. `None` means the user of the process.
    pub owner: Option<u32>,
    /// Group ID. `None` means the group of the process.
    pub group: Option<u32>,
    /// Whether the kernel refuses messages with descriptors from clients. It cannot before 6.16.
    pub without_descriptors: bool,
}

/// The reason why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens on the socket.
    #[error("{}: another process answers on this socket; stop it first, or choose another path", .0.display())]
    Live(PathBuf),
    /// The path exists and is not a socket.
    #[error("{}: exists and is not a socket; it is left alone: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Another user replaced the file, or the directory's default ACL changed its mode.
    #[error(
        "{}: the socket was replaced while it was made, or the directory's default ACL changed its mode: make its directory writable by root and the helper's user only",
        .0.display()
    )]
    Replaced(PathBuf),
    /// A system call failed.
    #[error("{}: {doing}", path.display())]
    Path {
        /// The socket's path.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The kernel's reason.
        #[source]
        error: io::Error,
    },
    /// The descriptor that systemd passed does not refer to a listening Unix stream socket.
    #[error("socket activation: the descriptor passed is not a listening Unix stream socket")]
    Unsuitable,
    /// The descriptor that systemd passed cannot be used.
    #[error("socket activation: the descriptor passed cannot be used")]
    Activation(#[source] io::Error),
}

/// A listening socket. Removes its file when dropped, if it made one.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    file: RemovedOnDrop,
}

/// Removes the file of a socket when dropped, if it was made here.
#[derive(Debug)]
struct RemovedOnDrop(Option<SocketFile>);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            file.remove();
        }
    }
}

/// The file of a socket: its place and its inode.
#[derive(Debug, Clone)]
pub struct SocketFile {
    place: Place,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens on `path`. Replaces a socket that no process listens on, but nothing else.
    ///
    /// The owner of the directory may replace the file at any time, also by a link to a file of root's. So mode and owner
    /// are never set by path: the file is created with its mode, and its owner is set by a descriptor, after a check that
    /// the descriptor refers to the file that was created. No client can connect before that.
    ///
    /// Binding and connecting are by path, since the kernel does neither relative to a descriptor. The owner of the directory
    /// or of one above it can therefore make the new socket's file appear elsewhere, where nothing has that name yet, and
    /// make a socket in use pass for a stale one, which is replaced. Owner and mode of an existing file never change.
    ///
    /// # Errors
    ///
    /// [`ListenError`]. Then the file is removed again; one that appeared elsewhere is left there.
    pub fn bind(path: &Path, access: &Access) -> Result<Self, ListenError> {
        let failed =
            |doing| move |error: io::Error| ListenError::Path { path: path.to_owned(), doing, error };
        let address =
            SocketAddrUnix::new(path).map_err(|error| failed("not a path for a socket")(error.into()))?;
        let place = Place::of(path).map_err(failed("cannot open its directory"))?;
        let (_lock, _) = lock_directory(&place).map_err(failed("cannot open its directory"))?;
        make_way(&place, &address)?;

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed("socket")(error.into()))?;
        // If other users can put files in the socket's place, the socket is created with mode 0, which no other file has: the
        // mode then proves which file is the own one.
        let is_changed = access.owner.is_some() || access.group.is_some();
        let is_bound_without_access =
            is_changed && !place.is_trusted().map_err(failed("cannot examine its directory"))?;
        let mode = if is_bound_without_access { Some(0) } else { access.mode };
        bind_with_mode(&socket, &address, mode).map_err(|error| failed("cannot be bound")(error.into()))?;
        let file = SocketFile::at(&place).map_err(failed("cannot be examined"))?;
        // From here on an error drops the listener, which removes the file.
        let listener = Self { socket, file: RemovedOnDrop(Some(file)) };
        give_access(&place, access, is_bound_without_access)?;
        if access.without_descriptors {
            // Before the first client, as each connection inherits the option.
            if sys::refuse_descriptors(listener.socket.as_fd()).is_err() {
                log::debug!(
                    "{}: clients may pass descriptors: the kernel is older than 6.16",
                    path.display()
                );
            }
        }
        rustix::net::listen(&listener.socket, BACKLOG).map_err(|error| failed("listen")(error.into()))?;
        Ok(listener)
    }

    /// Takes a socket that systemd passed, after checking that it is a listening Unix stream socket.
    ///
    /// # Errors
    ///
    /// [`ListenError::Unsuitable`] if it is not, [`ListenError::Activation`] if the kernel refuses a call.
    pub fn from_activation(socket: OwnedFd) -> Result<Self, ListenError> {
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
        Ok(Self { socket, file: RemovedOnDrop(None) })
    }

    /// Returns the socket's file, if it was made here.
    pub fn file(&self) -> Option<&SocketFile> {
        self.file.0.as_ref()
    }

    /// Returns the socket and its file, for a caller that removes the file itself.
    pub fn into_parts(self) -> (OwnedFd, Option<SocketFile>) {
        let Self { socket, mut file } = self;
        (socket, file.0.take())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SocketFile {
    /// Returns the socket that is at `path` now.
    ///
    /// # Errors
    ///
    /// There is no file, or it is not a socket.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::at(&Place::of(path)?)
    }

    fn at(place: &Place) -> io::Result<Self> {
        let stat = place.stat()?;
        if !is_socket(&stat) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no longer a socket"));
        }
        Ok(Self { place: place.clone(), device: stat.st_dev, inode: stat.st_ino })
    }

    /// Returns the path at which the socket was made.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns whether the file still exists and has not been replaced.
    pub fn is_there(&self) -> bool {
        self.place.stat().is_ok_and(|now| (now.st_dev, now.st_ino) == (self.device, self.inode))
    }

    /// Removes the file if no process listens on it any more.
    pub fn remove_if_left_behind(&self) {
        let is_abandoned = || -> io::Result<bool> {
            let address = SocketAddrUnix::new(self.path())?;
            Ok(matches!(try_to_connect(&address), Err(Errno::CONNREFUSED)))
        };
        // Without the lock this could be a new socket that is bound and about to listen.
        let Ok((_lock, true)) = lock_directory(&self.place) else { return };
        if is_abandoned().unwrap_or(false) {
            self.remove();
        }
    }

    /// Removes the file, unless it has been replaced.
    pub fn remove(&self) {
        if !self.is_there() {
            log::debug!("{}: replaced by another file, left alone", self.path().display());
        } else if let Err(error) = self.place.remove() {
            log::debug!("{}: cannot be removed: {error}", self.path().display());
        }
    }
}

fn is_socket(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
}

/// Binds a socket; its file gets this mode, or 0777 minus the umask.
fn bind_with_mode(socket: &OwnedFd, address: &SocketAddrUnix, mode: Option<u32>) -> Result<(), Errno> {
    // bind(2) creates the file with the mode of the socket descriptor minus the umask.
    let _umask = match mode {
        Some(mode) => {
            rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?;
            Some(ZeroUmask::new())
        }
        None => None,
    };
    rustix::net::bind(socket, address)
}

/// Sets the umask to 0 until dropped. The umask belongs to the whole process: sockets are bound before other threads start.
struct ZeroUmask {
    before: Mode,
    _lock: MutexGuard<'static, ()>,
}

impl ZeroUmask {
    fn new() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: rustix::process::umask(Mode::empty()), _lock: lock }
    }
}

impl Drop for ZeroUmask {
    fn drop(&mut self) {
        rustix::process::umask(self.before);
    }
}

/// Sets owner and group of the socket that was bound at `place`. Sets its mode if it was bound with mode 0
/// (`is_bound_without_access`) or if a default ACL of the directory changed the mode.
fn give_access(place: &Place, access: &Access, is_bound_without_access: bool) -> Result<(), ListenError> {
    let failed = |doing| {
        move |error: Errno| ListenError::Path { path: place.path().to_owned(), doing, error: error.into() }
    };
    let (owner, group) = (access.owner.map(Uid::from_raw), access.group.map(Gid::from_raw));
    if owner.is_none() && group.is_none() && access.mode.is_none() {
        return Ok(());
    }
    let socket =
        place.open(OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(failed("cannot be examined"))?;
    let stat = rustix::fs::fstat(&socket).map_err(failed("cannot be examined"))?;
    let mode = stat.st_mode & 0o777;
    let new_mode = access
        .mode
        .or_else(|| is_bound_without_access.then(|| 0o777 & !ZeroUmask::new().before.as_raw_mode()));
    let new_mode = new_mode.filter(|new_mode| *new_mode != mode);
    if owner.is_none() && group.is_none() && new_mode.is_none() {
        return Ok(());
    }
    let own = rustix::process::geteuid();
    let is_owned = [Some(own), owner].contains(&Some(Uid::from_raw(stat.st_uid)));
    let is_proven = if is_bound_without_access {
        mode == 0
    } else {
        place.is_trusted().map_err(|error| ListenError::Path {
            path: place.path().to_owned(),
            doing: "cannot examine its directory",
            error,
        })?
    };
    if !is_socket(&stat) || stat.st_nlink != 1 || !is_owned || !is_proven {
        return Err(ListenError::Replaced(place.path().to_owned()));
    }
    if owner.is_some() || group.is_some() {
        rustix::fs::chownat(&socket, c"", owner, group, AtFlags::EMPTY_PATH)
            .map_err(failed("cannot change its owner"))?;
    }
    if let Some(mode) = new_mode {
        // fchmod(2) does not accept an `O_PATH` descriptor, and fchmodat2(2) is too new (Linux 6.6).
        let descriptor = format!("/proc/self/fd/{}", socket.as_raw_fd());
        rustix::fs::chmod(descriptor, Mode::from_raw_mode(mode)).map_err(failed("cannot change its mode"))?;
    }
    Ok(())
}

/// Locks the directory, so that two helpers that start at once do not take each other's new socket for a stale one. The lock
/// is released with the descriptor. Returns also whether the directory could be locked.
fn lock_directory(place: &Place) -> io::Result<(OwnedFd, bool)> {
    let descriptor = place.open_directory()?;
    // Any process can hold this lock indefinitely, so the wait is limited to one second.
    for _ in 0..20 {
        match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(50)),
            Err(Errno::INTR) => {}
            Ok(()) => return Ok((descriptor, true)),
            // A file system without locks must not prevent the start.
            Err(_) => break,
        }
    }
    Ok((descriptor, false))
}

/// Removes a socket that no process listens on.
fn make_way(place: &Place, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let path = place.path();
    let failed =
        |doing| move |error: Errno| ListenError::Path { path: path.to_owned(), doing, error: error.into() };
    match place.stat() {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed("cannot be examined")(error)),
        Ok(stat) if !is_socket(&stat) => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match try_to_connect(address) {
        Err(Errno::CONNREFUSED) => {
            log::info!("{}: replacing a socket that no process listens on", path.display());
            match place.remove() {
                // Its helper has removed it at its exit.
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(failed("cannot be replaced")(error)),
            }
        }
        // Its helper has removed it since the check above.
        Err(Errno::NOENT) => Ok(()),
        // EAGAIN: a process listens and its accept queue is full. EPROTOTYPE: another program has a socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(ListenError::Live(path.to_owned())),
        Err(error) => Err(failed("cannot tell whether it is in use")(error)),
    }
}

/// Connects to a socket to find out whether a process listens on it. That process may see a client that sends nothing.
fn try_to_connect(address: &SocketAddrUnix) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&probe, address)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
            net::{UnixDatagram, UnixListener, UnixStream},
        },
        sync::atomic::{AtomicBool, Ordering},
        time::Instant,
    };

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        (directory, path)
    }

    #[test]
    fn socket_file_is_removed_with_listener() {
        let (_directory, path) = place();
        let listener = Listener::bind(&path, &Access { mode: Some(0o640), ..Access::default() }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn umask_does_not_change_requested_mode() {
        let (_directory, path) = place();
        for mode in [0o600, 0o660, 0o666, 0o777, 0] {
            let _listener = Listener::bind(&path, &Access { mode: Some(mode), ..Access::default() }).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
    }

    /// Sets a flag when dropped, also by a panic.
    struct SetOnDrop<'a>(&'a AtomicBool);

    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `action` while another thread calls `replace` for each new socket at `path`, as the directory's owner could.
    fn with_replacements(path: &Path, replace: impl Fn() + Sync, action: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = SetOnDrop(&is_over);
            scope.spawn(|| {
                let is_socket = || rustix::fs::lstat(path).is_ok_and(|stat| super::is_socket(&stat));
                while !is_over.load(Ordering::Relaxed) {
                    while !is_socket() && !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    replace();
                }
            });
            action();
            drop(over);
        });
    }

    /// An implementation that sets mode and owner by path loses this race in less than a second.
    #[test]
    fn link_that_replaces_socket_is_not_followed() {
        let (directory, path) = place();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let [file, socket, link] = ["file", "victim", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "").unwrap();
        let _victim = UnixListener::bind(&socket).unwrap();
        for victim in [&file, &socket] {
            fs::set_permissions(victim, fs::Permissions::from_mode(0o640)).unwrap();
        }
        let state = || {
            [&file, &socket].map(|victim| {
                let metadata = fs::metadata(victim).unwrap();
                (metadata.uid(), metadata.gid(), metadata.mode())
            })
        };
        let before = state();
        // Only root can change a file's owner.
        let other = rustix::process::geteuid().is_root().then_some(12_345);
        let access = Access { mode: Some(0o606), owner: other, group: other, ..Access::default() };
        let soft = || {
            let _ = symlink(&file, &link);
            let _ = fs::rename(&link, &path);
        };
        // The second name is removed at once, so the link count does not show it.
        let hard = || {
            let _ = fs::hard_link(&socket, &link);
            let _ = fs::rename(&link, &path);
            let _ = fs::remove_file(&path);
        };
        for replace in [&soft as &(dyn Fn() + Sync), &hard] {
            let begun = Instant::now();
            with_replacements(&path, replace, || {
                while begun.elapsed() < Duration::from_secs(2) {
                    // Fails if the socket was replaced in time.
                    let listener = Listener::bind(&path, &access);
                    assert_eq!(state(), before);
                    drop(listener);
                    let _ = fs::remove_file(&path);
                }
            });
        }
    }

    #[test]
    fn only_own_sockets_get_access() {
        let (directory, path) = place();
        let file = Place::of(&path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let access = Access { mode: Some(0o606), owner: Some(own), ..Access::default() };
        let refuses = || matches!(give_access(&file, &access, false), Err(ListenError::Replaced(_)));
        let modes = || fs::symlink_metadata(&path).unwrap().mode() & 0o777;

        let other = path.with_extension("other");
        let _other = UnixListener::bind(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&other, &path).unwrap();
        assert!(refuses(), "a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert!(refuses(), "a hard link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(refuses(), "a file");
        fs::remove_file(&path).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);

        fs::rename(&other, &path).unwrap();
        if own == 0 {
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            assert!(refuses(), "another user's");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        assert_eq!(modes(), 0o600);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refuses(), "possibly another user's");
        assert!(matches!(give_access(&file, &access, true), Err(ListenError::Replaced(_))), "not of mode 0");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
        give_access(&file, &access, true).unwrap();
        assert_eq!(modes(), 0o606, "set by descriptor");
    }

    #[test]
    fn listener_removes_nothing_in_replaced_directory() {
        let (directory, path) = place();
        let [here, away] = ["here", "away"].map(|name| directory.path().join(name));
        fs::create_dir(&here).unwrap();
        let listener = Listener::bind(&here.join("socket"), &Access::default()).unwrap();
        fs::rename(&here, &away).unwrap();
        symlink(directory.path(), &here).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists(), "another socket of the same name");
        assert!(!away.join("socket").exists());
    }

    #[test]
    fn only_stale_socket_is_replaced() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path, &Access::default()).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::Live(_))));
        UnixStream::connect(&path).expect("the first still listens");
        drop(listener);
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::Live(_))));
    }

    /// Another helper, at its exit, may remove its socket between any two system calls of a start.
    #[test]
    fn vanishing_socket_fails_no_start() {
        let (directory, path) = place();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let _over = SetOnDrop(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = fs::hard_link(&stale, &path);
                    let _ = fs::remove_file(&path);
                }
            });
            let begun = Instant::now();
            let (place, address) = (Place::of(&path).unwrap(), SocketAddrUnix::new(&path).unwrap());
            while begun.elapsed() < Duration::from_secs(1) {
                make_way(&place, &address).unwrap();
            }
        });
    }

    /// The owner of a directory above replaces the socket's directory while it is locked.
    #[test]
    fn moved_directory_fails_the_start() {
        let (directory, _) = place();
        let directory_path = directory.path().canonicalize().unwrap();
        let [here, away, other] = ["here", "away", "other"].map(|name| directory_path.join(name));
        for path in [&here, &other] {
            fs::create_dir(path).unwrap();
        }
        let path = here.join("socket");
        let uses = || {
            let descriptors = fs::read_dir("/proc/self/fd").unwrap();
            descriptors
                .filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == here))
                .count()
        };
        let lock = lock_directory(&Place::of(&path).unwrap()).unwrap();
        let before = uses();
        thread::scope(|scope| {
            let bound = scope.spawn(|| Listener::bind(&path, &Access::default()));
            while uses() < before + 2 {
                thread::yield_now();
            }
            fs::rename(&here, &away).unwrap();
            symlink(&other, &here).unwrap();
            drop(lock);
            let error = bound.join().unwrap().unwrap_err();
            assert!(matches!(error, ListenError::Path { doing: "cannot be examined", .. }), "{error}");
        });
        assert!(other.join("socket").exists() && !away.join("socket").exists());
    }

    #[test]
    fn file_that_is_no_socket_is_kept() {
        let (_directory, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        symlink("/nowhere", &path).unwrap();
        assert!(matches!(Listener::bind(&path, &Access::default()), Err(ListenError::NotASocket(_))));
    }

    #[test]
    fn only_own_socket_is_removed() {
        let (_directory, path) = place();
        let listener = Listener::bind(&path, &Access::default()).unwrap();
        fs::rename(&path, path.with_extension("old")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn only_abandoned_socket_is_removed() {
        let (_directory, path) = place();
        let first = UnixListener::bind(&path).unwrap();
        let file = SocketFile::of(&path).unwrap();
        file.remove_if_left_behind();
        assert!(path.exists(), "it is in use");
        drop(first);
        file.remove_if_left_behind();
        assert!(!path.exists());
        file.remove_if_left_behind();

        let lock = lock_directory(&Place::of(&path).unwrap()).unwrap();
        assert!(lock.1);
        drop(UnixListener::bind(&path).unwrap());
        SocketFile::of(&path).unwrap().remove_if_left_behind();
        assert!(path.exists(), "the directory is locked");
        drop(lock);
        let _successor = UnixListener::bind(path.with_extension("new")).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        file.remove_if_left_behind();
        assert!(path.exists(), "it is another socket");
    }

    #[test]
    fn unsuitable_activation_socket_is_refused() {
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
