//! Times, kept so that any percentile can be told, within 0.1 %.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Times shorter than this are one.
const SHORTEST_NS: u64 = 1000;

/// Times longer than this count as this long.
const LONGEST_NS: u64 = 600 * 1_000_000_000;

/// Decimal digits that are kept.
const DIGITS: u8 = 3;

/// A histogram of times.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS);
        Self(bounds.expect("constants that the histogram's documentation allows"))
    }
}

impl Latencies {
    /// One more time.
    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// All of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that `quantile` (0 to 1) of the times do not exceed; none without times.
    pub fn ms(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| to_ms(self.0.value_at_quantile(quantile)))
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| to_ms(self.0.max()))
    }
}

fn to_ms(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_was_added() {
        let (mut all, mut more) = (Latencies::default(), Latencies::default());
        assert_eq!((all.ms(0.5), all.max_ms()), (None, None));
        for ms in 1..=500 {
            all.record(ms * 1_000_000);
            more.record((ms + 500) * 1_000_000);
        }
        all.add(&more);
        assert_eq!(all.len(), 1000);
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let ms = all.ms(quantile).expect("times");
            assert!((ms - expected).abs() <= expected * 0.002, "{quantile}: {ms}");
        }
        all.record(u64::MAX);
        assert!(all.max_ms().expect("a time") >= 600_000.0, "too long is kept as the longest");
    }
}
