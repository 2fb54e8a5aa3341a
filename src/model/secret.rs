//! A text that must not appear in logs, errors or debug output.

use std::fmt;

/// A secret. It has no `Display`, and its `Debug` is masked. Only `expose` returns it, within this crate.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret. The caller is responsible for where it goes.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_neither_the_secret_nor_its_length() {
        let debug = |text: &str| format!("{:?}", Some(Secret::new(text)));
        assert_eq!(debug("hunter2"), "Some(Secret(***))");
        assert_eq!(debug("hunter2"), debug(""));
    }
}
