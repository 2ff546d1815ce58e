//! The scenarios.

pub mod flood;
mod hung;
mod memory;
mod start;
mod syscalls;
mod throughput;

use std::io;

use crate::{
    bench::Bench,
    kind::Kind,
    load::Direction,
    neighbours::Neighbours,
    report::{Bound, Goal, Section, Value, p50, rate},
};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One client that asks
    OneIn,
    /// One client that changes
    OneOut,
    /// 64 clients that ask
    ManyIn,
    /// 64 clients that change
    ManyOut,
    /// 256 clients of a disk that takes 5 ms
    Slow,
    /// One client, while 256 wait for a disk that never answers
    Hung,
    /// Clients, while others connect and close as fast as they can
    Flood,
    /// What a helper and its idle clients take, and the threads that a storm leaves
    Memory,
    /// From the start to the first answer
    Start,
    /// System calls of a command
    Syscalls,
    /// 1 to 256 clients, for the plot
    Clients,
}

impl Bench {
    pub fn run(&self, scenario: Scenario) -> io::Result<Section> {
        let neighbours = Neighbours::watch(&self.awake)?;
        let mut section = match scenario {
            Scenario::OneIn => throughput::fast(self, "one-in", 1, Direction::In),
            Scenario::OneOut => throughput::fast(self, "one-out", 1, Direction::Out),
            Scenario::ManyIn => throughput::fast(self, "many-in", 64, Direction::In),
            Scenario::ManyOut => throughput::fast(self, "many-out", 64, Direction::Out),
            Scenario::Slow => throughput::slow(self),
            Scenario::Hung => hung::run(self),
            Scenario::Flood => flood::run(self),
            Scenario::Memory => memory::run(self),
            Scenario::Start => start::run(self),
            Scenario::Syscalls => syscalls::run(self),
            Scenario::Clients => throughput::clients(self),
        }?;
        section.neighbours = neighbours.share()?;
        let compared =
            self.programs.others().flat_map(|other| not_worse(&section, other)).collect::<Vec<_>>();
        section.goals.extend(compared);
        Ok(section)
    }
}

/// Goals of pr-helper beside another build: in no row more than five percent worse.
fn not_worse(section: &Section, other: Kind) -> Vec<Goal> {
    let ours = section.rows.iter().filter(|row| row.helper == Kind::PrHelper);
    let values = [("rate", rate as Value, Bound::AtLeast(0.95)), ("p50", p50, Bound::AtMost(1.05))];
    ours.flat_map(|row| {
        values.iter().filter_map(|(name, value, bound)| {
            // Nothing was measured of it in a row of which there is no median.
            row.median(*value)?;
            let what = format!("{} {name} / {other}'s", row.what).trim_start().to_owned();
            let value = section.ratio(row, other, *value);
            Some(Goal { what, helper: Kind::PrHelper, value, bound: *bound })
        })
    })
    .collect()
}
