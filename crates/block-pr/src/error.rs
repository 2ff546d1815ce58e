//! Why a command has no result.

use std::io;

use crate::{pr_request::PrStatus, report::Malformed, status::Status};

/// The reason why a command did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The controller, or the kernel in its place, completed the command with this status.
    #[error("the command ended with the NVMe status {0}")]
    Status(Status),
    /// The device, or the kernel in its place, completed an `IOC_PR_*` call with this status.
    #[error("the call ended with {0}")]
    Pr(PrStatus),
    /// `EINTR`: the command was sent and then cancelled, for example because its time was over and the controller was
    /// reset. **It may have taken effect.** Do not send it again before you have looked.
    #[error("the command was cancelled, and may have taken effect")]
    Cancelled,
    /// `EAGAIN`: a native multipath device has no usable path. The command was not sent.
    #[error("the device has no usable path, and the command was not sent")]
    NoPath,
    /// `EACCES` or `EPERM`. The descriptor was not opened for writing; or the controller does not list the command in its
    /// Commands Supported and Effects log, or the kernel is older than 6.2: then it takes `CAP_SYS_ADMIN`.
    #[error(
        "the kernel does not permit the command: it needs a descriptor that was opened for writing, and CAP_SYS_ADMIN if the controller does not list the command in its effects log or the kernel is older than 6.2"
    )]
    Permission(#[source] io::Error),
    /// `ENODEV` or `ENXIO`: the device is gone.
    #[error("the device is gone")]
    Gone(#[source] io::Error),
    /// `ENOTTY` or `EOPNOTSUPP`: the device has no such ioctl, or its driver no reservations.
    #[error("the device does not have this command")]
    NotSupported(#[source] io::Error),
    /// Any other error number.
    #[error("the ioctl failed")]
    Os(#[source] io::Error),
    /// The device's data contradict themselves, or do not end.
    #[error("the device's data are malformed")]
    Malformed(#[source] Malformed),
}

impl Error {
    /// Returns the meaning of the error number of an ioctl.
    pub fn from_os(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINTR) => Self::Cancelled,
            Some(libc::EAGAIN) => Self::NoPath,
            Some(libc::EACCES | libc::EPERM) => Self::Permission(error),
            Some(libc::ENODEV | libc::ENXIO) => Self::Gone(error),
            Some(libc::ENOTTY | libc::EOPNOTSUPP) => Self::NotSupported(error),
            _ => Self::Os(error),
        }
    }

    /// Returns the NVMe status, if the command was completed with one.
    pub const fn status(&self) -> Option<Status> {
        match self {
            Self::Status(status) => Some(*status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_are_told_apart() {
        for (errno, text) in [
            (libc::EINTR, "the command was cancelled, and may have taken effect"),
            (libc::EAGAIN, "the device has no usable path, and the command was not sent"),
            (libc::EACCES, "the kernel does not permit the command"),
            (libc::EPERM, "the kernel does not permit the command"),
            (libc::ENODEV, "the device is gone"),
            (libc::ENXIO, "the device is gone"),
            (libc::ENOTTY, "the device does not have this command"),
            (libc::EOPNOTSUPP, "the device does not have this command"),
            (libc::EIO, "the ioctl failed"),
            (libc::EINVAL, "the ioctl failed"),
            (4095, "the ioctl failed"),
        ] {
            let error = Error::from_os(io::Error::from_raw_os_error(errno));
            assert!(error.to_string().starts_with(text), "{errno}: {error}");
            assert_eq!(error.status(), None);
        }
    }
}
