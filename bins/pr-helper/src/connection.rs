//! One client: its socket, who it is, its session, and the commands that it sends.

use std::{
    fmt,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    getsockopt,
    sockopt::{PeerCredentials, PeerPidfd},
};
use pr_proto::{HelperSession, Violation};
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, sockopt::Timeout},
};
use scsi_sense::{Cdb, SenseCode, opcode::PERSISTENT_RESERVE_OUT};

use crate::{
    activity::Activity,
    backend::{Backends, Outcome, Target},
    device::{self, Device, Kind, Refusal},
    metrics::Metrics,
    trace::{Record, Tracer},
};

/// The kernel passes at most so many descriptors at once (`SCM_MAX_FD`). With room for all of them none is ever cut
/// off, which would leak those that were already installed.
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// A few replies. Whoever leaves more unread is not waiting for them.
const SEND_BUFFER: usize = 32 << 10;

/// How many different warnings a connection is good for.
const WARNINGS_MAX: usize = 16;

/// How long a thread waits for its client, if it may stay: long enough for one that sends its next command when it has its
/// answer, has a virtual machine to run in between, and shares its processor with hundreds of its kind.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);

/// How long a message may take from its first byte to its last.
pub(crate) const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);

/// Who is at the other end, as the kernel noted it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    /// 0 if it is of another PID namespace, as in a container.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    /// Which of all that have or had that number, if the kernel can tell.
    pub(crate) process: Option<NonZeroU64>,
}

impl Peer {
    fn of(socket: &OwnedFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self { pid: credentials.pid(), uid: credentials.uid(), process: process_of(socket) })
    }
}

/// A number that no other process has or will have: the inode of its pidfd. Kernels before 6.5 give no pidfd of a peer, those
/// before 6.9 give all the same inode.
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

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client pid {} uid {}", self.pid, self.uid)
    }
}

/// One client's connection.
pub(crate) struct Connection {
    /// Shared with nobody who keeps it: see [`Connection::handle`].
    socket: Arc<OwnedFd>,
    activity: Arc<Activity>,
    /// By which of the listening sockets it came.
    listener: usize,
    session: HelperSession<OwnedFd>,
    /// When the message at hand began, if one is at hand.
    began: Option<Instant>,
    /// When the last answer was sent.
    answered: Option<Instant>,
    /// What has been warned of: why, opcode and service action. A guest that repeats itself must not fill the log.
    warned: Vec<(Outcome, [u8; 2])>,
}

/// What came of reading.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing more is there now.
    Blocked,
    /// A request waits for its answer.
    Request,
    /// The client has gone, between two messages, and nothing is left of what it sent.
    Ended,
    /// The client has gone. What it sent may hold descriptors.
    Reset,
    /// The connection is of no more use.
    Failed(Fault),
}

/// Why a connection is closed by us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("stayed in the middle of a message for {} seconds", MESSAGE_DEADLINE.as_secs())]
    Deadline,
    #[error("does not read its replies")]
    Unread,
    #[error(
        "sent a descriptor that could not be received: this process is at its limit of open files (RLIMIT_NOFILE), or a security module forbids it"
    )]
    DescriptorLost,
    #[error("its process has more connections than are left for all others (--max-clients)")]
    TooMany,
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

/// Where a thread keeps the descriptors of a message while it looks at them.
#[derive(Default)]
pub(crate) struct Scratch {
    descriptors: Vec<OwnedFd>,
}

