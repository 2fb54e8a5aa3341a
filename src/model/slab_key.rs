//! Keys of slab entries. A slab reuses its slots, so a key also holds a generation.

/// Identifies an entry of a slab by its slot and generation. A key may be kept longer than its entry exists, as other
/// threads do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlabKey {
    index: u32,
    generation: u32,
}

impl SlabKey {
    /// Creates a key from its parts.
    pub fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The slot.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The generation.
    pub fn generation(self) -> u32 {
        self.generation
    }
}
