//! One connection for a program with an event loop of its own: nothing here waits.
//!
//! A [`Connection`] has a descriptor to watch and a state. [`advance`](Connection::advance) does what can be done now
//! and says what to do next; call it after [`connect`](Connection::connect), after each command begun, and whenever
//! the descriptor is ready as [`interest`](Connection::interest) says. It goes on until the socket has no more to give
//! or to take, so edge-triggered notification will do. `examples/mio.rs` is a whole program.
//!
//! ```no_run
//! use std::fs::File;
//! use pr_client::nonblocking::{Connection, Step};
//!
//! let disk = File::open("/dev/sdb")?;
//! let mut connection = Connection::connect("/run/pr-helper.sock")?;
//! loop {
//!     match connection.advance()? {
//!         Step::Wait(_interest) => { /* wait until connection.as_fd() is readable or writable */ }
//!         Step::Ready => connection.read(&disk, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 128, 0])?,
//!         Step::Answered(response) => break println!("{}: {:02x?}", response.status, response.payload),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When to reconnect, and when not to
//!
//! After an error the connection is of no more use ([`Error::Command`] is the exception: nothing has happened). As long
//! as the command cannot have run ([`Error::may_have_run`]), open a new connection and begin it there, as often and
//! with what pauses you like. If it may have, never send it again: answer the guest with the error's
//! [sense code](Error::sense_code), and open a new connection for the next command.
//!
//! Deadlines are yours: when one passes, drop the connection. An answer that comes later then has nowhere to go.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use pr_proto::{ClientSession, InvalidCommand};
use rustix::io::Errno;

pub use crate::socket::Interest;
pub use pr_proto::Response;

use crate::{Error, deadline::Deadline, socket};

/// A connection to a helper: one command at a time.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// The socket's path, for errors.
    path: Option<PathBuf>,
    session: ClientSession,
    outgoing: Outgoing,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Neither side's greeting is through.
    Greeting,
    /// Ours is on its way, or gone.
    Greeted,
    /// A command was begun and is not answered.
    Command,
    /// The response can be had.
    Answered,
    /// Something has failed.
    Closed,
}

/// What is to be sent, or was.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// The descriptor that goes with the first byte, if that could not be sent at once.
    device: Option<OwnedFd>,
}

/// How far [`Connection::proceed`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Ready,
    Answered,
}

/// What to do next.
#[derive(Debug)]
#[must_use = "it says when to call again"]
pub enum Step<'a> {
    /// Call again when the descriptor is ready for this.
    Wait(Interest),
    /// A command may begin. Watch the descriptor all the same: it tells when the helper goes away.
    Ready,
    /// The command under way is answered, which is told once; the next one may begin.
    Answered(Response<'a>),
}

