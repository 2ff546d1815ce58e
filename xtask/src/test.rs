//! `cargo xtask test`: every test there is.

use std::process::ExitCode;

use crate::error::{Context as _, Error, Result};
use crate::{lab, workspace};

/// Runs the tests of all packages on this host, then those of the lab in its machine.
pub(crate) fn run(options: &lab::TestOptions) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--locked"]);
    let status = cargo.status().context(|| "run cargo test".into())?;
    if !status.success() {
        return Err(Error::new("tests failed on this host: those of the lab were not run"));
    }
    lab::run(options)
}
