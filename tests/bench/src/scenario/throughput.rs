//! The rate and latency of clients that send one command after the other.

use std::{io, time::Duration};

use crate::{
    bench::{Bench, DISK, Pace, turns},
    helper::{Disk, Helper},
    kind::Kind,
    load::{Crowd, Direction, Measured},
    report::{Bound, Goal, Row, Section, Value, p50, p99, rate, spread},
};

/// The time that a command takes on the slow disk.
const SLOW: Duration = Duration::from_millis(5);

/// Measures with a disk that takes no time, so that the results are those of the helper alone.
pub(super) fn fast(
    bench: &Bench,
    id: &'static str,
    clients: usize,
    direction: Direction,
) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(15, 50, 300), Pace::new(5, 30, 100), Pace::new(1, 0, 10));
    let title = format!("{}, {direction:?}, a disk that takes no time", count(clients));
    let mut section = Section::new(id, title);
    section.rows = measure(bench, &Disk::default(), "", clients, direction, pace)?;
    let least = if clients == 1 { 0.95 } else { 0.9 };
    for helper in bench.programs.daemons() {
        let goal = |what, to, value, bound| ratio_goal(&section, what, helper, to, value, bound);
        let goals = [
            goal("rate / floor's", Kind::Floor, rate, Bound::AtLeast(least)),
            goal("rate / C helper's", Kind::C, rate, Bound::AtLeast(2.0)),
            if clients == 1 {
                goal("p50 / floor's", Kind::Floor, p50, Bound::AtMost(1.25))
            } else {
                // The floor leaves scheduling to the kernel and serves clients as evenly as possible. A
                // helper that serves clients in turns exceeds its spread a hundred times.
                goal("p99 / p50, to the floor's", Kind::Floor, spread, Bound::AtMost(4.0))
            },
        ];
        section.goals.extend(goals);
    }
    Ok(section)
}

/// Measures many clients of one disk that takes time for each command but executes all at once.
pub(super) fn slow(bench: &Bench) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(7, 100, 1500), Pace::new(3, 50, 500), Pace::new(1, 0, 30));
    let clients = bench.effort.choose(256, 256, 16);
    let disk = Disk { delay: SLOW, ..Disk::default() };
    let mut section = Section::new("slow", format!("{}, In, a disk that takes 5 ms", count(clients)));
    section.rows = measure(bench, &disk, "", clients, Direction::In, pace)?;
    for helper in bench.programs.daemons() {
        let goal = |what, value, bound| ratio_goal(&section, what, helper, Kind::Floor, value, bound);
        let goals = [
            goal("rate / floor's", rate, Bound::AtLeast(0.9)),
            goal("p99 / floor's", p99, Bound::AtMost(1.25)),
        ];
        section.goals.extend(goals);
    }
    Ok(section)
}

/// Measures how latency grows with the number of clients.
pub(super) fn clients(bench: &Bench) -> io::Result<Section> {
    let pace = bench.effort.choose(Pace::new(5, 50, 200), Pace::new(2, 20, 80), Pace::new(1, 0, 10));
    let most = bench.effort.choose(256, 256, 4);
    let mut section = Section::new("clients", "1 to 256 clients, In, a disk that takes no time");
    let numbers = std::iter::successors(Some(1), |clients| Some(clients * 2)).take_while(|n| *n <= most);
    for clients in numbers {
        section.rows.extend(measure(bench, &Disk::default(), &count(clients), clients, Direction::In, pace)?);
    }
    Ok(section)
}

fn count(clients: usize) -> String {
    if clients == 1 { "1 client".into() } else { format!("{clients} clients") }
}

/// Starts all helpers and measures them in turns.
fn measure(
    bench: &Bench,
    disk: &Disk,
    what: &str,
    clients: usize,
    direction: Direction,
    pace: Pace,
) -> io::Result<Vec<Row>> {
    let mut contestants = Vec::new();
    for kind in bench.programs.kinds() {
        let helper = Helper::start(&bench.programs, kind, Some(disk))?;
        let crowd = Crowd::connect(&helper, &Bench::device(DISK), clients)?;
        let row = Row { what: what.into(), clients, helper: kind, rounds: Vec::new() };
        contestants.push((helper, crowd, row));
    }
    for turn in turns(pace.rounds, contestants.len()) {
        let (helper, crowd, row) = &mut contestants[turn];
        let measured: Measured = crowd
            .run(direction, pace.warm_up, pace.time)
            .map_err(|error| io::Error::other(format!("{}: {error}", helper.kind)))?;
        row.rounds.push(measured);
    }
    Ok(contestants.into_iter().map(|(_, _, row)| row).collect())
}

/// Returns a goal for the ratio of a helper's value to that of another helper.
fn ratio_goal(section: &Section, what: &str, helper: Kind, to: Kind, value: Value, bound: Bound) -> Goal {
    let value = section.row("", helper).and_then(|row| section.ratio(row, to, value));
    Goal { what: what.into(), helper, value, bound }
}
