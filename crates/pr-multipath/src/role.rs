//! The roles of the processes behind the backend, for the program's `main`.

use std::{ffi::OsString, process::ExitCode};

use confinement::Settings;

use crate::{
    role_process::{SUPERVISOR, WORKER},
    supervisor, worker,
};

/// The role of a process behind the backend. For each such process the backend starts its own program again, with a role
/// word as first argument.
///
/// `main` must check for a role before it does anything else. Otherwise each call of
/// [`Multipath::start`](crate::Multipath::start) starts a second daemon.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts and kills workers. Contains the [`arguments`](crate::Config::arguments) of the configuration.
    Supervisor(Vec<OsString>),
    /// Calls libmpathpersist. Contains the same arguments.
    Worker(Vec<OsString>),
}

impl Role {
    /// Returns the role of this process; `None` if it has none. `arguments` are the process's own, beginning with its name
    /// (`argv[0]`), as [`std::env::args_os`] returns them.
    pub fn from_args(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter().skip(1);
        let word = arguments.next()?;
        if word == WORKER {
            Some(Self::Worker(arguments.collect()))
        } else if word == SUPERVISOR {
            Some(Self::Supervisor(arguments.collect()))
        } else {
            None
        }
    }

    /// Runs the process to its end; returns its exit code. Must be called by the main thread, before it spawns others.
    ///
    /// The supervisor logs by the `log` crate, so the caller should install a logger first. A worker writes to standard
    /// error, which the daemon reads and logs.
    ///
    /// The supervisor calls `on_daemon_end` once when the daemon has exited or has called
    /// [`Multipath::end`](crate::Multipath::end), for example to remove a socket that the daemon may not remove. It does
    /// not call it if the daemon dismissed it because maps cannot be served. A worker never calls it.
    ///
    /// With `settings`, the process restricts its system calls to a list for its role.
    ///
    /// The process drops all capabilities that it does not need, ignores the signals that stop a service or a terminal job
    /// (it exits when the daemon does), and has inherited no descriptor but the standard ones.
    pub fn run(self, settings: Option<Settings>, on_daemon_end: impl FnOnce()) -> ExitCode {
        match self {
            Self::Supervisor(arguments) => supervisor::run(arguments, settings, on_daemon_end),
            Self::Worker(_) => worker::run(settings),
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
        assert_eq!(role(&["pr-helper", "--multipath-worker"]), Some(Role::Worker(Vec::new())));
        assert_eq!(role(&["pr-helper", "--multipath-worker", "-v"]), Some(Role::Worker(vec!["-v".into()])));
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
