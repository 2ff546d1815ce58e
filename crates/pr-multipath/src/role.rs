//! The processes behind the backend, as the program's `main` sees them.

use std::{ffi::OsString, process::ExitCode};

use crate::{
    role_process::{SUPERVISOR, WORKER},
    supervisor, worker,
};

/// A process behind the backend. The backend starts the program that it is linked into again, with a role word as first
/// argument.
///
/// `main` must look for a role before it does anything else. A program that does not would start itself as a second daemon
/// each time it calls [`Multipath::start`](crate::Multipath::start).
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts and kills workers. Has the [`arguments`](crate::Config::arguments) of the configuration.
    Supervisor(Vec<OsString>),
    /// Calls libmpathpersist.
    Worker,
}

impl Role {
    /// Returns the role of this process; `None` if it has none. `arguments` are those of the process, its name (`argv[0]`)
    /// first: [`std::env::args_os`].
    pub fn from_args(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter().skip(1);
        let word = arguments.next()?;
        if word == WORKER {
            Some(Self::Worker)
        } else if word == SUPERVISOR {
            Some(Self::Supervisor(arguments.collect()))
        } else {
            None
        }
    }

    /// Runs the process to its end; returns its exit code. Must be called by the main thread, before any other is started.
    ///
    /// The supervisor writes to the `log` crate, so the caller should start a logger before. A worker writes to standard
    /// error, which the daemon reads and logs.
    ///
    /// The supervisor calls `on_daemon_end` once when the daemon has ended (or has called
    /// [`Multipath::end`](crate::Multipath::end)), for example to remove a socket that the daemon may not remove. It does
    /// not if the daemon dismissed it because maps cannot be served, and a worker never does.
    ///
    /// The process gives up all privileges but those that it needs, ignores the signals by which a service or a terminal
    /// job is stopped (it ends when the daemon does), and inherited no descriptor but the standard ones.
    pub fn run(self, on_daemon_end: impl FnOnce()) -> ExitCode {
        match self {
            Self::Supervisor(_) => supervisor::run(on_daemon_end),
            Self::Worker => worker::run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(arguments: &[&str]) -> Option<Role> {
        Role::from_args(arguments.iter().map(OsString::from))
    }

    #[test]
    fn role_is_first_argument() {
        let supervisor = |rest: &[&str]| Some(Role::Supervisor(rest.iter().map(OsString::from).collect()));
        assert_eq!(role(&["pr-helper", "--multipath-supervisor"]), supervisor(&[]));
        assert_eq!(
            role(&["pr-helper", "--multipath-supervisor", "--socket", "/run/s", "--multipath-worker"]),
            supervisor(&["--socket", "/run/s", "--multipath-worker"])
        );
        assert_eq!(role(&["pr-helper", "--multipath-worker"]), Some(Role::Worker));
        for arguments in [
            &[][..],
            &["pr-helper"],
            &["--multipath-worker"],
            &["pr-helper", "--verbose", "--multipath-worker"],
            &["pr-helper", "--multipath-supervisor=1"],
        ] {
            assert_eq!(role(arguments), None, "{arguments:?}");
        }
    }
}
