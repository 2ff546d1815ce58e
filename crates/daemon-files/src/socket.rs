//! A listening Unix stream socket: bound to a path here, or passed by systemd.

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

/// Length of the queue of clients that wait to be accepted, as far as the kernel allows it (`net.core.somaxconn`): enough for
/// a host that starts all its guests at once.
const BACKLOG: i32 = 4096;

/// Owner and permissions of a socket's file.
#[derive(Debug, Default)]
pub struct Access {
    /// Permission bits; `None` leaves 0777 less the umask.
    pub mode: Option<u32>,
    /// User number of the owner; `None` leaves the process's own.
    pub owner: Option<u32>,
    /// Group number; `None` leaves the process's own.
    pub group: Option<u32>,
    /// Clients have no descriptors to pass: messages with descriptors are refused, if the kernel (6.16) can do that.
    pub without_descriptors: bool,
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens there.
    #[error("{}: another process answers on this socket; stop it first, or choose another path", .0.display())]
    Live(PathBuf),
    /// Something else is there.
    #[error("{}: exists and is not a socket; it is left alone: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Another user interfered.
    #[error(
        "{}: the socket was replaced while it was made, or has got another mode from the directory's default ACL: its directory must be writable by root and the helper's user only",
        .0.display()
    )]
    Replaced(PathBuf),
    /// A system call failed.
    #[error("{}: {doing}", path.display())]
    Path {
        /// The socket's path.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The kernel's reason.
        #[source]
        error: io::Error,
    },
    /// The descriptor that systemd passed is of something else.
    #[error("socket activation: the descriptor passed is not a listening Unix stream socket")]
    Unsuitable,
    /// The descriptor that systemd passed cannot be used.
    #[error("socket activation: the descriptor passed cannot be used")]
    Activation(#[source] io::Error),
}

/// A listening socket. Dropped, it removes its file, if it made one.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    file: RemovedOnDrop,
}

/// The file of a socket, if it was made here; removed when this is dropped.
#[derive(Debug)]
struct RemovedOnDrop(Option<SocketFile>);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            file.remove();
        }
    }
}

/// The file of a socket: its place, and the inode that was there.
#[derive(Debug, Clone)]
pub struct SocketFile {
    place: Place,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens on `path`. Takes the place of a socket that no process listens on; of nothing else.
    ///
    /// The owner of the directory may replace the file at any time, also by a link to a file of root's. So mode and owner
    /// are never set by path: the file is created with its mode, and its owner is set by a descriptor, after a check that
    /// the descriptor is of the file that was created. No client can connect before all that is done.
    ///
    /// # Errors
    ///
    /// [`ListenError`]. The file is removed then.
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
        // No other file has this mode: it proves which is this process's, where other users can put such files in its place.
        let is_changed = access.owner.is_some() || access.group.is_some();
        let is_marked = is_changed && !place.is_trusted().map_err(failed("cannot examine its directory"))?;
        let mode = if is_marked { Some(0) } else { access.mode };
        bind_with_mode(&socket, &address, mode).map_err(|error| failed("cannot be bound")(error.into()))?;
        let file = SocketFile::at(&place).map_err(failed("cannot be examined"))?;
        // From here on the file is removed if anything fails.
        let listener = Self { socket, file: RemovedOnDrop(Some(file)) };
        give_access(&place, access, is_marked)?;
        if access.without_descriptors {
            // Before the first client: each connection inherits this. A kernel before 6.16 lacks it.
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

    /// Takes the socket that systemd passed, after making sure that it is a listening Unix stream socket.
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
    /// Returns the socket's file that is at `path` now.
    ///
    /// # Errors
    ///
    /// There is none, or it is not a socket.
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

    /// Returns the path that it was made at.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns whether it is still there, and still the same.
    pub fn is_there(&self) -> bool {
        self.place.stat().is_ok_and(|now| (now.st_dev, now.st_ino) == (self.device, self.inode))
    }

    /// Removes the file if no process listens on it any more.
    pub fn remove_if_left_behind(&self) {
        let is_abandoned = || -> io::Result<bool> {
            let address = SocketAddrUnix::new(self.path())?;
            Ok(matches!(try_to_connect(&address), Err(Errno::CONNREFUSED)))
        };
        // Without the lock it could be a new socket that is bound and about to listen.
        let Ok((_lock, true)) = lock_directory(&self.place) else { return };
        if is_abandoned().unwrap_or(false) {
            self.remove();
        }
    }

    /// Removes the file, if it is still the one that was made.
    pub fn remove(&self) {
        if !self.is_there() {
            log::debug!("{}: no longer ours, left alone", self.path().display());
        } else if let Err(error) = self.place.remove() {
            log::debug!("{}: cannot be removed: {error}", self.path().display());
        }
    }
}

fn is_socket(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
}

/// Binds a socket so that its file is made with this mode, or 0777 less the umask.
fn bind_with_mode(socket: &OwnedFd, address: &SocketAddrUnix, mode: Option<u32>) -> Result<(), Errno> {
    // bind(2) makes the file with the socket's own mode, less the umask.
    let _umask = match mode {
        Some(mode) => {
            rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?;
            Some(NoUmask::new())
        }
        None => None,
    };
    rustix::net::bind(socket, address)
}

/// Keeps the umask at 0. It is the whole process's: sockets are bound before there are other threads.
struct NoUmask {
    before: Mode,
    _lock: MutexGuard<'static, ()>,
}

impl NoUmask {
    fn new() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: rustix::process::umask(Mode::empty()), _lock: lock }
    }
}

