//! Signals to the supervisor and the workers.

use nix::sys::signal::{SigSet, Signal};

/// Signals that would end this process and are meant for the daemon. A service manager sends them to all processes of a
/// service, a terminal to all of a job.
const OF_THE_DAEMON: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

/// Blocks the signals that are meant for the daemon, in the calling thread and the threads that it starts: supervisor and
/// workers end when the daemon does.
pub(crate) fn block_those_of_the_daemon() -> nix::Result<()> {
    OF_THE_DAEMON.into_iter().collect::<SigSet>().thread_block()
}
