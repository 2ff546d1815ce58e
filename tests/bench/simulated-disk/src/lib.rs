//! A simulated SCSI disk for hosts without one: a library for `LD_PRELOAD` that answers `ioctl(SG_IO)` on any
//! descriptor like a disk with persistent reservations, and passes all other ioctls to the kernel. With this
//! library and `/dev/loop0` as the device, all helpers run the same commands on a disk of a chosen speed.
//!
//! | variable | meaning |
//! |---|---|
//! | `SIMULATED_DISK_DELAY` | the time in microseconds that each command takes; 0 by default |
//! | `SIMULATED_DISK_SLOW` | `MINOR:MICROSECONDS`, the time that each command to `/dev/loopMINOR` takes |
//! | `SIMULATED_DISK_HANGING` | the minor number of a `/dev/loopMINOR` whose commands never end |
//! | `SIMULATED_DISK_SYSCALL` | if set, each command makes an ioctl without effect, for strace to count |
//! | `SIMULATED_DISK_LOOP_ONLY` | if set, only `/dev/loopN` is a disk, and only if it was not opened with `O_PATH`; ioctls on other descriptors go to the kernel |
//! | `SIMULATED_DISK_ANSWERS` | a file of answers; a number in the CDB of a command selects one, see `prepared` |
//!
//! The usual answers are defined in `disk`. The disk has no state, because processes could not share it.

mod disk;
mod header;
mod prepared;
mod settings;

use std::ffi::{c_int, c_void};

use header::{Exchange, Report, SG_IO, SgIoHdr};
use settings::Settings;

/// Has the settings read when the library is loaded: a daemon may restrict its own access to files before its first command.
// SAFETY: the loader calls each function in this section once, before `main`. This one takes no argument, and uses only
// variables of the environment and files, which a constructor may.
#[used]
#[unsafe(link_section = ".init_array")]
static READ_SETTINGS: extern "C" fn() = read_settings;

extern "C" fn read_settings() {
    Settings::get();
}

/// Replaces the C library's ioctl(2).
///
/// The C function is variadic, this one is not. On the supported architectures (64-bit x86, ARM, RISC-V),
/// Linux passes arguments that fit into registers in the same way to both.
///
/// # Safety
///
/// The same as for ioctl(2): `argument` must be valid for `request`. For `SG_IO` it is a `struct sg_io_hdr`
/// of version 3, valid for writes, whose `cmdp`, `dxferp` and `sbp` are valid for `cmd_len`, `dxfer_len` and
/// `mx_sb_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(descriptor: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    if request != SG_IO {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { pass_on(descriptor, request, argument) };
    }
    let settings = Settings::get();
    if !settings.is_disk(descriptor) {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { pass_on(descriptor, request, argument) };
    }
    if settings.syscall {
        // SAFETY: every kernel refuses SG_IO without a header, with EFAULT at the latest.
        unsafe { pass_on(descriptor, SG_IO, std::ptr::null_mut()) };
    }
    settings.wait(descriptor);
    // SAFETY: the condition of `Exchange::new` is part of the condition of this function.
    let Some(mut exchange) = (unsafe { Exchange::new(argument.cast::<SgIoHdr>()) }) else {
        // SAFETY: the caller's arguments, unchanged. The kernel refuses this header, too.
        return unsafe { pass_on(descriptor, request, argument) };
    };
    let usual = disk::answer(exchange.cdb(), exchange.parameters());
    let prepared = settings.prepared(exchange.cdb());
    if let Some(errno) = prepared.and_then(|answer| answer.errno) {
        // SAFETY: the function has no arguments and no conditions.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: this thread's errno, valid for writes as long as the thread lives.
        unsafe { *location = errno };
        return -1;
    }
    let report = prepared.map_or_else(|| Report::usual(&usual), |answer| Report::prepared(answer, &usual));
    exchange.complete(&report);
    0
}

/// Calls ioctl(2) of the kernel.
///
/// # Safety
///
/// The same as for ioctl(2).
unsafe fn pass_on(descriptor: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    // SAFETY: the system call ioctl(2) with its documented arguments. `syscall` sets errno.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, descriptor, request, argument) };
    #[expect(clippy::cast_possible_truncation, reason = "ioctl(2) returns an int")]
    {
        result as c_int
    }
}
