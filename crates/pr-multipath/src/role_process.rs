//! Commands that start this program again, as supervisor or worker.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use crate::sys;

/// First argument of the supervisor process.
pub(crate) const SUPERVISOR: &str = "--multipath-supervisor";

/// First argument of a worker process.
pub(crate) const WORKER: &str = "--multipath-worker";

/// Possible consequence of losing a worker during a change.
pub(crate) const MAY_BE_SUSPENDED: &str = "a map whose worker was lost may have been left suspended: see \"dmsetup info\", and \"dmsetup resume MAP\"";

/// The program of this process, even if another file has its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The variables that are passed on: what the dynamic loader and multipath-tools read, and debugging.
const PASSED_ON: [&str; 5] =
    ["PATH", "LD_LIBRARY_PATH", "MULTIPATH_SOCKET_NAME", "DM_DISABLE_UDEV", "RUST_BACKTRACE"];

/// Returns the command that starts the supervisor.
pub(crate) fn supervisor() -> Command {
    let mut command = command(SUPERVISOR);
    // The supervisor must not keep the daemon's working directory in use, which would prevent an unmount.
    command.current_dir("/");
    command
}

/// Returns the command that starts a worker with these arguments after its role word.
pub(crate) fn worker(arguments: &[OsString]) -> Command {
    let mut command = command(WORKER);
    command.args(arguments);
    command
}

fn command(role: &str) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("pr-helper").arg(role).env_clear();
    command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    sys::inherit_nothing(&mut command);
    command
}
