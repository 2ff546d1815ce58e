//! A device-mapper map looks like a disk and is whatever its table says: a piece of another disk, an encrypted one, or
//! many paths to one. Who sends commands to such a device must know which, and only the kernel does. This crate asks it,
//! with the few ioctls of `/dev/mapper/control` that take, and without libdevmapper.
//!
//! ```no_run
//! use dm_ioctl::{Control, DeviceNumber};
//!
//! let control = Control::open()?;
//! let map = DeviceNumber { major: 253, minor: 0 };
//! let table = control.table(map)?;
//! if table.is_multipath() {
//!     println!("{} has the paths {:?}", table.name.escape_ascii(), control.dependencies(map)?);
//! }
//! # Ok::<(), dm_ioctl::Error>(())
//! ```
//!
//! All calls take `CAP_SYS_ADMIN`. None of them waits for input or output of the map, also if it is suspended.
//!
//! # What this crate does not do
//!
//! It creates, loads, suspends and removes no maps, and waits for no events.

#![warn(missing_docs)]
#![deny(unsafe_code)]

mod answer;
mod error;
mod ioctl;

use std::{fmt, fs::OpenOptions, os::fd::OwnedFd, os::unix::fs::OpenOptionsExt as _, path::Path};

use bitflags::bitflags;

use answer::Answer;
pub use error::{Error, Malformed};
use ioctl::{Request, Verb};

/// The node that takes the ioctls.
const CONTROL: &str = "/dev/mapper/control";

/// The version of the interface that this crate speaks: `DM_VERSION_MAJOR` of `<linux/dm-ioctl.h>`.
const MAJOR: u32 = 4;

/// The first buffer for an answer, in bytes: enough for a map of a few dozen paths.
const BUFFER: usize = 16 << 10;

/// The largest: no table that anybody has seen needs more.
const BUFFER_MAX: usize = 16 << 20;

/// `/dev/mapper/control`, opened.
#[derive(Debug)]
pub struct Control {
    node: OwnedFd,
    version: Version,
}

/// Version of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What is understood differently from one to the next.
    pub major: u32,
    /// What has been added.
    pub minor: u32,
    /// What has been mended.
    pub patch: u32,
}

/// For example `4.48.0`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Number of a block device, as `stat` has it in `st_rdev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Which driver: at most 4095.
    pub major: u32,
    /// Which of its devices: at most 1048575.
    pub minor: u32,
}

/// For example `253:0`.
impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

bitflags! {
    /// State of a map: those of the `DM_*_FLAG` of `<linux/dm-ioctl.h>` that an answer has. Others are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct State: u32 {
        /// `DM_READONLY_FLAG`: it cannot be written to.
        const READ_ONLY = 1;
        /// `DM_SUSPEND_FLAG`: input and output wait.
        const SUSPENDED = 1 << 1;
        /// `DM_ACTIVE_PRESENT_FLAG`: it has a table.
        const HAS_TABLE = 1 << 5;
        /// `DM_INACTIVE_PRESENT_FLAG`: another table waits to take its place.
        const HAS_INACTIVE_TABLE = 1 << 6;
        /// `DM_DEFERRED_REMOVE`: it goes away when nobody has it open any more.
        const DEFERRED_REMOVE = 1 << 17;
        /// `DM_INTERNAL_SUSPEND_FLAG`: suspended by a driver.
        const SUSPENDED_INTERNALLY = 1 << 18;
        // Without this line unknown flags would be dropped.
        const _ = !0;
    }
}

/// What a map is, or how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, that of its node in `/dev/mapper`: at most 127 bytes, any but `/` and NUL.
    pub name: Vec<u8>,
    /// What identifies it over restarts, such as `mpath-36001405...`; at most 128 bytes, none if it has none.
    pub uuid: Vec<u8>,
    /// Its state.
    pub state: State,
    /// How often it is open at the moment.
    pub open_count: u32,
    /// How many events it has had.
    pub event_number: u32,
    /// What it consists of, in order. None, if it has no table.
    pub targets: Vec<Target>,
}

/// A stretch of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it begins, in sectors of 512 bytes.
    pub start: u64,
    /// Its length, in sectors of 512 bytes.
    pub length: u64,
    /// Which driver it is: `multipath`, `linear` and so on; at most 16 bytes.
    pub kind: Vec<u8>,
    /// [`Control::table`]: what it was made with; [`Control::status`]: what its driver says of it. As each driver likes.
    pub parameters: Vec<u8>,
}

impl Table {
    /// Whether this is a multipath map: one target, `multipath`, and nothing else.
    pub fn is_multipath(&self) -> bool {
        matches!(self.targets.as_slice(), [target] if target.kind == b"multipath")
    }
}

impl Control {
    /// Opens `/dev/mapper/control` and makes sure that the kernel speaks the same version.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::Version`], [`Error::Os`] without `CAP_SYS_ADMIN`.
    pub fn open() -> Result<Self, Error> {
        Self::open_at(Path::new(CONTROL))
    }

