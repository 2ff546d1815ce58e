//! The process at the other end of a connection.

use std::{fmt, io, num::NonZeroU64, os::fd::OwnedFd};

use nix::sys::socket::{
    getsockopt,
    sockopt::{PeerCredentials, PeerPidfd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// A client process, as the kernel noted it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Process number; 0 if the process is in another PID namespace, as in a container.
    pub pid: i32,
    /// User number.
    pub uid: u32,
    /// Number that no other process has or will have (the inode of its pidfd), if the kernel (6.9 or later) tells.
    pub process: Option<NonZeroU64>,
}

impl Peer {
    pub(crate) fn of(socket: &OwnedFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self { pid: credentials.pid(), uid: credentials.uid(), process: process_of(socket) })
    }
}

/// Kernels before 6.5 give no pidfd of a peer; those before 6.9 give all pidfds the same inode.
fn process_of(socket: &OwnedFd) -> Option<NonZeroU64> {
    /// `PID_FS_MAGIC` of `<linux/magic.h>`.
    const PIDFS: u64 = 0x5049_4446;
    let pidfd = getsockopt(socket, PeerPidfd).ok()?;
    let kind = rustix::fs::fstatfs(&pidfd).ok()?.f_type;
    if u64::try_from(kind) != Ok(PIDFS) {
        return None;
    }
    rustix::fs::fstat(&pidfd).ok().and_then(|stat| NonZeroU64::new(stat.st_ino))
}

/// Returns whether a client process has not ended. Processes that cannot be found out about count as running.
pub(crate) fn is_running(Peer { pid, process, .. }: Peer) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => return error != Errno::SRCH,
    };
    // Another process can have the number by now.
    let is_same = process
        .is_none_or(|number| rustix::fs::fstat(&pidfd).map_or(true, |stat| stat.st_ino == number.get()));
    // It is readable once the process has ended, even before its parent has waited for it.
    let mut events = [PollFd::new(&pidfd, PollFlags::IN)];
    is_same && rustix::event::poll(&mut events, Some(&Timespec::default())) != Ok(1)
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client pid {} uid {}", self.pid, self.uid)
    }
}

/// One client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// Number of the connection; no other connection of this server has it.
    pub connection: u64,
    /// The client process.
    pub peer: Peer,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

/// The owner of a quota. Processes of other PID namespaces all have number 0; where the kernel does not tell them apart,
/// each of their connections has a quota of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientProcess {
    Process(Peer),
    Connection(u64),
}

impl From<Client> for ClientProcess {
    fn from(Client { connection, peer }: Client) -> Self {
        let is_known = peer.pid != 0 || peer.process.is_some();
        if is_known { Self::Process(peer) } else { Self::Connection(connection) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::{UnixListener, UnixStream},
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    const SOCKET: &str = "PEER_TESTS_SOCKET";

    /// Not a test: the process that another test starts.
    #[test]
    #[ignore = "is started by another test"]
    fn listener() {
        let Some(path) = std::env::var_os(SOCKET) else { return };
        let _listener = UnixListener::bind(path).unwrap();
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn each_process_has_its_number() {
        let of_self = || process_of(&UnixStream::pair().unwrap().0.into());
        let Some(one) = of_self() else {
            eprintln!("this kernel (before 6.9) cannot tell");
            return;
        };
        assert_eq!(of_self(), Some(one));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer::tests::listener", "--ignored"])
            .env(SOCKET, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until the connection is accepted, its peer is the listener.
        let begun = Instant::now();
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let number = process_of(&socket.into());
        assert!(number.is_some_and(|number| number != one), "{number:?} {one}");
        let peer = |process| Peer { pid: other.id().try_into().unwrap(), uid: 0, process };
        let [known, unknown, reused] = [number, None, Some(one)].map(peer);
        assert!(is_running(known) && is_running(unknown));
        assert!(!is_running(reused), "another process had the number");
        other.kill().unwrap();
        while is_running(known) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it has ended, although nothing waited for it"
            );
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!is_running(unknown));
        other.wait().unwrap();
        assert!(!is_running(known) && !is_running(unknown));
    }

    #[test]
    fn unknown_processes_go_by_connection() {
        let process = |pid, process: Option<u64>, connection| {
            let peer = Peer { pid, uid: 107, process: process.and_then(NonZeroU64::new) };
            ClientProcess::from(Client { connection, peer })
        };
        assert_eq!(process(4711, None, 1), process(4711, None, 2));
        assert_ne!(process(0, None, 1), process(0, None, 2));
        assert_eq!(process(0, Some(4), 1), process(0, Some(4), 2));
        assert_ne!(process(0, Some(4), 1), process(0, Some(5), 1));
    }
}
