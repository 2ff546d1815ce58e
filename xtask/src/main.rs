//! The project's own commands: `cargo xtask NAME`.

mod bench;
mod bindgen;
mod c_helper;
mod demo;
mod dist;
mod error;
mod lab;
mod man;
mod process;
#[cfg(test)]
mod published;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::error::Result;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Run the tests that need a real kernel and real SCSI disks, in a virtual machine
    Lab(lab::TestOptions),
    /// Run every test: those of all packages on this host, then those of the lab
    Test(lab::TestOptions),
    /// Write the bindings to libmpathpersist anew from its C header
    Bindgen(bindgen::Options),
    /// Write the manual pages and the completions for shells anew from the programs' options
    Man(man::Options),
    /// Make packages: for Debian, for RPM distributions, and a tar archive
    Dist(dist::Options),
    /// Measure the daemon beside a bare helper and QEMU's own, with a simulated disk; as root
    Bench(bench::Options),
    /// Show two nodes of a cluster fence each other, here and now, without a disk and without root
    Demo,
}

fn main() -> ExitCode {
    run(&Command::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Lab(options) => lab::run(options),
        Command::Test(options) => test::run(options),
        Command::Bindgen(options) => bindgen::run(options),
        Command::Man(options) => man::run(options),
        Command::Dist(options) => dist::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Demo => demo::run(),
    }
}
