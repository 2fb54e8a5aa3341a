//! How values are encoded or restricted when they are inserted into a text with templates.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands unencoded in a url's path and query: the unreserved characters of RFC 3986.
const URL_ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the text is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// Anywhere: values stay as they are.
    Text,
    /// A url's path and query: values are percent-encoded, so that none adds a segment or a parameter.
    Url,
    /// A url's authority: letters, digits and `-` alone, so that no value leads out of the domain written there.
    Authority,
    /// A file path: values are names, not paths.
    FileName,
}

impl Escaping {
    /// A value's text as it may stand here.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn fit(self, text: &str) -> Result<Cow<'_, str>, &'static str> {
        match self {
            Self::Url => Ok(utf8_percent_encode(text, &URL_ENCODED).into()),
            Self::Authority if !is_host_label(text) => {
                Err("a value in the host of a URL may contain only letters, digits and `-`")
            }
            Self::FileName if !is_file_name(text) => Err("a value in a path must be a single file name"),
            Self::Text | Self::Authority | Self::FileName => Ok(text.into()),
        }
    }
}

fn is_host_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0'])
}
