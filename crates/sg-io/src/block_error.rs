//! The error numbers with which Linux reports a failed request to a block device.

use scsi_sense::{SenseCode, Status};

use crate::Verdict;

impl Verdict {
    /// Returns the meaning of a block I/O error: the error number of a read or a write, of an ioctl such as
    /// `IOC_PR_RESERVE`, or of `SG_IO` itself.
    ///
    /// The block layer maps a device's answer to one of a few error numbers (`blk_errors` in the kernel's
    /// block/blk-core.c). This function reverses the mapping, as far as possible: `EBADE`, for example, is a
    /// RESERVATION CONFLICT. Drivers add `EDOM`, `EINVAL` and `ENOMEDIUM`. The result is a [`Verdict::Host`] for every
    /// number, 0 and unknown ones included, so it is never GOOD.
    ///
    /// ```
    /// use scsi_sense::Status;
    /// use sg_io::Verdict;
    ///
    /// let conflict = Verdict::of_block_error(libc::EBADE);
    /// assert_eq!(conflict, Verdict::Host { status: Status::RESERVATION_CONFLICT, sense: None });
    /// ```
    pub const fn of_block_error(errno: i32) -> Self {
        match errno {
            libc::EDOM => Self::bare(Status::TASK_SET_FULL),
            libc::EBADE => Self::bare(Status::RESERVATION_CONFLICT),
            libc::EINVAL => Self::check_condition(SenseCode::INVALID_FIELD_IN_CDB),
            libc::ENOMEM | libc::EREMOTEIO | libc::ENODEV => {
                Self::check_condition(SenseCode::INTERNAL_TARGET_FAILURE)
            }
            libc::ENOMEDIUM => Self::check_condition(SenseCode::MEDIUM_NOT_PRESENT),
            libc::ENOSPC => Self::check_condition(SenseCode::SPACE_ALLOCATION_FAILED),
            libc::EILSEQ | libc::ENODATA => Self::check_condition(SenseCode::UNRECOVERED_READ_ERROR),
            _ => Self::check_condition(SenseCode::IO_PROCESS_TERMINATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::{assert_is_failure, sense};

    #[test]
    fn block_errors_are_translated() {
        for (errno, expected) in [
            (libc::EDOM, Verdict::bare(Status::TASK_SET_FULL)),
            (libc::EBADE, Verdict::bare(Status::RESERVATION_CONFLICT)),
            (libc::EINVAL, sense(0x5, 0x24, 0x00)),
            (libc::ENOMEM, sense(0x4, 0x44, 0x00)),
            (libc::EREMOTEIO, sense(0x4, 0x44, 0x00)),
            (libc::ENOMEDIUM, sense(0x2, 0x3a, 0x00)),
            (libc::ENOSPC, sense(0x7, 0x27, 0x07)),
            (libc::EILSEQ, sense(0x3, 0x11, 0x00)),
            (libc::ENODATA, sense(0x3, 0x11, 0x00)),
            (libc::ENODEV, sense(0x4, 0x44, 0x00)),
            (libc::EPERM, sense(0xb, 0x00, 0x06)),
            (libc::EIO, sense(0xb, 0x00, 0x06)),
            (libc::ENXIO, sense(0xb, 0x00, 0x06)),
            (libc::EAGAIN, sense(0xb, 0x00, 0x06)),
            (libc::ENOTTY, sense(0xb, 0x00, 0x06)),
            (0, sense(0xb, 0x00, 0x06)),
        ] {
            assert_eq!(Verdict::of_block_error(errno), expected, "errno {errno}");
        }
    }

    /// The kernel's error numbers end at 4095 (`MAX_ERRNO`).
    #[test]
    fn no_block_error_is_good() {
        for errno in (-0x1_0000..=0x1_0000).chain([i32::MIN, i32::MAX]) {
            assert_is_failure(Verdict::of_block_error(errno), format_args!("errno {errno}"));
        }
    }
}
