//! Maps whose keys are numbers of runs. The server assigns these numbers, so clients cannot provoke collisions, and a
//! multiplication distributes them as well as a hash that is hardened against attacks.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::RunNumber;

/// A map by the number of a run.
pub(in crate::log) type RunMap<V> = HashMap<RunNumber, V, BuildHasherDefault<NumberHasher>>;

/// Runs, by their numbers.
pub(in crate::log) type RunSet = HashSet<RunNumber, BuildHasherDefault<NumberHasher>>;

/// Odd, so that consecutive numbers stay apart in the low bits, and without a pattern, so that they do in the high ones.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// See the top of this file.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::log) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(FACTOR);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::log::testing::number;

    #[test]
    fn numbers_that_follow_each_other_are_spread_over_low_and_high_bits() {
        let hash = |n: u64| BuildHasherDefault::<NumberHasher>::default().hash_one(number(n));
        let (low, high): (HashSet<u64>, HashSet<u64>) = (1..=128).map(|n| (hash(n) % 128, hash(n) >> 57)).unzip();
        assert_eq!(low.len(), 128, "each has a place of its own");
        assert!(high.len() > 100, "and hardly two of a place look alike");
        let map: RunMap<u64> = (1..1000).map(|n| (number(n), n)).collect();
        assert!((1..1000).all(|n| map.get(&number(n)) == Some(&n)));
    }
}
