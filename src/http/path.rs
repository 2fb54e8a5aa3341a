//! Splits the path of a request into segments for the router, and percent-decodes each of them.

use std::borrow::Cow;

use super::encoding::{BadEncoding, Plus, decode};

/// The most segments a path is split into: one more than the longest route has, so that a deeper path, whose rest
/// stays unsplit in its last segment, matches no route.
pub const SEGMENTS_MAX: usize = 9;

/// The segments of a path. A `/` that came percent-encoded stays inside its segment. Allocates only for a segment that
/// had something to decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments<'b> {
    segments: [Cow<'b, str>; SEGMENTS_MAX],
    count: usize,
}

impl<'b> Segments<'b> {
    /// Splits `path` at its slashes. `/` has no segment, `/a/` has two: `a` and an empty one.
    ///
    /// # Errors
    /// [`BadEncoding`] where a segment is not valid.
    pub fn parse(path: &'b str) -> Result<Self, BadEncoding> {
        let mut segments = Self { segments: [const { Cow::Borrowed("") }; SEGMENTS_MAX], count: 0 };
        let below_root = path.strip_prefix('/').unwrap_or(path);
        if below_root.is_empty() {
            return Ok(segments);
        }
        let is_encoded = below_root.contains('%');
        for (slot, raw) in segments.segments.iter_mut().zip(below_root.splitn(SEGMENTS_MAX, '/')) {
            *slot = if is_encoded { decode(raw, Plus::Plus)? } else { Cow::Borrowed(raw) };
            segments.count += 1;
        }
        Ok(segments)
    }

    /// The segments as a slice that can be matched against patterns; `room` is what holds it.
    pub fn as_strs<'s, 'r>(&'s self, room: &'r mut [&'s str; SEGMENTS_MAX]) -> &'r [&'s str] {
        for (slot, segment) in room.iter_mut().zip(&self.segments) {
            *slot = segment;
        }
        &room[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        for (path, expected) in [
            ("/", &[][..]),
            ("/a", &["a"]),
            ("/a/", &["a", ""]),
            ("//a", &["", "a"]),
            ("/a%2Fb/c+d", &["a/b", "c+d"]),
            ("/api/projects/p%3A1", &["api", "projects", "p:1"]),
            ("*", &["*"]),
            ("/1/2/3/4/5/6/7/8", &["1", "2", "3", "4", "5", "6", "7", "8"]),
            ("/1/2/3/4/5/6/7/8/9/10", &["1", "2", "3", "4", "5", "6", "7", "8", "9/10"]),
        ] {
            let segments = Segments::parse(path).expect("valid");
            assert_eq!(segments.as_strs(&mut [""; SEGMENTS_MAX]), expected, "{path}");
        }
        assert!(Segments::parse("/a/%zz").is_err());
    }
}
