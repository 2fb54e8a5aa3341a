//! Keys of slab entries. A slab reuses its slots, so a key also holds a generation.

/// Names a tenant of a slab: its place, and which of the place's tenants is meant. Good for whoever may hold it longer
/// than the tenant stays, as other threads do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlabKey {
    index: u32,
    generation: u32,
}

impl SlabKey {
    /// The key of these parts.
    pub fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Which of its tenants.
    pub fn generation(self) -> u32 {
        self.generation
    }
}
