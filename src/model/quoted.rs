//! Quotes pieces of documents in messages.

use std::fmt;

/// The longest piece of a document that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Shows a piece of a document in quotes and on one line, and cuts a long one.
pub struct Quoted<'a>(
    /// The piece.
    pub &'a str,
);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(QUOTED_CHARS_MAX) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
        }
    }
}
