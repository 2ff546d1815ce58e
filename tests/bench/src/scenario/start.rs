//! The time from the start of a helper's process to its first reply.

use std::{fs::File, io, time::Instant};

use crate::{
    bench::{Bench, DISK, turns},
    helper::{Disk, Helper},
    histogram::Histogram,
    load::{Direction, Measured, Member},
    report::{Bound, Goal, Row, Section, p50},
};

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let starts = bench.effort.choose(40, 10, 1);
    let kinds = bench.programs.kinds();
    let mut histograms = vec![Histogram::default(); kinds.len()];
    for turn in turns(starts, kinds.len()) {
        let device = File::options().read(true).write(true).open(Bench::device(DISK))?;
        let begun = Instant::now();
        let mut helper = Helper::spawn(&bench.programs, kinds[turn], Some(&Disk::default()))?;
        let client = helper.first_client()?;
        Member::new(client, device, 0).command(Direction::In)?;
        histograms[turn].record(begun.elapsed());
    }

    let mut section = Section::new("start", "from the start of the process to the first reply");
    section.rows = kinds
        .into_iter()
        .zip(histograms)
        .map(|(helper, latencies)| Row {
            what: String::new(),
            clients: 1,
            helper,
            rounds: vec![Measured { rate: None, latencies }],
        })
        .collect();
    for helper in bench.programs.daemons() {
        let value = section.row("", helper).and_then(|row| row.median(p50));
        section.goals.push(Goal { what: "p50 in us".into(), helper, value, bound: Bound::AtMost(10_000.0) });
    }
    Ok(section)
}
