//! A disk that never answers, and its effect on clients of another disk.

use std::{
    fs::File,
    io, thread,
    time::{Duration, Instant},
};

use test_support::Client;

use crate::{
    bench::{Bench, DISK, OTHER_DISK, Pace, turns},
    helper::{Disk, Helper},
    histogram::Histogram,
    kind::Kind,
    load::{Crowd, Direction, Measured},
    report::{Bound, Goal, Row, Section, p50, p99, ratio},
};

/// A client that has no reply after this time will not get one.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The time in which all commands reach the hung disk.
const SETTLE: Duration = Duration::from_millis(300);

const ALONE: &str = "a client, no commands hang";
const BESIDE: &str = "a client, other commands hang";
const CONNECT: &str = "new clients, other commands hang";

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(15, 30, 200), Pace::new(5, 20, 60), Pace::new(1, 0, 10));
    let (hung, connects) = bench.effort.choose((256, 40), (256, 20), (8, 2));
    let mut contestants = Vec::new();
    for kind in bench.programs.kinds() {
        for hung in [0, hung] {
            contestants.push(Contestant::start(bench, kind, hung)?);
        }
    }
    thread::sleep(SETTLE);
    for turn in turns(pace.rounds, contestants.len()) {
        contestants[turn].take_turn(pace, connects)?;
    }

    let mut section =
        Section::new("hung", format!("1 client, In, while {hung} others wait for a disk that hangs"));
    for what in [ALONE, BESIDE, CONNECT] {
        for contestant in &mut contestants {
            if what == CONNECT && !contestant.hung.is_empty() {
                section.rows.push(contestant.row(what, contestant.connects.clone()));
            } else if what == contestant.what() {
                section.rows.push(contestant.row(what, contestant.rounds.clone()));
            }
        }
    }
    for helper in bench.programs.daemons() {
        let beside = section.row(BESIDE, helper).zip(section.row(ALONE, helper));
        let of_its_own = |value| beside.and_then(|(beside, alone)| ratio(beside, alone, value));
        let new = section.row(CONNECT, helper).and_then(|row| row.median(p99));
        section.goals.extend(
            [
                ("p50 / its own when no commands hang", of_its_own(p50), Bound::AtMost(1.25)),
                ("p99 of new connections in us", new, Bound::AtMost(1000.0)),
            ]
            .map(|(what, value, bound)| Goal { what: what.into(), helper, value, bound }),
        );
    }
    Ok(section)
}

/// A measured helper, with one client that is measured and others that hang.
struct Contestant {
    crowd: Crowd,
    hung: Vec<Client>,
    rounds: Vec<Measured>,
    connects: Vec<Measured>,
    /// The helper did not reply to the client, so that it is not measured any more.
    is_silent: bool,
    /// Dropped last: its processes are killed, and with them the hung commands.
    helper: Helper,
}

impl Contestant {
    fn start(bench: &Bench, kind: Kind, hung: usize) -> io::Result<Self> {
        let disk = Disk { hanging: Some(DISK), ..Disk::default() };
        let helper = Helper::start(&bench.programs, kind, Some(&disk))?;
        let mut crowd = Crowd::connect(&helper, &Bench::device(OTHER_DISK), 1)?;
        for member in crowd.members() {
            member.set_timeout(TIMEOUT)?;
        }
        let device = File::options().read(true).write(true).open(Bench::device(DISK))?;
        let hung = (0..hung).map(|_| hang(&helper, &device)).collect::<io::Result<_>>()?;
        Ok(Self { crowd, hung, rounds: Vec::new(), connects: Vec::new(), is_silent: false, helper })
    }

    fn what(&self) -> &'static str {
        if self.hung.is_empty() { ALONE } else { BESIDE }
    }

    fn row(&self, what: &str, rounds: Vec<Measured>) -> Row {
        Row { what: what.into(), clients: 1, helper: self.helper.kind, rounds }
    }

    fn take_turn(&mut self, pace: Pace, connects: usize) -> io::Result<()> {
        if !self.is_silent {
            match self.crowd.run(Direction::In, pace.warm_up, pace.time) {
                Ok(measured) => self.rounds.push(measured),
                // Happens with the C helper, when all its threads hang.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.hung.is_empty() => {
                    self.is_silent = true;
                }
                Err(error) => return Err(error),
            }
        }
        if !self.hung.is_empty() {
            self.connects.push(connect(&self.helper, connects)?);
        }
        Ok(())
    }
}

/// Connects a client and sends a command to the hung disk.
fn hang(helper: &Helper, device: &File) -> io::Result<Client> {
    use std::os::fd::AsFd as _;
    let mut client = Client::connect(&helper.socket())?;
    let read_keys = [0x5e, 0, 0, 0, 0, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0];
    client.send(&read_keys, &[device.as_fd()])?;
    Ok(client)
}

/// Measures the time to connect and receive the greeting.
fn connect(helper: &Helper, times: usize) -> io::Result<Measured> {
    let mut latencies = Histogram::default();
    for _ in 0..times {
        let begun = Instant::now();
        let mut client = Client::connect_silently(&helper.socket())?;
        client.receive_greeting()?;
        latencies.record(begun.elapsed());
    }
    Ok(Measured { rate: None, latencies })
}
