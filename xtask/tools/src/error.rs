//! The error of all commands: a sentence that says what happened and, if known, the remedy.

use std::fmt;

/// An error that stops a command. It is only printed, never matched on, and therefore a text.
#[derive(Debug)]
pub struct Error(String);

/// The result of a function whose error stops the command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Creates an error without a cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds the attempted action to an error.
pub trait Context<T> {
    /// Adds an action to the error. `what` returns it, as in "write /some/path".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error(format!("cannot {}: {cause}", what())))
    }
}
