//! Chunks of live output, put together to lines.

use crate::text::neutral;

/// The longest line, in bytes; a longer one is shown as several. With one unfinished line per stream of each running
/// step, this times three bounds what a step keeps here.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// The unfinished last line of one stream.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    pending: String,
}

impl LineBuffer {
    /// Takes a chunk; answers the lines that it completes, harmless.
    pub(super) fn push(&mut self, chunk: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive('\n') {
            self.pending.push_str(piece);
            while self.pending.len() > LINE_BYTES_MAX {
                let rest = self.pending.split_off(self.pending.floor_char_boundary(LINE_BYTES_MAX));
                lines.push(shown(&std::mem::replace(&mut self.pending, rest)));
            }
            if self.pending.ends_with('\n') {
                lines.push(shown(&std::mem::take(&mut self.pending)));
            }
        }
        lines
    }

    /// The line that was not completed, if it holds anything.
    pub(super) fn take(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.pending);
        (!line.is_empty()).then(|| shown(&line))
    }

    /// The line that is not completed yet, harmless.
    pub(super) fn peek(&self) -> String {
        shown(&self.pending)
    }
}

/// What a terminal would show of a line in the end: a carriage return starts it anew.
fn shown(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    neutral(line.rsplit('\r').next().unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        const TEXT: &str = "one\r\ntwo\n\n10%\r50%\r100%\nünf\n\x1b[31mlast";
        let expected = ["one", "two", "", "100%", "ünf", "last"];
        for size in 1..TEXT.len() {
            let mut buffer = LineBuffer::default();
            let chars: Vec<char> = TEXT.chars().collect();
            let chunks = chars.chunks(size).map(String::from_iter);
            let mut lines: Vec<_> = chunks.flat_map(|chunk| buffer.push(&chunk)).collect();
            lines.extend(buffer.take());
            assert_eq!(lines, expected, "in chunks of {size}");
            assert_eq!(buffer.take(), None);
        }
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let mut buffer = LineBuffer::default();
        let lines = buffer.push(&"é".repeat(LINE_BYTES_MAX + 1));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() == LINE_BYTES_MAX && line.chars().all(|c| c == 'é')));
        assert_eq!(buffer.peek(), "é");
    }
}
