//! Commands that start this program again, as supervisor or worker.

use std::{os::unix::process::CommandExt as _, process::Command};

use crate::sys;

/// First argument of the supervisor process.
pub(crate) const SUPERVISOR: &str = "--multipath-supervisor";

/// First argument of a worker process.
pub(crate) const WORKER: &str = "--multipath-worker";

/// Possible consequence of losing a worker during a change.
pub(crate) const MAY_BE_SUSPENDED: &str = "a map whose worker was lost may have been left suspended: see \"dmsetup info\", and \"dmsetup resume MAP\"";

/// The program of this process, even if another file has its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Variables that a service manager sets for the daemon alone. Another process must not act on them.
const NOT_PASSED_ON: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Returns the command that starts the supervisor.
pub(crate) fn supervisor() -> Command {
    let mut command = command(SUPERVISOR);
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    // The supervisor must not keep the daemon's working directory in use, which would prevent an unmount.
    command.current_dir("/");
    command
}

/// Returns the command that starts a worker.
pub(crate) fn worker() -> Command {
    command(WORKER)
}

fn command(role: &str) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("pr-helper").arg(role);
    sys::inherit_nothing(&mut command);
    command
}
