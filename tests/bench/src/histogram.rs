//! A histogram of durations with a precision of one percent.

use std::time::Duration;

/// Significant decimal digits of a duration.
const DIGITS: u8 = 2;

/// Counts of durations, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        let counts = hdrhistogram::Histogram::new(DIGITS).expect("two digits are supported");
        Self(counts)
    }
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(nanoseconds).expect("it grows");
    }

    /// Adds all durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("it grows");
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the longest duration.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// Returns the quantile for `share` (0 to 1): 0.5 is the median. Zero if the histogram is empty.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// Returns each bucket that is not empty: its upper bound in nanoseconds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.0.iter_recorded();
        buckets.map(|bucket| {
            (self.0.highest_equivalent(bucket.value_iterated_to()), bucket.count_since_last_iteration())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.max()), (Duration::ZERO, Duration::ZERO));
        for milliseconds in (1..=100).rev() {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let mut both = Histogram::default();
        both.record(Duration::from_secs(7200));
        both.add(&histogram);
        assert_eq!((both.count(), both.buckets().map(|(_, count)| count).sum()), (101, 101_u64));
        for (share, seconds) in [(0.5, 0.051), (0.99, 0.1), (1.0, 7200.0)] {
            let quantile = both.quantile(share).as_secs_f64();
            assert!(quantile >= seconds && quantile <= seconds * 1.01, "{share}: {quantile}");
        }
    }
}
