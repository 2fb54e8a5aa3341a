//! Bytes of an event stream to its events, however they were cut: section 9.2 of the WHATWG HTML Standard, but for a
//! lone CR, which is no line end here.

use memchr::memchr;

/// A line longer than this is no message of any server tested here.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Buffers larger than this are given back once they are empty.
const BUFFER_BYTES_KEPT: usize = 4096;

/// A block of a stream, as its blank line dispatched it.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `id:`, where the block has one.
    pub id: Option<&'a [u8]>,
    /// `retry:`, where the block has one.
    pub retry_ms: Option<u64>,
    /// The lines of `data:`, where the block has any.
    pub data: Option<&'a [u8]>,
}

/// What a stream is made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A block of fields.
    Event(Event<'a>),
    /// A comment line.
    Comment,
}

/// The line has no end.
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// What has come of the block that is not yet complete.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line.
    line: Vec<u8>,
    block: Block,
}

#[derive(Debug, Default)]
struct Block {
    id: Vec<u8>,
    has_id: bool,
    retry_ms: Option<u64>,
    data: Vec<u8>,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes; calls `on` with what they complete.
    ///
    /// # Errors
    /// Where a line has no end; the stream can't be read on then.
    pub fn push(&mut self, mut chunk: &[u8], mut on: impl FnMut(Item)) -> Result<(), LineTooLong> {
        while let Some(end) = memchr(b'\n', chunk) {
            if self.line.is_empty()
                && self.block.is_empty()
                && let Some((event, rest)) = usual(chunk, end)
            {
                on(Item::Event(event));
                chunk = rest;
                continue;
            }
            if self.line.is_empty() {
                self.block.take_line(&chunk[..end], &mut on);
            } else {
                self.line.extend_from_slice(&chunk[..end]);
                self.block.take_line(&self.line, &mut on);
                self.line.clear();
            }
            chunk = &chunk[end + 1..];
        }
        if self.line.len() + chunk.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.line.extend_from_slice(chunk);
        give_back(&mut self.line);
        Ok(())
    }
}

/// An event of the usual shape, whole at the beginning of `chunk`, and what follows it: `id:` up to `end`, one line of
/// `data:`, the blank line. Nothing is copied: at millions of events a second this parser would be what is measured.
fn usual(chunk: &[u8], end: usize) -> Option<(Event<'_>, &[u8])> {
    let id = chunk[..end].strip_prefix(b"id: ")?;
    let rest = chunk[end + 1..].strip_prefix(b"data: ")?;
    let end = memchr(b'\n', rest)?;
    let (data, rest) = (&rest[..end], rest[end + 1..].strip_prefix(b"\n")?);
    let is_plain = !id.ends_with(b"\r") && !data.ends_with(b"\r") && !id.contains(&0);
    is_plain.then_some((Event { id: Some(id), retry_ms: None, data: Some(data) }, rest))
}

impl Block {
    fn is_empty(&self) -> bool {
        !self.has_id && !self.has_data && self.retry_ms.is_none()
    }

    fn take_line(&mut self, line: &[u8], on: &mut impl FnMut(Item)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.dispatch(on);
        }
        let (name, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" => on(Item::Comment),
            b"data" => self.take_data(value),
            b"id" => self.take_id(value),
            b"retry" => self.retry_ms = parse_digits(value).or(self.retry_ms),
            _ => {}
        }
    }

    fn take_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
    }

    fn take_id(&mut self, value: &[u8]) {
        if !value.contains(&0) {
            self.id.clear();
            self.id.extend_from_slice(value);
            self.has_id = true;
        }
    }

    fn dispatch(&mut self, on: &mut impl FnMut(Item)) {
        if !self.is_empty() {
            on(Item::Event(Event {
                id: self.has_id.then_some(&self.id),
                retry_ms: self.retry_ms,
                data: self.has_data.then_some(&self.data),
            }));
        }
        (self.has_id, self.has_data, self.retry_ms) = (false, false, None);
        self.data.clear();
        give_back(&mut self.data);
    }
}

fn give_back(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    }
}

/// A number of at most so many digits fits for sure.
const NUMBER_DIGITS_MAX: usize = 19;

