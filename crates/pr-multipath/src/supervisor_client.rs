//! The daemon's connection to the supervisor.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::io::Errno;

use crate::{channel::Channel, role_process, wire::SupervisorCommand};

/// The daemon's connection to the supervisor.
#[derive(Debug)]
pub(crate) struct SupervisorClient {
    channel: Channel,
    next_number: AtomicU64,
}

impl SupervisorClient {
    /// Starts the supervisor; returns the connection and the process, to wait for. Must be called while this process has all
    /// privileges that a worker needs.
    pub(crate) fn start(arguments: Vec<OsString>, discard_stderr: bool) -> io::Result<(Self, Child)> {
        let (channel, supervisor_end) = Channel::pair()?;
        let mut command = role_process::supervisor();
        command.args(arguments).stdin(OwnedFd::from(supervisor_end)).stdout(Stdio::null());
        if discard_stderr {
            command.stderr(Stdio::null());
        }
        let child = command.spawn()?;
        Ok((Self::new(channel), child))
    }

    /// Returns the connection to a supervisor at the other end of `channel`.
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, next_number: AtomicU64::new(1) }
    }

    /// Tells the supervisor to start a worker with `channel` as standard input and `output` as standard output and error;
    /// returns the worker's number. If the start fails, the worker's channel closes.
    pub(crate) fn launch(&self, channel: &Channel, output: &OwnedFd) -> Result<u64, Errno> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let command = SupervisorCommand::Start(number).encode();
        self.channel.send(&[&command], &[channel.as_fd(), output.as_fd()])?;
        Ok(number)
    }

    /// Dismisses the supervisor, which has nothing to do without the library.
    pub(crate) fn dismiss(&self) {
        // If this fails, the supervisor has exited already.
        let _ = self.channel.send(&[&SupervisorCommand::Leave.encode()], &[]);
    }

    /// Closes the channel; returns whether it was open.
    pub(crate) fn end(&self) -> bool {
        self.channel.close().is_ok()
    }

    /// Tells the supervisor to kill a worker.
    pub(crate) fn kill(&self, number: u64) {
        if let Err(error) = self.channel.send(&[&SupervisorCommand::Kill(number).encode()], &[]) {
            log::error!("multipath worker {number} cannot be killed: {error}");
        }
    }
}
