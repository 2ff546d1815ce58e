//! Where the workspace and its build products are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, path};

/// The directory with the workspace's Cargo.toml.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it when it runs this program; the other is for a program that was copied elsewhere.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map_or(package.clone(), Path::to_owned)
}

/// Where cargo puts what it builds, and where commands put what they build.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => root().join("target"),
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
