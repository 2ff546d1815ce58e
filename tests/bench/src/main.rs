//! `cargo xtask bench`: compares pr-helper with a minimal helper (the floor) and QEMU's C helper, with a
//! simulated disk. docs/performance.md explains the numbers.
//!
//! All helpers of a scenario run at the same time and are measured in turns of a fraction of a second. The
//! speed of a host changes from one second to the next, so that only measurements taken side by side can be
//! compared.

#![forbid(unsafe_code)]

mod awake;
mod bench;
mod helper;
mod histogram;
mod json;
mod kind;
mod load;
mod neighbours;
mod plot;
mod process;
mod programs;
mod report;
mod scenario;
mod table;

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use awake::Awake;
use bench::{Bench, Effort};
use programs::Programs;
use report::Section;
use scenario::{Scenario, flood};
use table::Table;
use tools::workspace;

/// Compares the speed of the daemon, a minimal helper and QEMU's helper, with a simulated disk; as root.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Args {
    /// Take about a minute, for approximate numbers
    #[arg(long)]
    quick: bool,

    /// Take as little time as possible, to check that it runs and that all replies are right
    #[arg(long, hide = true, conflicts_with = "quick")]
    smoke: bool,

    /// Run only this scenario; may be repeated
    #[arg(long, value_enum, value_name = "SCENARIO")]
    only: Vec<Scenario>,

    /// Keep the processors from sleeping, which makes the figures of one client steadier
    #[arg(long)]
    awake: bool,

    #[command(flatten)]
    programs: programs::Options,

    /// The directory for bench.json and latency.svg [default: target/bench]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,

    /// Connect to this socket and close, in a loop: a process of the scenario flood
    #[arg(long, hide = true, value_name = "SOCKET")]
    flood: Option<PathBuf>,

    /// The number of connections that such a process keeps open
    #[arg(long, hide = true, value_name = "NUMBER", default_value_t = 0)]
    held: usize,
}

impl Args {
    fn effort(&self) -> Effort {
        match self {
            Self { smoke: true, .. } => Effort::Smoke,
            Self { quick: true, .. } => Effort::Quick,
            _ => Effort::Full,
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> io::Result<()> {
    if let Some(socket) = args.flood {
        return flood::flood(&socket, args.held);
    }
    Bench::check()?;
    // A thousand clients need a descriptor each for connection and device.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

    let effort = args.effort();
    let output = args.output.unwrap_or_else(|| workspace::target().join("bench"));
    let scenarios = if args.only.is_empty() { Scenario::value_variants().to_vec() } else { args.only };
    let awake = if args.awake { Awake::keep()? } else { Awake::default() };
    let programs = Programs::find(args.programs).map_err(io::Error::other)?;
    let bench = Bench { programs, effort, awake };
    let mut sections = Vec::new();
    for scenario in scenarios {
        let section = bench.run(scenario)?;
        eprintln!("{}: done", section.id);
        sections.push(section);
    }

    fs::create_dir_all(&output)?;
    fs::write(output.join("bench.json"), json::report(&sections, effort))?;
    let plotted: Option<&Section> = sections.iter().find(|section| section.id == "clients");
    if let Some(svg) = plotted.and_then(plot::latency_over_clients) {
        fs::write(output.join("latency.svg"), svg)?;
    }
    print!("{}", Table(&sections));
    eprintln!("bench: all numbers and, if drawn, the plot are in {}", output.display());
    Ok(())
}
