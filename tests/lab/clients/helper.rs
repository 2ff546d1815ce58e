//! A helper as an administrator starts it for QEMU: this project's, or QEMU's own for comparison.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal};
use test_support::{Daemon, eventually};

/// The user of QEMU: nobody.
pub(crate) const USER: u32 = 65534;

/// The helper's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    PrHelper,
    CHelper,
}

impl Program {
    pub(crate) fn command(self) -> Command {
        match self {
            Self::PrHelper => Daemon::command(),
            Self::CHelper => {
                let mut command = Command::new("qemu-pr-helper");
                command.stdin(Stdio::null()).env_remove("DM_DISABLE_UDEV");
                command
            }
        }
    }
}

/// A helper that runs as root and whose socket belongs to QEMU's user. Killed when dropped.
pub(crate) struct Helper {
    program: Program,
    arguments: Vec<String>,
    socket: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Helper {
    /// Starts the helper with these arguments and a socket, and blocks until it listens.
    pub(crate) fn start(program: Program, arguments: &[&str]) -> Self {
        Self::start_named("helper", program, arguments)
    }

    /// Starts one of several helpers. Its socket and its log have this name.
    pub(crate) fn start_named(name: &str, program: Program, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let file = |kind| PathBuf::from(format!("/run/lab/{name}.{kind}"));
        let (socket, log) = (file("sock"), file("log"));
        File::create(&log).unwrap();
        let child = spawn(program, &arguments, &socket, &log);
        Self { program, arguments, socket, log, child }
    }

    /// Starts the helper again with the same socket, once it has exited.
    pub(crate) fn start_again(&mut self) {
        self.wait();
        self.child = spawn(self.program, &self.arguments, &self.socket, &self.log);
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Blocks until the helper has exited.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the helper ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Returns the log since the first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the helper's log\n{}", self.log());
        }
    }
}

fn spawn(program: Program, arguments: &[String], socket: &Path, log: &Path) -> Child {
    let log = File::options().append(true).open(log).unwrap();
    let mut command = program.command();
    let mut child =
        command.arg("-k").arg(socket).args(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    wait_until_listening(socket, || assert_eq!(child.try_wait().unwrap(), None, "the helper has exited"));
    child
}

/// Blocks until a helper listens on the socket, and changes its owner to QEMU's user, as a monitor's manager does.
pub(crate) fn wait_until_listening(socket: &Path, mut check: impl FnMut()) {
    eventually("the helper listens", || {
        check();
        UnixStream::connect(socket).is_ok()
    });
    chown(socket, Some(USER), Some(USER)).unwrap();
}
