//! The helpers that are compared, as processes.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{CHelper, Client};

/// Which helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Floor,
    PrHelper,
    C,
}

impl Kind {
    /// For JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::PrHelper => "pr-helper",
            Self::C => "qemu-pr-helper",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::PrHelper => "pr-helper",
            Self::C => "C helper",
        })
    }
}

/// Where the programs are.
#[derive(Debug, clap::Args)]
pub struct Programs {
    /// The daemon
    #[arg(long, value_name = "PATH")]
    pr_helper: PathBuf,

    /// pr-floor
    #[arg(long, value_name = "PATH")]
    floor: PathBuf,

    /// QEMU's qemu-pr-helper
    #[arg(long, value_name = "PATH")]
    c_helper: Option<PathBuf>,

    /// Where the libraries of the C helper are, if they are not the host's
    #[arg(long, value_name = "DIRECTORY")]
    c_libraries: Option<PathBuf>,

    /// The library that stands for a disk
    #[arg(long, value_name = "PATH")]
    disk: PathBuf,
}

impl Programs {
    /// The helpers there are, in the order in which they are shown.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Floor, Kind::PrHelper];
        kinds.extend(self.c_helper.as_ref().map(|_| Kind::C));
        kinds
    }

    fn command(&self, kind: Kind, socket: &Path) -> Command {
        match (kind, &self.c_helper) {
            (Kind::Floor, _) => {
                let mut command = Command::new(&self.floor);
                command.arg(socket);
                command
            }
            (Kind::C, Some(program)) => {
                let libraries = self.c_libraries.clone();
                let mut command = CHelper { program: program.clone(), libraries }.command();
                command.arg("-k").arg(socket);
                command
            }
            (Kind::PrHelper | Kind::C, _) => {
                let mut command = Command::new(&self.pr_helper);
                command.arg("-k").arg(socket).env_remove("RUST_LOG");
                command
            }
        }
    }
}

/// The simulated disk's settings. Minor numbers are those of `/dev/loopN`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    /// How long a command takes.
    pub delay: Duration,
    /// The one that never answers.
    pub hanging: Option<u32>,
    /// For strace: each command makes a system call.
    pub syscall: bool,
}

/// A running helper. Dropped, it is killed.
#[derive(Debug)]
pub struct Helper {
    pub kind: Kind,
    process: tests::Helper,
}

impl Helper {
    /// Starts a helper, and does not wait. Without a disk it runs without the simulation.
    pub fn spawn(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let process = tests::Helper::spawn(|socket| {
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

    /// Starts a helper and waits until it greets.
    pub fn start(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let mut helper = Self::spawn(programs, kind, disk)?;
        helper.first_client()?;
        Ok(helper)
    }

    /// Connects as soon as that is possible.
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
