//! The version and the time stamp of all packages of a release.

use std::env;
use std::process::Command;

use tools::{process, workspace};

/// The version of the workspace.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the time stamp of all files in packages, in seconds since 1970. It is `SOURCE_DATE_EPOCH`, else
/// the time of the last commit, else 0, so that the same sources give the same packages.
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
