//! Log lines to standard error. It may be a terminal, the journal, a closed pipe, or a full pipe without a
//! reader; writing must never block the daemon.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{FileType, Mode, OFlags},
    net::SendFlags,
};

use crate::args::{Args, LogFormat};

/// Starts logging, configured by the command line and `RUST_LOG`.
pub(crate) fn start(args: &Args) {
    // Before privileges are dropped: reopening a terminal or pipe of another user needs them.
    Stderr::find();
    let level = match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    let journal = match args.log_format {
        LogFormat::Auto => leads_to_journal(),
        LogFormat::Plain => false,
        LogFormat::Journal => true,
    };
    let mut builder = Builder::new();
    builder.filter_level(level).parse_default_env().target(Target::Pipe(Box::new(Stderr)));
    builder.format(move |buffer, record| {
        let text = record.args();
        if journal {
            // The journal takes each line for a message.
            let text = text.to_string().replace('\n', " ");
            writeln!(buffer, "<{}>{text}", priority(record.level()))
        } else {
            writeln!(buffer, "pr-helper: {}: {text}", name(record.level()))
        }
    });
    // Fails only if called twice.
    let _ = builder.try_init();
    // Panic messages must not block either.
    std::panic::set_hook(Box::new(|panic| log::error!("internal error, please report it: {panic}")));
}

/// Returns the priority of syslog(3) that starts a line, see sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Returns whether standard error is the journal: systemd passes its device and inode in `JOURNAL_STREAM`
/// (systemd.exec(5)).
fn leads_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Standard error without blocking: output that cannot be written at once is lost. All values share one
/// state.
pub(crate) struct Stderr;

/// Kind of standard error, which decides how to write to it.
enum Output {
    /// A pipe or terminal, reopened with `O_NONBLOCK`. On the inherited descriptor the flag would also affect
    /// the other processes that share it.
    Reopened(OwnedFd),
    /// A pipe or terminal that cannot be reopened: polled before each write.
    Shared,
    Socket,
    Plain,
    Nowhere,
}

static OUTPUT: Mutex<Output> = Mutex::new(Output::Nowhere);

impl Stderr {
    fn find() {
        *OUTPUT.lock().unwrap_or_else(PoisonError::into_inner) = Output::find();
    }

    /// Closes the reopened standard error, so that readers which wait for end of file (a shell, `ssh`)
    /// continue. Discards all later output.
    pub(crate) fn detach() {
        *OUTPUT.lock().unwrap_or_else(PoisonError::into_inner) = Output::Nowhere;
    }
}

impl Output {
    fn find() -> Self {
        let kind =
            rustix::fs::fstat(rustix::stdio::stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                match rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
                    Ok(descriptor) => Self::Reopened(descriptor),
                    Err(_) => Self::Shared,
                }
            }
            Ok(FileType::Socket) => Self::Socket,
            _ => Self::Plain,
        }
    }
}

/// Returns whether standard error takes a line without blocking. For a pipe, poll(2) reports room if a page
/// is free.
fn has_room() -> bool {
    let mut events = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    rustix::event::poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let output = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
        // Errors are dropped, since there is no better place to report them; all bytes count as written.
        let _ = match &*output {
            Output::Reopened(descriptor) => rustix::io::write(descriptor, bytes),
            Output::Socket => {
                rustix::net::send(rustix::stdio::stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Output::Shared if !has_room() => Ok(0),
            Output::Shared | Output::Plain => rustix::io::write(rustix::stdio::stderr(), bytes),
            Output::Nowhere => Ok(0),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
