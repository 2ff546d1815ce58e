//! The load of other processes on the host during a measurement.

use std::{fs, io, time::Instant};

use crate::{awake::Awake, process::busy_ticks};

/// Ticks per second of processor time in /proc (`USER_HZ`), the same on all architectures that Rust's Linux
/// targets run.
const TICKS: f64 = 100.0;

/// Measures how much processor time the processes outside of the benchmark use.
#[derive(Debug)]
pub struct Neighbours<'a> {
    awake: &'a Awake,
    since: Instant,
    /// Ticks of all processes at the start.
    all: u64,
    /// Ticks of the benchmark at the start.
    own: u64,
}

impl<'a> Neighbours<'a> {
    /// Starts to measure. The processes of `awake` belong to the benchmark.
    pub fn watch(awake: &'a Awake) -> io::Result<Self> {
        Ok(Self { awake, since: Instant::now(), all: all_ticks()?, own: own_ticks(awake)? })
    }

    /// Returns the share of the time of all processors, 0 to 1, that other processes have used since the
    /// start. Children of this process count as its own only after they have exited.
    pub fn share(&self) -> io::Result<f64> {
        let all = all_ticks()?.saturating_sub(self.all);
        let others = all.saturating_sub(own_ticks(self.awake)?.saturating_sub(self.own));
        let processors = std::thread::available_parallelism()?.get();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (others, processors) = (others as f64, processors as f64);
        Ok(others / TICKS / (self.since.elapsed().as_secs_f64() * processors))
    }
}

/// Returns the busy time of all processors, in ticks.
fn all_ticks() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<u64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest times are part of user.
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|index| times.get(*index)).sum())
}

/// Returns the processor time of the benchmark, in ticks.
fn own_ticks(awake: &Awake) -> io::Result<u64> {
    Ok(busy_ticks("self")? + awake.ticks()?)
}
