//! The helpers that are compared, as processes.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tests::Client;

/// A helper that does not answer for so long is broken.
const PATIENCE: Duration = Duration::from_secs(10);

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
                let mut command = Command::new(program);
                command.arg("-k").arg(socket);
                if let Some(libraries) = &self.c_libraries {
                    command.env("LD_LIBRARY_PATH", libraries);
                }
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
    directory: TempDir,
    child: Child,
}

impl Helper {
    /// Starts a helper, and does not wait. Without a disk it runs without the simulation.
    pub fn spawn(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = programs.command(kind, &directory.path().join("socket"));
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
        let log = fs::File::create(directory.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
        let child = command.spawn()?;
        Ok(Self { kind, directory, child })
    }

    /// Starts a helper and waits until it greets.
    pub fn start(programs: &Programs, kind: Kind, disk: Option<&Disk>) -> io::Result<Self> {
        let mut helper = Self::spawn(programs, kind, disk)?;
        helper.first_client()?;
        Ok(helper)
    }

    /// Connects as soon as that is possible.
    pub fn first_client(&mut self) -> io::Result<Client> {
        let begun = Instant::now();
        loop {
            let error = match Client::connect(&self.socket()) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            if begun.elapsed() > PATIENCE || self.child.try_wait()?.is_some() {
                let log = fs::read_to_string(self.directory.path().join("log"))?;
                return Err(io::Error::other(format!("{} does not serve: {error}\n{log}", self.kind)));
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
