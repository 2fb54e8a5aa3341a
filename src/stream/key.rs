//! What a stream is called outside of the slab.

/// Names a stream to other threads: its place in the slab, and which of the place's tenants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl StreamKey {
    /// The key of these parts.
    pub fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place in the slab: what the poll knows the socket by.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Which of the place's tenants.
    pub fn generation(self) -> u32 {
        self.generation
    }
}
