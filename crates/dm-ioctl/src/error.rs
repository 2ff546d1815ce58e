//! Errors of the device-mapper's ioctls.

use std::io;

use crate::{ANSWER_MAX, DeviceNumber, Version, ioctl::Command, layout::Field};

/// The operation of [`Error::Permission`] and [`Error::Os`] when the control node could not be opened.
const OPEN: &str = "opening /dev/mapper/control";

/// The reason why the device-mapper gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/mapper/control` does not exist, or has no driver (`ENOENT`, `ENODEV`, `ENXIO`): this host
    /// has no device of the device-mapper.
    #[error(
        "there is no device-mapper here: load the module dm_mod, and check that /dev/mapper/control exists"
    )]
    NoControl(#[source] io::Error),
    /// `EACCES` or `EPERM`. Opening the node fails because of its owner and mode, the cgroup's device rules or a
    /// security module; an ioctl if the thread lacks `CAP_SYS_ADMIN` in the initial user namespace.
    #[error("{operation} is not permitted: it needs CAP_SYS_ADMIN and access to /dev/mapper/control")]
    Permission {
        /// The failed operation: the ioctl's name, or opening the node.
        operation: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel's interface has a major version other than 4, which this crate does not support.
    #[error("the kernel's device-mapper interface has version {0}, but only version 4 is supported")]
    Version(Version),
    /// The device-mapper has no device with this number: it belongs to another driver, or was removed.
    #[error("the device-mapper has no device {0}")]
    NoSuchMap(DeviceNumber),
    /// The answer has more than [`ANSWER_MAX`] bytes.
    #[error("the answer to {ioctl} is longer than the accepted {ANSWER_MAX} bytes")]
    AnswerTooLong {
        /// The ioctl's name.
        ioctl: &'static str,
    },
    /// The answer is inconsistent, or contradicts the kernel's header.
    #[error("the answer to {ioctl} is malformed: its field {field}, at byte {offset}")]
    Malformed {
        /// The ioctl's name.
        ioctl: &'static str,
        /// The field that points outside the answer, is not terminated, or is incomplete, by its name in
        /// `<linux/dm-ioctl.h>`; `parameters` for the string after a `struct dm_target_spec`.
        field: &'static str,
        /// Offset of the field in bytes from the start of the answer.
        offset: usize,
    },
    /// Any other error of the kernel.
    #[error("{operation} failed")]
    Os {
        /// The failed operation: the ioctl's name, or opening the node.
        operation: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Converts the error of opening the control node.
    pub(crate) fn from_open(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoControl(source),
            _ => Self::from_operation(OPEN, source),
        }
    }

    /// Converts the error of an ioctl that concerns no particular device.
    pub(crate) fn from_ioctl(command: Command, source: io::Error) -> Self {
        Self::from_operation(command.name(), source)
    }

    /// Converts the error of an ioctl for `device`.
    pub(crate) fn from_device_ioctl(device: DeviceNumber, command: Command, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENXIO) => Self::NoSuchMap(device),
            _ => Self::from_ioctl(command, source),
        }
    }

    /// Returns the error for `field` of the record at offset `record` in the answer to `command`.
    pub(crate) fn malformed(command: Command, record: usize, field: Field) -> Self {
        let offset = record.saturating_add(field.offset);
        Self::Malformed { ioctl: command.name(), field: field.name, offset }
    }

    fn from_operation(operation: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::Permission { operation, source },
            _ => Self::Os { operation, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceNumber = DeviceNumber { major: 253, minor: 3 };

    #[test]
    fn error_numbers_are_read_by_operation() {
        let open = |errno| Error::from_open(io::Error::from_raw_os_error(errno));
        let version = |errno| Error::from_ioctl(Command::Version, io::Error::from_raw_os_error(errno));
        let deps =
            |errno| Error::from_device_ioctl(DEVICE, Command::TableDeps, io::Error::from_raw_os_error(errno));
        let none = "there is no device-mapper here: load the module dm_mod, and check that /dev/mapper/control exists";
        let denied = "is not permitted: it needs CAP_SYS_ADMIN and access to /dev/mapper/control";
        for (error, text) in [
            (open(libc::ENOENT), none.to_owned()),
            (open(libc::ENODEV), none.to_owned()),
            (open(libc::ENXIO), none.to_owned()),
            (open(libc::EACCES), format!("opening /dev/mapper/control {denied}")),
            (open(libc::EPERM), format!("opening /dev/mapper/control {denied}")),
            (open(libc::EMFILE), "opening /dev/mapper/control failed".to_owned()),
            (version(libc::EACCES), format!("DM_VERSION {denied}")),
            (version(libc::ENXIO), "DM_VERSION failed".to_owned()),
            (deps(libc::ENXIO), "the device-mapper has no device 253:3".to_owned()),
            (deps(libc::EPERM), format!("DM_TABLE_DEPS {denied}")),
            (deps(libc::ENOENT), "DM_TABLE_DEPS failed".to_owned()),
            (deps(libc::ENOMEM), "DM_TABLE_DEPS failed".to_owned()),
        ] {
            assert_eq!(error.to_string(), text, "{error:?}");
        }
    }
}
