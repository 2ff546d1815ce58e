//! Regular files, as disks whose persistent reservations are kept here, in software: for trying out, for tests and
//! demonstrations, on hosts without a SCSI disk and without privilege.
//!
//! A file is a logical unit, and each listening socket an initiator. The reservations coordinate those who ask this
//! daemon; nothing here stands between a process and the file.

use std::{
    collections::HashMap,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use pr_proto::{Command, Data};
use pr_target::{FileStore, LogicalUnit, Nexus};
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, StatxFlags},
    io::Errno,
};
use scsi_sense::{
    SenseCode, Status,
    pr::{IscsiName, TransportId},
};

use super::{Backend, Cause, Outcome, Target};
use crate::logging;

/// The initiator of the socket that has no other name.
pub(crate) const DEFAULT_INITIATOR: &str = "pr-helper";

/// What makes an initiator's name of a word: RFC 7143 clause 4.2.7.4, with a domain that is nobody's.
const NAME_PREFIX: &str = "iqn.1970-01.localhost:";

/// All units have one target port.
const TARGET_PORT: u16 = 1;

/// How many files may have reservations.
const UNITS_MAX: usize = 4096;

/// The backend.
pub(crate) struct Emulated {
    directory: PathBuf,
    /// The directory, locked as long as this lives: another daemon with the same directory would not know of our changes.
    lock: OwnedFd,
    /// Of the listening sockets, in their order.
    nexuses: Vec<Nexus>,
    units: Mutex<HashMap<File, Arc<Mutex<Option<Unit>>>>>,
}

/// The reservations of a file.
type Unit = LogicalUnit<FileStore>;

/// Which file it is. An inode is used again once its file has gone; the time of birth tells the two apart, where the file
/// system has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct File {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

/// Why files cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmulateError {
    #[error("--emulate: {path}: {error}")]
    Directory { path: PathBuf, error: io::Error },
    #[error("--emulate: {0} is in use by another pr-helper")]
    InUse(PathBuf),
    #[error("--emulate: {0} must be a directory of this user, and writable by nobody else")]
    Unsafe(PathBuf),
    #[error("--initiator: {0:?} is too long for a name")]
    Name(String),
    #[error("--initiator: {0:?} is named twice")]
    Twice(String),
}

impl Emulated {
    /// Keeps the state of all files in `directory`, which is made if it is not there. `initiators` are the names of the
    /// listening sockets, in their order.
    pub(crate) fn open(directory: &Path, initiators: &[&str]) -> Result<Self, EmulateError> {
        let mut nexuses = Vec::new();
        for name in initiators {
            let nexus = nexus(name)?;
            if nexuses.contains(&nexus) {
                return Err(EmulateError::Twice((*name).to_owned()));
            }
            nexuses.push(nexus);
        }
        let failed = |error| EmulateError::Directory { path: directory.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = match rustix::fs::open(directory, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(EmulateError::Unsafe(directory.to_owned())),
            opened => opened.map_err(|error| failed(error.into()))?,
        };
        // A user that can put files there could have others overwritten.
        let stat = rustix::fs::fstat(&lock).map_err(|error| failed(error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err(EmulateError::Unsafe(directory.to_owned()));
        }
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(EmulateError::InUse(directory.to_owned())),
            Err(error) => return Err(failed(error.into())),
        }
        Ok(Self { directory: directory.to_owned(), lock, nexuses, units: Mutex::new(HashMap::new()) })
    }

    /// Where the reservations of `file` are, or will be.
    fn cell(&self, file: File) -> Result<Arc<Mutex<Option<Unit>>>, Cause> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if !units.contains_key(&file) && units.len() >= UNITS_MAX {
            logging::warn_once(&format!(
                "--emulate: {UNITS_MAX} files have reservations, which is the limit"
            ));
            return Err(Cause::State);
        }
        Ok(Arc::clone(units.entry(file).or_default()))
    }

    /// Forgets a file of which nothing need be known.
    fn forget(&self, file: File) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        // Others that are about to use it have it too; then it stays, and goes another time.
        if units.get(&file).is_some_and(|cell| Arc::strong_count(cell) <= 2) {
            units.remove(&file);
        }
    }

    /// The reservations of `file`, read from its state if there is any.
    fn open_unit(&self, file: File) -> Result<Unit, Cause> {
        let name = file.state_name();
        Unit::open(&[TARGET_PORT], FileStore::new(self.locked_directory().join(&name))).map_err(|error| {
            let path = self.directory.join(&name);
            logging::warn_once(&format!("--emulate: {}: {}", path.display(), with_sources(&error)));
            Cause::State
        })
    }

    /// Returns a path to the directory that is locked, also after another has taken its place: reservations must not get
    /// lost by a path that leads elsewhere.
    fn locked_directory(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.lock.as_raw_fd()));
        // Without /proc the path must do.
        if by_descriptor.is_dir() { by_descriptor } else { self.directory.clone() }
    }
}

