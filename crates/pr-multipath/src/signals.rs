//! Signals that the supervisor and the workers ignore.

use nix::sys::signal::{SigSet, Signal};

/// Signals for the daemon that would end this process. A service manager sends them to all processes of a service, a
/// terminal to all processes of a job.
const DAEMON_SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

/// Blocks the signals for the daemon in the calling thread and the threads that it spawns: supervisor and workers exit when
/// the daemon does.
pub(crate) fn block_daemon_signals() -> nix::Result<()> {
    DAEMON_SIGNALS.into_iter().collect::<SigSet>().thread_block()
}
