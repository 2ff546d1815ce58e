//! What all scenarios have in common, and how long each is measured.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{awake::Awake, programs::Programs};

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
pub struct Pace {
    pub rounds: usize,
    pub warm_up: Duration,
    pub time: Duration,
}

impl Pace {
    pub fn new(rounds: usize, warm_up: u64, time: u64) -> Self {
        Self { rounds, warm_up: Duration::from_millis(warm_up), time: Duration::from_millis(time) }
    }
}

impl Effort {
    /// One of three.
    pub fn choose<T>(self, full: T, quick: T, smoke: T) -> T {
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
    pub fn device(minor: u32) -> PathBuf {
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
}

/// Minor numbers of the loop devices that stand for disks.
pub const DISK: u32 = 0;
pub const OTHER_DISK: u32 = 1;

/// The order in which `count` contestants take their turns, round by round: each comes first as often as any other, and
/// all of a round come one right after the other.
pub fn turns(rounds: usize, count: usize) -> impl Iterator<Item = usize> {
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
