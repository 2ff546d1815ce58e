//! Processes that connect and close in a loop, and what other clients notice of it.

use std::{
    env,
    fs::File,
    io,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{Bench, DISK, Pace, turns};
use crate::{
    helper::{Disk, Helper, Kind},
    histogram::Histogram,
    load::{Direction, Measured, Member},
    report::{Bound, Goal, Row, Section, p50, p99, ratio},
};

/// The option that makes this program one of the processes.
pub const OPTION: &str = "--flood";

/// How many processes connect and close.
const PROCESSES: usize = 4;

/// Between two commands of a client: longer than a helper's thread waits for the next one, so that each command comes by
/// way of what accepts connections.
const PAUSE: Duration = Duration::from_millis(70);

/// No answer for so long is an error.
const PATIENCE: Duration = Duration::from_secs(60);

const ALONE: &str = "clients, nobody else connects";
const BESIDE: &str = "clients, others connect and close";

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(5, 200, 1500), Pace::new(2, 100, 1000), Pace::new(1, 10, 80));
    let clients = bench.effort.choose(4, 4, 1);
    let kinds = bench.programs.kinds();
    let contestants = kinds.iter().map(|kind| Contestant::start(bench, *kind, clients));
    let mut contestants = contestants.collect::<io::Result<Vec<_>>>()?;
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].take_turn(pace)?;
    }

    let title = format!(
        "{clients} clients, In, {} ms between two commands, while {PROCESSES} processes connect and close",
        PAUSE.as_millis()
    );
    let mut section = Section::new("flood", title);
    for what in [ALONE, BESIDE] {
        section.rows.extend(contestants.iter().map(|contestant| contestant.row(what)));
    }
    for helper in bench.programs.ours() {
        let (alone, beside) = (section.row(ALONE, helper), section.row(BESIDE, helper));
        let p50_ratio = beside.zip(alone).and_then(|(beside, alone)| ratio(beside, alone, p50));
        // Of the worst round: one in which nobody is served must not be outvoted.
        let worst_p99 = beside.and_then(|row| row.rounds.iter().filter_map(p99).reduce(f64::max));
        section.goals.extend([
            Goal {
                what: "p50 / its own when nobody else connects".into(),
                helper,
                value: p50_ratio,
                bound: Bound::AtMost(5.0),
            },
            Goal {
                what: "p99 of the worst round in us".into(),
                helper,
                value: worst_p99,
                bound: Bound::AtMost(50_000.0),
            },
        ]);
    }
    Ok(section)
}

/// A helper and its clients.
struct Contestant {
    helper: Helper,
    members: Vec<Member>,
    alone: Vec<Measured>,
    beside: Vec<Measured>,
}

impl Contestant {
    fn start(bench: &Bench, kind: Kind, clients: usize) -> io::Result<Self> {
        let helper = Helper::start(&bench.programs, kind, Some(&Disk::default()))?;
        let member = |number| {
            let device = File::options().read(true).write(true).open(Bench::device(DISK))?;
            let member = Member::connect(&helper.socket(), device, number)?;
            member.set_patience(PATIENCE)?;
            Ok(member)
        };
        let members = (0..clients).map(member).collect::<io::Result<_>>()?;
        Ok(Self { helper, members, alone: Vec::new(), beside: Vec::new() })
    }

    fn row(&self, what: &str) -> Row {
        let rounds = if what == ALONE { &self.alone } else { &self.beside };
        Row {
            what: what.into(),
            clients: self.members.len(),
            helper: self.helper.kind,
            rounds: rounds.clone(),
        }
    }

    fn take_turn(&mut self, pace: Pace) -> io::Result<()> {
        let alone = measure(&mut self.members, pace)?;
        let flood = Flood::start(&self.helper.socket())?;
        thread::sleep(pace.warm_up);
        let beside = measure(&mut self.members, pace)?;
        drop(flood);
        // What has been accepted by then is still to be served.
        thread::sleep(pace.warm_up);
        self.alone.push(alone);
        self.beside.push(beside);
        Ok(())
    }
}

/// Has each client send one command after the other, with pauses.
fn measure(members: &mut [Member], pace: Pace) -> io::Result<Measured> {
    let end = Instant::now() + pace.time;
    let run = |member: &mut Member| {
        let mut latencies = Histogram::default();
        while Instant::now() < end {
            thread::sleep(PAUSE);
            let sent = Instant::now();
            member.command(Direction::In)?;
            latencies.record(sent.elapsed());
        }
        Ok(latencies)
    };
    let results: Vec<io::Result<Histogram>> = thread::scope(|scope| {
        let threads: Vec<_> = members.iter_mut().map(|member| scope.spawn(|| run(member))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut latencies = Histogram::default();
    for result in results {
        latencies.add(&result?);
    }
    Ok(Measured { rate: None, latencies })
}

/// Processes that connect and close. Dropped, they end.
struct Flood(Vec<Child>);

impl Flood {
    fn start(socket: &Path) -> io::Result<Self> {
        let mut flood = Self(Vec::new());
        for _ in 0..PROCESSES {
            let mut command = Command::new(env::current_exe()?);
            flood.0.push(command.arg(OPTION).arg(socket).stdin(Stdio::null()).spawn()?);
        }
        Ok(flood)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Connects and closes until the helper or the benchmark is gone.
pub fn flood(socket: &Path) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    while UnixStream::connect(socket).is_ok() {}
    Ok(())
}
