//! How long a failed step waits before its retry.

use std::time::Duration;

use super::step::millis;
use crate::model::{Backoff, RetryPolicy};

/// Milliseconds before the nth retry, `n` counted from 1. `random` spreads it where the policy asks for jitter.
pub(super) fn delay_ms(policy: &RetryPolicy, n: u32, random: u64) -> u64 {
    let factor = match policy.backoff {
        Backoff::Fixed => 1,
        Backoff::Linear => u64::from(n),
        Backoff::Exponential => 1u64.checked_shl(n.saturating_sub(1)).unwrap_or(u64::MAX),
    };
    let delay = policy.initial_delay.saturating_mul(factor).min(policy.max_delay);
    if policy.jitter { delay - random % (delay / 2 + 1) } else { delay }
}

/// `delay_ms`, lengthened to what the tool asked for, up to the most that the policy allows.
pub(super) fn lengthened_ms(delay_ms: u64, asked: Duration, policy: &RetryPolicy) -> u64 {
    delay_ms.max(millis(asked).min(policy.max_delay))
}

/// A number that is as good as random, the same for the same `seed`, `step` and `attempt` (SplitMix64's finalizer).
pub(super) fn mix(seed: u64, step: usize, attempt: u32) -> u64 {
    let salt = ((step as u64) << 32 | u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = seed.wrapping_add(salt);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff, jitter: bool) -> RetryPolicy {
        RetryPolicy { max_retries: 100, backoff, initial_delay: 1000, max_delay: 30_000, jitter }
    }

    #[test]
    fn delays_grow_as_the_policy_says_up_to_its_maximum() {
        let table = [
            (Backoff::Fixed, [1000, 1000, 1000, 1000, 1000]),
            (Backoff::Linear, [1000, 2000, 3000, 30_000, 30_000]),
            (Backoff::Exponential, [1000, 2000, 4000, 30_000, 30_000]),
        ];
        for (backoff, expected) in table {
            assert_eq!([1, 2, 3, 70, 100].map(|n| delay_ms(&policy(backoff, false), n, 7)), expected, "{backoff:?}");
        }
    }

    #[test]
    fn what_the_tool_asks_for_lengthens_a_delay_up_to_the_maximum() {
        let policy = policy(Backoff::Fixed, false);
        for (asked, expected) in [
            (Duration::ZERO, 1000),
            (Duration::from_millis(999), 1000),
            (Duration::from_secs(7), 7000),
            (Duration::from_secs(3600), 30_000),
            (Duration::MAX, 30_000),
        ] {
            assert_eq!(lengthened_ms(1000, asked, &policy), expected, "{asked:?}");
        }
    }

    #[test]
    fn jitter_spreads_the_delay_over_its_upper_half() {
        let delays: Vec<_> = (0..1000).map(|n| delay_ms(&policy(Backoff::Fixed, true), 1, mix(42, n, 1))).collect();
        assert!(delays.iter().all(|delay| (500..=1000).contains(delay)));
        assert!(delays.iter().any(|&delay| delay < 600) && delays.iter().any(|&delay| delay > 900));
        let none = RetryPolicy { initial_delay: 0, ..policy(Backoff::Fixed, true) };
        assert_eq!(delay_ms(&none, 1, u64::MAX), 0);
    }
}
