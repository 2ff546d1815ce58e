//! How long commands took, in buckets of atomic counters: recording takes no lock. (`prometheus-client`'s own histogram locks
//! a mutex for each value.)

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets. A longer duration is counted in one without a bound.
const BOUNDS: [Duration; 18] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    bounded: [AtomicU64; BOUNDS.len()],
    unbounded: AtomicU64,
    /// Sum of all durations. It holds five hundred years.
    nanoseconds: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// Sum of all durations, in seconds.
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// Upper bound, in seconds, and number of each bucket, not cumulative. The last bound is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Records a duration.
    pub(crate) fn observe(&self, elapsed: Duration) {
        let index = BOUNDS.partition_point(|bound| *bound < elapsed);
        self.bounded.get(index).unwrap_or(&self.unbounded).fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let bounded = BOUNDS.iter().map(Duration::as_secs_f64).zip(&self.bounded);
        let all = bounded.chain([(f64::INFINITY, &self.unbounded)]);
        let buckets: Vec<_> = all.map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        Snapshot {
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
            count: buckets.iter().fold(0_u64, |all, (_, count)| all.saturating_add(*count)),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for (microseconds, bucket) in
            [(0, 0), (100, 0), (101, 1), (1000, 3), (59_999_999, 17), (60_000_001, 18)]
        {
            let before = histogram.snapshot();
            histogram.observe(Duration::from_micros(microseconds));
            let after = histogram.snapshot();
            assert_eq!(after.count, before.count + 1);
            for (index, (bound, count)) in after.buckets.iter().enumerate() {
                let expected = before.buckets[index].1 + u64::from(index == bucket);
                assert_eq!(*count, expected, "{microseconds} us, bucket up to {bound}");
            }
        }
        assert!((histogram.snapshot().sum - 120.001_201).abs() < 1e-9);
    }
}
