//! Commands that are programs of their own packages.

use std::ffi::OsString;
use std::process::ExitCode;

use tools::error::{Context as _, Result};
use tools::workspace;

/// `cargo xtask lab`: tests/lab.
pub(crate) fn lab(arguments: &[OsString]) -> Result<ExitCode> {
    run(&["--package", "lab"], arguments)
}

/// `cargo xtask bench`: tests/bench.
pub(crate) fn bench(arguments: &[OsString]) -> Result<ExitCode> {
    run(&["--package", "bench", "--release"], arguments)
}

/// Builds a program and runs it with these arguments.
fn run(program: &[&str], arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    // Paths among the arguments are relative to where this program was started.
    cargo.current_dir(".").args(["run", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(workspace::root().join("Cargo.toml")).args(program).arg("--").args(arguments);
    let status = cargo.status().context(|| "run cargo".into())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
