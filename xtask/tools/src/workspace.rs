//! Where the workspace and its build products are.

use std::path::PathBuf;
use std::process::Command;
use std::{env, path};

/// The directory with the workspace's Cargo.toml.
pub fn root() -> PathBuf {
    // Cargo sets it when it runs a program; the other is for a program that was copied elsewhere.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let root = package.ancestors().find(|directory| directory.join("Cargo.lock").is_file());
    root.unwrap_or(&package).to_owned()
}

/// Where cargo puts what it builds, and where commands put what they build.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => root().join("target"),
    }
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
