//! The chunked transfer coding (RFC 9112, section 7.1): where a body ends, found as it comes, and the body itself.
//!
//! The wire bytes stay in the connection's buffer while the body comes; the scan only remembers how far it is. The body
//! is put together once, when it is whole, and a body of one chunk is not even copied.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

use super::Problem;
use super::lines::Lines;

/// The longest line with a chunk's size and extensions, its CRLF included. Extensions are dropped; the longest in use,
/// a 256-bit signature of each chunk in hexadecimal, takes some 90 bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// What framing may take beyond as many bytes as the body itself: a body that comes byte by byte costs five bytes of
/// framing for one of content, and must not fill memory that way.
const OVERHEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest trailer section, its last CRLF included. Trailers are checked and dropped.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// The most trailer fields.
const TRAILERS_MAX: usize = 32;

/// The most bytes that a chunked body of `body_bytes` takes on the wire.
pub(super) const fn wire_bytes_max(body_bytes: usize) -> usize {
    body_bytes.saturating_mul(2).saturating_add(OVERHEAD_BYTES_MAX + CHUNK_LINE_BYTES_MAX + TRAILER_BYTES_MAX)
}

/// How far a chunked body has been scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunked {
    start: usize,
    content_bytes: usize,
    part: Part,
}

/// The next expected part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The line with a chunk's size.
    Size(Lines),
    /// A chunk's data, with its CRLF, up to `end`.
    Data { end: usize },
    /// The trailer section, from `start` to its empty line.
    Trailers { start: usize, lines: Lines },
}

impl Chunked {
    /// A body whose first chunk begins at `start` of the input.
    pub(super) fn starting_at(start: usize) -> Self {
        Self { start, content_bytes: 0, part: Part::Size(Lines::starting_at(start)) }
    }

    /// Goes on as far as `input` reaches; the offset of the body's end once it is there.
    ///
    /// # Errors
    /// 400 for bad framing, 413 for a body over `body_bytes` or with too much framing, 431 for too many trailers.
    pub(super) fn advance(&mut self, input: &[u8], body_bytes: usize) -> Result<Option<usize>, Problem> {
        loop {
            match &mut self.part {
                Part::Size(lines) => {
                    let Some(size) = next_size(lines, input)? else { return Ok(None) };
                    let after = lines.start();
                    self.begin_chunk(size, after, body_bytes)?;
                }
                Part::Data { end } => {
                    let Some(line_end) = input.get(*end - 2..*end) else { return Ok(None) };
                    if line_end != b"\r\n" {
                        return Err(bad_framing("a chunk's data does not match its size"));
                    }
                    self.part = Part::Size(Lines::starting_at(*end));
                }
                Part::Trailers { start, lines } => return end_of_trailers(*start, lines, input),
            }
        }
    }

    /// Takes note of a chunk of `size` bytes whose data begins at `at`.
    fn begin_chunk(&mut self, size: u64, at: usize, body_bytes: usize) -> Result<(), Problem> {
        let overhead = at - self.start - self.content_bytes;
        if overhead > OVERHEAD_BYTES_MAX + self.content_bytes {
            return Err(Problem::new(
                413,
                "body_too_large",
                "the chunks of the body are too small; send larger chunks",
            ));
        }
        if size > body_bytes.saturating_sub(self.content_bytes) as u64 {
            return Err(Problem::body_too_large(body_bytes));
        }
        if size == 0 {
            self.part = Part::Trailers { start: at, lines: Lines::starting_at(at) };
            return Ok(());
        }
        // The comparison above keeps the size within `usize`.
        let size = size as usize;
        self.content_bytes += size;
        // What was framing stays framing: the data's CRLF is counted when the next size comes.
        self.part = Part::Data { end: at.saturating_add(size).saturating_add(2) };
        Ok(())
    }