impl Backend for Emulated {
    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let failed = |cause| Outcome::Failed {
            status: Status::CHECK_CONDITION,
            sense: Some(SenseCode::INTERNAL_TARGET_FAILURE),
            cause,
        };
        let cell = File::of(target).and_then(|file| Ok((file, self.cell(file)?)));
        let (file, cell, nexus) = match (cell, self.nexuses.get(target.listener)) {
            (Ok((file, cell)), Some(nexus)) => (file, cell, nexus),
            (Err(cause), _) => return failed(cause),
            (Ok(_), None) => return failed(Cause::State),
        };
        // Under this file's lock alone: its state may be slow to read or write.
        let mut unit = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = unit.take().map_or_else(|| self.open_unit(file), Ok);
        let unit = match opened {
            Ok(opened) => unit.insert(opened),
            Err(cause) => {
                drop(unit);
                self.forget(file);
                return failed(cause);
            }
        };
        let answer = match &mut command.data {
            Data::In(data) => unit.execute(nexus, command.cdb, &[], data),
            Data::Out(parameters) => unit.execute(nexus, command.cdb, parameters, &mut []),
        };
        if let Some(error) = unit.take_save_error() {
            let path = self.directory.join(file.state_name());
            logging::warn_once(&format!("--emulate: {}: {}", path.display(), with_sources(&error)));
            return failed(Cause::State);
        }
        if unit.is_untouched() {
            self.forget(file);
        }
        // PREEMPT AND ABORT names who is to be aborted: no other commands come here.
        let sense = answer.sense.map(SenseCode::to_fixed).unwrap_or_default();
        let sense_len = if answer.sense.is_some() { sense.len() } else { 0 };
        for (to, from) in command.sense.iter_mut().zip(sense) {
            *to = from;
        }
        Outcome::Device { status: answer.status, transferred: answer.length, sense_len }
    }
}

impl File {
    fn of(target: Target<'_>) -> Result<Self, Cause> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat =
            rustix::fs::statx(target.descriptor.as_fd(), c"", flags, StatxFlags::INO | StatxFlags::BTIME)
                .map_err(|error| Cause::Errno(error.raw_os_error()))?;
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = if has_birth { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) };
        Ok(Self { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino, born })
    }

    /// The name of its state's file.
    fn state_name(&self) -> String {
        let Self { device: (major, minor), inode, born: (seconds, nanoseconds) } = self;
        format!("{major}-{minor}-{inode}-{seconds}.{nanoseconds:09}.pr")
    }
}

fn nexus(name: &str) -> Result<Nexus, EmulateError> {
    let is_iscsi = ["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix));
    let name = if is_iscsi { name.to_owned() } else { format!("{NAME_PREFIX}{name}") };
    // RFC 7143 clause 4.2.7.1.
    if name.len() > 223 {
        return Err(EmulateError::Name(name));
    }
    let too_long = || EmulateError::Name(name.clone());
    let id = IscsiName::new(name.as_bytes()).map_err(|_| too_long())?;
    Nexus::new(TransportId::IscsiDevice { name: id }, TARGET_PORT).map_err(|_| too_long())
}

/// An error with all its causes.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_iscsi() {
        for (name, text) in [
            ("node-a", "iqn.1970-01.localhost:node-a"),
            ("iqn.2001-04.com.example:x", "iqn.2001-04.com.example:x"),
        ] {
            assert_eq!(nexus(name).unwrap().initiator().to_string(), text);
        }
        assert!(matches!(nexus(&"x".repeat(250)), Err(EmulateError::Name(_))));
    }

    #[test]
    fn a_directory_has_one_daemon_and_a_name_one_socket() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Emulated::open(Path::new("/tmp"), &["a"]), Err(EmulateError::Unsafe(_))));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert!(Emulated::open(&link, &["a"]).is_err());
        let path = directory.path().join("state");
        let twice = Emulated::open(&path, &["a", "b", "a"]);
        assert!(matches!(twice, Err(EmulateError::Twice(name)) if name == "a"));
        let one = Emulated::open(&path, &["a", "b"]).unwrap();
        assert!(matches!(Emulated::open(&path, &["a"]), Err(EmulateError::InUse(_))));
        drop(one);
        Emulated::open(&path, &["a"]).unwrap();
    }

    #[test]
    fn state_stays_in_the_locked_directory() {
        let directory = tempfile::tempdir().unwrap();
        let [path, away] = ["state", "away"].map(|name| directory.path().join(name));
        let emulated = Emulated::open(&path, &["a"]).unwrap();
        fs::rename(&path, &away).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(emulated.locked_directory().join("file"), "").unwrap();
        assert!(away.join("file").exists() && !path.join("file").exists());
    }
}
