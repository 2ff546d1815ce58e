//! How long commands took, in buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::exposition::Family;

/// The longest that each bucket takes. What is longer is in the last, which has no bound.
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
pub(super) struct Histogram {
    bounded: [AtomicU64; BOUNDS.len()],
    longer: AtomicU64,
    /// The sum of all. It holds five hundred years.
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, elapsed: Duration) {
        let index = BOUNDS.partition_point(|bound| *bound < elapsed);
        self.bounded.get(index).unwrap_or(&self.longer).fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Writes its samples, each with this label.
    pub(super) fn write(&self, family: &mut Family<'_>, label: (&str, &str)) {
        let mut count = 0_u64;
        for (bound, bucket) in BOUNDS.iter().zip(&self.bounded) {
            count = count.saturating_add(bucket.load(Ordering::Relaxed));
            // As OpenMetrics wants its numbers: "0.0001", "1.0".
            let bound = format!("{:?}", bound.as_secs_f64());
            family.part("_bucket", &[label, ("le", &bound)], count);
        }
        count = count.saturating_add(self.longer.load(Ordering::Relaxed));
        family.part("_bucket", &[label, ("le", "+Inf")], count);
        family.part("_count", &[label], count);
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        family.part("_sum", &[label], format_args!("{}.{:09}", sum.as_secs(), sum.subsec_nanos()));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::exposition::{Exposition, Kind},
        *,
    };

    fn written(durations: &[Duration]) -> String {
        let histogram = Histogram::default();
        for &duration in durations {
            histogram.observe(duration);
        }
        let mut exposition = Exposition::default();
        histogram.write(&mut exposition.family(Kind::Histogram, "x_seconds", "X."), ("of", "y"));
        exposition.finish()
    }

    fn in_first_bucket(duration: Duration) -> Option<String> {
        let text = written(&[duration]);
        let line = text.lines().find(|line| line.contains("_bucket") && line.ends_with(" 1"))?;
        Some(line.split('"').nth(3)?.to_owned())
    }

    #[test]
    fn a_bucket_takes_what_is_as_long_as_its_bound() {
        for (nanoseconds, bound) in [
            (0, "0.0001"),
            (100_000, "0.0001"),
            (100_001, "0.00025"),
            (1_000_000, "0.001"),
            (999_999_999, "1.0"),
            (1_000_000_000, "1.0"),
            (1_000_000_001, "2.5"),
            (60_000_000_000, "60.0"),
            (60_000_000_001, "+Inf"),
            (u64::MAX, "+Inf"),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(in_first_bucket(duration).as_deref(), Some(bound), "{duration:?}");
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn buckets_count_all_that_is_shorter_and_the_sum_is_exact() {
        let text = written(&[Duration::from_micros(50), Duration::from_millis(2), Duration::from_secs(100)]);
        for line in [
            "x_seconds_bucket{of=\"y\",le=\"0.0001\"} 1",
            "x_seconds_bucket{of=\"y\",le=\"0.001\"} 1",
            "x_seconds_bucket{of=\"y\",le=\"0.0025\"} 2",
            "x_seconds_bucket{of=\"y\",le=\"60.0\"} 2",
            "x_seconds_bucket{of=\"y\",le=\"+Inf\"} 3",
            "x_seconds_count{of=\"y\"} 3",
            "x_seconds_sum{of=\"y\"} 100.002050000",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in:\n{text}");
        }
    }
}
