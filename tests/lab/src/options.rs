//! The options of `cargo xtask lab`.

use clap::Parser;

use crate::flavour::{CLIENTS, DEVICES, Flavour};

/// The suite that the machine is made of unless another is chosen.
const SUITE: &str = "trixie";

/// Runs the tests that need a real kernel and real SCSI disks, in a virtual machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
pub(crate) struct Options {
    /// Debian suite that the machine is made of
    #[arg(long, default_value = SUITE)]
    pub(crate) suite: String,

    /// Build the machine's image even if there is one
    #[arg(long)]
    pub(crate) rebuild: bool,

    /// What runs the guest; KVM is used only if it does boot the machine
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub(crate) accel: Choice,

    /// End the machine after so many seconds [default: 1200, with --real-clients 3600]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time_limit: Option<u64>,

    /// Run the tests of the programs that use the helper, in a larger machine that has them
    #[arg(long)]
    pub(crate) real_clients: bool,

    /// Leave the machine running after the tests, with a shell on this terminal
    #[arg(long, conflicts_with = "shell")]
    pub(crate) keep: bool,

    /// Run no tests: boot to a shell on this terminal
    #[arg(long)]
    pub(crate) shell: bool,

    /// End a test that takes longer than so many seconds [default: 90, with --real-clients 600]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) test_limit: Option<u64>,

    /// Run the tests of multipath in a machine of another suite afterwards, unless tests or a suite are chosen
    #[arg(long)]
    pub(crate) both_suites: bool,

    /// Only check the options, and whether this host has what the machine takes
    #[arg(long, hide = true)]
    pub(crate) check: bool,

    /// Arguments of the tests' program: parts of the names of those to run, --skip NAME, --exact, --ignored
    #[arg(last = true)]
    pub(crate) tests: Vec<String>,
}

/// The accelerators to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    Auto,
    Kvm,
    Tcg,
}

impl Options {
    pub(crate) fn flavour(&self) -> &'static Flavour {
        if self.real_clients { &CLIENTS } else { &DEVICES }
    }

    /// Whether it was said which tests to run, or in which machine.
    pub(crate) fn are_chosen(&self) -> bool {
        self.shell || self.real_clients || !self.tests.is_empty() || self.suite != SUITE
    }

    /// Returns the same options for tests whose names hold `filter`, in another suite.
    pub(crate) fn in_suite(&self, suite: &str, filter: &str) -> Self {
        Self { suite: suite.to_owned(), tests: vec![filter.to_owned()], ..self.clone() }
    }
}
