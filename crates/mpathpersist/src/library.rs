//! The library, opened.

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
    Error, Failure, Generation, OpenError, Version, ffi::Calls, outbound::Outbound, returned::Answer,
};

/// libmpathpersist, loaded and initialised.
///
/// There is one in a process at most, and it stays in the thread that opened it; each command needs it exclusively. So the
/// library's rule, one call at a time, cannot be broken:
///
/// ```compile_fail,E0277
/// fn elsewhere(library: mpathpersist::Library) {
///     std::thread::spawn(move || library.version());
/// }
/// ```
///
/// It reads `/etc/multipath.conf` when it is opened, and never again: to follow a change, start a new process.
///
/// # When it is dropped
///
/// Then `libmpathpersist_exit` is **not** called. The library could not be initialised again after it. It frees memory and
/// closes the control device of device-mapper (also for other users of libdevmapper in this process), both of which the
/// process's end does as well; and it unloads path checkers. Nothing is written by it.
#[derive(Debug)]
pub struct Library {
    calls: Calls,
    verbosity: Verbosity,
}

/// How much the library writes to standard error, each line with the seconds since boot in front.
///
/// Without effect on [`Library::open`], during which it writes errors, warnings and notes, or what `verbosity` in
/// multipath.conf says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verbosity {
    /// Errors: among them, that no key is configured or the configured key is another.
    #[default]
    Errors = 0,
    /// And warnings: among them, until 0.12, paths that are not used.
    Warnings = 1,
    /// And notes: among them, until 0.12, what is sent to multipathd.
    Notes = 2,
    /// And each path's answer.
    Answers = 3,
    /// And the commands.
    Everything = 4,
}

/// Whether the library was, or is being, initialised in this process.
static OPENED: AtomicBool = AtomicBool::new(false);

impl Library {
    /// Loads the library that the dynamic loader finds as `libmpathpersist.so.0`, and initialises it.
    ///
    /// Initialising reads multipath.conf and raises the limit of open files (to `max_fds` of multipath.conf, by default the
    /// highest that the kernel allows). It needs neither multipathd nor privilege.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotInstalled`] if there is no such library, [`OpenError::Load`] if there is one that cannot be loaded
    /// (both may be mended, and the library opened then); [`OpenError::Initialise`] if multipath.conf cannot be read; [`OpenError::AlreadyOpen`] ever after.
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

    /// What can be known of the library that was loaded.
    pub fn version(&self) -> Version {
        let symbols = self.calls.symbols();
        Version {
            file: symbols.file(),
            generation: Generation::new(symbols.has_reserve_in__, symbols.has_update_map_pr),
        }
    }

    /// How much the commands that follow write to standard error.
    pub fn set_verbosity(&mut self, verbosity: Verbosity) {
        self.verbosity = verbosity;
    }

    /// Whether multipathd answers: it is asked `show daemon`, as the library itself would ask it, on whichever socket this
    /// version of the library looks for it.
    ///
    /// Where systemd listens on multipathd's behalf, this starts it. multipathd answers this to any user.
    ///
    /// # Errors
    ///
    /// Whatever kept it from answering other than that nobody listens: it did not do so for `timeout` (`ETIMEDOUT`), has
    /// too much to do to be connected to (`EAGAIN`), or its socket is not for this process (`EACCES`).
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

    /// The key that multipathd has on record for a map (`getprkey map NAME`): the configured key, or with
    /// `reservation_key file` the one that was registered last. `None` if it has none.
    ///
    /// `map` is the map's name as device-mapper has it. multipathd tells this only to root.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the name has characters that a command cannot hold (a quotation mark, a backslash, control
    /// characters), `InvalidData` if the reply is neither a key nor `none` (multipathd does not know the map), and what
    /// kept it from answering, as with [`multipathd_is_running`](Self::multipathd_is_running).
    pub fn registered_key(&self, map: &[u8], timeout: Duration) -> io::Result<Option<RegisteredKey>> {
        RegisteredKey::parse(&self.ask_about(b"getprkey", map, b"", timeout)?)
    }

