//! Log lines to standard error, wherever that leads: a terminal, a journal, a pipe that somebody has closed, or one
//! that nobody empties. None of these may hold up the daemon.

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

/// Starts logging as the command line and `RUST_LOG` have it.
pub(crate) fn start(args: &Args) {
    // Now, while there is the privilege to open what somebody else owns.
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
            // A line break would end the message for the journal.
            let text = text.to_string().replace('\n', " ");
            writeln!(buffer, "<{}>{text}", priority(record.level()))
        } else {
            writeln!(buffer, "pr-helper: {}: {text}", name(record.level()))
        }
    });
    // A logger is there already only if this is called twice.
    let _ = builder.try_init();
    // Also the last words of a thread must not wait for a reader.
    std::panic::set_hook(Box::new(|panic| log::error!("internal error, please report it: {panic}")));
}

/// The priority of syslog(3), as sd-daemon(3) has it in front of a line.
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

/// Whether standard error is the journal, which systemd tells by its device and inode (systemd.exec(5)).
fn leads_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Standard error, without waiting for whoever reads it. What cannot be written now is lost.
///
/// All values are the same one.
pub(crate) struct Stderr;

/// Where standard error leads.
enum Output {
    /// A pipe or terminal, opened anew so that not to block is our own affair: the mode of the one that was inherited
    /// is shared with others.
    Reopened(OwnedFd),
    /// A pipe or terminal that cannot be opened anew.
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

    /// Lets go of standard error for good: whoever waits for its end (a shell, `ssh`) waits no longer.
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

/// Whether standard error takes a line without waiting: what poll(2) says of a pipe if a page is free.
fn has_room() -> bool {
    let mut events = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    rustix::event::poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let output = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
        // An error is no news: there is no better place to tell it. So all bytes count as written.
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
