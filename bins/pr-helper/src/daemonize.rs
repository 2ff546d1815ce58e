//! `--daemon`: runs in the background. The process that was started exits once start-up has succeeded or
//! failed.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    mem::ManuallyDrop,
    os::fd::OwnedFd,
    process::ExitCode,
};

use nix::{
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
    unistd::{ForkResult, setsid},
};
use rustix::{
    fs::{Mode, OFlags},
    pipe::PipeFlags,
};

use crate::{logging::Stderr, sys};

/// The two processes after the fork.
pub(crate) enum Side {
    /// The process that was started. It must exit with this code.
    Starter(ExitCode),
    /// The daemon.
    Background(Background),
}

/// Reports to the starter: success by [`ready`](Self::ready), failure when the process exits without it.
pub(crate) struct Background {
    /// Left open when dropped: the starter must not exit before the process has logged why it fails.
    starter: ManuallyDrop<File>,
    /// /dev/null, opened while this process may open files for writing.
    null: OwnedFd,
}

/// Forks the daemon. In the starter, blocks until the daemon is ready, or has failed and logged why.
pub(crate) fn daemonize() -> io::Result<Side> {
    let (reader, starter) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        ForkResult::Parent { .. } => {
            drop(starter);
            Ok(Side::Starter(wait(reader.into())))
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Side::Background(Background { starter: ManuallyDrop::new(starter.into()), null }))
        }
    }
}

/// Blocks until the daemon writes a byte (success) or closes the pipe (failure).
fn wait(mut reader: File) -> ExitCode {
    // The starter may be interrupted like any other program: unblock the signals that the daemon handles.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    match reader.read_exact(&mut [0]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Background {
    /// Detaches from the terminal and the working directory, and makes the starter exit with success.
    pub(crate) fn ready(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        rustix::stdio::dup2_stdin(&self.null)?;
        rustix::stdio::dup2_stdout(&self.null)?;
        rustix::stdio::dup2_stderr(&self.null)?;
        Stderr::detach();
        // Fails if the starter has been killed meanwhile: then the daemon must not run either.
        self.starter.write_all(&[0])?;
        drop(ManuallyDrop::into_inner(self.starter));
        Ok(())
    }
}
