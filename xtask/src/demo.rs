//! `cargo xtask demo`: the main job, here and now, on a machine that has no SCSI disk.

use std::process::ExitCode;

use crate::error::Result;
use crate::lab;

/// Boots the lab's machine and runs the program `pr-session` of the package `tests` in it, which shows two
/// clients of the daemon register, reserve, conflict and preempt.
pub(crate) fn run(options: &lab::Options) -> Result<ExitCode> {
    lab::run_program(options, "tests", "pr-session")
}
