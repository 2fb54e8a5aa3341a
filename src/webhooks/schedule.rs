//! When an event that was not accepted is sent again.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The delays that Standard Webhooks gives as its example, after the first attempt: over 75 hours in all.
pub(super) const STANDARD_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// Delays that a schedule may have.
pub(super) const DELAYS_MAX: usize = 32;

/// The longest of them, and the longest that a receiver may ask to be left alone for.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(24 * HOUR);

/// A delay is longer by up to this part of it, at random, so that what failed together is not tried again together.
const JITTER_PART: u32 = 5;

/// The delays between the attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule(Vec<Duration>);

impl Schedule {
    pub(super) fn new(delays: &[Duration]) -> Self {
        Self(delays.to_vec())
    }

    /// Attempts in all.
    pub(super) fn attempts(&self) -> u32 {
        u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX)
    }

    /// How long to wait after so many attempts without success; nothing where there is to be no further one. `chance` is from 0 to
    /// 1. Who asks to be left alone for longer, is.
    pub(super) fn delay(&self, attempts: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
        let delay = *self.0.get(index)?;
        let jitter = (delay / JITTER_PART).mul_f64(chance.clamp(0.0, 1.0));
        Some((delay + jitter).max(asked.unwrap_or_default()))
    }

    /// Longer than any delay is.
    pub(super) fn horizon(&self) -> Duration {
        2 * DELAY_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_schedule_spans_three_days() {
        let schedule = Schedule::new(&STANDARD_DELAYS);
        assert_eq!(schedule.attempts(), 10);
        let delays: Vec<_> = (1..=9).map(|n| schedule.delay(n, None, 0.0).expect("one more")).collect();
        assert_eq!(delays, STANDARD_DELAYS);
        let hours = delays.iter().map(Duration::as_secs).sum::<u64>() / HOUR;
        assert_eq!((hours, schedule.delay(10, None, 0.0)), (75, None));
    }

    #[test]
    fn delays_differ_by_chance_and_are_as_long_as_asked_within_bounds() {
        let schedule = Schedule::new(&[Duration::from_secs(10), Duration::from_secs(20)]);
        let secs = |attempts, asked: Option<u64>, chance| {
            schedule.delay(attempts, asked.map(Duration::from_secs), chance).map(|delay| delay.as_secs())
        };
        for (attempts, asked, chance, expected) in [
            (1, None, 0.0, Some(10)),
            (1, None, 0.5, Some(11)),
            (1, None, 1.0, Some(12)),
            (1, None, 7.0, Some(12)),
            (2, None, 1.0, Some(24)),
            (3, None, 0.0, None),
            (3, Some(60), 0.0, None),
            (1, Some(5), 0.0, Some(10)),
            (1, Some(3600), 0.0, Some(3600)),
            (0, None, 0.0, None),
        ] {
            assert_eq!(secs(attempts, asked, chance), expected, "{attempts} {asked:?} {chance}");
        }
        assert_eq!(Schedule::new(&[]).delay(1, None, 0.0), None, "one attempt alone");
        assert!(schedule.horizon() > DELAY_MAX + DELAY_MAX / JITTER_PART);
    }
}
