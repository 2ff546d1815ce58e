//! Processes that connect and close in a loop, and their effect on other clients.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
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

/// The option that makes this program one of the flooding processes.
const OPTION: &str = "--flood";

/// The option with the number of connections that a flooding process keeps open.
const HELD_OPTION: &str = "--held";

/// The flooding processes of a variant of the scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    id: &'static str,
    processes: usize,
    /// The number of connections that each process keeps open beside those that it opens and closes.
    held: usize,
}

/// The helper accepts each connection, and serves it until the client closes it.
pub(super) const SERVED: Variant = Variant { id: "flood", processes: 4, held: 0 };

/// The helper rejects each connection: the process holds its quota, a quarter of the default of `--max-clients`.
pub(super) const OVER_QUOTA: Variant = Variant { id: "flood-over-quota", processes: 1, held: 1024 };

/// The pause between two commands of a client. It is longer than a thread of the helper lingers, so that each
/// command passes through the event loop, which also accepts connections.
const PAUSE: Duration = Duration::from_millis(70);

/// A client gives up if a reply takes longer than this.
const TIMEOUT: Duration = Duration::from_secs(30);

const QUIET: &str = "clients, without the flood";
const FLOODED: &str = "clients, during the flood";

pub(super) fn run(bench: &Bench, variant: Variant) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(5, 200, 1500), Pace::new(2, 100, 1000), Pace::new(1, 10, 80));
    let clients = bench.effort.choose(4, 4, 1);
    let kinds = bench.programs.kinds();
    let contestants = kinds.iter().map(|kind| Contestant::start(bench, *kind, clients));
    let mut contestants = contestants.collect::<io::Result<Vec<_>>>()?;
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].measure_quiet(pace)?;
    }
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].measure_flooded(pace, variant)?;
    }

    let Variant { id, processes, held } = variant;
    let title = format!(
        "{clients} clients, In, {} ms between two commands, while other processes ({processes}) connect and close; \
         each keeps {held} connections open",
        PAUSE.as_millis()
    );
    let mut section = Section::new(id, title);
    for what in [QUIET, FLOODED] {
        section.rows.extend(contestants.iter().map(|contestant| contestant.row(what)));
    }
    for helper in bench.programs.daemons() {
        let (quiet, flooded) = (section.row(QUIET, helper), section.row(FLOODED, helper));
        let p50_ratio = flooded.zip(quiet).and_then(|(flooded, quiet)| ratio(flooded, quiet, p50));
        // Takes the worst round: the median would hide a round in which no client is served.
        let worst_p99 = flooded.and_then(|row| row.rounds.iter().filter_map(p99).reduce(f64::max));
        section.goals.extend([
            Goal {
                what: "p50 / its own without the flood".into(),
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

/// A measured helper and its clients.
struct Contestant {
    helper: Helper,
    members: Vec<Member>,
    quiet: Vec<Measured>,
    flooded: Vec<Measured>,
    /// Whether a client has given up. Its connection is then unusable.
    is_silent: bool,
}

impl Contestant {
    fn start(bench: &Bench, kind: Kind, clients: usize) -> io::Result<Self> {
        let helper = Helper::start(&bench.programs, kind, Some(&Disk::default()))?;
        let member = |number| {
            let device = File::options().read(true).write(true).open(Bench::device(DISK))?;
            let member = Member::connect(&helper.socket(), device, number)?;
            member.set_timeout(TIMEOUT)?;
            Ok(member)
        };
        let members = (0..clients).map(member).collect::<io::Result<_>>()?;
        Ok(Self { helper, members, quiet: Vec::new(), flooded: Vec::new(), is_silent: false })
    }

    fn row(&self, what: &str) -> Row {
        let rounds = if what == QUIET { &self.quiet } else { &self.flooded };
        Row {
            what: what.into(),
            clients: self.members.len(),
            helper: self.helper.kind,
            rounds: rounds.clone(),
        }
    }

    fn measure_quiet(&mut self, pace: Pace) -> io::Result<()> {
        let measured = self.measure(pace)?;
        self.quiet.push(measured);
        Ok(())
    }

    fn measure_flooded(&mut self, pace: Pace, variant: Variant) -> io::Result<()> {
        if !self.is_silent {
            let flood = Flood::start(&self.helper.socket(), variant)?;
            thread::sleep(pace.warm_up);
            let measured = self.measure(pace)?;
            self.flooded.push(measured);
            drop(flood);
            // Waits until the backlog is empty, so that it does not slow down the next helper's turn.
            let mut last = Client::connect_silently(&self.helper.socket())?;
            last.receive_greeting()?;
        }
        Ok(())
    }

    /// Lets each client send one command after the other, with pauses. If a client gives up, its wait counts
    /// as a latency.
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

/// The flooding processes. They are killed on drop.
struct Flood(Vec<Child>);

impl Flood {
    /// Starts the processes, and waits until each has opened the connections that it keeps.
    fn start(socket: &Path, variant: Variant) -> io::Result<Self> {
        let mut flood = Self(Vec::new());
        for _ in 0..variant.processes {
            let mut command = Command::new(env::current_exe()?);
            command.arg(OPTION).arg(socket).arg(HELD_OPTION).arg(variant.held.to_string());
            flood.0.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        }
        for child in &mut flood.0 {
            if let Some(stdout) = &mut child.stdout {
                stdout.read_exact(&mut [0])?;
            }
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

/// Keeps `held` connections open and reports that on standard output; then connects and closes until the helper or the
/// benchmark exits.
pub fn flood(socket: &Path, held: usize) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let _held = (0..held).map(|_| UnixStream::connect(socket)).collect::<io::Result<Vec<_>>>()?;
    io::stdout().write_all(b"\n")?;
    while UnixStream::connect(socket).is_ok() {}
    Ok(())
}
