//! Code shared by all scenarios: the programs, the devices, and how long to measure.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{awake::Awake, programs::Programs};

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Effort {
    /// For results that are kept
    Full,
    /// About a minute
    Quick,
    /// As short as possible: checks that it runs and that all replies are right
    Smoke,
}

/// The number and the length of the rounds of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    pub warm_up: Duration,
    pub time: Duration,
}

impl Pace {
    /// Creates a pace from times in milliseconds.
    pub fn new(rounds: usize, warm_up: u64, time: u64) -> Self {
        Self { rounds, warm_up: Duration::from_millis(warm_up), time: Duration::from_millis(time) }
    }
}

impl Effort {
    /// Returns the value for this effort.
    pub fn choose<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// The benchmark: the state that all scenarios share.
#[derive(Debug)]
pub struct Bench {
    pub programs: Programs,
    pub effort: Effort,
    pub awake: Awake,
}

impl Bench {
    /// Returns the path of a device that the simulation takes for a disk.
    pub fn device(minor: u32) -> PathBuf {
        Path::new("/dev").join(format!("loop{minor}"))
    }

    /// Checks the requirements of all scenarios. The error says what to do.
    pub fn check() -> io::Result<()> {
        for minor in [DISK, OTHER_DISK] {
            let device = Self::device(minor);
            std::fs::File::options().read(true).write(true).open(&device).map_err(|error| {
                let text = format!(
                    "{}: {error}. This needs root and loop devices (modprobe loop); no device is read or written",
                    device.display()
                );
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(())
    }
}

/// Minor numbers of the loop devices that act as disks.
pub const DISK: u32 = 0;
pub const OTHER_DISK: u32 = 1;

/// Returns the order in which `count` helpers take turns. Each round has all of them, one right after the
/// other, and each helper is first in equally many rounds.
pub fn turns(rounds: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round + turn) % count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_helper_is_first_in_turn() {
        assert_eq!(turns(3, 3).collect::<Vec<_>>(), [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert_eq!(turns(0, 3).count(), 0);
    }
}