    /// The content of a body whose end [`advance`](Self::advance) has found.
    pub(super) fn content<'b>(&self, input: &'b [u8]) -> Cow<'b, [u8]> {
        let mut chunks = Chunks::of(&input[self.start..]);
        let first = chunks.next().unwrap_or_default();
        if first.len() == self.content_bytes {
            return Cow::Borrowed(first);
        }
        let mut content = Vec::with_capacity(self.content_bytes);
        content.extend_from_slice(first);
        chunks.for_each(|chunk| content.extend_from_slice(chunk));
        Cow::Owned(content)
    }
}

/// The size that the next line gives; `None` while the line is not whole.
fn next_size(lines: &mut Lines, input: &[u8]) -> Result<Option<u64>, Problem> {
    match next_within(lines, input, lines.start() + CHUNK_LINE_BYTES_MAX) {
        Ok(Some(line)) => parse_size(&input[line]).map(Some),
        Ok(None) => Ok(None),
        Err(LineError::Bare) => Err(bad_framing("a chunk's size line ends with LF instead of CRLF")),
        Err(LineError::Long) => Err(Problem::new(
            400,
            "bad_framing",
            format!("a chunk's size line is too long (limit {CHUNK_LINE_BYTES_MAX} bytes, not configurable)"),
        )),
    }
}

/// The offset of the end of the trailer section, its fields checked.
fn end_of_trailers(start: usize, lines: &mut Lines, input: &[u8]) -> Result<Option<usize>, Problem> {
    loop {
        match next_within(lines, input, start + TRAILER_BYTES_MAX) {
            Ok(Some(line)) if line.is_empty() => break,
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(LineError::Bare) => return Err(bad_framing("a trailer line ends with LF instead of CRLF")),
            Err(LineError::Long) => {
                return Err(Problem::new(
                    431,
                    "head_too_large",
                    format!("the trailer section is too long (limit {TRAILER_BYTES_MAX} bytes, not configurable)"),
                ));
            }
        }
    }
    let end = lines.start();
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(&input[start..end], &mut fields) {
        // Both must see the section end at the same place.
        Ok(httparse::Status::Complete((bytes, _))) if bytes == end - start => Ok(Some(end)),
        Err(httparse::Error::TooManyHeaders) => Err(Problem::new(
            431,
            "head_too_large",
            format!("the request has too many trailers (limit {TRAILERS_MAX}, not configurable)"),
        )),
        _ => Err(bad_framing("a trailer line is malformed")),
    }
}

enum LineError {
    Bare,
    Long,
}

/// The next line, which must end before the offset `limit`.
fn next_within(lines: &mut Lines, input: &[u8], limit: usize) -> Result<Option<Range<usize>>, LineError> {
    let window = &input[..input.len().min(limit)];
    match lines.next(window).map_err(|_| LineError::Bare)? {
        None if input.len() > limit => Err(LineError::Long),
        line => Ok(line),
    }
}

/// `chunk-size [ chunk-ext ]`, the line without its CRLF. No whitespace is allowed before the extensions: the grammar
/// has it only as a bad habit to bear, and other readers of the same bytes cut the number there.
fn parse_size(line: &[u8]) -> Result<u64, Problem> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let is_extensions = match extensions {
        [] => true,
        [b';', rest @ ..] => rest.iter().all(|&b| b == b'\t' || !b.is_ascii_control()) && closes_its_quotes(rest),
        _ => false,
    };
    let size = str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    size.filter(|_| is_extensions).ok_or_else(|| bad_framing("a chunk's size is malformed"))
}

/// Whether every quoted string ends. A reader that knows quoted strings would search for the end beyond this line.
fn closes_its_quotes(extensions: &[u8]) -> bool {
    let mut bytes = extensions.iter();
    let mut is_quoted = false;
    while let Some(b) = bytes.next() {
        match b {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => _ = bytes.next(),
            _ => {}
        }
    }
    !is_quoted
}

fn bad_framing(detail: &'static str) -> Problem {
    Problem::new(400, "bad_framing", detail)
}

/// The data of each of the chunks that the bytes begin with, which are known to be well framed.
pub struct Chunks<'b> {
    rest: &'b [u8],
}

