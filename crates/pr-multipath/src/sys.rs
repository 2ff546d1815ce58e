//! The system calls of this crate that no crate wraps safely.
#![allow(unsafe_code)]

use std::{os::unix::process::CommandExt as _, process::Command};

use nix::sys::signal::{SigHandler, Signal};

/// The first descriptor that is neither standard input, output nor error.
const FIRST: libc::c_int = 3;

/// Number of descriptors that are looked at where the kernel cannot do it at once: the usual soft limit.
const FALLBACK_MAX: libc::c_int = 1024;

/// Makes the process that `command` starts inherit no descriptor but the standard ones, even if the program that started
/// this process left some open for it.
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

/// Marks all descriptors but the standard ones to be closed by exec. No descriptor is closed here, so this takes none away
/// from its owner.
fn close_on_exec() {
    // SAFETY: the call takes three integers and touches no memory of this process.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result != 0 {
        close_each_on_exec();
    }
}

/// Does the same on Linux before 5.11, as far as [`FALLBACK_MAX`].
fn close_each_on_exec() {
    for descriptor in FIRST..FALLBACK_MAX {
        // SAFETY: the call takes three integers and touches no memory of this process. It fails without harm if no such
        // descriptor is open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Gives SIGCHLD its default action, so that the end of children is reported: the program that started this process may
/// have set it to be ignored.
pub(crate) fn restore_sigchld() -> nix::Result<()> {
    // SAFETY: no handler is installed, so no code of ours can run in a signal's context.
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