impl Scratch {
    /// Takes out what is left of a message that was refused.
    pub(crate) fn take(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

impl Connection {
    /// Takes a new client's socket, which came by this listening socket, and greets.
    pub(crate) fn new(socket: OwnedFd, listener: usize) -> io::Result<Self> {
        let peer = Peer::of(&socket)?;
        // What the kernel holds for a client is bounded, and no reply is ever sent in part.
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        // A byte out of band is read like any other. Else the kernel drops it where it is skipped, in the middle of a read, and
        // with it a descriptor whose close may block.
        rustix::net::sockopt::set_socket_oobinline(&socket, true)?;
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(MOMENT))?;
        let session = HelperSession::new();
        // A client that has gone already is noticed at the first read, on a thread that may close its socket.
        let _ = rustix::net::send(&socket, &session.greeting(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let activity = Arc::new(Activity::new(peer));
        Ok(Self {
            socket: Arc::new(socket),
            activity,
            listener,
            session,
            began: None,
            answered: None,
            warned: Vec::new(),
        })
    }

    pub(crate) fn socket(&self) -> impl AsFd + '_ {
        &self.socket
    }

    /// A handle by which the connection can be [ended](end) from elsewhere. It does not keep the socket open.
    pub(crate) fn handle(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.socket)
    }

    pub(crate) fn peer(&self) -> Peer {
        self.activity.peer
    }

    /// What the client has us do, for those who watch.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Whether a message has begun and not come to its end.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.began.is_some()
    }

    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= MESSAGE_DEADLINE)
    }

    /// Whether the client has closed its socket: then nobody waits for an answer. (One that has only said that it sends
    /// no more still reads.)
    pub(crate) fn is_abandoned(&self) -> bool {
        let mut events = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::empty())];
        let gone = PollFlags::HUP | PollFlags::ERR;
        rustix::event::poll(&mut events, Some(&rustix::event::Timespec::default())).is_ok()
            && events.iter().any(|event| event.revents().intersects(gone))
    }

    /// Whether the waiting request may have been here for long before it was read, as after a process was stopped. One that
    /// follows an answer cannot be older than that.
    pub(crate) fn may_be_old(&self) -> bool {
        const LONG: Duration = Duration::from_secs(1);
        self.answered.is_none_or(|answered| answered.elapsed() >= LONG)
    }

    /// Reads until there is a request, or nothing more to read: also not after a [`MOMENT`], or two, if it
    /// `may_wait` for that.
    ///
    /// Descriptors that do not belong stay in `scratch`: closing one may block.
    pub(crate) fn read(&mut self, may_wait: bool, scratch: &mut Scratch) -> Read {
        // Once for a message to begin and once for its end: who sends byte by byte is not waited for.
        let mut waits = if may_wait { 2_u8 } else { 0 };
        loop {
            let flags = if waits > 0 { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            waits = waits.saturating_sub(1);
            let (n, truncated) = match self.receive(flags, &mut scratch.descriptors) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Read::Blocked,
                Err(Errno::CONNRESET) => return Read::Reset,
                Err(error) => return Read::Failed(Fault::Io(error.into())),
            };
            if truncated {
                return Read::Failed(Fault::DescriptorLost);
            }
            if n == 0 {
                return match self.session.end_of_stream() {
                    Ok(()) => Read::Ended,
                    Err(violation) => Read::Failed(violation.into()),
                };
            }
            if let Err(violation) = self.session.received(n, &mut scratch.descriptors) {
                return Read::Failed(violation.into());
            }
            if !self.session.is_inside_message() {
                self.began = None;
            } else if self.began.is_none() {
                self.began = Some(Instant::now());
            }
            if self.session.request().is_some() {
                return Read::Request;
            }
        }
    }

    fn receive(&mut self, flags: RecvFlags, descriptors: &mut Vec<OwnedFd>) -> Result<(usize, bool), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [IoSliceMut::new(self.session.buffer())];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, &mut buffer, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                descriptors.extend(came);
            }
        }
        Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
    }

    /// What device the waiting request is for, if one of the `backends` serves it.
    pub(crate) fn target(&mut self, backends: &Backends) -> Result<Device, Refusal> {
        let request = self.session.request();
        let descriptor = request.as_ref().and_then(|request| request.descriptor());
        // A request that waits has one.
        let descriptor = descriptor.ok_or(Refusal::NotADevice("client without a request"))?;
        backends.identify(descriptor.as_fd())
    }

    /// The CDB of the waiting request.
    pub(crate) fn cdb(&mut self) -> Option<[u8; 10]> {
        self.session.request().map(|request| request.cdb())
    }

    /// Whether the waiting request changes something.
    pub(crate) fn is_change(&mut self) -> bool {
        self.cdb().is_some_and(|[opcode, ..]| opcode == PERSISTENT_RESERVE_OUT)
    }

    /// Runs the waiting request on `target`, closes its descriptor, and replies.
    ///
    /// A request without a target is refused, which cannot block. Its descriptor, whose close can, is returned; so is that of
    /// a file.
    pub(crate) fn answer(
        &mut self,
        target: Result<Device, Refusal>,
        backends: &Backends,
        metrics: &Metrics,
        tracer: &Tracer,
    ) -> (Result<(), Fault>, Option<OwnedFd>) {
        let mut kept = None;
        let Some(request) = self.session.request() else { return (Ok(()), kept) };
        let cdb = request.cdb();
        let begun = Instant::now();
        let mut outcome = Outcome::Rejected(SenseCode::IO_PROCESS_TERMINATED);
        let mut sense_seen = [0; pr_proto::SENSE_LEN];
        let listener = self.listener;
        let running = self.activity.begin(target.ok().map(|device| device.id), cdb, begun);
        let reply = request.answer(|mut command, descriptor| {
            outcome = execute(target, listener, &mut command, &descriptor, backends);
            match target {
                // A file may be of a file system in user space, and then its close lasts as long as that likes.
                Ok(Device { kind: Kind::File, .. }) | Err(_) => kept = Some(descriptor),
                // Before the reply: once the client has its answer, nothing of its own is held here.
                Ok(_) => drop(descriptor),
            }
            let completion = outcome.completion(command.sense);
            if tracer.wants_commands() {
                sense_seen.copy_from_slice(command.sense);
            }
            completion
        });
        // Before the reply, too: who has it finds the command counted and ended.
        drop(running);
        let ended = Instant::now();
        let elapsed = ended.saturating_duration_since(begun);
        self.answered = Some(ended);
        metrics.command(cdb, outcome, elapsed);
        let sent = rustix::net::send(&self.socket, reply, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let whole = reply.len();

        tracer.command(&Record {
            peer: self.peer(),
            target,
            cdb: &cdb,
            outcome,
            sense: &sense_seen,
            elapsed,
        });
        self.report(target, &cdb, outcome);
        let result = match sent {
            Ok(n) if n == whole => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(Fault::Unread),
            // The client did not wait. There is nobody to tell, and the next read says that it has gone.
            Err(Errno::PIPE | Errno::CONNRESET) => {
                self.answered = None;
                Ok(())
            }
            Err(error) => Err(Fault::Io(error.into())),
        };
        (result, kept)
    }

    /// Logs what an operator should know of an outcome; once, if the client goes on and on.
    fn report(&mut self, target: Result<Device, Refusal>, cdb: &[u8], outcome: Outcome) {
        let subject = (outcome, cdb.first_chunk().copied().unwrap_or_default());
        let level = match outcome {
            Outcome::Device { .. } | Outcome::Rejected(_) => log::Level::Debug,
            _ if self.warned.len() >= WARNINGS_MAX || self.warned.contains(&subject) => log::Level::Debug,
            Outcome::Failed { .. } | Outcome::Refused(_) => log::Level::Warn,
        };
        if level == log::Level::Warn {
            self.warned.push(subject);
        }
        if !log::log_enabled!(level) {
            return;
        }
        let (peer, command) = (self.peer(), CommandName(cdb));
        match (outcome, target) {
            (Outcome::Refused(refusal), _) => log::log!(level, "{peer}: refused {command}: {refusal}"),
            (Outcome::Failed { status, sense, cause }, Ok(Device { id, .. })) => {
                let answer = sense.map_or_else(|| status.to_string(), |code| code.to_string());
                log::log!(level, "{peer}: {id} did not answer {command}: {cause}; reported as {answer}");
            }
            (Outcome::Device { status, .. }, Ok(Device { id, .. })) => {
                log::log!(level, "{peer}: {id}: {command}: {status}");
            }
            (Outcome::Rejected(code), _) => log::log!(level, "{peer}: rejected {command}: {code}"),
            // Only a refusal has no device.
            (Outcome::Failed { .. } | Outcome::Device { .. }, Err(refusal)) => {
                log::log!(level, "{peer}: {command}: {refusal}");
            }
        }
    }
}

