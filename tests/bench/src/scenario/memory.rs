//! The footprint of an idle helper: memory, alone and per client, and threads left after a burst of commands.

use std::{io, thread, time::Duration};

use crate::{
    bench::{Bench, DISK},
    helper::{Disk, Helper},
    kind::Kind,
    load::{Crowd, Direction},
    process::{Memory, threads},
    report::{Bound, Figure, Goal, Section},
};

/// The time in which a helper completes its start.
const SETTLE: Duration = Duration::from_millis(500);

/// The length of the burst.
const STORM: Duration = Duration::from_millis(300);

pub(super) fn run(bench: &Bench) -> io::Result<Section> {
    let idle_clients = bench.effort.choose(1000, 1000, 10);
    let stormy_clients = bench.effort.choose(256, 256, 8);
    let calm = Duration::from_secs(bench.effort.choose(7, 7, 0));
    let title =
        format!("idle, with {idle_clients} idle clients, and after a storm of {stormy_clients} clients");
    let mut section = Section::new("memory", title);

    let mut numbers = Numbers::default();
    let mut storms = Vec::new();
    for kind in bench.programs.kinds() {
        measure_memory(bench, kind, idle_clients, &mut numbers)?;
        let disk = Disk { delay: Duration::from_millis(5), ..Disk::default() };
        let helper = Helper::start(&bench.programs, kind, Some(&disk))?;
        let mut crowd = Crowd::connect(&helper, &Bench::device(DISK), stormy_clients)?;
        numbers.add(kind, "threads at first", "", threads(helper.pid())?);
        crowd.run(Direction::In, Duration::ZERO, STORM)?;
        numbers.add(kind, "threads in a storm", "", threads(helper.pid())?);
        storms.push((helper, crowd));
    }
    // The clients stay connected.
    thread::sleep(calm);
    for (helper, _crowd) in &storms {
        numbers.add(helper.kind, "threads seven seconds later", "", threads(helper.pid())?);
    }

    section.figures = numbers.0;
    let goals = [(IDLE, 3072.0), (CLIENT, 12.0), (ACTIVE_CLIENT, 12.0), ("threads seven seconds later", 8.0)];
    for helper in bench.programs.daemons() {
        for (name, most) in goals {
            let figure = section.figures.iter().find(|figure| figure.name == name);
            let value = figure.and_then(|figure| figure.of(helper));
            section.goals.push(Goal { what: name.into(), helper, value, bound: Bound::AtMost(most) });
        }
    }
    Ok(section)
}

const IDLE: &str = "resident, idle";
const CLIENT: &str = "per client";
const ACTIVE_CLIENT: &str = "per client after a command";

fn measure_memory(bench: &Bench, kind: Kind, clients: usize, numbers: &mut Numbers) -> io::Result<()> {
    // Runs without the simulation, whose memory would count, too.
    let helper = Helper::start(&bench.programs, kind, None)?;
    thread::sleep(SETTLE);
    let idle = Memory::of(helper.pid())?;
    numbers.add(kind, IDLE, "KiB", idle.resident >> 10);
    numbers.add(kind, "proportional, idle", "KiB", idle.proportional >> 10);
    drop(helper);

    let helper = Helper::start(&bench.programs, kind, Some(&Disk::default()))?;
    // The first command loads code and data that later commands share.
    let mut first = Crowd::connect(&helper, &Bench::device(DISK), 1)?;
    first.run(Direction::In, Duration::ZERO, Duration::from_millis(10))?;
    thread::sleep(SETTLE);
    let before = Memory::of(helper.pid())?;
    let mut crowd = Crowd::connect(&helper, &Bench::device(DISK), clients)?;
    numbers.add_growth(kind, CLIENT, before, Memory::of(helper.pid())?, clients);
    for member in crowd.members() {
        member.command(Direction::In)?;
    }
    numbers.add_growth(kind, ACTIVE_CLIENT, before, Memory::of(helper.pid())?, clients);
    Ok(())
}

/// Figures, in the order in which they are added first.
#[derive(Default)]
struct Numbers(Vec<Figure>);

impl Numbers {
    fn add(&mut self, kind: Kind, name: &str, unit: &'static str, value: impl TryInto<u32>) {
        let value = f64::from(value.try_into().unwrap_or(u32::MAX));
        self.put(kind, name, unit, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn add_growth(&mut self, kind: Kind, name: &str, before: Memory, after: Memory, clients: usize) {
        let growth = after.resident.saturating_sub(before.resident) as f64;
        self.put(kind, name, "KiB", growth / 1024.0 / clients as f64);
    }

    fn put(&mut self, kind: Kind, name: &str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push((kind, value)),
            None => self.0.push(Figure { name: name.into(), unit, values: vec![(kind, value)] }),
        }
    }
}
