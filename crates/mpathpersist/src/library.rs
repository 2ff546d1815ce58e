//! The opened library.

use std::{
    ffi::{CString, c_int},
    fmt, io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use scsi_sense::pr::{
    BasicParameters, OutServiceAction, Reservation, ReservationKey, ReservationType, Scope,
};

use crate::{
    Error, Failure, Generation, OpenError, Version, ffi::Calls, out_command::OutCommand, returned::Answer,
};

/// libmpathpersist, loaded and initialised.
///
/// Invariant: at most one call of the library is in progress. A process has at most one `Library`, which cannot be sent
/// to another thread, and each command needs exclusive access to it:
///
/// ```compile_fail,E0277
/// fn elsewhere(library: mpathpersist::Library) {
///     std::thread::spawn(move || library.version());
/// }
/// ```
///
/// The library reads `/etc/multipath.conf` only when it is opened: to apply a change, start a new process.
///
/// # Drop
///
/// Dropping a `Library` does **not** call `libmpathpersist_exit`, after which the library could not be initialised
/// again. That function frees memory, closes the control device of device-mapper (also for other users of libdevmapper
/// in this process) and unloads path checkers. The end of the process has the same effect: the function writes nothing.
#[derive(Debug)]
pub struct Library {
    calls: Calls,
    verbosity: Verbosity,
}

/// The amount of messages that the library writes to standard error. Each line starts with the seconds since boot.
///
/// Does not apply to [`Library::open`], which writes errors, warnings and notes, or the messages that `verbosity` in
/// multipath.conf selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verbosity {
    /// Errors, including that no key is configured or that the configured key differs.
    #[default]
    Errors = 0,
    /// Also warnings, including, until 0.12, unused paths.
    Warnings = 1,
    /// Also notes, including, until 0.12, the messages to multipathd.
    Notes = 2,
    /// Also the answer of each path.
    Answers = 3,
    /// Also the commands.
    Everything = 4,
}

/// The library was initialised in this process, or is being initialised.
static OPENED: AtomicBool = AtomicBool::new(false);

impl Library {
    /// Loads the library that the dynamic loader finds as `libmpathpersist.so.0`, and initialises it.
    ///
    /// Initialisation reads multipath.conf and raises the limit of open files (to `max_fds` of multipath.conf, by
    /// default the highest that the kernel allows). It needs neither multipathd nor privileges.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotInstalled`] if there is no such library, [`OpenError::Load`] if it cannot be loaded: `open` can
    /// be called again after the cause is fixed. [`OpenError::Initialise`] if multipath.conf cannot be read.
    /// [`OpenError::AlreadyOpen`] if an earlier call loaded the library.
    pub fn open() -> Result<Self, OpenError> {
        if OPENED.swap(true, Ordering::SeqCst) {
            return Err(OpenError::AlreadyOpen);
        }
        let not_opened = |error| {
            OPENED.store(false, Ordering::SeqCst);
            error
        };
        let mut calls = Calls::load().map_err(OpenError::from).map_err(not_opened)?;
        if calls.initialise() != 0 {
            return Err(OpenError::Initialise);
        }
        Ok(Self { calls, verbosity: Verbosity::default() })
    }

    /// Returns the version of the loaded library, as far as it can be determined.
    pub fn version(&self) -> Version {
        let symbols = self.calls.symbols();
        Version {
            file: symbols.file(),
            generation: Generation::new(symbols.has_reserve_in__, symbols.has_update_map_pr),
        }
    }

    /// Sets the amount of messages that subsequent commands write to standard error.
    pub fn set_verbosity(&mut self, verbosity: Verbosity) {
        self.verbosity = verbosity;
    }

