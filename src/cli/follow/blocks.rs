//! Bytes of an event stream, put together to blocks. Pure.

/// What one block said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) retry_ms: Option<u64>,
    pub(super) data: Option<String>,
}

/// The bytes that begin a text as UTF-8, where its writer wants to say so.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The block that is not ended yet. A connection that breaks in the middle of one leaves it here, unsaid: its id counts
/// for nothing, so the message comes again.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    block: Block,
    /// The line that is not ended yet.
    line: Vec<u8>,
    /// The line before ended with a carriage return: a line feed that follows belongs to it.
    is_after_cr: bool,
    has_begun: bool,
}

impl Blocks {
    /// Takes of `bytes` what there is up to the end of a block that says anything; how many that were, and the block.
    /// Lines end as the standard has it: with a carriage return, a line feed, or both.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, Option<Block>) {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if std::mem::take(&mut self.is_after_cr) && rest[0] == b'\n' {
                used += 1;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                return (bytes.len(), None);
            };
            self.line.extend_from_slice(&rest[..end]);
            self.is_after_cr = rest[end] == b'\r';
            used += end + 1;
            if let Some(block) = self.end_line() {
                return (used, Some(block));
            }
        }
        (used, None)
    }

    /// Bytes of the line that is not ended yet.
    pub(super) fn line_bytes(&self) -> usize {
        self.line.len()
    }

    fn end_line(&mut self) -> Option<Block> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let line = if is_first { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            return (block != Block::default()).then_some(block);
        }
        self.set_field(line);
        None
    }

    fn set_field(&mut self, line: &str) {
        let Block { id, retry_ms, data } = &mut self.block;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match data {
                Some(data) => *data = format!("{data}\n{value}"),
                data => *data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => *id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => *retry_ms = value.parse().ok().or(*retry_ms),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(super) fn blocks_of(text: &str, size: usize) -> Vec<Block> {
    let mut blocks = Blocks::default();
    let mut said = Vec::new();
    for mut piece in text.as_bytes().chunks(size) {
        while !piece.is_empty() {
            let (used, block) = blocks.take(piece);
            said.extend(block);
            piece = &piece[used..];
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_their_lines_say() {
        let block = |id: Option<&str>, retry_ms, data: Option<&str>| Block {
            id: id.map(str::to_owned),
            retry_ms,
            data: data.map(str::to_owned),
        };
        let table = [
            ("", vec![]),
            (":\n\n", vec![]),
            ("data: a\n\n", vec![block(None, None, Some("a"))]),
            ("retry: 20\nid: x\ndata: a\n\n", vec![block(Some("x"), Some(20), Some("a"))]),
            (
                "data:a\ndata:  b\n\n:\n\nid: y\n\n",
                vec![block(None, None, Some("a\n b")), block(Some("y"), None, None)],
            ),
            ("retry: soon\nother: x\nid: a\0b\n\n", vec![]),
            ("id\ndata\n\n", vec![block(Some(""), None, Some(""))]),
            ("id: x\ndata: never ended\n", vec![]),
            ("retry: 20\nretry: +5\nretry: 99999999999999999999\n\n", vec![block(None, Some(20), None)]),
            (
                "id: x\r\ndata: a\r\n\r\n:\r\ndata: b\r\n\r\n",
                vec![block(Some("x"), None, Some("a")), block(None, None, Some("b"))],
            ),
            ("id: x\rdata: a\r\rdata: b\r\r", vec![block(Some("x"), None, Some("a")), block(None, None, Some("b"))]),
            (":\n:\ndata: a\n:\n\n:\n", vec![block(None, None, Some("a"))]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", vec![block(None, None, Some("a"))]),
        ];
        for (text, expected) in table {
            for size in [1, 2, 3, usize::MAX] {
                assert_eq!(blocks_of(text, size), expected, "{text:?} in pieces of {size}");
            }
        }
    }
}
