//! Errors of workers.

use std::{fmt, io};

use pr_backend::{Cause, Failure};
use rustix::io::Errno;
use scsi_sense::SenseCode;

/// The reason why no worker answered a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerError {
    /// A worker was started and cannot work for now.
    Unfit(String),
    /// A worker was started and found that none can work on this host.
    Never(String),
    /// There was no worker, or it was lost.
    Fault(WorkerFault),
}

impl From<WorkerFault> for WorkerError {
    fn from(fault: WorkerFault) -> Self {
        Self::Fault(fault)
    }
}

/// A failure of a worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerFault {
    /// The supervisor process has exited, so no worker can be started.
    NoSupervisor,
    /// The worker could not be started, exited before it was ready, or was not ready in time.
    NotStarted,
    /// The worker exited during the command.
    Ended,
    /// The worker took too long and was killed.
    Late,
    /// The worker of an earlier command on the map was lost and has not exited yet.
    Unfinished,
    /// The worker's answer was malformed, and the worker was killed.
    Malformed,
    /// This process or the host lacked a resource before a worker had the command.
    Shortage(Cause),
    /// The kernel refused a socket or a pipe.
    System(Errno),
}

impl WorkerFault {
    /// Returns the fault of an error that occurred before a worker had the command.
    pub(crate) fn before_command(error: Errno) -> Self {
        Cause::of_shortage(&io::Error::from(error)).map_or(Self::System(error), Self::Shortage)
    }

    /// Returns whether no worker had the command, and the reason may be over soon.
    pub(crate) fn is_before_command(&self) -> bool {
        matches!(self, Self::NotStarted | Self::Unfinished | Self::Shortage(_))
    }

    /// Returns the fault of a worker that lacks a resource to start.
    pub(crate) fn shortage_of_worker(why: &str) -> Self {
        Self::Shortage(Cause::new("shortage", format!("the helper lacks a resource: {why}")))
    }
}

impl fmt::Display for WorkerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSupervisor => {
                f.write_str("the multipath supervisor process has gone: restart pr-helper")
            }
            Self::NotStarted => {
                f.write_str("no multipath worker process could be started: see the lines before")
            }
            Self::Ended => f.write_str("the multipath worker process ended during the command"),
            Self::Late => f.write_str(
                "the command took too long and its multipath worker process was killed: see what \"multipath -ll\" says of the map's paths",
            ),
            Self::Unfinished => f.write_str(
                "the worker process of an earlier command still waits for a path of the map: see what \"multipath -ll\" and \"dmesg\" say",
            ),
            Self::Malformed => {
                f.write_str("the multipath worker process sent a malformed answer and was killed")
            }
            Self::Shortage(cause) => cause.fmt(f),
            Self::System(error) => write!(f, "a multipath worker process: {error}"),
        }
    }
}

impl From<WorkerFault> for Failure {
    /// Returns BUSY if no worker had the command and the guest should repeat it. Otherwise the disk may have executed the
    /// command, and it is reported as aborted.
    fn from(fault: WorkerFault) -> Self {
        match fault {
            WorkerFault::Shortage(cause) => Self::busy(cause),
            fault if fault.is_before_command() => Self::busy(Cause::new("worker", fault.to_string())),
            fault => Self::check_condition(
                SenseCode::IO_PROCESS_TERMINATED,
                Cause::new("worker", fault.to_string()),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::Status;

    use super::*;

    #[test]
    fn only_unsent_commands_are_busy() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN] {
            let failure = Failure::from(WorkerFault::before_command(error));
            assert_eq!((failure.status(), failure.cause().label()), (Status::BUSY, "shortage"), "{error}");
        }
        for fault in [WorkerFault::Unfinished, WorkerFault::NotStarted] {
            assert_eq!(Failure::from(fault).status(), Status::BUSY);
        }
        for fault in [
            WorkerFault::NoSupervisor,
            WorkerFault::Ended,
            WorkerFault::Late,
            WorkerFault::Malformed,
            WorkerFault::System(Errno::NOMEM),
            WorkerFault::before_command(Errno::PERM),
        ] {
            let failure = Failure::from(fault.clone());
            assert_eq!(failure.status(), Status::CHECK_CONDITION, "{fault:?}");
            assert_eq!(failure.sense(), Some(SenseCode::IO_PROCESS_TERMINATED), "{fault:?}");
            assert_eq!(failure.cause().label(), "worker", "{fault:?}");
        }
    }
}
