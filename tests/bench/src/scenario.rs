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

/// A scenario of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One client that sends IN commands
    OneIn,
    /// One client that sends OUT commands
    OneOut,
    /// 64 clients that send IN commands
    ManyIn,
    /// 64 clients that send OUT commands
    ManyOut,
    /// 256 clients of a disk that takes 5 ms
    Slow,
    /// One client, while 256 others wait for a disk that never answers
    Hung,
    /// Clients, while other processes connect and close as fast as they can
    Flood,
    /// Clients, while a process connects and is rejected, since it has all the connections of its quota
    FloodOverQuota,
    /// Memory of a helper and of idle clients, and threads left after a burst of commands
    Memory,
    /// Time from the start to the first reply
    Start,
    /// System calls per command
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
            Scenario::Flood => flood::run(self, flood::SERVED),
            Scenario::FloodOverQuota => flood::run(self, flood::OVER_QUOTA),
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

/// Returns the goals of pr-helper compared with another build: at most five percent worse in each row.
fn not_worse(section: &Section, other: Kind) -> Vec<Goal> {
    let rows = section.rows.iter().filter(|row| row.helper == Kind::PrHelper);
    let values = [("rate", rate as Value, Bound::AtLeast(0.95)), ("p50", p50, Bound::AtMost(1.05))];
    rows.flat_map(|row| {
        values.iter().filter_map(|(name, value, bound)| {
            // A row without a median has no measurements of this value.
            row.median(*value)?;
            let what = format!("{} {name} / {other}'s", row.what).trim_start().to_owned();
            let value = section.ratio(row, other, *value);
            Some(Goal { what, helper: Kind::PrHelper, value, bound: *bound })
        })
    })
    .collect()
}
