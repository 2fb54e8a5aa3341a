//! How a body of unknown length is framed: in chunks (RFC 9112, section 7.1) for HTTP/1.1, and by the end of the
//! connection for HTTP/1.0.
//!
//! Streams are stored in chunks of whole blocks, so that the stored bytes are written to most clients without change.
//! Without chunks a client could not tell a regular end from a broken connection, and those that read in blocks of a
//! fixed size would hold the newest message back until the next one pushes it out.

use super::Version;
use super::chunked::Chunks;

/// The end of a chunked body that has no trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The framing of a body whose length is not known when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coding {
    /// `Transfer-Encoding: chunked`; the last chunk tells the end.
    #[default]
    Chunked,
    /// The bytes as they are; the end of the connection is theirs.
    UntilClose,
}

impl Coding {
    /// What a client of this version can read.
    pub fn of(version: Version) -> Self {
        match version {
            Version::Http11 => Self::Chunked,
            Version::Http10 => Self::UntilClose,
        }
    }

    /// Whole `chunks` as they are written in this coding.
    pub fn encoded(self, chunks: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Chunked => chunks,
            Self::UntilClose => contents(&chunks),
        }
    }

    /// What tells that the body ends here because the server means it to.
    pub fn end(self) -> &'static [u8] {
        match self {
            Self::Chunked => LAST_CHUNK,
            Self::UntilClose => b"",
        }
    }
}

/// Appends `data` as one chunk. Nothing is appended where there is none: an empty chunk would be the last.
pub fn write_chunk(to: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    to.reserve(data.len() + CHUNK_OVERHEAD_BYTES_MAX);
    begin_chunk(to, data.len());
    to.extend_from_slice(data);
    end_chunk(to);
}

/// The largest overhead of a chunk.
pub(super) const CHUNK_OVERHEAD_BYTES_MAX: usize = 16 + 2 + 2;

/// Appends what goes before `size` bytes of data, which is not 0.
pub(super) fn begin_chunk(to: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    to.extend((0..digits).rev().map(|digit| DIGITS[size >> (4 * digit) & 0xf]));
    end_chunk(to);
}

/// Appends what comes after the data.
pub(super) fn end_chunk(to: &mut Vec<u8>) {
    to.extend_from_slice(b"\r\n");
}

/// Whole `chunks`: those before the last as they are, and what the last one holds. They were
/// [written](write_chunk) here.
pub fn split_last_chunk(chunks: &[u8]) -> Option<(&[u8], &[u8])> {
    let last = Chunks::of(chunks).last()?;
    let mut written = Vec::new();
    begin_chunk(&mut written, last.len());
    let before = chunks.len().checked_sub(written.len() + last.len() + 2)?;
    Some((&chunks[..before], last))
}

/// What whole chunks hold, without their framing.
pub fn contents(chunks: &[u8]) -> Vec<u8> {
    Chunks::of(chunks).fold(Vec::with_capacity(chunks.len()), |mut contents, chunk| {
        contents.extend_from_slice(chunk);
        contents
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_back_as_they_were_written() {
        for size in [1, 15, 16, 17, 255, 256, 4095, 4096, 65_536, 1_048_577] {
            let data = vec![b'x'; size];
            let mut chunks = Vec::new();
            write_chunk(&mut chunks, b"a\n\n");
            write_chunk(&mut chunks, &data);
            assert!(chunks.starts_with(b"3\r\na\n\n\r\n"));
            assert!(chunks[8..].starts_with(format!("{size:x}\r\n").as_bytes()), "{size}");
            assert!(chunks.len() <= 8 + size + CHUNK_OVERHEAD_BYTES_MAX);
            assert_eq!(contents(&chunks), [b"a\n\n", data.as_slice()].concat());
        }
    }

    #[test]
    fn the_last_chunk_is_found_behind_any_others() {
        let mut chunks = Vec::new();
        assert_eq!(split_last_chunk(&chunks), None);
        for size in [1, 16, 4096, 7] {
            let before = chunks.clone();
            write_chunk(&mut chunks, &vec![b'x'; size]);
            assert_eq!(split_last_chunk(&chunks), Some((before.as_slice(), vec![b'x'; size].as_slice())));
        }
    }

    #[test]
    fn nothing_is_no_chunk_because_it_would_be_the_last() {
        let mut chunks = Vec::new();
        write_chunk(&mut chunks, b"");
        assert!(chunks.is_empty() && contents(b"").is_empty());
    }

    #[test]
    fn a_client_of_1_0_is_told_nothing_of_chunks() {
        let mut chunks = Vec::new();
        write_chunk(&mut chunks, b"a\n\n");
        for (version, written, end) in
            [(Version::Http11, "3\r\na\n\n\r\n", "0\r\n\r\n"), (Version::Http10, "a\n\n", "")]
        {
            let coding = Coding::of(version);
            assert_eq!(coding.encoded(chunks.clone()), written.as_bytes());
            assert_eq!(coding.end(), end.as_bytes());
        }
    }
}