impl Drop for NoUmask {
    fn drop(&mut self) {
        rustix::process::umask(self.before);
    }
}

/// Gives the socket that was bound at `place` its owner and group, and its mode where it was bound without access
/// (`is_marked`) or a default ACL of the directory has changed that.
fn give_access(place: &Place, access: &Access, is_marked: bool) -> Result<(), ListenError> {
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
    let ordered = access.mode.or_else(|| is_marked.then(|| 0o777 & !NoUmask::new().before.as_raw_mode()));
    let ordered = ordered.filter(|ordered| *ordered != mode);
    if owner.is_none() && group.is_none() && ordered.is_none() {
        return Ok(());
    }
    let own = rustix::process::geteuid();
    let is_owned = [Some(own), owner].contains(&Some(Uid::from_raw(stat.st_uid)));
    let is_known = if is_marked {
        mode == 0
    } else {
        place.is_trusted().map_err(|error| ListenError::Path {
            path: place.path().to_owned(),
            doing: "cannot examine its directory",
            error,
        })?
    };
    if !is_socket(&stat) || stat.st_nlink != 1 || !is_owned || !is_known {
        return Err(ListenError::Replaced(place.path().to_owned()));
    }
    if owner.is_some() || group.is_some() {
        rustix::fs::chownat(&socket, c"", owner, group, AtFlags::EMPTY_PATH)
            .map_err(failed("cannot change its owner"))?;
    }
    if let Some(mode) = ordered {
        // fchmod(2) does not take such a descriptor, and fchmodat2(2) is too new (6.6).
        let descriptor = format!("/proc/self/fd/{}", socket.as_raw_fd());
        rustix::fs::chmod(descriptor, Mode::from_raw_mode(mode)).map_err(failed("cannot change its mode"))?;
    }
    Ok(())
}

/// Locks the directory, so that of two helpers that start at once neither finds the other's socket dead. The lock is released
/// with the descriptor. Returns also whether the directory could be locked.
fn lock_directory(place: &Place) -> io::Result<(OwnedFd, bool)> {
    let descriptor = place.open_directory()?;
    // Any process can hold this lock for as long as it likes, so the wait is short.
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
            log::info!("{}: replacing a socket that nobody listens on", path.display());
            place.remove().map_err(failed("cannot be replaced"))
        }
        // A full queue belongs to a process that is slow to empty it, another kind of socket to another program.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(ListenError::Live(path.to_owned())),
        Err(error) => Err(failed("cannot tell whether it is in use")(error)),
    }
}

/// Finds out whether a process listens on a socket. It may see a client that sends nothing.
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
    fn a_socket_comes_and_goes_with_its_listener() {
        let (_directory, path) = place();
        let listener = Listener::bind(&path, &Access { mode: Some(0o640), ..Access::default() }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_umask_takes_nothing_from_an_ordered_mode() {
        let (_directory, path) = place();
        for mode in [0o600, 0o660, 0o666, 0o777, 0] {
            let _listener = Listener::bind(&path, &Access { mode: Some(mode), ..Access::default() }).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
    }

    /// Set when dropped, also by a panic.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `action` while the directory's owner replaces each socket at `path`, by `replace`.
    fn with_replacements(path: &Path, replace: impl Fn() + Sync, action: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = Over(&is_over);
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

    /// Setting mode and owner by path loses this race in less than a second.
    #[test]
    fn a_link_in_the_sockets_place_is_not_followed() {
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
        // To give a file away takes root.
        let other = rustix::process::geteuid().is_root().then_some(12_345);
        let access = Access { mode: Some(0o606), owner: other, group: other, ..Access::default() };
        let soft = || {
            let _ = symlink(&file, &link);
            let _ = fs::rename(&link, &path);
        };
        // The second name goes at once: a count of names does not tell.
        let hard = || {
            let _ = fs::hard_link(&socket, &link);
            let _ = fs::rename(&link, &path);
            let _ = fs::remove_file(&path);
        };
        for replace in [&soft as &(dyn Fn() + Sync), &hard] {
            let begun = Instant::now();
            with_replacements(&path, replace, || {
                while begun.elapsed() < Duration::from_secs(2) {
                    // An error if the socket was replaced in time.
                    let listener = Listener::bind(&path, &access);
                    assert_eq!(state(), before);
                    drop(listener);
                    let _ = fs::remove_file(&path);
                }
            });
        }
    }

    #[test]
    fn only_an_own_socket_with_one_name_is_given_away() {
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
        assert!(refuses(), "perhaps another's");
        assert!(matches!(give_access(&file, &access, true), Err(ListenError::Replaced(_))), "another's");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
        give_access(&file, &access, true).unwrap();
        assert_eq!(modes(), 0o606, "by descriptor");
    }

    #[test]
    fn a_replaced_directory_keeps_its_files() {
        let (directory, path) = place();
        let [here, away] = ["here", "away"].map(|name| directory.path().join(name));
        fs::create_dir(&here).unwrap();
        let listener = Listener::bind(&here.join("socket"), &Access::default()).unwrap();
        fs::rename(&here, &away).unwrap();
        symlink(directory.path(), &here).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists(), "another's, of the same name");
        assert!(!away.join("socket").exists());
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
        symlink("/nowhere", &path).unwrap();
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
