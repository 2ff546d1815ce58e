//! Regular files as disks, whose persistent reservations are kept here in software: for trying out, for tests and
//! demonstrations, on hosts without a SCSI disk and without privilege.
//!
//! A file is a logical unit, and each listening socket an initiator. The reservations coordinate the clients of this
//! process; nothing here stands between a process and the file.

use std::{
    collections::HashMap,
    error::Error,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use confinement::Rule;
use pr_proto::{Command, Data};
use pr_target::{FileStore, LogicalUnit, Nexus};
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, StatxFlags},
    io::Errno,
};
use scsi_sense::{
    SenseCode,
    pr::{IscsiName, TransportId},
};

use crate::{
    descriptor::Descriptor,
    device::Device,
    executor::{Backend, Target},
    kind::DescriptorKind,
    outcome::{Cause, Failure, NotServed, Outcome},
    system_calls,
    with_sources::with_sources,
};

/// Name of the initiator of a socket without a name of its own.
pub const DEFAULT_INITIATOR: &str = "pr-helper";

/// Makes an iSCSI name of an initiator's name: RFC 7143 clause 4.2.7.4, with a domain that belongs to no host.
const NAME_PREFIX: &str = "iqn.1970-01.localhost:";

/// Longest iSCSI name (RFC 7143 clause 4.2.7.1).
const NAME_MAX: usize = 223;

/// RELATIVE TARGET PORT IDENTIFIER of the one target port that every unit has.
const TARGET_PORT: u16 = 1;

/// How many files can have reservations at a time.
const UNITS_MAX: usize = 4096;

/// The backend of regular files.
pub struct Emulated {
    directory: PathBuf,
    /// The directory, locked for the life of the backend: another process with the same directory would not know of
    /// changes made here.
    lock: OwnedFd,
    /// Nexuses of the listening sockets, in their order.
    nexuses: Vec<Nexus>,
    units: Mutex<HashMap<File, Arc<Mutex<Option<Unit>>>>>,
}

/// The reservations of a file.
type Unit = LogicalUnit<FileStore>;

/// Identity of a file. An inode number is used again once its file is gone; the time of birth tells the two apart, where
/// the file system has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct File {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

/// Why files cannot be emulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulateError {
    /// The directory for the state of files cannot be used.
    #[error("{}: the directory for the state of files cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        error: io::Error,
    },
    /// Another process has locked the directory.
    #[error("{} is in use by another pr-helper", .0.display())]
    InUse(PathBuf),
    /// Another user could change files in the directory.
    #[error("{} must be a directory of this user that no other user can write to", .0.display())]
    Unsafe(PathBuf),
    /// The name does not fit an iSCSI name.
    #[error("{0:?} is too long for the name of an initiator")]
    Name(String),
    /// Two sockets would be the same initiator.
    #[error("{0:?} is the name of two initiators")]
    Twice(String),
}

impl Emulated {
    /// Keeps the state of all files in `directory`, which is created if it does not exist. `initiators` are the names of
    /// the listening sockets, in their order.
    ///
    /// # Errors
    ///
    /// [`EmulateError`]: the directory, or a name, cannot be used.
    pub fn open(directory: &Path, initiators: &[&str]) -> Result<Self, EmulateError> {
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

    /// Returns where the reservations of `file` are, or will be.
    fn cell(&self, file: File) -> Result<Arc<Mutex<Option<Unit>>>, Failure> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if !units.contains_key(&file) && units.len() >= UNITS_MAX {
            let text = format!(
                "the helper lacks a resource: {UNITS_MAX} files have reservations, which is the limit"
            );
            return Err(Failure::busy(Cause::new("shortage", text)));
        }
        Ok(Arc::clone(units.entry(file).or_default()))
    }

