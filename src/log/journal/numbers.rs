//! Numbers of new runs. With a single writer they are counted. If several nodes share a store, a number consists of the
//! time, so that numbers are ordered by time across nodes, and of random bits, so that two nodes rarely choose the same
//! one; if they do, one of them gets a conflict and chooses another.

use std::num::NonZeroU64;

use crate::model::Timestamp;
use crate::random;

/// Random bits of a number. Milliseconds since 1970 above them fill 63 bits in the year 2248.
const RANDOM_BITS: u32 = 20;

/// Where random bits come from: a seed, which is random itself unless a test sets it.
#[derive(Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    /// The numbers of a journal that starts now. If the system has no randomness, conflicts keep the numbers of nodes
    /// apart.
    pub(super) fn new() -> Self {
        Self(u64::from_le_bytes(random::bits().unwrap_or_default()))
    }

    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The number of a new run: `free`, which is the first number not known to be taken, or a larger one.
    pub(super) fn next(&mut self, free: NonZeroU64, wall: Timestamp) -> NonZeroU64 {
        let by_time = wall.as_millis() << RANDOM_BITS | self.random() >> (u64::BITS - RANDOM_BITS);
        NonZeroU64::new(by_time).map_or(free, |by_time| free.max(by_time))
    }

    /// Bits that no other node makes, as far as a seed of 64 bits makes sure of that.
    pub(super) fn bits(&mut self) -> [u8; 16] {
        (u128::from(self.random()) << 64 | u128::from(self.random())).to_le_bytes()
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_by_time_and_never_back_and_two_nodes_make_others() {
        let at = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
        let (mut one, mut other) = (Numbers::seeded(1), Numbers::seeded(2));
        let first = one.next(NonZeroU64::MIN, at(0));
        assert_ne!(first, other.next(NonZeroU64::MIN, at(0)));
        assert!(first < other.next(NonZeroU64::MIN, at(1)), "whoever makes it");
        let ahead = first.saturating_add(1 << 40);
        assert_eq!(one.next(ahead, at(2)), ahead, "another's clock is far ahead");
        assert!(first.get() < 1 << 62, "{first}");
    }
}
