//! `--daemon`: into the background, but not before it is known that all is well.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
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

/// Which of the two processes this is now.
pub(crate) enum Side {
    /// The one that was started: to exit with this.
    Starter(ExitCode),
    /// The one in the background.
    Background(Background),
}

/// Tells the starter, when dropped, that the daemon has failed; [`ready`](Self::ready) tells otherwise.
pub(crate) struct Background {
    starter: File,
}

/// Goes into the background. The starter waits until the daemon is ready, or has failed and said why.
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
            Ok(Side::Background(Background { starter: starter.into() }))
        }
    }
}

fn wait(mut reader: File) -> ExitCode {
    // The starter of a daemon may be interrupted like any other program.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    match reader.read_exact(&mut [0]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Background {
    /// Lets go of the terminal and the directory, and has the starter exit with success.
    pub(crate) fn ready(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Stderr::detach();
        // Whoever has killed the starter meanwhile wants no daemon.
        self.starter.write_all(&[0])
    }
}
