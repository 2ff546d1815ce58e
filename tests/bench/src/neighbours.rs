//! How busy others keep the host meanwhile.

use std::{fs, io, time::Instant};

use crate::{awake::Awake, process::busy_ticks};

/// Ticks per second of processor time in /proc (`USER_HZ`), the same on all architectures that Rust's Linux targets run.
const TICKS: f64 = 100.0;

/// Watches how much of the processors others use.
#[derive(Debug)]
pub struct Neighbours<'a> {
    awake: &'a Awake,
    since: Instant,
    all: u64,
    ours: u64,
}

impl<'a> Neighbours<'a> {
    /// From now on. `awake` are no others.
    pub fn watch(awake: &'a Awake) -> io::Result<Self> {
        Ok(Self { awake, since: Instant::now(), all: all_ticks()?, ours: our_ticks(awake)? })
    }

    /// The share of all processors, 0 to 1, that others have used since. Children of ours count once they have ended.
    pub fn share(&self) -> io::Result<f64> {
        let all = all_ticks()?.saturating_sub(self.all);
        let others = all.saturating_sub(our_ticks(self.awake)?.saturating_sub(self.ours));
        let processors = std::thread::available_parallelism()?.get();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (others, processors) = (others as f64, processors as f64);
        Ok(others / TICKS / (self.since.elapsed().as_secs_f64() * processors))
    }
}

/// Time that all processors have been busy.
fn all_ticks() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<u64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest times are in user's.
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|index| times.get(*index)).sum())
}

fn our_ticks(awake: &Awake) -> io::Result<u64> {
    Ok(busy_ticks("self")? + awake.ticks()?)
}
