//! What hostile processes do.

mod connections;
mod devices;
mod messages;
mod scrapers;

use std::{process::ExitCode, thread};

use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::target::Target;

/// What a hostile process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sends well-formed and malformed messages.
    Messages,
    /// Connects and closes in a loop, and keeps connections open.
    Connections,
    /// Sends commands to slow and failing disks, and leaves.
    Devices,
    /// Sends requests to the metrics socket.
    Scrapers,
}

/// The exit code of a process that has seen a wrong answer, which it has printed.
pub(crate) const WRONG_ANSWER: u8 = 3;

/// Runs as a hostile process until it is killed or the daemon is gone.
pub(crate) fn run(kind: Kind, target: &Target) -> ExitCode {
    // Not even a killed test may leave processes that load the machine.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let abuse: fn(&Target) -> Result<(), String> = match kind {
        Kind::Messages => messages::run,
        Kind::Connections => connections::run,
        Kind::Devices => devices::run,
        Kind::Scrapers => scrapers::run,
    };
    let threads: Vec<_> = (0..kind.threads())
        .map(|_| {
            let target = target.clone();
            thread::spawn(move || abuse(&target))
        })
        .collect();
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => {
                eprintln!("soak: {kind:?}: {wrong}");
                return ExitCode::from(WRONG_ANSWER);
            }
            Err(_) => return ExitCode::from(WRONG_ANSWER),
        }
    }
    ExitCode::SUCCESS
}

impl Kind {
    /// Few enough that the clients that are measured have processor time.
    fn threads(self) -> usize {
        match self {
            Self::Messages => 3,
            Self::Connections | Self::Scrapers => 2,
            Self::Devices => 16,
        }
    }

    /// Returns its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
