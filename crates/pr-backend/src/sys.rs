//! The one system call of this crate that no crate wraps safely.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `BLKGETDISKSEQ` of `<linux/fs.h>`: `_IOR(0x12, 128, __u64)`, encoded as `<asm/ioctl.h>` has it on this architecture.
const BLKGETDISKSEQ: libc::Ioctl = libc::_IOR::<u64>(0x12, 128);

/// Returns the number that the kernel gives a disk when it appears, and never again. `None` if the kernel (before 5.15)
/// has none; it asks the driver then, so this must be called for disks only.
pub(crate) fn disk_sequence(block_device: BorrowedFd<'_>) -> Option<u64> {
    let mut sequence = 0_u64;
    // SAFETY: the descriptor is borrowed, so it is open; the ioctl writes one u64, to a variable of that type that outlives
    // the call. On anything but a block device the number could mean something else: the caller has checked that it is one.
    let result = unsafe { libc::ioctl(block_device.as_raw_fd(), BLKGETDISKSEQ, &raw mut sequence) };
    (result == 0).then_some(sequence)
}
