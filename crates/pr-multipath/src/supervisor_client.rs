//! The daemon's end of the supervisor.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::io::Errno;

use crate::{channel::Channel, role_process, wire::SupervisorCommand};

/// The daemon's end of the supervisor.
#[derive(Debug)]
pub(crate) struct SupervisorClient {
    channel: Channel,
    next: AtomicU64,
}

impl SupervisorClient {
    /// Starts the supervisor; returns also the process, to wait for. Must be called while this process has all privileges
    /// that a worker needs.
    pub(crate) fn start(arguments: Vec<OsString>, discard_stderr: bool) -> io::Result<(Self, Child)> {
        let (channel, its_end) = Channel::pair()?;
        let mut command = role_process::supervisor();
        command.args(arguments).stdin(OwnedFd::from(its_end)).stdout(Stdio::null());
        if discard_stderr {
            command.stderr(Stdio::null());
        }
        let child = command.spawn()?;
        Ok((Self::new(channel), child))
    }

    /// Returns the daemon's end of the supervisor at the other end of `channel`.
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, next: AtomicU64::new(1) }
    }

    /// Has a worker started, with these as its standard input and output; returns its number. A failure shows by the end of
    /// the worker's channel.
    pub(crate) fn launch(&self, channel: &Channel, output: &OwnedFd) -> Result<u64, Errno> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let command = SupervisorCommand::Start(number).encode();
        self.channel.send(&[&command], &[channel.as_fd(), output.as_fd()])?;
        Ok(number)
    }

    /// Has the supervisor leave, because there is nothing that it could do.
    pub(crate) fn dismiss(&self) {
        // A supervisor that has ended already need not be told.
        let _ = self.channel.send(&[&SupervisorCommand::Leave.encode()], &[]);
    }

    /// Closes the channel; returns whether it was open.
    pub(crate) fn end(&self) -> bool {
        self.channel.close().is_ok()
    }

    /// Has a worker killed.
    pub(crate) fn kill(&self, number: u64) {
        if let Err(error) = self.channel.send(&[&SupervisorCommand::Kill(number).encode()], &[]) {
            log::error!("multipath worker {number} cannot be killed: {error}");
        }
    }
}
