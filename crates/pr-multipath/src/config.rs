//! Settings of the backend.

use std::{ffi::OsString, time::Duration};

/// Settings of [`Multipath`](crate::Multipath).
#[derive(Debug, Clone)]
pub struct Config {
    /// How long each path may take for a command; then the kernel aborts it and recovers the path. To the millisecond.
    pub timeout: Duration,
    /// Arguments that the supervisor process gets behind its role word, for the program's own use: options for its log,
    /// the path of a socket to remove. [`Role::Supervisor`](crate::Role::Supervisor) has them there.
    pub arguments: Vec<OsString>,
    /// Connects standard error of the supervisor process with /dev/null, so that a program that waits for the end of this
    /// process's standard error does not wait for the supervisor too.
    pub discard_stderr: bool,
}
