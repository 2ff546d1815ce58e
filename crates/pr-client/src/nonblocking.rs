//! One connection for a program with its own event loop: no function here blocks.
//!
//! A [`Connection`] has a descriptor to poll and a state. [`advance`](Connection::advance) does all that is possible
//! without blocking and returns the next step. Call it after [`connect`](Connection::connect), after beginning a
//! command, and whenever the descriptor is ready for [`interest`](Connection::interest). It continues until the socket
//! would block, so edge-triggered notification is enough. `examples/mio.rs` is a complete program.
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
//! # Reconnecting
//!
//! After an error the connection is unusable (except after [`Error::Command`]: nothing has happened). If the command
//! cannot have run ([`Error::may_have_run`]), open a new connection and begin it there, as often and with such pauses
//! as you like. If it may have run, never send it again: answer the guest with the error's [sense
//! code](Error::sense_code), and open a new connection for the next command.
//!
//! The caller must enforce deadlines: when one passes, drop the connection, so that a late answer cannot be received.

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
    /// The helper's greeting is not complete.
    Greeting,
    /// The helper's greeting is complete; the client's is being sent, or was sent.
    Greeted,
    /// A command was begun and is not answered.
    Command,
    /// The response is complete.
    Answered,
    /// The connection has failed.
    Closed,
}

/// The message being sent, or sent last.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// A copy of the device's descriptor, kept until the first byte can be sent, if it could not be sent at once.
    device: Option<OwnedFd>,
}

/// The result of [`Connection::proceed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Ready,
    Answered,
}

/// The next step.
#[derive(Debug)]
#[must_use = "it says when to call again"]
pub enum Step<'a> {
    /// Call again when the descriptor is ready for this.
    Wait(Interest),
    /// A command may begin. Poll the descriptor nevertheless: it becomes readable when the helper disconnects.
    Ready,
    /// The command in flight is answered; this is returned once. The next command may begin.
    Answered(Response<'a>),
}

