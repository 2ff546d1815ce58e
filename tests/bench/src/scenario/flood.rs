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
use test_support::Client;

use crate::{
    bench::{Bench, DISK, Pace, turns},
    helper::{Disk, Helper},
    histogram::Histogram,
    kind::Kind,
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

/// A client that has waited so long for an answer gives up.
const PATIENCE: Duration = Duration::from_secs(30);

const ALONE: &str = "clients, nobody else connects";
const BESIDE: &str = "clients, others connect and close";

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(5, 200, 1500), Pace::new(2, 100, 1000), Pace::new(1, 10, 80));
    let clients = bench.effort.choose(4, 4, 1);
    let kinds = bench.programs.kinds();
    let contestants = kinds.iter().map(|kind| Contestant::start(bench, *kind, clients));
    let mut contestants = contestants.collect::<io::Result<Vec<_>>>()?;
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].measure_alone(pace)?;
    }
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].measure_beside(pace)?;
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
        // Of the worst round: one in which no client is served must not be outvoted.
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
    /// Whether a client has given up: its connection is of no further use.
    is_silent: bool,
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
        Ok(Self { helper, members, alone: Vec::new(), beside: Vec::new(), is_silent: false })
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

    fn measure_alone(&mut self, pace: Pace) -> io::Result<()> {
        let measured = self.measure(pace)?;
        self.alone.push(measured);
        Ok(())
    }

    fn measure_beside(&mut self, pace: Pace) -> io::Result<()> {
        if !self.is_silent {
            let flood = Flood::start(&self.helper.socket())?;
            thread::sleep(pace.warm_up);
            let measured = self.measure(pace)?;
            self.beside.push(measured);
            drop(flood);
            // Connections that still wait to be accepted must not burden the next helper's turn.
            let mut last = Client::connect_silently(&self.helper.socket())?;
            last.receive_greeting()?;
        }
        Ok(())
    }

    /// Has each client send one command after the other, with pauses. The time that a client waits before it gives up
    /// counts as well.
    fn measure(&mut self, pace: Pace) -> io::Result<Measured> {
        let end = Instant::now() + pace.time;
        let run = |member: &mut Member| {
            let (mut latencies, mut is_silent) = (Histogram::default(), false);
            while Instant::now() < end && !is_silent {
                thread::sleep(PAUSE);
                let sent = Instant::now();
                match member.command(Direction::In) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => is_silent = true,
                    done => done?,
                }
                latencies.record(sent.elapsed());
            }
            Ok((latencies, is_silent))
        };
        let results: Vec<io::Result<(Histogram, bool)>> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.members.iter_mut().map(|member| scope.spawn(move || run(member))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut all = Histogram::default();
        for result in results {
            let (latencies, is_silent) = result?;
            all.add(&latencies);
            self.is_silent |= is_silent;
        }
        Ok(Measured { rate: None, latencies: all })
    }
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