    /// Forgets a file that has no state to remember.
    fn forget(&self, file: File) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        // A third reference is a thread that is about to use it: the file is forgotten another time.
        if units.get(&file).is_some_and(|cell| Arc::strong_count(cell) <= 2) {
            units.remove(&file);
        }
    }

    /// Returns the reservations of `file`, read from its state if there is any.
    fn open_unit(&self, file: File) -> Result<Unit, Failure> {
        let store = FileStore::new(self.locked_directory().join(file.state_name()));
        Unit::open(&[TARGET_PORT], store).map_err(|error| self.failure(file, &error))
    }

    /// Returns a path to the directory that is locked, also after another has taken its place: reservations must not get
    /// lost by a path that leads elsewhere.
    fn locked_directory(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.lock.as_raw_fd()));
        // Without /proc the path must do.
        if by_descriptor.is_dir() { by_descriptor } else { self.directory.clone() }
    }

    /// Returns the failure for an error of the store: busy if this process lacks a resource, else an internal target
    /// failure.
    fn failure(&self, file: File, error: &(dyn Error + 'static)) -> Failure {
        let mut sources =
            std::iter::successors(error.source(), |source: &&(dyn Error + 'static)| (*source).source());
        if let Some(cause) = sources.find_map(|source| source.downcast_ref().and_then(Cause::of_shortage)) {
            return Failure::busy(cause);
        }
        let path = self.directory.join(file.state_name());
        state_failure(format!("{}: {}", path.display(), with_sources(error)))
    }

    fn run(&self, target: Target<'_>, command: &mut Command<'_>) -> Result<Outcome, Failure> {
        let file = File::of(target)?;
        let cell = self.cell(file)?;
        let nexus = self.nexuses.get(target.listener);
        let nexus = nexus.ok_or_else(|| state_failure("the client's socket has no initiator"))?;
        // Only this file's lock is held: its state can be slow to read or write.
        let mut unit = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = unit.take().map_or_else(|| self.open_unit(file), Ok);
        let unit = match opened {
            Ok(opened) => unit.insert(opened),
            Err(failure) => {
                drop(unit);
                self.forget(file);
                return Err(failure);
            }
        };
        let answer = match &mut command.data {
            Data::In(data) => unit.execute(nexus, command.cdb, &[], data),
            Data::Out(parameters) => unit.execute(nexus, command.cdb, parameters, &mut []),
        };
        if let Some(error) = unit.take_save_error() {
            return Err(self.failure(file, &error));
        }
        if unit.is_untouched() {
            self.forget(file);
        }
        // PREEMPT AND ABORT names nexuses whose commands must be aborted: no other commands come here.
        let sense = answer.sense.map(SenseCode::to_fixed).unwrap_or_default();
        let sense_len = if answer.sense.is_some() { sense.len() } else { 0 };
        for (to, from) in command.sense.iter_mut().zip(sense) {
            *to = from;
        }
        Ok(Outcome::Device { status: answer.status, transferred: answer.length, sense_len })
    }
}

impl Backend for Emulated {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        match descriptor.kind() {
            // The file may be of a file system in user space, and its close lasts as long as that likes.
            DescriptorKind::File(id) => Some(Ok(Device::new(id).with_blocking_close().with_read_check())),
            _ => None,
        }
    }

    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        self.run(target, command).unwrap_or_else(Outcome::Failed)
    }

    fn nexuses(&self, target: Target<'_>) -> Vec<crate::Nexus> {
        vec![crate::Nexus::local(format!("{}, initiator {}", target.device.id(), target.listener))]
    }

    fn system_calls(&self) -> &'static [Rule] {
        system_calls::EMULATED
    }
}

/// Returns the failure for a file whose reservations cannot be read or kept.
fn state_failure(text: impl std::fmt::Display) -> Failure {
    let cause = Cause::new("state", format!("its reservations cannot be read or kept: {text}"));
    Failure::check_condition(SenseCode::INTERNAL_TARGET_FAILURE, cause)
}

impl File {
    fn of(target: Target<'_>) -> Result<Self, Failure> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat =
            rustix::fs::statx(target.descriptor.as_fd(), c"", flags, StatxFlags::INO | StatxFlags::BTIME)
                .map_err(|error| {
                    Cause::of_shortage(&error.into()).map_or_else(|| state_failure(error), Failure::busy)
                })?;
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = if has_birth { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) };
        Ok(Self { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino, born })
    }

    /// Returns the name of its state's file.
    fn state_name(&self) -> String {
        let Self { device: (major, minor), inode, born: (seconds, nanoseconds) } = self;
        format!("{major}-{minor}-{inode}-{seconds}.{nanoseconds:09}.pr")
    }
}

fn nexus(name: &str) -> Result<Nexus, EmulateError> {
    let is_iscsi = ["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix));
    let name = if is_iscsi { name.to_owned() } else { format!("{NAME_PREFIX}{name}") };
    if name.len() > NAME_MAX {
        return Err(EmulateError::Name(name));
    }
    let too_long = || EmulateError::Name(name.clone());
    let id = IscsiName::new(name.as_bytes()).map_err(|_| too_long())?;
    Nexus::new(TransportId::IscsiDevice { name: id }, TARGET_PORT).map_err(|_| too_long())
}

#[cfg(test)]
mod tests {
    use scsi_sense::Status;

    use super::*;

    #[test]
    fn initiator_names_become_iscsi_names() {
        for (name, text) in [
            ("node-a", "iqn.1970-01.localhost:node-a"),
            ("iqn.2001-04.com.example:x", "iqn.2001-04.com.example:x"),
        ] {
            assert_eq!(nexus(name).unwrap().initiator().to_string(), text);
        }
        assert!(matches!(nexus(&"x".repeat(250)), Err(EmulateError::Name(_))));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the state")]
    struct StateError(#[source] io::Error);

    #[test]
    fn shortage_while_reading_state_is_busy() {
        let directory = tempfile::tempdir().unwrap();
        let emulated = Emulated::open(&directory.path().join("state"), &["a"]).unwrap();
        let file = File { device: (1, 2), inode: 3, born: (0, 0) };
        let failure = |errno| emulated.failure(file, &StateError(io::Error::from_raw_os_error(errno)));
        assert_eq!(failure(libc::EMFILE).status(), Status::BUSY);
        let failure = failure(libc::EIO);
        assert_eq!(failure.sense(), Some(SenseCode::INTERNAL_TARGET_FAILURE));
        assert!(failure.cause().to_string().contains("cannot read the state: "), "{}", failure.cause());
    }

    #[test]
    fn directory_has_one_owner() {
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
