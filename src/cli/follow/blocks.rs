//! Lines of an event stream, put together to blocks. Pure.

/// What one block said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) retry_ms: Option<u64>,
    pub(super) data: Option<String>,
}

/// The block that is not ended yet. A connection that breaks in the middle of one leaves it here, unsaid: its id counts
/// for nothing, so the message comes again.
#[derive(Debug, Default)]
pub(super) struct Blocks(Block);

impl Blocks {
    /// Takes a line without its end; answers the block that it ends, where that said anything.
    pub(super) fn push(&mut self, line: &str) -> Option<Block> {
        if line.is_empty() {
            let block = std::mem::take(&mut self.0);
            return (block != Block::default()).then_some(block);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.0.data {
                Some(data) => *data = format!("{data}\n{value}"),
                data => *data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.0.id = Some(value.to_owned()),
            "retry" => self.0.retry_ms = value.parse().ok(),
            _ => {}
        }
        None
    }
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
        ];
        for (text, expected) in table {
            let mut blocks = Blocks::default();
            let said: Vec<_> = text.lines().filter_map(|line| blocks.push(line)).collect();
            assert_eq!(said, expected, "{text:?}");
        }
    }
}
