//! Random choices out of a seed: the same seed, the same choices.

/// SplitMix64: small, and good enough to choose with.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        (!among.is_empty()).then(|| &among[(self.next() % among.len() as u64) as usize])
    }

    /// Another source, for another thread.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Letters that take as much room on a disk as they are: the same again and again would take hardly any.
pub fn noise(seed: u64, length: usize) -> String {
    let mut random = Random::new(seed);
    (0..length).map(|_| char::from(b'a' + (random.next() % 26) as u8)).collect()
}
