//! The system calls of this crate that no crate wraps safely.
#![allow(unsafe_code)]

use std::{os::unix::process::CommandExt as _, process::Command};

use nix::sys::signal::{SigHandler, Signal};

/// The first descriptor that is neither standard input, output nor error.
const FIRST: libc::c_int = 3;

/// Number of descriptors that are marked one by one on kernels without `CLOSE_RANGE_CLOEXEC`: the usual soft limit.
const FALLBACK_MAX: libc::c_int = 1024;

/// Lets the process that `command` starts inherit only the standard descriptors, even if this process itself has inherited
/// others.
pub(crate) fn inherit_nothing(command: &mut Command) {
    // SAFETY: the closure runs in the child between fork and exec. It only makes system calls (close_range and fcntl are
    // async-signal-safe), allocates nothing, takes no lock, and cannot panic.
    unsafe {
        command.pre_exec(|| {
            close_on_exec();
            Ok(())
        })
    };
}

/// Marks all descriptors but the standard ones as close-on-exec. It closes none, so no owner loses a descriptor.
fn close_on_exec() {
    // SAFETY: the call takes three integers and touches no memory of this process.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result != 0 {
        close_each_on_exec();
    }
}

/// Marks descriptors below [`FALLBACK_MAX`] as close-on-exec one by one, for Linux before 5.11.
fn close_each_on_exec() {
    for descriptor in FIRST..FALLBACK_MAX {
        // SAFETY: the call takes three integers and touches no memory of this process. It fails without harm if no such
        // descriptor is open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Sets SIGCHLD to its default action, so that the exit of children is reported. The program that started this process may
/// have set it to be ignored.
pub(crate) fn restore_sigchld() -> nix::Result<()> {
    // SAFETY: no handler is installed, so no Rust code can run in a signal's context.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _, process::Stdio};

    use rustix::io::FdFlags;

    use super::*;

    /// Returns whether a child inherits a descriptor that was left open for it.
    fn is_inherited(prepare: impl FnOnce(&mut Command)) -> bool {
        let file = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let mut command = Command::new("readlink");
        command.arg(format!("/proc/self/fd/{}", file.as_raw_fd())).stdin(Stdio::null());
        prepare(&mut command);
        command.output().unwrap().status.success()
    }

    #[test]
    fn children_inherit_standard_descriptors_only() {
        assert!(is_inherited(|_| {}), "the test's own descriptor is passed on");
        assert!(!is_inherited(inherit_nothing));
        let fallback = || {
            close_each_on_exec();
            Ok(())
        };
        assert!(!is_inherited(|command| {
            // SAFETY: as in `inherit_nothing`.
            unsafe { command.pre_exec(fallback) };
        }));
    }
}
