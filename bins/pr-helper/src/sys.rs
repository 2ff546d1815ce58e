//! System calls of start-up without a safe wrapper. They are made while the process has one thread.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use nix::unistd::ForkResult;

/// Forks the process. Must be called before any thread is spawned.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: no other thread exists (`main` spawns them after this call), so no lock in the child is held by
    // a thread that the child does not have.
    unsafe { nix::unistd::fork() }.map_err(Into::into)
}

/// Returns the descriptors that systemd passed to this process. Must be called once, before any descriptor is
/// opened that is kept.
pub(crate) fn passed_descriptors() -> io::Result<Vec<OwnedFd>> {
    let descriptors = sd_notify::listen_fds()?;
    let own = |fd: RawFd| {
        // SAFETY: `listen_fds` has checked that LISTEN_PID is this process and that the descriptor is open.
        // By the protocol of sd_listen_fds(3) this process then owns it, and only this function, called once,
        // takes it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    Ok(descriptors.map(own).collect())
}
