//! `--daemon`: runs in the background. The process that was started exits once start-up has succeeded or
//! failed.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    mem::ManuallyDrop,
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
            Ok(Side::Background(Background { starter: ManuallyDrop::new(starter.into()) }))
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
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Stderr::detach();
        // Fails if the starter has been killed meanwhile: then the daemon must not run either.
        self.starter.write_all(&[0])?;
        drop(ManuallyDrop::into_inner(self.starter));
        Ok(())
    }
}