    /// Returns whether multipathd is running: sends `show daemon` to the socket that this version of the library uses.
    ///
    /// This starts multipathd if systemd listens on its socket. multipathd answers this command to any user.
    ///
    /// # Errors
    ///
    /// The socket exists, but multipathd does not answer: it sent no reply within `timeout` (`ETIMEDOUT`), its queue of
    /// connections is full (`EAGAIN`), or this process may not connect to its socket (`EACCES`).
    pub fn multipathd_is_running(&self, timeout: Duration) -> io::Result<bool> {
        match self.calls.ask_multipathd(c"show daemon", timeout) {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the key that multipathd has recorded for a map (`getprkey map NAME`): the configured key, or with
    /// `reservation_key file` the last registered key. `None` if there is no key.
    ///
    /// `map` is the map's device-mapper name. multipathd answers this command only to root.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the name has characters that a command cannot contain (a quotation mark, a backslash, control
    /// characters); `InvalidData` if the reply is neither a key nor `none` (multipathd does not have the map); and the
    /// errors of [`multipathd_is_running`](Self::multipathd_is_running), or that multipathd does not run.
    pub fn registered_key(&self, map: &[u8], timeout: Duration) -> io::Result<Option<RegisteredKey>> {
        RegisteredKey::parse(&self.send_map_command(b"getprkey", map, b"", timeout)?)
    }

    /// Changes the key that multipathd has recorded for a map in `/etc/multipath/prkeys` (`setprkey`, `unsetprkey`).
    /// Registers nothing.
    ///
    /// # Errors
    ///
    /// The errors of [`registered_key`](Self::registered_key); `InvalidData` if multipathd refused.
    pub fn set_registered_key(
        &self,
        map: &[u8],
        key: Option<RegisteredKey>,
        timeout: Duration,
    ) -> io::Result<()> {
        let reply = match key {
            Some(key) => {
                self.send_map_command(b"setprkey", map, format!(" key {key}").as_bytes(), timeout)?
            }
            None => self.send_map_command(b"unsetprkey", map, b"", timeout)?,
        };
        if reply.trim_ascii() == b"ok" { Ok(()) } else { Err(unexpected(&reply)) }
    }

    fn send_map_command(
        &self,
        command: &[u8],
        map: &[u8],
        rest: &[u8],
        timeout: Duration,
    ) -> io::Result<Vec<u8>> {
        if map.iter().any(|byte| matches!(byte, b'"' | b'\\') || byte.is_ascii_control()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let command = [command, b" map \"", map, b"\"", rest].concat();
        let command = CString::new(command).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.calls.ask_multipathd(&command, timeout)
    }

    /// Executes a PERSISTENT RESERVE OUT on a multipath map, on as many of its paths as the service action requires.
    ///
    /// The library does more than send the command: [`behaviour`](crate::behaviour) documents this, and how long it can
    /// take. A RELEASE is preceded by a READ RESERVATION, and refused if the key does not hold the reservation.
    ///
    /// Up to 32 TransportIDs of Fibre Channel, iSCSI and SAS are sent unchanged, except for reserved bytes, which are
    /// sent as zero. **If the map has more than one usable path, they are lost in most cases**, and the command
    /// succeeds without them: see [`behaviour`](crate::behaviour#spec_i_pt).
    ///
    /// # Errors
    ///
    /// [`Error::Library`] with the library's code: the command may have been executed on some paths. With any other
    /// error, nothing was done.
    pub fn reserve_out(
        &mut self,
        map: BorrowedFd<'_>,
        action: OutServiceAction,
        scope: Scope,
        kind: ReservationType,
        parameters: &BasicParameters<'_>,
    ) -> Result<(), Error> {
        let command = OutCommand::new(action, scope, kind, parameters)?;
        if action == OutServiceAction::Release {
            self.check_release(map, scope, kind, parameters)?;
        }
        success(self.calls.reserve_out(map, &command, self.verbosity as c_int))
    }

    /// Reads the reservation from the first path that answers.
    fn reservation(&mut self, map: BorrowedFd<'_>) -> Result<Option<Reservation>, Error> {
        let mut answer = Answer::new();
        success(self.calls.read_reservation(map, &mut answer, self.verbosity as c_int))?;
        Ok(answer.reservation()?)
    }

    /// Refuses a RELEASE that a device would not execute: see [`Error::NotReservationHolder`] and
    /// [`Error::InvalidRelease`].
    fn check_release(
        &mut self,
        map: BorrowedFd<'_>,
        scope: Scope,
        kind: ReservationType,
        parameters: &BasicParameters<'_>,
    ) -> Result<(), Error> {
        let Some(held) = self.reservation(map)? else {
            return Ok(());
        };
        if !held.kind.is_all_registrants() && held.key != parameters.reservation_key {
            Err(Error::NotReservationHolder(held))
        } else if (held.scope, held.kind) != (scope, kind) {
            Err(Error::InvalidRelease(held))
        } else {
            Ok(())
        }
    }
}

/// A key that multipathd has recorded: see [`Library::registered_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisteredKey {
    /// The key.
    pub key: ReservationKey,
    /// The key was registered with APTPL.
    pub aptpl: bool,
}

impl RegisteredKey {
    /// Parses `0x123abc`, `0x123abc:aptpl` or `none`.
    fn parse(reply: &[u8]) -> io::Result<Option<Self>> {
        let text = String::from_utf8_lossy(reply);
        let text = text.trim();
        if text == "none" {
            return Ok(None);
        }
        let (key, aptpl) = text.strip_suffix(":aptpl").map_or((text, false), |key| (key, true));
        match key.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(key)) => Ok(Some(Self { key: ReservationKey(key), aptpl })),
            _ => Err(unexpected(reply)),
        }
    }
}

/// Shows the key in multipathd's format: `0x123abc:aptpl`.
impl fmt::Display for RegisteredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}{}", self.key.0, if self.aptpl { ":aptpl" } else { "" })
    }
}

fn unexpected(reply: &[u8]) -> io::Error {
    let text = format!("multipathd answered \"{}\"", reply.trim_ascii().escape_ascii());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn success(code: c_int) -> Result<(), Error> {
    Failure::new(code).map_or(Ok(()), |failure| Err(Error::Library(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_key_is_read_and_written() {
        let key = |key, aptpl| Some(RegisteredKey { key: ReservationKey(key), aptpl });
        for (text, expected) in [
            ("none", None),
            ("0x123abc", key(0x12_3abc, false)),
            ("0x123abc:aptpl", key(0x12_3abc, true)),
            ("0xffffffffffffffff", key(u64::MAX, false)),
        ] {
            assert_eq!(RegisteredKey::parse(format!("{text}\n").as_bytes()).unwrap(), expected);
            if let Some(key) = expected {
                assert_eq!(key.to_string(), text);
            }
        }
        for reply in [&b"fail\n"[..], b"", b"0x", b"12", b"0x1:x", b"0x1ffffffffffffffff", b"\xff"] {
            let error = RegisteredKey::parse(reply).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}", reply.escape_ascii());
        }
    }
}
