//! The scenarios, and how long each is measured.

pub mod flood;
mod hung;
mod memory;
mod start;
mod syscalls;
mod throughput;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    awake::Awake,
    helper::Kind,
    load::Direction,
    process::Neighbours,
    programs::Programs,
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

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Effort {
    /// For numbers to keep
    Full,
    /// About a minute
    Quick,
    /// As short as can be: whether it runs, and whether the answers are right
    Smoke,
}

/// How often and how long something is measured.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rounds: usize,
    warm_up: Duration,
    time: Duration,
}

impl Pace {
    fn new(rounds: usize, warm_up: u64, time: u64) -> Self {
        Self { rounds, warm_up: Duration::from_millis(warm_up), time: Duration::from_millis(time) }
    }
}

impl Effort {
    /// One of three.
    fn choose<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// What all scenarios need.
#[derive(Debug)]
pub struct Bench {
    pub programs: Programs,
    pub effort: Effort,
    pub awake: Awake,
}

impl Bench {
    /// A device that the simulation takes for a disk.
    fn device(minor: u32) -> PathBuf {
        Path::new("/dev").join(format!("loop{minor}"))
    }

    /// Fails with a word of what to do if this host has not what all scenarios need.
    pub fn check() -> io::Result<()> {
        for minor in [DISK, OTHER_DISK] {
            let device = Self::device(minor);
            std::fs::File::options().read(true).write(true).open(&device).map_err(|error| {
                let text = format!(
                    "{}: {error}. This needs root, and loop devices (modprobe loop); nothing is read or written",
                    device.display()
                );
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(())
    }

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

/// Minor numbers of the loop devices that stand for disks.
const DISK: u32 = 0;
const OTHER_DISK: u32 = 1;

/// The order in which `count` contestants take their turns, round by round: each comes first as often as any other, and
/// all of a round come one right after the other.
fn turns(rounds: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round + turn) % count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_in_turn() {
        assert_eq!(turns(3, 3).collect::<Vec<_>>(), [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert_eq!(turns(0, 3).count(), 0);
    }
}
