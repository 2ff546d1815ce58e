//! What was measured, and whether the run has passed.

use std::{fmt, time::Duration};

use crate::{daemon::Figures, watch::Watch};

/// Memory is compared with what the daemon used after its first minute.
const FIRST: Duration = Duration::from_secs(60);

/// How much more memory a daemon may use at the end of its life, in KiB: pages that the allocator keeps for other threads.
const SLACK: u64 = 1024;

/// A round of abuse, and what the daemon used during it and afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// The number of the daemon.
    pub(crate) life: u32,
    /// Since the daemon's start.
    pub(crate) at: Duration,
    pub(crate) peak: Figures,
    pub(crate) quiet: Figures,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life, at, peak, quiet } = self;
        write!(
            f,
            "daemon {life}, {:3} s: {:5} KiB, {:2} descriptors, {:2} threads; during the abuse {} KiB, {}, {}",
            at.as_secs(),
            quiet.resident,
            quiet.descriptors,
            quiet.threads,
            peak.resident,
            peak.descriptors,
            peak.threads
        )
    }
}

/// Prints all faults and the latencies. Returns whether there is no fault.
pub(crate) fn print(watch: &Watch, rounds: &[Round]) -> bool {
    if let Some(growth) = growth(rounds) {
        watch.fault(growth);
    }
    let latencies = watch.latencies();
    let (count, failed) = (latencies.len(), watch.failed());
    if watch.faults().is_empty() && (count < 100 || rounds.is_empty()) {
        watch.fault("nothing was measured".into());
    }
    let faults = watch.faults();
    eprintln!(
        "soak: {count} answers to healthy clients, p50 {} us, p99 {} us, max {} us; {failed} attempts failed in restarts",
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.99),
        latencies.max(),
    );
    let daemons = rounds.iter().map(|round| round.life).max().map_or(0, |last| last + 1);
    if faults.is_empty() {
        eprintln!("soak: passed, {} rounds, {daemons} daemons", rounds.len());
    } else {
        eprintln!("soak: FAILED, {} faults (see above)", faults.len());
    }
    faults.is_empty()
}

/// Returns a description if a daemon uses more memory in the end than after its first minute.
fn growth(rounds: &[Round]) -> Option<String> {
    let lives = rounds.chunk_by(|one, other| one.life == other.life);
    lives.filter_map(|life| Some((life.iter().find(|round| round.at >= FIRST)?, life.last()?))).find_map(
        |(first, last)| {
            let (before, after) = (first.quiet.resident, last.quiet.resident);
            (after > before + before / 10 + SLACK).then(|| {
                format!(
                    "daemon {} grew from {before} KiB after {:.0?} to {after} KiB after {:.0?}",
                    last.life, first.at, last.at
                )
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(life: u32, seconds: u64, resident: u64) -> Round {
        let figures = Figures { resident, descriptors: 10, threads: 3 };
        Round { life, at: Duration::from_secs(seconds), peak: figures, quiet: figures }
    }

    #[test]
    fn growth_counts_from_the_first_minute() {
        for (rounds, grows) in [
            (&[][..], false),
            (&[round(0, 50, 5000), round(0, 100, 9000)], false),
            (&[round(0, 50, 5000), round(0, 100, 9000), round(0, 150, 10_900)], false),
            (&[round(0, 50, 5000), round(0, 100, 9000), round(0, 150, 10_925)], true),
            (&[round(0, 100, 5000), round(1, 100, 9000)], false),
            (&[round(0, 100, 5000), round(0, 200, 9000), round(1, 100, 5000), round(1, 200, 5000)], true),
        ] {
            assert_eq!(growth(rounds).is_some(), grows, "{rounds:?}");
        }
    }
}
