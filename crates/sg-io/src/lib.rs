//! A SCSI command reaches a Linux device through one ioctl, `SG_IO`, and a C structure of eighty-eight bytes in which
//! three pointers, three lengths and a direction must agree, or the kernel overwrites unrelated memory. In this crate,
//! types enforce that agreement: [`Command::read`] takes a mutable buffer, [`Command::write`] a shared one, and a
//! command has at most one of the two.
//!
//! ```no_run
//! use std::{fs::File, os::fd::AsFd};
//!
//! let disk = File::open("/dev/sda")?;
//! let (mut keys, mut sense) = ([0; 128], [0; 96]);
//! // PERSISTENT RESERVE IN, READ KEYS, allocation length 128.
//! let cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 128, 0];
//! let done = sg_io::Command::new(&cdb).read(&mut keys).sense(&mut sense).execute(disk.as_fd())?;
//! let verdict = done.verdict();
//! assert!(verdict.is_good(), "the command failed: {verdict:?}");
//! println!("{:02x?}", &keys[..done.transferred]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A returned [`Completion`] means that the kernel accepted the command, **not** that the command succeeded:
//! [`Completion::verdict`] and [`Error::verdict`] translate the kernel's result into a SCSI status and sense, and never
//! report a failure as GOOD. [`Verdict::of_block_error`] translates the error numbers of other calls on block
//! devices.
//!
//! # What this crate does not do
//!
//! It builds no commands and decodes neither data nor sense data: see the crate `scsi-sense`.
//! It does no asynchronous, bidirectional or scatter-gather transfers.

#![warn(missing_docs)]

// The README's examples are compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod block_error;
mod header;
mod verdict;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use header::{Direction, SgIoHdr};

pub use verdict::Verdict;

/// The longest CDB that version 3 of the interface carries: `cmd_len` is one byte, and the kernel takes no more than
/// 252 bytes on `/dev/sgN` and 32 on block devices. It refuses a CDB that is too long for the device with `EINVAL` or
/// `EMSGSIZE`.
pub const CDB_MAX: usize = 252;

/// The longest sense buffer: `mx_sb_len` is one byte, and sense data has at most 252 bytes (SPC-4 4.5.1).
pub const SENSE_MAX: usize = 252;

/// One SCSI command, ready to be sent to any descriptor of a SCSI device.
#[derive(Debug)]
#[must_use = "a command does nothing until it is executed"]
pub struct Command<'a> {
    cdb: &'a [u8],
    data: Data<'a>,
    sense: &'a mut [u8],
    timeout: Duration,
}

