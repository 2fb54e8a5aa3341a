//! A histogram of durations.

use std::time::Duration;

/// Counts durations in buckets.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Histogram {
    buckets: [u64; Histogram::BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Upper bounds of the buckets, in seconds.
    pub const BOUNDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

    /// Adds a duration.
    pub fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        if let Some(bucket) = Self::BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
    }

    /// For each bound, how many durations were not longer.
    pub fn below(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        Self::BOUNDS.into_iter().zip(self.buckets).map(move |(bound, count)| {
            below += count;
            (bound, below)
        })
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_below_all_bounds_that_it_is_not_longer_than() {
        let mut histogram = Histogram::default();
        [100, 2000, 2_000_000].into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let below: Vec<_> = histogram.below().map(|(_, count)| count).collect();
        assert_eq!(below, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((histogram.count(), histogram.sum()), (3, 2.0021));
    }
}
