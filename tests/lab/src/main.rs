//! `cargo xtask lab`: tests on a real kernel with real SCSI disks, in a virtual machine made of Debian packages.
//!
//! The image is built once and kept under target/lab/SUITE. A run adds the programs of this workspace, boots, and
//! reports what `init.sh`, the guest's first process, says on the second serial port.

#![forbid(unsafe_code)]
// This part of the package is a program, held to what the other programs of the workspace are held to.
#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod cpio;
mod flavour;
mod host;
mod image;
mod inner;
mod machine;
mod modules;
mod options;
mod programs;
mod report;
mod run;
mod scratch;
mod vmlinux;

use std::process::ExitCode;

use clap::Parser as _;
use tools::error::Result;

use crate::options::Options;
use crate::programs::Task;
use crate::run::Lab;

/// The suite with the other generation of multipath-tools and of the kernel, and the tests for which that matters.
const OTHER_SUITE: &str = "forky";
const ITS_TESTS: &str = "multipath";

fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        host::check(options.flavour().more_programs())?;
        return Ok(ExitCode::SUCCESS);
    }
    let ended = run_once(options)?;
    if !options.both_suites || ended != ExitCode::SUCCESS || options.are_chosen() {
        return Ok(ended);
    }
    run_once(&options.in_suite(OTHER_SUITE, ITS_TESTS))
}

/// Runs the tests, or a shell.
fn run_once(options: &Options) -> Result<ExitCode> {
    let flavour = options.flavour();
    let task = if options.shell {
        Task::Shell
    } else {
        let seconds = options.test_limit.unwrap_or(flavour.test_limit);
        Task::Tests { program: flavour.tests, arguments: &options.tests, seconds }
    };
    Lab::boot(flavour, options, &task)?.follow(&task)
}