/// The command's data, and with it the direction of the transfer.
#[derive(Debug)]
enum Data<'a> {
    None,
    FromDevice(&'a mut [u8]),
    ToDevice(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Returns a command without data, without a sense buffer and with a timeout of thirty seconds.
    ///
    /// `cdb` is sent unchanged. Its length is the length of the command, so it must have no padding.
    pub fn new(cdb: &'a [u8]) -> Self {
        Self { cdb, data: Data::None, sense: &mut [], timeout: Duration::from_secs(30) }
    }

    /// Receives the device's data in `buffer`. An empty buffer means a command without data.
    ///
    /// The kernel may write any part of the buffer; the first [`Completion::transferred`] bytes are the device's data.
    ///
    /// On block devices, the kernel maps a buffer whose address and length are multiples of four (in general, of the
    /// device's DMA alignment), and the device writes to it directly. For any other buffer the kernel copies the data.
    /// A target in the same kernel that exceeds the transfer length (LIO does, in READ FULL STATUS, by up to 32 bytes)
    /// overwrites the memory after a mapped buffer. For small transfers, use a buffer at an odd address.
    pub fn read(mut self, buffer: &'a mut [u8]) -> Self {
        self.data = if buffer.is_empty() { Data::None } else { Data::FromDevice(buffer) };
        self
    }

    /// Sends `buffer` to the device. An empty buffer means a command without data.
    pub fn write(mut self, buffer: &'a [u8]) -> Self {
        self.data = if buffer.is_empty() { Data::None } else { Data::ToDevice(buffer) };
        self
    }

    /// Receives sense data in `buffer`, of which at most [`SENSE_MAX`] bytes are used.
    pub fn sense(mut self, buffer: &'a mut [u8]) -> Self {
        self.sense = buffer;
        self
    }

    /// Sets the time after which the kernel aborts the command and recovers the device (which takes more time:
    /// [`execute`](Self::execute) can last longer than this).
    ///
    /// Its unit is one millisecond, which is also the minimum. Block devices raise it to at least seven seconds
    /// (`BLK_MIN_SG_TIMEOUT`), `/dev/sgN` does not.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the command and blocks until it ends.
    ///
    /// # Errors
    ///
    /// [`Error::CdbLength`] and [`Error::DataLength`] before anything is sent; [`Error::Os`] if the kernel did not
    /// accept the command (no SCSI device, no permission, a device that is gone). This crate never repeats a command
    /// that was sent, not even when a signal interrupts the wait on `/dev/sgN` (`EINTR`): block signals in threads that
    /// call this. The kernel does repeat it on `/dev/sgN` when the process is stopped and continued, frozen or traced
    /// meanwhile.
    pub fn execute(self, device: BorrowedFd<'_>) -> Result<Completion, Error> {
        let cdb_len = u8::try_from(self.cdb.len()).map_err(|_| Error::CdbLength(self.cdb.len()))?;
        if cdb_len == 0 || self.cdb.len() > CDB_MAX {
            return Err(Error::CdbLength(self.cdb.len()));
        }
        let (direction, pointer, length) = match self.data {
            Data::None => (Direction::None, std::ptr::null_mut(), 0),
            Data::FromDevice(buffer) => (Direction::FromDevice, buffer.as_mut_ptr().cast(), buffer.len()),
            // The interface has one pointer for both directions; for `ToDevice` the kernel only reads.
            Data::ToDevice(buffer) => (Direction::ToDevice, buffer.as_ptr().cast_mut().cast(), buffer.len()),
        };
        let dxfer_len = u32::try_from(length).map_err(|_| Error::DataLength(length))?;
        let mut header = SgIoHdr::new(direction);
        header.cmdp = self.cdb.as_ptr().cast_mut();
        header.cmd_len = cdb_len;
        header.dxferp = pointer;
        header.dxfer_len = dxfer_len;
        header.sbp = self.sense.as_mut_ptr();
        #[allow(clippy::cast_possible_truncation, reason = "at most 252")]
        {
            header.mx_sb_len = self.sense.len().min(SENSE_MAX) as u8;
        }
        header.timeout = u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX).max(1);

        // SAFETY: `header` is a valid, initialised sg_io_hdr of version 3 and lives through the call, which is
        // synchronous: the kernel keeps none of its pointers. `cmdp` and `cmd_len` are the CDB, which is only read.
        // `dxferp` and `dxfer_len` are either zero, or a buffer borrowed mutably for 'a and written by the kernel
        // within its length, or one borrowed shared for 'a and only read (SG_DXFER_TO_DEV). `sbp` and `mx_sb_len` are
        // a buffer borrowed mutably for 'a. `device` is open for the length of the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), header::SG_IO, &raw mut header) };
        if result < 0 {
            return Err(Error::Os(io::Error::last_os_error()));
        }
        Ok(Completion {
            status: header.status,
            host_status: header.host_status,
            driver_status: header.driver_status,
            sense_len: header.sb_len_wr.min(header.mx_sb_len),
            // `resid` comes from the device and is not trusted: the result stays between 0 and `length`.
            transferred: length.saturating_sub(usize::try_from(header.resid).unwrap_or(0)),
            duration: Duration::from_millis(header.duration.into()),
        })
    }
}

/// The kernel's answer to a command that it accepted. [`verdict`](Self::verdict) returns its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that was sent may still have failed"]
pub struct Completion {
    /// The SCSI status byte as the device sent it (SAM-5 5.3).
    pub status: u8,
    /// The host adapter's code (`DID_*` of the kernel); 0 means no error.
    pub host_status: u16,
    /// The driver's code (`DRIVER_*`); 0 means no error, `08h` that there is sense data.
    pub driver_status: u16,
    /// Bytes of sense data written to the sense buffer; at most its length.
    pub sense_len: u8,
    /// Bytes of data transferred; at most the buffer's length.
    pub transferred: usize,
    /// The command's duration, in whole milliseconds as the kernel counted them.
    pub duration: Duration,
}

/// A command that does not fit the interface, or a failure of the ioctl. In rare cases (`EINTR`) the ioctl fails after
/// the command was sent. [`verdict`](Self::verdict) returns the meaning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The CDB is empty or longer than [`CDB_MAX`].
    #[error("a CDB of {0} bytes: the SG_IO interface takes 1 to {CDB_MAX}")]
    CdbLength(usize),
    /// The data buffer is longer than 4 GiB - 1.
    #[error("a data buffer of {0} bytes: the SG_IO interface takes at most {max}", max = u32::MAX)]
    DataLength(usize),
    /// The ioctl failed.
    #[error("SG_IO failed")]
    Os(#[source] io::Error),
}

impl Error {
    /// Returns the kernel's error number, if the ioctl failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os(error) => error.raw_os_error(),
            Self::CdbLength(_) | Self::DataLength(_) => None,
        }
    }
}
