//! How long many things took: all of them counted, each to within 1.6 %.

use std::time::Duration;

/// Buckets of each power of two, as a power of two.
const PRECISION: u32 = 6;
const PER_OCTAVE: u64 = 1 << PRECISION;

/// Counts of durations, in buckets as wide as one sixty-fourth of what they hold.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    max: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanoseconds);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// Counts all that another one has.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest, exactly.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// What `share` of all (0 to 1) do not exceed: 0.5 is the median. Zero, if none was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank of at most `count`, which is far below 2^52"
        )]
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (upper, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper.min(self.max));
            }
        }
        Duration::ZERO
    }

    /// Each bucket that is not empty: the nanoseconds that are the most it holds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..).zip(&self.counts).filter(|(_, count)| **count > 0).map(|(index, count)| (upper(index), *count))
    }
}

/// The first `2 * PER_OCTAVE` buckets are one nanosecond wide, the next `PER_OCTAVE` two, and so on.
fn bucket(nanoseconds: u64) -> usize {
    let shift = nanoseconds.max(1).ilog2().saturating_sub(PRECISION);
    let bucket = u64::from(shift) * PER_OCTAVE + (nanoseconds >> shift);
    usize::try_from(bucket).expect("a few thousand")
}

/// The most that a bucket holds.
fn upper(bucket: u64) -> u64 {
    let shift = (bucket / PER_OCTAVE).saturating_sub(1);
    let mantissa = bucket - shift * PER_OCTAVE;
    (mantissa << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_within_a_sixty_fourth() {
        let mut values: Vec<u64> = (0..100_000).collect();
        values.extend((17..63).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]));
        let mut last = 0;
        for value in values {
            let bucket = bucket(value);
            assert!(bucket >= last && bucket <= last + 64, "{value}");
            last = bucket;
            let upper = upper(u64::try_from(bucket).unwrap());
            assert!(upper >= value && upper - value <= value / 64, "{value} in a bucket up to {upper}");
        }
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for nanoseconds in (1..=100).rev() {
            histogram.record(Duration::from_nanos(nanoseconds));
        }
        for (share, expected) in [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)] {
            assert_eq!(histogram.quantile(share), Duration::from_nanos(expected), "{share}");
        }
        let mut both = Histogram::default();
        both.record(Duration::from_secs(1));
        both.add(&histogram);
        assert_eq!((both.count(), both.max()), (101, Duration::from_secs(1)));
        assert_eq!(
            (both.quantile(0.5), both.quantile(1.0)),
            (Duration::from_nanos(51), Duration::from_secs(1))
        );
    }
}
