//! A helper as an administrator starts it for QEMU: ours, or for comparison QEMU's own.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal};
use test_support::{Daemon, eventually};

/// Whom QEMU runs as: nobody.
pub(crate) const USER: u32 = 65534;

/// Whose program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    Qemus,
}

impl Program {
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Ours => Daemon::command(),
            Self::Qemus => {
                let mut command = Command::new("qemu-pr-helper");
                command.stdin(Stdio::null()).env_remove("DM_DISABLE_UDEV");
                command
            }
        }
    }
}

/// A helper that runs as root, whose socket is QEMU's. Dropped, it is killed.
pub(crate) struct Helper {
    program: Program,
    arguments: Vec<String>,
    socket: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Helper {
    /// Starts it with these arguments beside the socket, and waits until it listens.
    pub(crate) fn start(program: Program, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (socket, log) = (PathBuf::from("/run/lab/helper.sock"), PathBuf::from("/run/lab/helper.log"));
        File::create(&log).unwrap();
        let child = spawn(program, &arguments, &socket, &log);
        Self { program, arguments, socket, log, child }
    }

    /// Starts it again where it was, once it has ended.
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

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the helper ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// All that it has said since the first start.
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
    listens(socket, || assert_eq!(child.try_wait().unwrap(), None, "it has ended"));
    child
}

/// Waits until a helper listens on the socket, and gives it to QEMU, as a monitor's manager does.
pub(crate) fn listens(socket: &Path, mut check: impl FnMut()) {
    eventually("the helper listens", || {
        check();
        UnixStream::connect(socket).is_ok()
    });
    chown(socket, Some(USER), Some(USER)).unwrap();
}
