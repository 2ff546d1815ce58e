//! What all packages of a release have in common.

use std::env;
use std::process::Command;

use tools::{process, workspace};

/// The version of all that is in the workspace.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The time that all files in packages bear, in seconds since 1970, so that the same sources give the same packages: that of
/// `SOURCE_DATE_EPOCH`, or of the last commit, or else none in particular.
pub(super) fn time() -> String {
    let commit = || {
        let git = process::text(Command::new("git").current_dir(workspace::root()).args([
            "log",
            "-1",
            "--format=%ct",
        ]));
        git.ok().map(|time| time.trim().to_owned())
    };
    env::var("SOURCE_DATE_EPOCH").ok().or_else(commit).unwrap_or_else(|| "0".into())
}
