//! The ioctl system call.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use crate::layout::{self, dm_ioctl, flag};

/// Greatest length of an accepted answer in bytes: 16 MiB, enough for more than a hundred thousand targets.
pub const ANSWER_MAX: usize = 16 << 20;

/// A request to the kernel. Only `Resume` changes a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Version,
    Resume,
    TableDeps,
    /// The live table.
    TableStatus,
    /// The status of the live table's targets, by the same ioctl.
    Status,
}

impl Command {
    /// Returns the ioctl's name in `<linux/dm-ioctl.h>`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "DM_VERSION",
            Self::Resume => "DM_DEV_SUSPEND",
            Self::TableDeps => "DM_TABLE_DEPS",
            Self::TableStatus | Self::Status => "DM_TABLE_STATUS",
        }
    }

    /// Returns the flags of a request. A `DM_DEV_SUSPEND` without `DM_SUSPEND_FLAG` is a resume.
    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::Version | Self::Resume => 0,
            Self::TableDeps | Self::Status => flag::NOFLUSH | flag::SECURE_DATA,
            Self::TableStatus => flag::STATUS_TABLE | flag::NOFLUSH | flag::SECURE_DATA,
        }
    }

    /// Returns the ioctl's number.
    pub(crate) fn number(self) -> libc::Ioctl {
        let command = match self {
            Self::Version => 0,
            Self::Resume => 6,
            Self::TableDeps => 11,
            Self::TableStatus | Self::Status => 12,
        };
        libc::_IOWR::<[u8; dm_ioctl::SIZE]>(layout::DM_IOCTL, command)
    }
}

/// Passes `buffer`, which starts with a `struct dm_ioctl`, to the kernel, which overwrites it with the answer.
///
/// Sets the structure's `data_size` to the buffer's length. Refuses a buffer that is shorter than the structure, or
/// whose length exceeds the field.
pub(crate) fn call(control: BorrowedFd<'_>, command: Command, buffer: &mut [u8]) -> io::Result<()> {
    let length = u32::try_from(buffer.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if buffer.len() < dm_ioctl::SIZE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    dm_ioctl::DATA_SIZE.write(buffer, &length.to_ne_bytes());

    // SAFETY: the kernel reads and writes at most `data_size` bytes of the argument, which was set to the length of
    // `buffer` above, or the structure of 312 bytes, for which `buffer` is large enough by the check above. (A driver
    // other than the device-mapper can use at most these 312 bytes, which are encoded in the ioctl's number.) `buffer`
    // is borrowed mutably during the call, which is synchronous: the kernel does not keep the pointer. The kernel
    // copies bytes, so the alignment does not matter, and any bytes are valid in a `[u8]`. `control` stays open during
    // the call.
    #[allow(unsafe_code, reason = "the standard library has no ioctl")]
    let result = unsafe { libc::ioctl(control.as_raw_fd(), command.number(), buffer.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn too_short_buffer_is_refused() {
        let null = File::open("/dev/null").unwrap();
        for length in [0, 1, 15, 16, 305, 311] {
            let error = call(null.as_fd(), Command::Version, &mut vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{length}");
        }
    }

    #[test]
    fn data_size_is_the_buffer_length() {
        let null = File::open("/dev/null").unwrap();
        let mut buffer = vec![0xff; 1000];
        let error = call(null.as_fd(), Command::TableStatus, &mut buffer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(buffer[12..16], 1000_u32.to_ne_bytes());
        assert_eq!((&buffer[..12], &buffer[16..]), (&[0xff; 12][..], &[0xff; 984][..]));
    }
}
