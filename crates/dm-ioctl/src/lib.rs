//! A block device of the device-mapper can be of any kind: one SCSI disk over several paths (`multipath`), a part of a
//! disk or parts of several (`linear`), a decrypted view (`crypt`). Its table determines the kind. The kernel returns
//! the table by ioctls on `/dev/mapper/control`: a structure of 312 bytes, followed by records that are linked by
//! offsets, each with a NUL-terminated string. This crate calls the ioctls, and checks that every offset and string
//! stays within the answer before it follows it.
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
//! The name of a map can contain any bytes except `/` and NUL, the UUID and a target's parameters any except NUL. Here
//! they are [`CString`](std::ffi::CString)s with exactly the kernel's bytes: replacing invalid UTF-8 would map two names
//! to one, and a name can be an argument of a later call. To print a name, use `{:?}`, which escapes invalid UTF-8 and
//! control characters.
//!
//! # Device numbers and blocking
//!
//! A number identifies a device only while the device exists: hold a descriptor of the block device open from `fstat`
//! until after the last use of the answer, so that the device cannot be removed and its number reused. Its table can be
//! replaced at any time.
//!
//! No call waits for the device's I/O, not even while the device is suspended. Each call takes the locks of the
//! device-mapper, for which it can wait without limit and regardless of signals: do not call from a thread that must
//! never block.
//!
//! # What this crate does not do
//!
//! It creates, loads, suspends, renames and removes no device. It does not list devices, look them up by name or UUID,
//! read the inactive table, or wait for events. It does not interpret a target's parameters, and does not wipe them
//! from memory.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod answer;
mod device_number;
mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
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

/// The control node: `DM_DIR` and `DM_CONTROL_NODE` of `<linux/dm-ioctl.h>`, below `/dev`.
const CONTROL: &str = "/dev/mapper/control";

/// The device-mapper of this kernel.
///
/// Threads can share it and call it concurrently. The kernel checks `CAP_SYS_ADMIN` in every call, not when the node is
/// opened; it checks the node's owner and mode only when the node is opened.
#[derive(Debug)]
pub struct Control {
    descriptor: OwnedFd,
    version: Version,
}

impl Control {
    /// Opens `/dev/mapper/control` and reads the version of the interface.
    ///
    /// If the node exists but the module is not loaded, this makes the kernel load it.
    ///
    /// # Errors
    ///
    /// [`Error::NoControl`], [`Error::Permission`], [`Error::Version`], or [`Error::Os`] for any other failure.
    pub fn open() -> Result<Self, Error> {
        Self::open_path(Path::new(CONTROL))
    }

    fn open_path(path: &Path) -> Result<Self, Error> {
        // The standard library opens files with O_CLOEXEC.
        let node = File::options().read(true).write(true).open(path).map_err(Error::from_open)?;
        let version = exchange::version(|buffer| ioctl::call(node.as_fd(), Command::Version, buffer))?;
        Ok(Self { descriptor: node.into(), version })
    }

    /// Returns the kernel's version of the interface. Its major number is 4.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the live table of a device, and its name, UUID and state (`DM_TABLE_STATUS` with
    /// `DM_STATUS_TABLE_FLAG`).
    ///
    /// Targets flush no data for this call (`DM_NOFLUSH_FLAG`). The kernel wipes its own copy of the answer
    /// (`DM_SECURE_DATA_FLAG`), because parameters can be secret: see [`Target::parameters`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMap`] if no device of the device-mapper has this number. [`Error::Permission`],
    /// [`Error::AnswerTooLong`], [`Error::Malformed`], [`Error::Os`].
    pub fn table(&self, device: DeviceNumber) -> Result<Table, Error> {
        answer::table(&self.request(device, Command::TableStatus)?)
    }

    /// Returns the devices that a device's live table uses, in no particular order; for a multipath map its paths
    /// (`DM_TABLE_DEPS`). The result is empty if the device has no live table.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn dependencies(&self, device: DeviceNumber) -> Result<Vec<DeviceNumber>, Error> {
        answer::dependencies(&self.request(device, Command::TableDeps)?)
    }

    /// Returns the status of a device: like [`table`](Self::table), but with the status of each target instead of its
    /// parameters (`DM_TABLE_STATUS`).
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn status(&self, device: DeviceNumber) -> Result<Table, Error> {
        answer::table(&self.request(device, Command::Status)?)
    }

    /// Resumes a suspended device, with its inactive table if it has one (`DM_DEV_SUSPEND` without `DM_SUSPEND_FLAG`).
    /// Has no effect on a device that is not suspended.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn resume(&self, device: DeviceNumber) -> Result<(), Error> {
        self.request(device, Command::Resume).map(drop)
    }

    fn request(&self, device: DeviceNumber, command: Command) -> Result<Vec<u8>, Error> {
        exchange::for_device(device, command, |buffer| ioctl::call(self.descriptor.as_fd(), command, buffer))
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    /// Returns the error of opening the control node at `path`, and the error number of its cause.
    fn refusal(path: &str) -> (Error, Option<i32>) {
        let error = Control::open_path(Path::new(path)).unwrap_err();
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let errno = cause.and_then(io::Error::raw_os_error);
        (error, errno)
    }

    #[test]
    fn missing_control_node_has_advice() {
        let (error, errno) = refusal("/nonexistent/mapper/control");
        assert!(matches!(error, Error::NoControl(_)), "{error:?}");
        assert_eq!(errno, Some(libc::ENOENT));
        assert!(error.to_string().contains("load the module dm_mod"), "{error}");
    }

    #[test]
    fn unopenable_control_node_is_not_missing() {
        let (error, errno) = refusal("/");
        assert_eq!(error.to_string(), "opening /dev/mapper/control failed");
        assert_eq!(errno, Some(libc::EISDIR));
    }

    #[test]
    fn node_of_another_driver_is_refused() {
        let (error, errno) = refusal("/dev/null");
        assert_eq!(error.to_string(), "DM_VERSION failed");
        assert_eq!(errno, Some(libc::ENOTTY));
    }

    #[test]
    fn failed_ioctl_is_named_in_error() {
        let descriptor = File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let control = Control { descriptor, version: Version { major: 4, minor: 0, patch: 0 } };
        let device = DeviceNumber { major: 253, minor: 0 };
        assert_eq!(control.table(device).unwrap_err().to_string(), "DM_TABLE_STATUS failed");
        assert_eq!(control.dependencies(device).unwrap_err().to_string(), "DM_TABLE_DEPS failed");
    }

    #[test]
    fn control_is_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Control>();
    }
}
