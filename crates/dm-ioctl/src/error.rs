//! What can go wrong.

use std::io;

use crate::Version;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/mapper/control` cannot be opened.
    #[error(
        "/dev/mapper/control cannot be opened ({0}): is the module dm_mod loaded, and is this process root?"
    )]
    Open(#[source] io::Error),
    /// The kernel speaks another version of the interface.
    #[error("the kernel's device-mapper interface has version {0}: this program speaks version 4")]
    Version(Version),
    /// There is no such map: the device is another driver's, or it has been removed.
    #[error("there is no such device-mapper map")]
    NoSuchMap,
    /// The kernel refused for another reason; `EACCES` and `EPERM` are for want of `CAP_SYS_ADMIN`.
    #[error("{call} failed: {source}")]
    Os {
        /// The ioctl's name.
        call: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The answer has more than 16 MiB.
    #[error("the kernel's answer is longer than 16 MiB")]
    TooLong,
    /// The answer is not as `<linux/dm-ioctl.h>` has it.
    #[error("the kernel's answer makes no sense")]
    Malformed(#[from] Malformed),
}

/// Where an answer is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// `data_start` or `data_size` leads outside.
    #[error("the data are said to be where the answer has none")]
    Data,
    /// A target begins outside, or its `next` does not lead to one behind it.
    #[error("target {0} is said to be where the answer has none")]
    Target(u32),
    /// A target's text has no end.
    #[error("the parameters of target {0} have no end")]
    Unterminated(u32),
    /// There are fewer dependencies than is said, or one has a number that none can have.
    #[error("the list of dependencies is cut or wrong")]
    Dependencies,
}

impl Error {
    pub(crate) fn from_os(call: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => Self::NoSuchMap,
            _ => Self::Os { call, source },
        }
    }

    /// The kernel's error number, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Os { source, .. } => source.raw_os_error(),
            Self::NoSuchMap => Some(libc::ENXIO),
            Self::Version(_) | Self::TooLong | Self::Malformed(_) => None,
        }
    }
}