impl Connection {
    /// Connects to the helper that listens at `path`, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]. Its source is of kind `WouldBlock` if the helper's queue of connections is full; there
    /// is nothing to watch then, only to try again later.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        socket::connect_now(path)
            .map(|socket| Self::new(socket, Some(path.to_owned())))
            .map_err(|source| Error::Unreachable { path: Some(path.to_owned()), source })
    }

    /// Connects, and greets, until the deadline.
    pub(crate) fn connect_until(path: &Path, deadline: Deadline) -> Result<Self, Error> {
        let socket = socket::connect(path, deadline)
            .map_err(|source| Error::Unreachable { path: Some(path.to_owned()), source })?;
        let mut connection = Self::new(socket, Some(path.to_owned()));
        connection.greet(deadline)?;
        Ok(connection)
    }

    /// A connection that somebody else has made, for a process that may not: fresh, without a byte sent or received.
    pub fn from_stream(stream: UnixStream) -> Self {
        Self::new(stream.into(), None)
    }

    fn new(socket: OwnedFd, path: Option<PathBuf>) -> Self {
        let (session, outgoing) = (ClientSession::new(), Outgoing::default());
        Self { socket, path, session, outgoing, phase: Phase::Greeting }
    }

    /// What to watch the descriptor for until the next [`advance`](Self::advance).
    pub fn interest(&self) -> Interest {
        if self.outgoing.rest().is_empty() { Interest::Read } else { Interest::Write }
    }

    /// Does what can be done without waiting.
    ///
    /// # Errors
    ///
    /// The connection is of no more use. [`Error::Unreachable`] as long as not a byte of a command was sent; after
    /// that [`Error::Lost`] or [`Error::Protocol`]. [`Error::Send`] if the kernel does not pass the descriptor on.
    pub fn advance(&mut self) -> Result<Step<'_>, Error> {
        match self.proceed() {
            Ok(Progress::Waiting) => Ok(Step::Wait(self.interest())),
            Ok(Progress::Ready) => Ok(Step::Ready),
            Ok(Progress::Answered) => Ok(self.session.response().map_or(Step::Ready, Step::Answered)),
            Err(error) => Err(self.close(error)),
        }
    }

    /// Begins a PERSISTENT RESERVE IN command on `device`. The kernel gives the helper a descriptor of its own:
    /// `device` may be closed at any time.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if the protocol does not carry it, the greeting is not through, or another command is under
    /// way: nothing has happened. Others as from [`advance`](Self::advance).
    pub fn read(&mut self, device: impl AsFd, cdb: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        let request = self.session.read(cdb).map_err(Error::Command)?;
        self.begin(device.as_fd(), &[&request])
    }

    /// Begins a PERSISTENT RESERVE OUT command on `device`, which is to be open for writing.
    ///
    /// # Errors
    ///
    /// As from [`read`](Self::read).
    pub fn write(&mut self, device: impl AsFd, cdb: &[u8], parameters: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        let request = self.session.write(cdb, parameters).map_err(Error::Command)?;
        self.begin(device.as_fd(), &[&request, parameters])
    }

    /// The answer to the last command, if it is there, until the next one begins.
    pub fn response(&self) -> Option<Response<'_>> {
        self.session.response()
    }

    /// Waits until the greeting is through. When the deadline has passed, the connection is closed.
    fn greet(&mut self, deadline: Deadline) -> Result<(), Error> {
        while let Step::Wait(interest) = self.advance()? {
            self.wait(interest, deadline)?;
        }
        Ok(())
    }

    /// Waits until the command under way is answered. When the deadline has passed, the connection is closed.
    pub(crate) fn finish(&mut self, deadline: Deadline) -> Result<Response<'_>, Error> {
        while let Step::Wait(interest) = self.advance()? {
            self.wait(interest, deadline)?;
        }
        self.session.response().ok_or(Error::Command(InvalidCommand::NotReady))
    }

    fn wait(&mut self, interest: Interest, deadline: Deadline) -> Result<(), Error> {
        let error = match socket::wait(&self.socket, interest, deadline) {
            Ok(true) => return Ok(()),
            Ok(false) if self.may_have_run() => Error::TimedOut,
            Ok(false) => self.unreachable(io::ErrorKind::TimedOut.into()),
            Err(error) => self.failed(error),
        };
        Err(self.close(error))
    }

    /// Sends as much of a command as there is room for.
    fn begin(&mut self, device: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<(), Error> {
        let begun = self.check_quiet().and_then(|()| {
            self.phase = Phase::Command;
            self.outgoing.put(parts);
            self.send_first(device)
        });
        begun.map_err(|error| self.close(error))
    }

    /// An answer to nothing would be taken for the answer to the command that is about to begin.
    fn check_quiet(&self) -> Result<(), Error> {
        let found = match socket::peek(&self.socket) {
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => error.into(),
            Ok(0) => end_of_stream(),
            Ok(_) => {
                io::Error::new(io::ErrorKind::InvalidData, "the helper said something without being asked")
            }
        };
        Err(self.unreachable(found))
    }

    /// Sends the first byte of a command and what more there is room for. If there is none, keeps the descriptor.
    fn send_first(&mut self, device: BorrowedFd<'_>) -> Result<(), Error> {
        match socket::send(&self.socket, self.outgoing.rest(), Some(device)) {
            Ok(n) => self.outgoing.sent(n),
            Err(Errno::AGAIN) => {
                let kept = device.try_clone_to_owned().map_err(Error::Send)?;
                self.outgoing.device = Some(kept);
            }
            Err(error) => return Err(self.not_taken(error)),
        }
        Ok(())
    }

    fn proceed(&mut self) -> Result<Progress, Error> {
        loop {
            self.check_open()?;
            if !self.flush()? {
                return Ok(Progress::Waiting);
            }
            if self.phase == Phase::Command && self.session.response().is_some() {
                // Whatever comes behind an answer, be it the end of the stream, does not make it less of one.
                self.phase = Phase::Answered;
                return Ok(Progress::Answered);
            }
            let buffer = self.session.buffer();
            if buffer.is_empty() {
                self.check_quiet()?;
                return Ok(Progress::Ready);
            }
            match socket::receive(&self.socket, buffer) {
                Ok(0) => return Err(self.failed(end_of_stream())),
                Ok(n) => self.session.received(n).map_err(Error::Protocol)?,
                Err(Errno::AGAIN) => return Ok(Progress::Waiting),
                Err(error) => return Err(self.failed(error.into())),
            }
            if let (Phase::Greeting, Some(greeting)) = (self.phase, self.session.greeting()) {
                self.phase = Phase::Greeted;
                self.outgoing.put(&[&greeting]);
            }
        }
    }

    /// Sends what is to be sent. False: there is no room for all of it.
    fn flush(&mut self) -> Result<bool, Error> {
        while !self.outgoing.rest().is_empty() {
            let device = self.outgoing.device.as_ref().map(AsFd::as_fd);
            match socket::send(&self.socket, self.outgoing.rest(), device) {
                Ok(n) => self.outgoing.sent(n),
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(self.not_taken(error)),
            }
        }
        Ok(true)
    }

    /// What is to be sent before a command must be gone.
    fn check_idle(&self) -> Result<(), Error> {
        self.check_open()?;
        if self.outgoing.rest().is_empty() { Ok(()) } else { Err(Error::Command(InvalidCommand::NotReady)) }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.phase == Phase::Closed {
            Err(self.unreachable(io::ErrorKind::NotConnected.into()))
        } else {
            Ok(())
        }
    }

    fn close(&mut self, error: Error) -> Error {
        self.phase = Phase::Closed;
        self.outgoing = Outgoing::default();
        error
    }

    fn unreachable(&self, source: io::Error) -> Error {
        Error::Unreachable { path: self.path.clone(), source }
    }

    /// Whether a byte of the command under way was sent.
    fn may_have_run(&self) -> bool {
        self.phase == Phase::Command && self.outgoing.sent > 0
    }

    /// What a failed connection means for the command under way, if one is.
    fn failed(&self, error: io::Error) -> Error {
        if self.may_have_run() { Error::Lost(error) } else { self.unreachable(error) }
    }

    /// What it means that the kernel did not take the bytes at hand.
    fn not_taken(&self, error: Errno) -> Error {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => self.failed(error.into()),
            _ if self.phase == Phase::Command && !self.may_have_run() => Error::Send(error.into()),
            _ => self.failed(error.into()),
        }
    }
}

fn end_of_stream() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the helper closed the connection")
}

impl Outgoing {
    fn put(&mut self, parts: &[&[u8]]) {
        self.bytes.clear();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.sent = 0;
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The kernel has taken `n` bytes, and with the first one the descriptor.
    fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n);
        self.device = None;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
