//! Settings of the backend.

use std::{ffi::OsString, time::Duration};

/// Settings of [`Multipath`](crate::Multipath).
#[derive(Debug, Clone)]
pub struct Config {
    /// Time limit of a command on each path, in whole milliseconds. Then the kernel aborts the command and recovers the
    /// path.
    pub timeout: Duration,
    /// Arguments for the supervisor process after its role word, for the program's own use: options for its log, the path
    /// of a socket to remove. [`Role::Supervisor`](crate::Role::Supervisor) contains them there.
    pub arguments: Vec<OsString>,
    /// Connects standard error of the supervisor process to /dev/null, so that a program that reads this process's standard
    /// error to its end does not wait for the supervisor too.
    pub discard_stderr: bool,
}
