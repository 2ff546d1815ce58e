//! Commands that run a program of another package.

use std::ffi::OsString;
use std::process::ExitCode;

use tools::error::{Context as _, Result};
use tools::workspace;

/// Runs `cargo xtask lab`: the program in tests/lab.
pub(crate) fn lab(arguments: &[OsString]) -> Result<ExitCode> {
    run(&["--package", "lab"], arguments)
}

/// Runs `cargo xtask bench`: the program in tests/bench.
pub(crate) fn bench(arguments: &[OsString]) -> Result<ExitCode> {
    run(&["--package", "bench", "--release"], arguments)
}

/// Runs `cargo xtask soak`: the program in tests/soak.
pub(crate) fn soak(arguments: &[OsString]) -> Result<ExitCode> {
    run(&["--package", "soak", "--release"], arguments)
}

/// Builds a program and runs it with these arguments. `program` selects it for `cargo run`.
fn run(program: &[&str], arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    // Relative paths among the arguments must refer to the current directory of this process.
    cargo.current_dir(".").args(["run", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(workspace::root().join("Cargo.toml")).args(program).arg("--").args(arguments);
    let status = cargo.status().context(|| "run cargo".into())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
