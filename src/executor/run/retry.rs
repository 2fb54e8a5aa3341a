//! How long a failed step waits before it is tried again.

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
    fn jitter_spreads_the_delay_over_its_upper_half() {
        let delays: Vec<_> = (0..1000).map(|n| delay_ms(&policy(Backoff::Fixed, true), 1, mix(42, n, 1))).collect();
        assert!(delays.iter().all(|delay| (500..=1000).contains(delay)));
        assert!(delays.iter().any(|&delay| delay < 600) && delays.iter().any(|&delay| delay > 900));
        let none = RetryPolicy { initial_delay: 0, ..policy(Backoff::Fixed, true) };
        assert_eq!(delay_ms(&none, 1, u64::MAX), 0);
    }
}
