//! A budget that is spent in parts and never refilled.

/// What is left of some bytes.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    left: usize,
}

impl Budget {
    pub(super) fn of(bytes_max: usize) -> Self {
        Self { bytes_max, left: bytes_max }
    }

    /// Takes `bytes` from the budget, if that many are left.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.bytes_max - self.left
    }
}

/// As much of the beginning of `text` as fits into so many bytes, whole characters.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
