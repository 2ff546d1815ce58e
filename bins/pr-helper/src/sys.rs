//! The system calls of start-up that have no safe form. All of them are made while there is one thread.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use nix::unistd::ForkResult;

/// Splits the process in two. Must be called before any thread is started.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: no thread but this one has been started (`main` starts them after this), so the child finds no lock held
    // by a thread that it does not have.
    unsafe { nix::unistd::fork() }.map_err(Into::into)
}

/// The descriptors that systemd passed, if it passed any to this process. Must be called once, before anything is
/// opened that is kept.
pub(crate) fn passed_descriptors() -> io::Result<Vec<OwnedFd>> {
    let descriptors = sd_notify::listen_fds()?;
    let own = |fd: RawFd| {
        // SAFETY: `listen_fds` has checked that LISTEN_PID is this process and that the descriptor is open; by the
        // protocol of sd_listen_fds(3) it is then this process's to own, and it is taken here alone, once.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    Ok(descriptors.map(own).collect())
}

/// Closes all descriptors but the standard ones: whatever the one who started this process forgot to keep to itself.
/// Must be called before anything else is opened.
pub(crate) fn close_inherited() {
    // SAFETY: this is the first thing that the process does (`main` calls it before all else), so no descriptor above
    // 2 is owned by anything in it. A kernel older than 5.9 closes nothing and returns an error, which does no harm.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}