    fn open_at(path: &Path) -> Result<Self, Error> {
        let node = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map_err(Error::Open)?;
        let mut control = Self { node: node.into(), version: Version { major: MAJOR, minor: 0, patch: 0 } };
        let request = Request { verb: Verb::Version, flags: 0, device: 0 };
        let version = Answer::new(&control.ask(request)?)?.version();
        if version.major != MAJOR {
            return Err(Error::Version(version));
        }
        control.version = version;
        Ok(control)
    }

    /// The version of the interface that the kernel has.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// What the map `device` is: its table (`DM_TABLE_STATUS` with `DM_STATUS_TABLE_FLAG`).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMap`] if it is no map of the device-mapper, or has gone; else as the kernel says.
    pub fn table(&self, device: DeviceNumber) -> Result<Table, Error> {
        self.targets(device, ioctl::STATUS_TABLE)
    }

    /// How the map `device` is: what the driver of each target says (`DM_TABLE_STATUS`).
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn status(&self, device: DeviceNumber) -> Result<Table, Error> {
        self.targets(device, 0)
    }

    /// The devices that the map `device` is built on (`DM_TABLE_DEPS`); none, if it has no table.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn dependencies(&self, device: DeviceNumber) -> Result<Vec<DeviceNumber>, Error> {
        let request = Request { verb: Verb::Dependencies, flags: 0, device: encode(device)? };
        Ok(Answer::new(&self.ask(request)?)?.dependencies()?)
    }

    /// Has the map `device` go on after it was suspended, with its inactive table if it has one (`DM_DEV_SUSPEND` without
    /// `DM_SUSPEND_FLAG`). On one that is not suspended this does nothing.
    ///
    /// # Errors
    ///
    /// Those of [`table`](Self::table).
    pub fn resume(&self, device: DeviceNumber) -> Result<(), Error> {
        let request = Request { verb: Verb::Suspend, flags: 0, device: encode(device)? };
        self.ask(request).map(drop)
    }

    fn targets(&self, device: DeviceNumber, flags: u32) -> Result<Table, Error> {
        // Never wait for what is still to be written.
        let flags = flags | ioctl::NO_FLUSH;
        let request = Request { verb: Verb::TableStatus, flags, device: encode(device)? };
        Ok(Answer::new(&self.ask(request)?)?.table()?)
    }

    /// Makes the call with a buffer that is large enough for the answer, and returns that.
    fn ask(&self, request: Request) -> Result<Vec<u8>, Error> {
        let mut length = BUFFER;
        loop {
            let mut buffer = request.encode(length);
            ioctl::call(&self.node, request.verb, &mut buffer)
                .map_err(|error| Error::from_os(request.verb.name(), error))?;
            if !Answer::new(&buffer)?.is_cut() {
                return Ok(buffer);
            }
            length = length.saturating_mul(4);
            if length > BUFFER_MAX {
                return Err(Error::TooLong);
            }
        }
    }
}

/// A device number as the interface has it: `huge_encode_dev` of the kernel's `<linux/kdev_t.h>`.
fn encode(DeviceNumber { major, minor }: DeviceNumber) -> Result<u64, Error> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Error::NoSuchMap);
    }
    Ok(u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)))
}

/// The same in reverse: `huge_decode_dev`. There is nothing in the upper half.
fn decode(number: u64) -> Option<DeviceNumber> {
    let number = u32::try_from(number).ok()?;
    Some(DeviceNumber {
        major: (number & 0xf_ff00) >> 8,
        minor: (number & 0xff) | ((number >> 12) & 0xf_ff00),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        for (major, minor, number) in
            [(253, 0, 0xfd00), (8, 16, 0x810), (4095, 0xf_ffff, 0xffff_ffff), (8, 256, 0x10_0800)]
        {
            let device = DeviceNumber { major, minor };
            assert_eq!(encode(device).unwrap(), number, "{device}");
            assert_eq!(decode(number), Some(device));
        }
        for (major, minor) in [(4096, 0), (0, 1 << 20), (u32::MAX, u32::MAX)] {
            assert!(matches!(encode(DeviceNumber { major, minor }), Err(Error::NoSuchMap)));
        }
        assert_eq!(decode(1 << 32), None);
    }

    #[test]
    fn a_host_without_device_mapper_is_told_so() {
        let error = Control::open_at(Path::new("/nonexistent/control")).unwrap_err();
        assert!(matches!(&error, Error::Open(source) if source.kind() == std::io::ErrorKind::NotFound));
        assert!(error.to_string().contains("dm_mod"), "{error}");
    }

    #[test]
    fn what_is_not_the_control_node_does_not_pass_for_it() {
        let error = Control::open_at(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOTTY), "{error}");
    }

    #[test]
    fn only_one_target_of_that_name_is_multipath() {
        let target = |kind: &[u8]| Target { start: 0, length: 8, kind: kind.into(), parameters: Vec::new() };
        let table = |targets| Table {
            name: b"x".to_vec(),
            uuid: Vec::new(),
            state: State::HAS_TABLE,
            open_count: 0,
            event_number: 0,
            targets,
        };
        assert!(table(vec![target(b"multipath")]).is_multipath());
        for targets in [
            vec![],
            vec![target(b"linear")],
            vec![target(b"multipath"), target(b"multipath")],
            vec![target(b"multipath"), target(b"linear")],
        ] {
            assert!(!table(targets.clone()).is_multipath(), "{targets:?}");
        }
    }
}