/// Ends a connection for its client, without closing anything here. Never blocks.
pub(crate) fn end(socket: &Weak<OwnedFd>) {
    if let Some(socket) = socket.upgrade() {
        shut_down(&socket);
    }
}

/// The same at the end of the process, by one who does not have the connection: a thread that does may drop it meanwhile, and to
/// let go of the last handle would close the socket.
pub(crate) fn end_at_last(socket: &Weak<OwnedFd>) {
    if let Some(socket) = socket.upgrade() {
        shut_down(&socket);
        std::mem::forget(socket);
    }
}

fn shut_down(socket: &OwnedFd) {
    // A client that has gone needs no end.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

fn execute(
    target: Result<Device, Refusal>,
    listener: usize,
    command: &mut pr_proto::Command<'_>,
    descriptor: &OwnedFd,
    backends: &Backends,
) -> Outcome {
    let device = match target {
        Ok(device) => device,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    let is_change = matches!(command.data, pr_proto::Data::Out(_));
    // A disk that was opened as a path only, the kernel refuses. For the others it is not asked.
    if is_change || device.kind != Kind::Scsi {
        match device::is_writable(descriptor.as_fd()) {
            Ok(is_writable) if is_writable || !is_change => {}
            Ok(_) => return Outcome::Rejected(SenseCode::INVALID_OPCODE),
            Err(refusal) => return Outcome::Refused(refusal),
        }
    }
    if command.parameters_too_short() {
        return Outcome::Rejected(SenseCode::PARAMETER_LIST_LENGTH_ERROR);
    }
    backends.execute(Target { descriptor: descriptor.as_fd(), device, listener }, command)
}

/// A command by its name.
pub(crate) struct CommandName<'a>(pub(crate) &'a [u8]);

impl fmt::Display for CommandName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Cdb::new(self.0) {
            Ok(cdb) => cdb.fmt(f),
            Err(_) => write!(f, "{:02X?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::{UnixListener, UnixStream},
        process::{Command, Stdio},
        thread,
    };

    use super::*;

    const SOCKET: &str = "CONNECTION_TESTS_SOCKET";

    /// Not a test: the process that another test starts.
    #[test]
    #[ignore = "is started by another test"]
    fn listener() {
        let Some(path) = std::env::var_os(SOCKET) else { return };
        let _listener = UnixListener::bind(path).unwrap();
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_process_has_one_number_and_another_has_another() {
        let of_self = || process_of(&UnixStream::pair().unwrap().0.into());
        let Some(one) = of_self() else {
            eprintln!("this kernel (before 6.9) cannot tell");
            return;
        };
        assert_eq!(of_self(), Some(one));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "connection::tests::listener", "--ignored"])
            .env(SOCKET, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it is accepted, the peer is who listens.
        let begun = Instant::now();
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let number = process_of(&socket.into());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(number.is_some_and(|number| number != one), "{number:?} {one}");
    }
}
