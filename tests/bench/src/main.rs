//! The benchmark: pr-helper beside the floor and QEMU's C helper, with a simulated disk. `cargo xtask bench` builds what
//! it needs and runs it; docs/performance.md says what the numbers mean.
//!
//! All helpers of a scenario run at once and are measured in turns, a fraction of a second each: the speed of a host
//! changes from one second to the next, and only what was measured side by side can be compared.

#![forbid(unsafe_code)]

mod awake;
mod helper;
mod histogram;
mod json;
mod load;
mod plot;
mod process;
mod report;
mod scenario;
mod table;

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use awake::Awake;
use helper::Programs;
use report::Section;
use scenario::{Bench, Effort, Scenario};
use table::Table;

/// Measures pr-helper, the floor and the C helper.
#[derive(Debug, Parser)]
#[command(name = "pr-bench")]
struct Args {
    #[command(flatten)]
    programs: Programs,

    /// How long to measure
    #[arg(long, value_enum, default_value_t = Effort::Full)]
    effort: Effort,

    /// Only this scenario; may be repeated
    #[arg(long, value_enum, value_name = "SCENARIO")]
    only: Vec<Scenario>,

    /// Keep the processors from sleeping
    #[arg(long)]
    awake: bool,

    /// Where bench.json and latency.svg go
    #[arg(long, value_name = "DIRECTORY")]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pr-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> io::Result<()> {
    Bench::check()?;
    // A thousand clients, each with its connection and its device.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

    let scenarios = if args.only.is_empty() { Scenario::value_variants().to_vec() } else { args.only };
    let awake = if args.awake { Awake::keep()? } else { Awake::default() };
    let bench = Bench { programs: args.programs, effort: args.effort, awake };
    let mut sections = Vec::new();
    for scenario in scenarios {
        let section = bench.run(scenario)?;
        eprintln!("{}: done", section.id);
        sections.push(section);
    }

    fs::create_dir_all(&args.output)?;
    fs::write(args.output.join("bench.json"), json::report(&sections, args.effort))?;
    let plotted: Option<&Section> = sections.iter().find(|section| section.id == "clients");
    if let Some(svg) = plotted.and_then(plot::latency_over_clients) {
        fs::write(args.output.join("latency.svg"), svg)?;
    }
    print!("{}", Table(&sections));
    Ok(())
}
