//! The daemon as a process, in a temporary directory of its own.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::Client;

/// A test fails if a condition takes longer than this.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds. `what` describes it.
///
/// # Panics
///
/// If it does not hold within a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "timed out: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How to start a daemon.
#[derive(Debug, Default)]
pub struct Options {
    /// Arguments in addition to the socket.
    pub arguments: Vec<String>,
    /// Environment variables in addition to those of the test.
    pub environment: Vec<(String, String)>,
    /// The soft and hard limit of open files, if not those of the test.
    pub open_files: Option<(u64, u64)>,
}

/// A running daemon. It is killed on drop.
pub struct Daemon {
    directory: TempDir,
    child: Child,
    idle_descriptors: usize,
}

impl Daemon {
    /// Starts a daemon that needs no privilege, and waits until it listens.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = ["--unprivileged"].iter().chain(arguments).map(ToString::to_string).collect();
        Self::with(Options { arguments, ..Options::default() })
    }

    /// Starts a daemon, and waits until it listens.
    pub fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("socket");
        let mut command = Self::command();
        if let Some((soft, hard)) = options.open_files {
            command = Command::new("prlimit");
            command.arg(format!("--nofile={soft}:{hard}")).arg(binary());
        }
        let log = fs::File::create(directory.path().join("log")).expect("a log file");
        command.arg("-k").arg(&socket).args(options.arguments).envs(options.environment).stderr(log);
        let child = command.spawn().expect("pr-helper");
        let mut daemon = Self { directory, child, idle_descriptors: 0 };
        eventually("the daemon listens", || {
            assert_eq!(daemon.child.try_wait().expect("wait"), None, "{}", daemon.log());
            let log = daemon.log();
            // The line about multipath comes last. Before it, descriptors for the probe of multipath may be
            // open.
            log.contains("listening on") && log.contains("multipath")
        });
        daemon.idle_descriptors = daemon.descriptors();
        daemon
    }

    /// Returns a command that runs the program, without arguments.
    pub fn command() -> Command {
        let mut command = Command::new(binary());
        command
            .stdin(Stdio::null())
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_PID")
            .env_remove("SYSTEMD_EXEC_PID")
            // The lab sets this for dmsetup, since no udevd runs there. Where one runs, libmpathpersist must
            // wait for it.
            .env_remove("DM_DISABLE_UDEV");
        command
    }

    /// Returns a command that runs the program in its arguments with `count` copies of this socket, passed in
    /// the way of systemd. The caller adds the program and its arguments.
    pub fn activation(socket: OwnedFd, count: u32) -> Command {
        let script = "exec 3<&0 4<&0 </dev/null; export LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).env("LISTEN_FDS", count.to_string());
        command.env_remove("NOTIFY_SOCKET").env_remove("SYSTEMD_EXEC_PID").stdin(socket);
        command
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Returns the daemon's temporary directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Connects a client and exchanges greetings.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("a connection")
    }

    /// Returns the daemon's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    /// Waits until the log contains `text`.
    pub fn wait_for_log(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < TIMEOUT, "no {text:?} in:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how many descriptors the daemon has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon's descriptors").count()
    }

    /// Returns how many descriptors the daemon had open at its start, without clients.
    pub fn idle_descriptors(&self) -> usize {
        self.idle_descriptors
    }

    /// Sets the soft limit of open files of the running daemon.
    pub fn limit_open_files(&self, files: usize) {
        self.limit("nofile", files);
    }

    /// Sets the soft limit of processes and threads of the running daemon's user. It does not apply to root.
    pub fn limit_processes(&self, processes: usize) {
        self.limit("nproc", processes);
    }

    fn limit(&self, resource: &str, value: usize) {
        let limit = format!("--{resource}={value}:");
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.pid().to_string(), &limit]);
        // Root may set the limits of another user's process only with CAP_SYS_RESOURCE.
        let id = |field| self.status(field).split_whitespace().next().and_then(|id| id.parse().ok());
        if rustix::process::geteuid().is_root() {
            command.uid(id("Uid").expect("a user")).gid(id("Gid").expect("a group"));
        }
        assert!(command.status().expect("prlimit").success());
    }

    /// Returns a field of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon's status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.expect("a field of the status").trim().to_owned()
    }

    /// Measures for `time` and returns the processor time that the daemon used, in hundredths of a second.
    pub fn processor_time_in(&self, time: Duration) -> u64 {
        let ticks = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the daemon's stat");
            // utime and stime, the 14th and 15th field. The second is the name, in parentheses.
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum::<u64>()
        };
        let before = ticks();
        thread::sleep(time);
        ticks() - before
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    /// Waits for the daemon's exit.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon exits", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("the daemon has exited")
    }

    /// Stops the daemon by SIGTERM.
    ///
    /// # Panics
    ///
    /// If its exit status is not 0.
    pub fn stop(self) {
        self.stop_and_read_log();
    }

    /// Stops the daemon by SIGTERM and returns its whole log.
    ///
    /// # Panics
    ///
    /// If its exit status is not 0.
    pub fn stop_and_read_log(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", self.log());
        self.log()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// Returns the program under test: the one that `PR_HELPER` names, or one that is built now.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        std::env::var_os("PR_HELPER")
            .map_or_else(|| build("pr-helper").expect("pr-helper").join("pr-helper"), PathBuf::from)
    })
}

/// Builds a package of this workspace with the profile and in the target directory of these tests. Returns
/// the directory of the result.
pub fn build(package: &str) -> io::Result<PathBuf> {
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    let target = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--target-dir"]).arg(target);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::piped());
    let mut child = cargo.spawn()?;
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut errors)?;
    }
    if child.wait()?.success() { Ok(folder.to_owned()) } else { Err(io::Error::other(errors)) }
}
