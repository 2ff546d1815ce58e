//! A block device of the device-mapper can be anything: a path-independent face of one SCSI disk (`multipath`), a slice
//! of one or pieces of many (`linear`), a decrypted view (`crypt`). Which it is, its table says, and the kernel hands
//! that out by ioctls on `/dev/mapper/control`: a structure of 312 bytes, and behind it records that lead from one to
//! the next by offsets, with strings between them that end where a NUL is. This crate asks, and follows none of those
//! before it has checked that it stays within the answer.
//!
//! ```no_run
//! use std::os::unix::fs::MetadataExt;
//!
//! use dm_ioctl::{Control, DeviceNumber};
//!
//! let control = Control::open()?;
//! let device = DeviceNumber::from_rdev(std::fs::metadata("/dev/mapper/mpatha")?.rdev());
//! let table = control.table(device)?;
//! if table.multipath_target().is_some() {
//!     println!("{device} is the multipath map {:?}, its paths are:", table.name);
//!     for path in control.dependencies(device)? {
//!         println!("{path}");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names are bytes
//!
//! The kernel lets the name of a map be any bytes but `/` and NUL, and the UUID and a target's parameters any but NUL.
//! They are [`CString`](std::ffi::CString)s here, exactly what the kernel has: replacing what is not UTF-8 would make
//! one name of two, and a name is what the next call is made with. To print one, use `{:?}`, which escapes what is no
//! UTF-8 and what would move the cursor.
//!
//! # What is asked, and when
//!
//! A number names a device only as long as that exists: hold a descriptor of the block device open from `fstat` until
//! after the last use of the answer, and it cannot be removed and its number given to another. Its table can be
//! replaced at any time.
//!
//! No call waits for the device's I/O, also not while it is suspended. Each does take the device-mapper's own locks,
//! without end and without heeding signals if somebody does not give them back: this is nothing for a thread that must
//! never block.
//!
//! # What this crate does not do
//!
//! It creates, loads, suspends, renames and removes no device. It does not list devices, look them up by name or UUID,
//! ask for the inactive table, or wait for events. It does not say what a target's
//! parameters mean, and does not wipe them from memory.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod answer;
mod device_number;
mod error;
mod exchange;
mod ioctl;
mod layout;
mod table;
mod version;

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use ioctl::Command;

pub use device_number::DeviceNumber;
pub use error::Error;
pub use ioctl::ANSWER_MAX;
pub use table::{Flags, Table, Target};
pub use version::Version;

/// Where the device-mapper is spoken to: `DM_DIR` and `DM_CONTROL_NODE` of `<linux/dm-ioctl.h>` below `/dev`.
const CONTROL: &str = "/dev/mapper/control";

/// The device-mapper of this kernel.
///
/// Threads may share it and call at the same time. `CAP_SYS_ADMIN` is looked at in every call, not when it is opened;
/// the node's owner and mode only when it is opened.
#[derive(Debug)]
pub struct Control {
    descriptor: OwnedFd,
    version: Version,
}

impl Control {
    /// Opens `/dev/mapper/control` and asks for the version of the interface.
    ///
    /// Where the node exists and the module is not loaded, this makes the kernel load it.
    ///
    /// # Errors
    ///
    /// [`Error::NoControl`], [`Error::Permission`], [`Error::Version`], or [`Error::Os`] for everything else.
    pub fn open() -> Result<Self, Error> {
        Self::open_path(Path::new(CONTROL))
    }

    fn open_path(path: &Path) -> Result<Self, Error> {
        // The standard library opens everything with O_CLOEXEC.
        let node = File::options().read(true).write(true).open(path).map_err(Error::from_open)?;
        let version = exchange::version(|buffer| ioctl::call(node.as_fd(), Command::Version, buffer))?;
        Ok(Self { descriptor: node.into(), version })
    }

    /// The kernel's version of the interface, whose major number is 4.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What a device is made of: its live table, and its name, UUID and state (`DM_TABLE_STATUS` with
    /// `DM_STATUS_TABLE_FLAG`).
    ///
    /// No target is made to flush anything for it (`DM_NOFLUSH_FLAG`), and the kernel wipes its own copy of the answer
    /// (`DM_SECURE_DATA_FLAG`), because parameters can be secret: see [`Target::parameters`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMap`] if no device of the device-mapper has that number. [`Error::Permission`],
    /// [`Error::AnswerTooLong`], [`Error::Malformed`], [`Error::Os`].
    pub fn table(&self, device: DeviceNumber) -> Result<Table, Error> {
        answer::table(&self.ask(device, Command::TableStatus)?)
    }

    /// The devices that a device's live table uses, in no order; for a multipath map its paths (`DM_TABLE_DEPS`). None,
    /// if it has no live table.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn dependencies(&self, device: DeviceNumber) -> Result<Vec<DeviceNumber>, Error> {
        answer::dependencies(&self.ask(device, Command::TableDeps)?)
    }

    /// How a device is: as [`table`](Self::table), but what each target's driver says of its state stands in the place of
    /// its parameters (`DM_TABLE_STATUS`).
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn status(&self, device: DeviceNumber) -> Result<Table, Error> {
        answer::table(&self.ask(device, Command::Status)?)
    }

    /// Has a device go on that is suspended, with its inactive table if it has one (`DM_DEV_SUSPEND` without
    /// `DM_SUSPEND_FLAG`). To one that is not suspended this does nothing.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn resume(&self, device: DeviceNumber) -> Result<(), Error> {
        self.ask(device, Command::Resume).map(drop)
    }

    fn ask(&self, device: DeviceNumber, command: Command) -> Result<Vec<u8>, Error> {
        exchange::about(device, command, |buffer| ioctl::call(self.descriptor.as_fd(), command, buffer))
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    /// Why the control node at `path` could not be used, with the cause's error number.
    fn refusal(path: &str) -> (Error, Option<i32>) {
        let error = Control::open_path(Path::new(path)).unwrap_err();
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let errno = cause.and_then(io::Error::raw_os_error);
        (error, errno)
    }

    #[test]
    fn without_a_control_node_the_error_says_what_to_do() {
        let (error, errno) = refusal("/nonexistent/mapper/control");
        assert!(matches!(error, Error::NoControl(_)), "{error:?}");
        assert_eq!(errno, Some(libc::ENOENT));
        assert!(error.to_string().contains("load the module dm_mod"), "{error}");
    }

    #[test]
    fn a_node_that_cannot_be_opened_is_not_taken_for_a_missing_one() {
        let (error, errno) = refusal("/");
        assert_eq!(error.to_string(), "opening /dev/mapper/control failed");
        assert_eq!(errno, Some(libc::EISDIR));
    }

    #[test]
    fn a_node_of_something_else_is_found_out_by_asking_for_its_version() {
        let (error, errno) = refusal("/dev/null");
        assert_eq!(error.to_string(), "DM_VERSION failed");
        assert_eq!(errno, Some(libc::ENOTTY));
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error_of_the_ioctl_that_was_tried() {
        let descriptor = File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let control = Control { descriptor, version: Version { major: 4, minor: 0, patch: 0 } };
        let device = DeviceNumber { major: 253, minor: 0 };
        assert_eq!(control.table(device).unwrap_err().to_string(), "DM_TABLE_STATUS failed");
        assert_eq!(control.dependencies(device).unwrap_err().to_string(), "DM_TABLE_DEPS failed");
    }

    #[test]
    fn threads_may_share_the_control() {
        fn shared<T: Send + Sync>() {}
        shared::<Control>();
    }
}
