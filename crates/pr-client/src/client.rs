//! The blocking client.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    Completion, Data, Error, Options, State,
    deadline::Deadline,
    nonblocking::Connection,
    pool::{Leased, Pool, Slot},
};

/// A client of a helper: a bounded number of connections, shared by any number of threads.
///
/// A command has a connection to itself while it is in flight. A lost connection is replaced when the next command
/// needs one. Invariant: a command is tried again on a new connection only if no byte of it was sent; otherwise it is
/// never sent again, since it may have run.
pub struct Client {
    path: PathBuf,
    options: Options,
    pool: Pool,
}

impl Client {
    /// Connects to the helper's socket at `path`, with the default [`Options`].
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().connect(path)
    }

    /// Returns the default options, to be changed before connecting.
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn new(path: PathBuf, options: Options) -> Result<Self, Error> {
        let pool = Pool::new(options.connections, options.listener.clone());
        let client = Self { path, options, pool };
        let deadline = Deadline::after(client.options.timeout);
        let leased = client.open(deadline)?;
        if let Some(slot) = client.pool.acquire(deadline) {
            slot.keep(leased);
        }
        Ok(client)
    }

    /// Runs a command on `device`: the ten bytes of a PERSISTENT RESERVE IN or OUT, optionally padded with zeros.
    ///
    /// For OUT, `device` must be open for writing. A command that was answered may have failed: check the status. The
    /// typed calls ([`read_keys`](Self::read_keys) and so on) check it.
    ///
    /// # Errors
    ///
    /// [`Error`], if there is no answer.
    pub fn execute(&self, device: impl AsFd, cdb: &[u8], data: Data<'_>) -> Result<Completion, Error> {
        self.run(device.as_fd(), cdb, data, Deadline::after(self.options.timeout))
    }

    /// Like [`execute`](Self::execute), with `timeout` in place of [`Options::timeout`].
    ///
    /// # Errors
    ///
    /// [`Error`], if there is no answer.
    pub fn execute_within(
        &self,
        device: impl AsFd,
        cdb: &[u8],
        data: Data<'_>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Completion, Error> {
        self.run(device.as_fd(), cdb, data, Deadline::after(timeout.into()))
    }

    /// Returns whether the last use of the helper found it connected.
    pub fn state(&self) -> State {
        self.pool.state().0
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.options.timeout
    }

    fn run(
        &self,
        device: BorrowedFd<'_>,
        cdb: &[u8],
        mut data: Data<'_>,
        deadline: Deadline,
    ) -> Result<Completion, Error> {
        data.check(cdb)?;
        let slot = self.pool.acquire(deadline).ok_or(Error::Busy)?;
        let mut leased = self.start(&slot, device, cdb, &data, deadline)?;
        match leased.connection.finish(deadline) {
            Ok(response) => {
                let completion = data.complete(response);
                slot.keep(leased);
                Ok(completion)
            }
            Err(error) => {
                // A passed deadline does not mean that the helper is gone.
                if !matches!(error, Error::TimedOut) {
                    self.pool.disconnected(leased.epoch);
                }
                Err(error)
            }
        }
    }

    /// Begins the command on an idle connection or a new one. This is the only function that retries.
    fn start(
        &self,
        slot: &Slot<'_>,
        device: BorrowedFd<'_>,
        cdb: &[u8],
        data: &Data<'_>,
        deadline: Deadline,
    ) -> Result<Leased, Error> {
        if let Some(leased) = slot.idle() {
            match self.begin(slot, leased, device, cdb, data) {
                // The connection ended while it was idle.
                Err(Error::Unreachable { .. }) => {}
                begun => return begun,
            }
        }
        let pause = self.options.pause;
        let mut attempts: u32 = 1;
        loop {
            let begun = self.open(deadline).and_then(|leased| self.begin(slot, leased, device, cdb, data));
            match begun {
                Err(Error::Unreachable { .. })
                    if attempts < self.options.attempts && deadline.allows(pause) =>
                {
                    attempts = attempts.saturating_add(1);
                    thread::sleep(pause);
                }
                begun => return begun,
            }
        }
    }

    /// Begins the command on this connection. If it returns an error, no byte of the command was sent.
    fn begin(
        &self,
        slot: &Slot<'_>,
        mut leased: Leased,
        device: BorrowedFd<'_>,
        cdb: &[u8],
        data: &Data<'_>,
    ) -> Result<Leased, Error> {
        let begun = match data {
            Data::In(_) => leased.connection.read(device, cdb),
            Data::Out(parameters) => leased.connection.write(device, cdb, parameters),
        };
        let Err(error) = begun else { return Ok(leased) };
        match error {
            Error::Command(_) => slot.keep(leased),
            Error::Unreachable { .. } => self.pool.disconnected(leased.epoch),
            _ => {}
        }
        Err(error)
    }

    fn open(&self, deadline: Deadline) -> Result<Leased, Error> {
        let (_, epoch) = self.pool.state();
        match Connection::connect_until(&self.path, deadline) {
            Ok(connection) => Ok(self.pool.connected(connection)),
            Err(error) => {
                self.pool.disconnected(epoch);
                Err(error)
            }
        }
    }
}

impl Options {
    /// Connects to the helper's socket at `path`.
    ///
    /// It tries once, so that a wrong path is reported at once; [`attempts`](Self::attempts) applies to commands.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub fn connect(self, path: impl AsRef<Path>) -> Result<Client, Error> {
        Client::new(PathBuf::from(path.as_ref()), self)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("path", &self.path)
            .field("options", &self.options)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