/// A number of ASCII digits alone.
pub fn parse_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > NUMBER_DIGITS_MAX {
        return None;
    }
    let (mut sum, mut rest) = (0_u64, text);
    while let Some((eight, others)) = rest.split_first_chunk::<8>() {
        sum = sum * 100_000_000 + parse_eight(*eight)?;
        rest = others;
    }
    rest.iter().try_fold(sum, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// Eight digits at once: neighbours are joined to pairs, pairs to fours, these to one number. Every message has a time
/// of sixteen; digit by digit it was the dearest thing that a subscriber did.
fn parse_eight(digits: [u8; 8]) -> Option<u64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(digits);
    let are_high_halves_three = word & (0xF0 * EACH) == 0x30 * EACH;
    let are_low_halves_below_ten = ((word & (0x0F * EACH)) + 0x06 * EACH) & (0xF0 * EACH) == 0;
    if !(are_high_halves_three && are_low_halves_below_ten) {
        return None;
    }
    let ones = word & (0x0F * EACH);
    let pairs = (ones * 10 + (ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut parser, mut seen) = (Parser::default(), Vec::new());
        for chunk in chunks {
            let taken = parser.push(chunk, |item| match item {
                Item::Comment => seen.push(":".to_owned()),
                Item::Event(event) => {
                    seen.push(format!("{:?} {:?} {:?}", event.id.map(text), event.retry_ms, event.data.map(text)));
                }
            });
            assert_eq!(taken, Ok(()));
        }
        seen
    }

    #[test]
    fn blocks_are_read_by_the_standard() {
        for (bytes, expected) in [
            ("data: {}\n\n", vec![r#"None None Some("{}")"#]),
            ("data:{}\r\n\r\n", vec![r#"None None Some("{}")"#]),
            ("retry: 20\nid: a.1\ndata: x\n\n", vec![r#"Some("a.1") Some(20) Some("x")"#]),
            ("data: a\ndata: b\n\ndata\n\n", vec![r#"None None Some("a\nb")"#, r#"None None Some("")"#]),
            (": hello\n\n:\n\n", vec![":", ":"]),
            ("id\ndata: x\n\n", vec![r#"Some("") None Some("x")"#]),
            ("id: a\0b\nretry: 1x\nevent: e\nother: y\ndata: x\n\n", vec![r#"None None Some("x")"#]),
            (
                "id: a\ndata: x\n\nid: b\ndata: y\ndata: z\n\n",
                vec![r#"Some("a") None Some("x")"#, r#"Some("b") None Some("y\nz")"#],
            ),
            ("data: a\nid: b\ndata: x\n\n", vec![r#"Some("b") None Some("a\nx")"#]),
            (
                "id: a\0b\ndata: x\n\nid: a\r\ndata: x\n\n",
                vec![r#"None None Some("x")"#, r#"Some("a") None Some("x")"#],
            ),
            ("retry: 5\n\ndata: x\n\n", vec!["None Some(5) None", r#"None None Some("x")"#]),
            ("\n\n\ndata: never dispatched\n", vec![]),
        ] {
            assert_eq!(parse(&[bytes.as_bytes()]), expected, "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_digits_alone() {
        for number in [0, 7, 10, 99_999_999, 100_000_000, 12_345_678, 1_000_000_000_000_007, 9_999_999_999_999_999_999]
        {
            assert_eq!(parse_digits(number.to_string().as_bytes()), Some(number));
        }
        assert_eq!(parse_digits(b"0000000000000012"), Some(12));
        for at in 0..16 {
            for bad in [b'/', b':', b' ', b'a', 0, 0xB0, 0xFF] {
                let mut text = *b"1234567890123456";
                text[at] = bad;
                assert_eq!(parse_digits(&text), None, "{bad} at {at}");
            }
        }
        assert_eq!((parse_digits(b""), parse_digits(b"12345678901234567890"), parse_digits(b"-1")), (None, None, None));
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let bytes = b"retry: 7\nid: a\ndata: one\n\n:\n\nid: b\r\ndata: two\r\ndata: three\r\n\r\ndata: four\n\n";
        let whole = parse(&[bytes]);
        assert_eq!(whole.len(), 4);
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(parse(&chunks), whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; LINE_BYTES_MAX + 1], |_| {}), Err(LineTooLong));
    }
}