impl Connection {
    /// Connects to the helper's socket at `path`, without blocking.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]. Its source is of kind `WouldBlock` if the helper's queue of connections is full; there
    /// is no descriptor to poll then: try again later.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        socket::connect_now(path)
            .map(|socket| Self::new(socket, Some(path.to_owned())))
            .map_err(|source| Error::Unreachable { path: Some(path.to_owned()), source })
    }

    /// Connects and exchanges greetings, blocking until the deadline at most.
    pub(crate) fn connect_until(path: &Path, deadline: Deadline) -> Result<Self, Error> {
        let socket = socket::connect(path, deadline)
            .map_err(|source| Error::Unreachable { path: Some(path.to_owned()), source })?;
        let mut connection = Self::new(socket, Some(path.to_owned()));
        connection.greet(deadline)?;
        Ok(connection)
    }

    /// Uses a connection made by another process, if this one may not connect. No byte may have been sent or received
    /// on it.
    pub fn from_stream(stream: UnixStream) -> Self {
        Self::new(stream.into(), None)
    }

    fn new(socket: OwnedFd, path: Option<PathBuf>) -> Self {
        let (session, outgoing) = (ClientSession::new(), Outgoing::default());
        Self { socket, path, session, outgoing, phase: Phase::Greeting }
    }

    /// Returns what to poll the descriptor for until the next [`advance`](Self::advance).
    pub fn interest(&self) -> Interest {
        if self.outgoing.unsent().is_empty() { Interest::Read } else { Interest::Write }
    }

    /// Sends and receives all that is possible without blocking.
    ///
    /// # Errors
    ///
    /// The connection is unusable. [`Error::Unreachable`] if no byte of a command was sent; otherwise [`Error::Lost`]
    /// or [`Error::Protocol`]. [`Error::Send`] if the kernel does not pass the descriptor.
    pub fn advance(&mut self) -> Result<Step<'_>, Error> {
        match self.proceed() {
            Ok(Progress::Waiting) => Ok(Step::Wait(self.interest())),
            Ok(Progress::Ready) => Ok(Step::Ready),
            Ok(Progress::Answered) => Ok(self.session.response().map_or(Step::Ready, Step::Answered)),
            Err(error) => Err(self.close(error)),
        }
    }

    /// Begins a PERSISTENT RESERVE IN command on `device`. The kernel duplicates the descriptor for the helper:
    /// `device` may be closed at any time.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if the protocol does not carry the command, the greetings are not complete, or another
    /// command is in flight: nothing has happened. Others as from [`advance`](Self::advance).
    pub fn read(&mut self, device: impl AsFd, cdb: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        let request = self.session.read(cdb).map_err(Error::Command)?;
        self.begin(device.as_fd(), &[&request])
    }

    /// Begins a PERSISTENT RESERVE OUT command on `device`, which must be open for writing.
    ///
    /// # Errors
    ///
    /// As from [`read`](Self::read).
    pub fn write(&mut self, device: impl AsFd, cdb: &[u8], parameters: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        let request = self.session.write(cdb, parameters).map_err(Error::Command)?;
        self.begin(device.as_fd(), &[&request, parameters])
    }

    /// Returns the answer to the last command once it is complete, until the next command begins.
    pub fn response(&self) -> Option<Response<'_>> {
        self.session.response()
    }

    /// Blocks until the greetings are complete. Closes the connection if the deadline passes.
    fn greet(&mut self, deadline: Deadline) -> Result<(), Error> {
        while let Step::Wait(interest) = self.advance()? {
            self.wait(interest, deadline)?;
        }
        Ok(())
    }

    /// Blocks until the command in flight is answered. Closes the connection if the deadline passes.
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
            Err(error) => self.connection_error(error),
        };
        Err(self.close(error))
    }

    /// Sends as much of a command as fits into the socket.
    fn begin(&mut self, device: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<(), Error> {
        let begun = self.check_no_data().and_then(|()| {
            self.phase = Phase::Command;
            self.outgoing.put(parts);
            self.send_first(device)
        });
        begun.map_err(|error| self.close(error))
    }

    /// Checks that no data is pending: it would be taken for the answer to the command that is about to begin.
    fn check_no_data(&self) -> Result<(), Error> {
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

    /// Sends the first byte of a command with the descriptor, and as much more as fits. If nothing fits, keeps a copy
    /// of the descriptor.
    fn send_first(&mut self, device: BorrowedFd<'_>) -> Result<(), Error> {
        match socket::send(&self.socket, self.outgoing.unsent(), Some(device)) {
            Ok(n) => self.outgoing.sent(n),
            Err(Errno::AGAIN) => {
                let kept = device.try_clone_to_owned().map_err(Error::Send)?;
                self.outgoing.device = Some(kept);
            }
            Err(error) => return Err(self.send_error(error)),
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
                // A complete answer is valid whatever follows it, even the end of the stream.
                self.phase = Phase::Answered;
                return Ok(Progress::Answered);
            }
            let buffer = self.session.buffer();
            if buffer.is_empty() {
                self.check_no_data()?;
                return Ok(Progress::Ready);
            }
            match socket::receive(&self.socket, buffer) {
                Ok(0) => return Err(self.connection_error(end_of_stream())),
                Ok(n) => self.session.received(n).map_err(Error::Protocol)?,
                Err(Errno::AGAIN) => return Ok(Progress::Waiting),
                Err(error) => return Err(self.connection_error(error.into())),
            }
            if let (Phase::Greeting, Some(greeting)) = (self.phase, self.session.greeting()) {
                self.phase = Phase::Greeted;
                self.outgoing.put(&[&greeting]);
            }
        }
    }

    /// Sends the outgoing message. Returns false if the socket is full before all of it is sent.
    fn flush(&mut self) -> Result<bool, Error> {
        while !self.outgoing.unsent().is_empty() {
            let device = self.outgoing.device.as_ref().map(AsFd::as_fd);
            match socket::send(&self.socket, self.outgoing.unsent(), device) {
                Ok(n) => self.outgoing.sent(n),
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(self.send_error(error)),
            }
        }
        Ok(true)
    }

    /// Checks that the connection is open and that the greeting was sent whole.
    fn check_idle(&self) -> Result<(), Error> {
        self.check_open()?;
        if self.outgoing.unsent().is_empty() { Ok(()) } else { Err(Error::Command(InvalidCommand::NotReady)) }
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

    /// Returns whether a byte of the command in flight was sent.
    fn may_have_run(&self) -> bool {
        self.phase == Phase::Command && self.outgoing.sent > 0
    }

    /// Returns the error of a failed connection: it depends on whether a byte of a command was sent.
    fn connection_error(&self, error: io::Error) -> Error {
        if self.may_have_run() { Error::Lost(error) } else { self.unreachable(error) }
    }

    /// Returns the error of a failed send, of which the kernel accepted no byte.
    fn send_error(&self, error: Errno) -> Error {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => self.connection_error(error.into()),
            _ if self.phase == Phase::Command && !self.may_have_run() => Error::Send(error.into()),
            _ => self.connection_error(error.into()),
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

    fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Records that the kernel accepted `n` bytes, and with the first one the descriptor.
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
