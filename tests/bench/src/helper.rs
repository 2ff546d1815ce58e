//! The compared helpers, as processes.

use std::{io, path::PathBuf, time::Duration};

use test_support::Client;

use crate::{kind::Kind, programs::Programs};

/// The settings of the simulated disk. Minor numbers are those of `/dev/loopN`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    /// How long a command takes.
    pub delay: Duration,
    /// The minor number of the disk that never answers.
    pub hanging: Option<u32>,
    /// Each command makes a system call, for strace to count.
    pub syscall: bool,
}

/// A running helper. It is killed on drop.
#[derive(Debug)]
pub struct Helper {
    pub kind: Kind,
    process: test_support::Helper,
}

impl Helper {
    /// Starts a helper without waiting for it. If `disk` is `None`, it runs without the simulation.
    pub fn spawn(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let process = test_support::Helper::spawn(|socket| {
            let mut command = programs.command(kind, socket);
            if let Some(disk) = disk {
                command.env("LD_PRELOAD", &programs.disk);
                command.env("SIMULATED_DISK_DELAY", disk.delay.as_micros().to_string());
                if let Some(minor) = disk.hanging {
                    command.env("SIMULATED_DISK_HANGING", minor.to_string());
                }
                if disk.syscall {
                    command.env("SIMULATED_DISK_SYSCALL", "1");
                }
            }
            command
        })?;
        Ok(Self { kind, process })
    }

    /// Starts a helper and waits until it greets a client.
    pub fn start(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let mut helper = Self::spawn(programs, kind, disk)?;
        helper.first_client()?;
        Ok(helper)
    }

    /// Connects as soon as the helper listens.
    pub fn first_client(&mut self) -> io::Result<Client> {
        let client = self.process.first_client();
        client.map_err(|error| io::Error::other(format!("{}: {error}", self.kind)))
    }

    pub fn socket(&self) -> PathBuf {
        self.process.socket()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
