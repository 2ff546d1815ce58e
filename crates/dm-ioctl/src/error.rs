//! What can go wrong between a caller and the device-mapper.

use std::io;

use crate::{ANSWER_MAX, DeviceNumber, Version, ioctl::Command, layout::Field};

/// What [`Error::Permission`] and [`Error::Os`] say was tried, where it is no ioctl.
const OPEN: &str = "opening /dev/mapper/control";

/// Why the device-mapper gave no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/mapper/control` does not exist, or there is no driver behind it (`ENOENT`, `ENODEV`, `ENXIO`): this host
    /// has no device of the device-mapper.
    #[error(
        "there is no device-mapper here: load the module dm_mod, and see that /dev/mapper/control exists"
    )]
    NoControl(#[source] io::Error),
    /// `EACCES` or `EPERM`: the node's owner and mode, the cgroup's devices or a security module when it was opened,
    /// and in every ioctl a thread without `CAP_SYS_ADMIN` in the initial user namespace.
    #[error("{operation} is not permitted: it takes CAP_SYS_ADMIN and access to /dev/mapper/control")]
    Permission {
        /// What was tried: the ioctl's name, or that the node was opened.
        operation: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel's interface has another major version than 4, and this crate does not understand it.
    #[error("the kernel's device-mapper interface has version {0}, and only 4 is understood here")]
    Version(Version),
    /// The device-mapper has no device of that number: it is another driver's, or was removed.
    #[error("the device-mapper has no device {0}")]
    NoSuchMap(DeviceNumber),
    /// The answer has more than [`ANSWER_MAX`] bytes.
    #[error("the answer to {ioctl} is longer than the {ANSWER_MAX} bytes that are accepted here")]
    AnswerTooLong {
        /// The ioctl's name.
        ioctl: &'static str,
    },
    /// The answer contradicts itself, or the kernel's header.
    #[error("the answer to {ioctl} makes no sense: its field {field}, at byte {offset}")]
    Malformed {
        /// The ioctl's name.
        ioctl: &'static str,
        /// The field that leads out of the answer, is not terminated, or is not there in whole, as
        /// `<linux/dm-ioctl.h>` names it; `parameters` for the string behind a `struct dm_target_spec`.
        field: &'static str,
        /// Where that field is, in bytes from the start of the answer.
        offset: usize,
    },
    /// Everything else that the kernel can say.
    #[error("{operation} failed")]
    Os {
        /// What was tried: the ioctl's name, or that the node was opened.
        operation: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// `source` is why the control node could not be opened.
    pub(crate) fn from_open(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoControl(source),
            _ => Self::from_operation(OPEN, source),
        }
    }

    /// `source` is why an ioctl that is not about one device failed.
    pub(crate) fn from_ioctl(command: Command, source: io::Error) -> Self {
        Self::from_operation(command.name(), source)
    }

    /// `source` is why an ioctl about `device` failed.
    pub(crate) fn from_ioctl_about(device: DeviceNumber, command: Command, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENXIO) => Self::NoSuchMap(device),
            _ => Self::from_ioctl(command, source),
        }
    }

    /// `field` of a record that starts at `record` in the answer to `command` is wrong.
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
    fn error_numbers_mean_what_they_mean_where_they_come_from() {
        let open = |errno| Error::from_open(io::Error::from_raw_os_error(errno));
        let version = |errno| Error::from_ioctl(Command::Version, io::Error::from_raw_os_error(errno));
        let deps =
            |errno| Error::from_ioctl_about(DEVICE, Command::TableDeps, io::Error::from_raw_os_error(errno));
        let none =
            "there is no device-mapper here: load the module dm_mod, and see that /dev/mapper/control exists";
        let takes = "is not permitted: it takes CAP_SYS_ADMIN and access to /dev/mapper/control";
        for (error, text) in [
            (open(libc::ENOENT), none.to_owned()),
            (open(libc::ENODEV), none.to_owned()),
            (open(libc::ENXIO), none.to_owned()),
            (open(libc::EACCES), format!("opening /dev/mapper/control {takes}")),
            (open(libc::EPERM), format!("opening /dev/mapper/control {takes}")),
            (open(libc::EMFILE), "opening /dev/mapper/control failed".to_owned()),
            (version(libc::EACCES), format!("DM_VERSION {takes}")),
            (version(libc::ENXIO), "DM_VERSION failed".to_owned()),
            (deps(libc::ENXIO), "the device-mapper has no device 253:3".to_owned()),
            (deps(libc::EPERM), format!("DM_TABLE_DEPS {takes}")),
            (deps(libc::ENOENT), "DM_TABLE_DEPS failed".to_owned()),
            (deps(libc::ENOMEM), "DM_TABLE_DEPS failed".to_owned()),
        ] {
            assert_eq!(error.to_string(), text, "{error:?}");
        }
    }
}
