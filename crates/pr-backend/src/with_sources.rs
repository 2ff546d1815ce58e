//! An error with its causes, as one line.

use std::error::Error;

/// Returns the text of an error and the texts of its causes, separated by colons, for the place that prints it.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
