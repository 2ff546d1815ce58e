//! `cargo xtask lab`: tests on a real kernel with real SCSI disks, in a virtual machine made of Debian packages.
//!
//! The image is built once and kept under target/lab/SUITE. A run adds the programs of this workspace, boots, and reports the
//! messages that `init.sh`, the guest's first process, sends on the second serial port.

#![forbid(unsafe_code)]
// This part of the package is a program, with the lints of the other programs of the workspace.
#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod cpio;
mod flavour;
mod host;
mod image;
mod inner;
mod machine;
mod modules;
mod programs;
mod report;
mod run;
mod scratch;
mod vmlinux;

use std::process::ExitCode;

use clap::Parser;
use tools::error::Result;

use crate::flavour::{CLIENTS, DEVICES, Flavour};
use crate::programs::Task;
use crate::run::Lab;

/// The Debian suite of the machine unless another is chosen.
const SUITE: &str = "trixie";

/// The suite with another generation of multipath-tools and of the kernel, and the filter for the tests that depend on them.
const OTHER_SUITE: &str = "forky";
const OTHER_SUITE_TESTS: &str = "multipath";

/// Runs the tests that need a real kernel and real SCSI disks, in a virtual machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
struct Options {
    /// Debian suite that the machine is made of
    #[arg(long, default_value = SUITE)]
    suite: String,

    /// Build the machine's image even if there is one
    #[arg(long)]
    rebuild: bool,

    /// The accelerator that runs the guest. By default KVM if it can boot the machine, else emulation
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,

    /// End the machine after so many seconds [default: 1200, with --real-clients 3600]
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,

    /// Run the tests with QEMU and libvirt as clients of the helper, in a larger machine
    #[arg(long)]
    real_clients: bool,

    /// Leave the machine running after the tests, with a shell on this terminal
    #[arg(long, conflicts_with = "shell")]
    keep: bool,

    /// Run no tests: boot to a shell on this terminal
    #[arg(long)]
    shell: bool,

    /// End a test that takes longer than so many seconds [default: 90, with --real-clients 600]
    #[arg(long, value_name = "SECONDS")]
    test_limit: Option<u64>,

    /// Then run the multipath tests in a machine of another suite, unless tests or a suite are chosen
    #[arg(long)]
    both_suites: bool,

    /// Only check the options, and whether this host has all that the lab needs
    #[arg(long, hide = true)]
    check: bool,

    /// Arguments of the test program: parts of names of tests to run, --skip NAME, --exact, --ignored
    #[arg(last = true)]
    tests: Vec<String>,
}

/// The accelerators to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    Auto,
    Kvm,
    Tcg,
}

impl Options {
    fn flavour(&self) -> &'static Flavour {
        if self.real_clients { &CLIENTS } else { &DEVICES }
    }

    /// Returns whether the options select tests or a machine.
    fn has_selection(&self) -> bool {
        self.shell || self.real_clients || !self.tests.is_empty() || self.suite != SUITE
    }

    /// Returns these options for the tests whose names contain `filter`, in another suite.
    fn in_suite(&self, suite: &str, filter: &str) -> Self {
        Self { suite: suite.to_owned(), tests: vec![filter.to_owned()], ..self.clone() }
    }
}

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
    if !options.both_suites || ended != ExitCode::SUCCESS || options.has_selection() {
        return Ok(ended);
    }
    run_once(&options.in_suite(OTHER_SUITE, OTHER_SUITE_TESTS))
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
