//! System calls of start-up that have no safe form. They are made while the process has one thread.
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
