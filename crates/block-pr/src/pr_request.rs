//! One call of `<linux/pr.h>`, and the interface that makes it.

use std::{fmt, io};

use crate::kind::ReservationType;

/// Makes calls of `<linux/pr.h>` on one block device. [`Kernel`](crate::Kernel) does it by ioctl; a test can implement it
/// in software.
pub trait PrIoctl {
    /// Makes the call once, blocks until it ends, and returns its status.
    ///
    /// # Errors
    ///
    /// The kernel's error: see [`Error::from_os`](crate::Error::from_os). An implementation must not repeat a call.
    fn call(&self, request: &mut PrRequest<'_>) -> io::Result<PrStatus>;
}

impl<P: PrIoctl + ?Sized> PrIoctl for &P {
    fn call(&self, request: &mut PrRequest<'_>) -> io::Result<PrStatus> {
        (**self).call(request)
    }
}

/// One call of `<linux/pr.h>` with its arguments, and for reads its results.
#[derive(Debug)]
#[non_exhaustive]
pub enum PrRequest<'a> {
    /// `IOC_PR_REGISTER`.
    Register {
        /// The host's present key; 0 if it is not registered.
        old: u64,
        /// The key to register.
        new: u64,
        /// `PR_FL_IGNORE_KEY`.
        ignore_key: bool,
    },
    /// `IOC_PR_RESERVE`.
    Reserve {
        /// The host's key.
        key: u64,
        /// The type.
        kind: ReservationType,
    },
    /// `IOC_PR_RELEASE`.
    Release {
        /// The host's key.
        key: u64,
        /// The type.
        kind: ReservationType,
    },
    /// `IOC_PR_PREEMPT` or `IOC_PR_PREEMPT_ABORT`.
    Preempt {
        /// The host's own key: the field `old_key`.
        own: u64,
        /// The key to preempt: the field `new_key`.
        victim: u64,
        /// The type.
        kind: ReservationType,
        /// Whether the victim's commands are aborted.
        abort: bool,
    },
    /// `IOC_PR_CLEAR`.
    Clear {
        /// The host's key.
        key: u64,
    },
    /// `IOC_PR_READ_KEYS` (from kernel 6.19 on).
    ReadKeys {
        /// Receives the keys, as many as fit.
        keys: &'a mut [u64],
        /// Receives the generation.
        generation: u32,
        /// Receives the number of all registrations, even if the buffer has room for fewer.
        total: u32,
    },
    /// `IOC_PR_READ_RESERVATION` (from kernel 6.19 on).
    ReadReservation {
        /// Receives the holder's key.
        key: u64,
        /// Receives the generation.
        generation: u32,
        /// Receives the code of the type; 0 if there is no reservation.
        kind: u32,
    },
}

/// The positive value that a call returns: `enum pr_status` of the kernel (include/linux/pr.h), or on kernels before 6.2
/// a driver's own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrStatus(pub u32);

impl PrStatus {
    /// 0: the call succeeded.
    pub const SUCCESS: Self = Self(0);
    /// 2h: an I/O error.
    pub const IO_ERROR: Self = Self(0x2);
    /// 18h: a reservation conflict.
    pub const CONFLICT: Self = Self(0x18);
    /// 10000h: the path failed; the call may have taken effect.
    pub const PATH_FAILED: Self = Self(0x1_0000);
    /// `F_0000h`: the path failed and the transport gave up.
    pub const PATH_FAST_FAILED: Self = Self(0xf_0000);
    /// `E_0000h`: the path failed; the call may be repeated.
    pub const RETRY_PATH_FAILURE: Self = Self(0xe_0000);

    /// Returns whether the call succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for PrStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::SUCCESS => "success",
            Self::IO_ERROR => "an I/O error",
            Self::CONFLICT => "a reservation conflict",
            Self::PATH_FAILED | Self::PATH_FAST_FAILED | Self::RETRY_PATH_FAILURE => "a failure of the path",
            _ => "an unknown status",
        };
        write!(f, "{name} ({:X}h)", self.0)
    }
}
