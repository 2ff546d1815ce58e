//! A SCSI disk for hosts that have none: a library for `LD_PRELOAD` that answers `ioctl(SG_IO)` on any descriptor, as a
//! disk with persistent reservations would, and passes every other ioctl on to the kernel. Loaded into any helper,
//! with `/dev/loop0` as the device, it makes all of them run the same commands at the speed that it is told to have.
//!
//! | variable | what |
//! |---|---|
//! | `SIMULATED_DISK_DELAY` | every command takes so many microseconds; without it, none |
//! | `SIMULATED_DISK_SLOW` | `MINOR:MICROSECONDS`, the same for `/dev/loopMINOR` alone |
//! | `SIMULATED_DISK_HANGING` | no command to `/dev/loopMINOR` ever ends |
//! | `SIMULATED_DISK_SYSCALL` | if set, an ioctl without effect is made for each command, for strace to count |
//! | `SIMULATED_DISK_LOOP_ONLY` | if set, only `/dev/loopN` is a disk, and only if it was not opened with `O_PATH`; other descriptors are the kernel's |
//! | `SIMULATED_DISK_ANSWERS` | a file of answers, of which a command chooses one by a number in its CDB: see `prepared` |
//!
//! What the disk usually answers is in `disk`. It has no state: no two processes could share it.

mod disk;
mod header;
mod prepared;
mod settings;

use std::ffi::{c_int, c_void};

use header::{Exchange, Report, SG_IO, SgIoHdr};
use settings::Settings;

/// Takes the place of the C library's ioctl(2).
///
/// That one is variadic. On Linux, the processors that helpers run on (64-bit x86, ARM, RISC-V) are passed arguments that
/// fit registers alike either way.
///
/// # Safety
///
/// As ioctl(2): `argument` is what `request` says. For `SG_IO` that is a `struct sg_io_hdr` of version 3, valid for writes,
/// whose `cmdp`, `dxferp` and `sbp` are valid for `cmd_len`, `dxfer_len` and `mx_sb_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(descriptor: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    if request != SG_IO {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { pass_on(descriptor, request, argument) };
    }
    let settings = Settings::get();
    if !settings.is_disk(descriptor) {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { pass_on(descriptor, request, argument) };
    }
    if settings.syscall {
        // SAFETY: no kernel takes SG_IO without a header: this fails, by EFAULT if not before.
        unsafe { pass_on(descriptor, SG_IO, std::ptr::null_mut()) };
    }
    settings.wait(descriptor);
    // SAFETY: the caller's promise, in this function's own words.
    let Some(mut exchange) = (unsafe { Exchange::new(argument.cast::<SgIoHdr>()) }) else {
        // SAFETY: the kernel finds the same fault in this header and says so.
        return unsafe { pass_on(descriptor, request, argument) };
    };
    let usual = disk::answer(exchange.cdb(), exchange.parameters());
    let prepared = settings.prepared(exchange.cdb());
    if let Some(errno) = prepared.and_then(|answer| answer.errno) {
        // SAFETY: it takes nothing, and has no conditions.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: this thread's errno, valid for writes as long as the thread lives.
        unsafe { *location = errno };
        return -1;
    }
    let report = prepared.map_or_else(|| Report::usual(&usual), |answer| Report::prepared(answer, &usual));
    exchange.complete(&report);
    0
}

/// # Safety
///
/// As ioctl(2).
unsafe fn pass_on(descriptor: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    // SAFETY: ioctl(2) by its number, with the arguments it is documented to have; errno is set by `syscall`.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, descriptor, request, argument) };
    #[expect(clippy::cast_possible_truncation, reason = "ioctl(2) returns an int")]
    {
        result as c_int
    }
}
