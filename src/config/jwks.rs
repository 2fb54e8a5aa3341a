//! The location of an identity provider's keys: a file, or a URL whose answer cannot be forged on the way.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::outbound::Url;

/// A file, or an `https://` url. `http://` is for loopback alone: keys that others could change let anyone in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLocation(FileOrUrl);

#[derive(Debug, Clone, PartialEq, Eq)]
enum FileOrUrl {
    File(PathBuf),
    Url(Url),
}

impl KeyLocation {
    /// The file or url that `text` names; whatever has a `://` is a url.
    pub fn parse(text: &str) -> Option<Self> {
        match text.contains("://") {
            true => Url::parse(text).ok().filter(Url::is_guarded).map(|url| Self(FileOrUrl::Url(url))),
            false => (!text.is_empty()).then(|| Self(FileOrUrl::File(text.into()))),
        }
    }

    /// The file, where it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            FileOrUrl::File(path) => Some(path),
            FileOrUrl::Url(_) => None,
        }
    }

    /// The url, where it is one.
    pub(crate) fn url(&self) -> Option<&Url> {
        match &self.0 {
            FileOrUrl::File(_) => None,
            FileOrUrl::Url(url) => Some(url),
        }
    }
}

impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            FileOrUrl::File(path) => path.display().fmt(f),
            FileOrUrl::Url(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_a_file_or_over_a_guarded_way() {
        for (text, is_url) in [
            ("/etc/stepcast/jwks.json", false),
            ("keys.json", false),
            ("C:/keys.json", false),
            ("https://id.example.com/.well-known/jwks.json", true),
            ("http://127.0.0.1:8081/jwks", true),
            ("http://localhost/jwks", true),
        ] {
            let location = KeyLocation::parse(text).expect(text);
            assert_eq!((location.url().is_some(), location.file().is_some()), (is_url, !is_url), "{text}");
            assert_eq!(location.to_string(), text);
        }
        for bad in [
            "",
            "http://id.example.com/jwks",
            "ftp://id.example.com/jwks",
            "file:///etc/keys.json",
            "https://user:hunter2@id.example.com/jwks",
            "https://",
        ] {
            assert_eq!(KeyLocation::parse(bad), None, "{bad}");
        }
    }
}