    /// Has multipathd put another key on record for a map, in `/etc/multipath/prkeys` (`setprkey`, `unsetprkey`). Nothing
    /// is registered by that.
    ///
    /// # Errors
    ///
    /// As with [`registered_key`](Self::registered_key); `InvalidData` if multipathd did not do it.
    pub fn set_registered_key(
        &self,
        map: &[u8],
        key: Option<RegisteredKey>,
        timeout: Duration,
    ) -> io::Result<()> {
        let reply = match key {
            Some(key) => self.ask_about(b"setprkey", map, format!(" key {key}").as_bytes(), timeout)?,
            None => self.ask_about(b"unsetprkey", map, b"", timeout)?,
        };
        if reply.trim_ascii() == b"ok" { Ok(()) } else { Err(unexpected(&reply)) }
    }

    fn ask_about(&self, command: &[u8], map: &[u8], rest: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
        if map.iter().any(|byte| matches!(byte, b'"' | b'\\') || byte.is_ascii_control()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let command = [command, b" map \"", map, b"\"", rest].concat();
        let command = CString::new(command).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.calls.ask_multipathd(&command, timeout)
    }

    /// Executes a PERSISTENT RESERVE OUT on a multipath map: as far as that is needed, on all of its paths.
    ///
    /// The library does more than pass the command on; [`behaviour`](crate::behaviour) says what, and how long it may take.
    /// RELEASE is preceded by a READ RESERVATION, and refused if the key does not hold the reservation.
    ///
    /// Of TransportIDs, those of Fibre Channel, iSCSI and SAS are passed on, 32 at most, byte for byte but for reserved
    /// bytes, which are sent as zeros. **Where the map has more than one usable path they are lost in most cases**, and the
    /// command succeeds without them: see [`behaviour`](crate::behaviour#spec_i_pt).
    ///
    /// # Errors
    ///
    /// [`Error::Library`] with the library's code: the command may have been executed on some paths. With all others,
    /// nothing was done.
    pub fn reserve_out(
        &mut self,
        map: BorrowedFd<'_>,
        action: OutServiceAction,
        scope: Scope,
        kind: ReservationType,
        parameters: &BasicParameters<'_>,
    ) -> Result<(), Error> {
        let outbound = Outbound::new(action, scope, kind, parameters)?;
        if action == OutServiceAction::Release {
            self.check_release(map, scope, kind, parameters)?;
        }
        success(self.calls.reserve_out(map, &outbound, self.verbosity as c_int))
    }

    /// READ RESERVATION, of the first path that answers.
    fn reservation(&mut self, map: BorrowedFd<'_>) -> Result<Option<Reservation>, Error> {
        let mut answer = Answer::new();
        success(self.calls.read_reservation(map, &mut answer, self.verbosity as c_int))?;
        Ok(answer.reservation()?)
    }

    /// Refuses a RELEASE that would not release: see [`Error::NotReservationHolder`] and [`Error::InvalidRelease`].
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

/// A key that multipathd has on record: see [`Library::registered_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisteredKey {
    /// The key.
    pub key: ReservationKey,
    /// Whether it was registered with APTPL.
    pub aptpl: bool,
}

impl RegisteredKey {
    /// Reads `0x123abc`, `0x123abc:aptpl` or `none`.
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

/// As multipathd takes and tells it: `0x123abc:aptpl`.
impl fmt::Display for RegisteredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}{}", self.key.0, if self.aptpl { ":aptpl" } else { "" })
    }
}

fn unexpected(reply: &[u8]) -> io::Error {
    let text = format!("multipathd said \"{}\"", reply.trim_ascii().escape_ascii());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn success(code: c_int) -> Result<(), Error> {
    Failure::new(code).map_or(Ok(()), |failure| Err(Error::Library(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipathds_keys_are_read_and_written() {
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