impl<'b> Chunks<'b> {
    /// Those that `bytes` begin with.
    pub fn of(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'b> Iterator for Chunks<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let (line, rest) = self.rest.split_at(memchr(b'\n', self.rest)? + 1);
        let size = usize::try_from(parse_size(line.strip_suffix(b"\r\n")?).ok()?).ok()?;
        let data = rest.get(..size).filter(|data| !data.is_empty())?;
        self.rest = rest.get(size + 2..)?;
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content and where it ends.
    type Decoded<'b> = (Cow<'b, [u8]>, usize);

    /// What a body decodes to, `None` if it has not ended, or the status of the refusal.
    fn decode(input: &[u8], body_bytes: usize) -> Result<Option<Decoded<'_>>, u16> {
        let mut scan = Chunked::starting_at(0);
        let end = scan.advance(input, body_bytes).map_err(|problem| problem.status)?;
        Ok(end.map(|end| (scan.content(input), end)))
    }

    #[test]
    fn a_body_of_one_chunk_is_not_copied() {
        let (content, end) = decode(b"3\r\nabc\r\n0\r\n\r\nrest", 3).expect("good").expect("whole");
        assert!(matches!(content, Cow::Borrowed(b"abc")));
        assert_eq!(end, 13);
        let (content, _) =
            decode(b"1\r\na\r\n2;x=\"y\"\r\nbc\r\n000\r\nA: b\r\n\r\n", 3).expect("good").expect("whole");
        assert_eq!(content.as_ref(), b"abc");
    }

    #[test]
    fn size_lines() {
        for (line, size) in [
            ("0", Some(0)),
            ("aF", Some(0xaf)),
            ("0000000000000005", Some(5)),
            ("00000000000000000000000005", Some(5)),
            ("5;", Some(5)),
            ("5;a=b;c=\"d e\t\"", Some(5)),
            ("ffffffffffffffff", Some(u64::MAX)),
            ("10000000000000000", None),
            ("", None),
            (";a", None),
            ("5 ", None),
            (" 5", None),
            ("5 ;a", None),
            ("+5", None),
            ("-5", None),
            ("0x5", None),
            ("5g", None),
            ("5\r", None),
            ("5;a\0", None),
            ("5;a\r", None),
            ("5;a=\"\\\"\"", Some(5)),
            ("5;a=\"", None),
            ("5;a=\"\\\"", None),
            ("5;a=\"\\", None),
        ] {
            assert_eq!(parse_size(line.as_bytes()).ok(), size, "{line:?}");
        }
    }

    #[test]
    fn framing_that_outweighs_the_content_is_refused() {
        let tiny = |chunks: usize| [b"1\r\nx\r\n".repeat(chunks), b"0\r\n\r\n".to_vec()].concat();
        assert!(matches!(decode(&tiny(4000), 1 << 20), Ok(Some((content, _))) if content.len() == 4000));
        assert_eq!(decode(&tiny(5000), 1 << 20), Err(413));
        let extension = format!("5;{}\r\nhello\r\n", "e".repeat(240)).repeat(70);
        assert_eq!(decode(extension.as_bytes(), 1 << 20), Err(413));
        let largest = decode(&tiny(4000), 4000).expect("good").expect("whole").1;
        assert!(largest <= wire_bytes_max(4000));
    }

    #[test]
    fn size_lines_and_trailers_are_bounded_before_they_end() {
        assert_eq!(decode(&[b'0'; CHUNK_LINE_BYTES_MAX], 9), Ok(None));
        assert_eq!(decode(&[b'0'; CHUNK_LINE_BYTES_MAX + 1], 9), Err(400));
        let trailers = |bytes: usize| [b"0\r\n".to_vec(), vec![b'a'; bytes]].concat();
        assert_eq!(decode(&trailers(TRAILER_BYTES_MAX), 9), Ok(None));
        assert_eq!(decode(&trailers(TRAILER_BYTES_MAX + 1), 9), Err(431));
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS_MAX + 1));
        assert_eq!(decode(many.as_bytes(), 9), Err(431));
    }
}
