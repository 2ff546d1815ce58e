//! The daemon under test, and the place where it and its clients run.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_support::Client;

/// How long the daemon waits for commands in flight when it is stopped, in seconds.
const STOP_GRACE: u64 = 2;

/// A daemon that takes longer than this to start, or to stop after its grace time, has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a command on the slow disk takes.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// The answers of the failing disk: the number that selects them, and what fails. None of them may become GOOD.
const FAILURES: [(u16, &str); 8] = [
    (1, "errno=5"),
    (2, "errno=22"),
    (3, "host_status=01"),
    (4, "host_status=07"),
    (5, "status=02"),
    (6, "status=08"),
    (7, "driver_status=06"),
    (8, "status=02 sense=71,00,01,00*15"),
];

/// Returns the numbers that select a failure, in bytes 3 and 4 of a CDB.
pub(crate) fn failures() -> impl ExactSizeIterator<Item = u16> {
    FAILURES.into_iter().map(|(number, _)| number)
}

/// A directory with the sockets, the emulated disks and their state.
pub(crate) struct Place {
    directory: TempDir,
    /// The library that stands for `/dev/loop0` (a disk), `/dev/loop1` (hangs for ever) and `/dev/loop2` (slow), if this
    /// process may open these.
    simulation: Option<PathBuf>,
}

impl Place {
    pub(crate) fn new(simulation: Option<PathBuf>) -> io::Result<Self> {
        let place = Self { directory: tempfile::tempdir()?, simulation };
        for name in ["disk", "other"] {
            fs::write(place.path(name), [0; 4096])?;
        }
        let failures: String = FAILURES.map(|(number, what)| format!("{number:04x} {what}\n")).concat();
        fs::write(place.path("answers"), failures)?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn has_simulation(&self) -> bool {
        self.simulation.is_some()
    }
}

/// Opens a disk for reading and writing.
pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Opens a simulated disk.
pub(crate) fn open_loop(minor: u32) -> io::Result<File> {
    open(format!("/dev/loop{minor}"))
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Resident memory in KiB, without the pages of files: those of the program come as it uses more of its code.
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// A running daemon. It is killed on drop.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon, and waits until it greets a client. `number` distinguishes its log.
    pub(crate) fn start(program: &Path, place: &Place, number: u32) -> io::Result<Self> {
        let log = place.path(&format!("log{number}"));
        let mut command = Command::new(program);
        command.arg("--unprivileged").arg("-k").arg(place.socket());
        command.arg("--metrics-socket").arg(place.path("metrics")).arg("--emulate").arg(place.path("state"));
        command.arg(format!("--stop-grace={STOP_GRACE}")).arg("--max-clients=2048");
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        if let Some(library) = &place.simulation {
            command.env("LD_PRELOAD", library).env("SIMULATED_DISK_LOOP_ONLY", "1");
            command.env("SIMULATED_DISK_HANGING", "1");
            command.env("SIMULATED_DISK_SLOW", format!("2:{}", SLOW.as_micros()));
            command.env("SIMULATED_DISK_ANSWERS", place.path("answers"));
        }
        let mut daemon = Self { child: command.spawn()?, log };
        let begun = Instant::now();
        // With stale files of a killed daemon, connections are refused until this one listens.
        while Client::connect(&place.socket()).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                return Err(io::Error::other(format!("the daemon ended with {status}:\n{}", daemon.log())));
            }
            if begun.elapsed() > TIMEOUT {
                return Err(io::Error::other(format!("the daemon does not serve:\n{}", daemon.log())));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// Returns the last lines of the log.
    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn whole_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Reads what the daemon uses at the moment.
    pub(crate) fn figures(&self) -> io::Result<Figures> {
        let directory = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(directory.join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = u64::try_from(fs::read_dir(directory.join("fd"))?.count()).unwrap_or(u64::MAX);
        let (resident, threads) = (field("RssAnon:"), field("Threads:"));
        resident
            .zip(threads)
            .map(|(resident, threads)| Figures { resident, descriptors, threads })
            .ok_or_else(|| io::Error::other(format!("the daemon has ended:\n{}", self.log())))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> io::Result<ExitStatus> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > TIMEOUT + Duration::from_secs(STOP_GRACE) {
                return Err(io::Error::other(format!("the daemon does not end:\n{}", self.log())));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
