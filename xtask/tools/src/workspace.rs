//! The directories of the workspace and of its build products.

use std::path::PathBuf;
use std::process::Command;
use std::{env, path};

use crate::error::{Context as _, Error, Result};

/// Returns the directory with the workspace's Cargo.toml.
pub fn root() -> PathBuf {
    // Cargo sets the variable when it runs a program. Without cargo, the value from the build is used.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let root = package.ancestors().find(|directory| directory.join("Cargo.lock").is_file());
    root.unwrap_or(&package).to_owned()
}

/// Returns the directory for the build products of cargo and of the commands.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => root().join("target"),
    }
}

/// Builds a package for release, as `arguments` of `cargo build` select it. Returns the directory of the result.
///
/// # Errors
///
/// Cargo does not run, or fails.
pub fn build_release(arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--release", "--locked"]).args(arguments);
    let status = cargo.status().context(|| "run cargo build".into())?;
    if !status.success() {
        return Err(Error::new("cargo build failed (see above)"));
    }
    Ok(target().join("release"))
}

/// Returns a command that runs cargo in the workspace: the cargo that runs this program, if any.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
