//! One error for all commands: a sentence that says what happened and, where it is known, what to do.

use std::fmt;

/// What a command stops with. It is only ever shown, never matched on, so it is a text.
#[derive(Debug)]
pub struct Error(String);

/// The result of everything that may stop a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of its own, without a cause below it.
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

/// Puts what was being done before what went wrong.
pub trait Context<T> {
    /// `what` names the thing that was attempted, as in "write /some/path".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error(format!("cannot {}: {cause}", what())))
    }
}
