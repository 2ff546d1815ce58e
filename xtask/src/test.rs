//! `cargo xtask test`: every test there is.

use std::process::ExitCode;

use crate::error::{Context as _, Error, Result};
use crate::{lab, workspace};

/// The suite with the other generation of multipath-tools and of the kernel, and the tests for which that matters.
const OTHER_SUITE: &str = "forky";
const ITS_TESTS: &str = "multipath";

/// Runs the tests of all packages on this host, then those of the lab in its machine, and of these some in a machine of
/// another suite. Whoever chooses tests or a suite gets these and no others.
pub(crate) fn run(options: &lab::TestOptions) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--locked"]);
    let status = cargo.status().context(|| "run cargo test".into())?;
    if !status.success() {
        return Err(Error::new("tests failed on this host: those of the lab were not run"));
    }
    let ended = lab::run(options)?;
    if ended != ExitCode::SUCCESS || options.are_chosen() {
        return Ok(ended);
    }
    lab::run(&options.in_suite(OTHER_SUITE, ITS_TESTS))
}
