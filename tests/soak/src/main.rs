//! `cargo xtask soak`: lets the daemon serve for minutes or hours among hostile client processes, slow, hung and failing disks,
//! and restarts in the middle of commands. Two healthy clients check that each answer is right and prompt, and between the
//! rounds of abuse the daemon must be back to the memory, descriptors and threads that it had. docs/CONTRIBUTING.md says when
//! to run it.

#![forbid(unsafe_code)]

mod abuse;
mod daemon;
mod healthy;
mod life;
mod mob;
mod target;
mod verdict;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use tools::workspace;

use abuse::Kind;
use daemon::{Place, open, open_loop};
use life::{End, Life};
use target::Target;
use verdict::Round;
use watch::Watch;

/// How long a daemon lives, at most.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// Lets the daemon serve among hostile clients and failing disks, and checks that nothing grows and no answer is wrong.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Args {
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// The daemon [default: this workspace's, built for release]
    #[arg(long, value_name = "PATH")]
    pr_helper: Option<PathBuf>,

    /// Be one of the hostile processes
    #[arg(long, hide = true, value_enum, requires = "directory")]
    abuse: Option<Kind>,

    /// The directory of the sockets
    #[arg(long, hide = true, value_name = "PATH")]
    directory: Option<PathBuf>,

    /// The daemon has simulated disks
    #[arg(long, hide = true)]
    has_simulation: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let (Some(kind), Some(directory)) = (args.abuse, args.directory) {
        return abuse::run(kind, &Target { directory, has_simulation: args.has_simulation });
    }
    let watch = Watch::new();
    let rounds = match programs(args.pr_helper).and_then(|(program, simulation)| {
        let place = Place::new(simulation)?;
        soak(&watch, &program, &place, Duration::from_secs(60 * u64::from(args.minutes)))
    }) {
        Ok(rounds) => rounds,
        Err(error) => {
            watch.fault(error.to_string());
            Vec::new()
        }
    };
    if verdict::print(&watch, &rounds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the daemon unless there is one, and the library that simulates disks if this process may open these.
fn programs(daemon: Option<PathBuf>) -> io::Result<(PathBuf, Option<PathBuf>)> {
    let build = |package: &str| workspace::build_release(&["--package", package]).map_err(io::Error::other);
    let daemon = match daemon {
        // Daemons are started in this process's directory.
        Some(daemon) => daemon,
        None => build("pr-helper")?.join("pr-helper"),
    };
    let simulation = match (0..3).map(open_loop).collect::<io::Result<Vec<_>>>() {
        Ok(_) => Some(build("simulated-disk")?.join("libsimulated_disk.so")),
        Err(error) => {
            eprintln!(
                "soak: without slow, hung and failing disks, which need root and /dev/loop0 to 2: {error}"
            );
            None
        }
    };
    Ok((daemon, simulation))
}

/// Runs daemons one after the other until the time is over or there is a fault. Returns what was measured between the rounds.
fn soak(watch: &Watch, program: &Path, place: &Place, time: Duration) -> io::Result<Vec<Round>> {
    let begun = Instant::now();
    // At least two, so that there is a restart.
    let lives = u32::try_from(time.as_secs() / LIFE.as_secs()).unwrap_or(u32::MAX).max(2);
    let disk = open(place.path("disk"))?;
    let simulated = if place.has_simulation() { Some(open_loop(0)?) } else { None };
    let mut life = Life::start(program, place, 0)?;
    thread::scope(|scope| {
        scope.spawn(|| healthy::emulated(watch, &place.socket(), &disk));
        if let Some(disk) = &simulated {
            scope.spawn(|| healthy::simulated(watch, &place.socket(), disk));
        }
        let mut run = || {
            let mut rounds = Vec::new();
            for number in 1..=lives {
                rounds.extend(life.run(watch, begun + time / lives * number)?);
                let is_last = number == lives || !watch.faults().is_empty();
                if is_last {
                    watch.end();
                }
                // Commands are in flight.
                watch.restart();
                life.end(watch, if number % 2 == 0 { End::Kill } else { End::Stop })?;
                if is_last {
                    break;
                }
                life = Life::start(program, place, number)?;
                watch.restart();
            }
            Ok(rounds)
        };
        let rounds = run();
        watch.end();
        rounds
    })
}
