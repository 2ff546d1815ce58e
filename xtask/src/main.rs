//! The project's own commands: `cargo xtask NAME`.

mod bindgen;
#[cfg(test)]
mod circles;
mod demo;
mod dispatch;
mod dist;
mod fuzz;
#[cfg(test)]
mod layers;
mod man;
#[cfg(test)]
mod published;
mod test;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tools::error::Result;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Run the tests that need a real kernel and real SCSI disks, in a virtual machine (lab --help)
    Lab(Passed),
    /// Run all tests: those of all packages on this host, then those of the lab; takes the options of lab
    Test(Passed),
    /// Generate the bindings to libmpathpersist from its C header
    Bindgen(bindgen::Options),
    /// Generate the manual pages and shell completions from the programs' options
    Man(man::Options),
    /// Build packages: for Debian, for RPM distributions, and a tar archive
    Dist(dist::Options),
    /// Compare the speed of the daemon, a minimal helper and QEMU's helper, with a simulated disk; as root
    /// (bench --help)
    Bench(Passed),
    /// Run the fuzz targets of tests/fuzz, or those named; needs a C++ compiler
    Fuzz(fuzz::Options),
    /// Let the daemon serve among hostile clients and failing disks for minutes or hours, and check that nothing grows and no
    /// answer is wrong (soak --help)
    Soak(Passed),
    /// Show two nodes of a cluster fence each other, without a disk and without root
    Demo,
}

/// Arguments that are passed unchanged to another program.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    run(Command::parse_from(arguments(env::args_os()))).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Lab(passed) => dispatch::lab(&passed.arguments),
        Command::Test(passed) => test::run(&passed.arguments),
        Command::Bindgen(options) => bindgen::run(&options),
        Command::Man(options) => man::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Bench(passed) => dispatch::bench(&passed.arguments),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak(passed) => dispatch::soak(&passed.arguments),
        Command::Demo => demo::run(),
    }
}

/// Adds a second `--` if the passed arguments begin with one, because clap removes the first.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = given.collect();
    if arguments.get(2).is_some_and(|argument| argument == "--") {
        arguments.insert(2, "--".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_arguments_arrive_unchanged() {
        for passed in [&["--", "hang"][..], &["--suite", "forky", "--", "hang", "--exact"], &["--help"], &[]]
        {
            for name in ["lab", "test", "bench", "soak"] {
                let given = [&["xtask", name], passed].concat();
                let given = arguments(given.into_iter().map(OsString::from));
                let command = Command::try_parse_from(given).unwrap();
                let (Command::Lab(seen) | Command::Test(seen) | Command::Bench(seen) | Command::Soak(seen)) =
                    command
                else {
                    panic!("{command:?}");
                };
                assert_eq!(seen.arguments, passed);
            }
        }
    }
}
