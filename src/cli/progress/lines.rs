//! Joins chunks of live output into lines.

use crate::text::{neutral, says_something};

/// The longest line, in bytes; a longer one is shown as several. With one unfinished line per stream of each running
/// step, and what it was before, this times six bounds what a step keeps here.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// The unfinished last line of one stream. A carriage return begins it anew, as progress does: what it was before counts
/// only until it says something again.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    /// The last state of the line that said something, of those that are over.
    before: String,
    /// The state that it is in.
    pending: String,
}

impl LineBuffer {
    /// Takes a chunk; answers the lines that it completes, harmless.
    pub(super) fn push(&mut self, chunk: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(['\n', '\r']) {
            let text = piece.trim_end_matches(['\n', '\r']);
            self.extend(text, &mut lines);
            match &piece[text.len()..] {
                "\n" => lines.push(self.end()),
                "\r" => self.begin_anew(),
                _ => {}
            }
        }
        lines
    }

    /// The line that was not completed, if it holds anything.
    pub(super) fn take(&mut self) -> Option<String> {
        let is_empty = self.pending.is_empty() && self.before.is_empty();
        let line = self.end();
        (!is_empty).then_some(line)
    }

    /// The line that is not completed yet, harmless.
    pub(super) fn peek(&self) -> String {
        neutral(self.state()).into_owned()
    }

    fn extend(&mut self, text: &str, lines: &mut Vec<String>) {
        self.pending.push_str(text);
        while self.pending.len() > LINE_BYTES_MAX {
            let rest = self.pending.split_off(self.pending.floor_char_boundary(LINE_BYTES_MAX));
            lines.push(self.end());
            self.pending = rest;
        }
    }

    fn begin_anew(&mut self) {
        if says_something(&self.pending) {
            std::mem::swap(&mut self.before, &mut self.pending);
        }
        self.pending.clear();
    }

    /// The line as it is in the end.
    fn end(&mut self) -> String {
        let line = self.peek();
        self.pending.clear();
        self.before.clear();
        line
    }

    fn state(&self) -> &str {
        if self.before.is_empty() || says_something(&self.pending) { &self.pending } else { &self.before }
    }
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

    #[test]
    fn progress_of_many_kilobytes_is_one_line_its_last() {
        let progress: String = (0..=2000).map(|n| format!("{:>3}% of everything\r", n / 20)).collect();
        assert!(progress.len() > 4 * LINE_BYTES_MAX);
        for size in [1, 7, 4096, progress.len()] {
            let mut buffer = LineBuffer::default();
            let bytes = progress.as_bytes().chunks(size).map(|chunk| str::from_utf8(chunk).expect("ASCII"));
            let lines: Vec<_> = bytes.flat_map(|chunk| buffer.push(chunk)).collect();
            assert_eq!(lines, [""; 0], "in chunks of {size}");
            assert_eq!(buffer.peek(), "100% of everything");
            assert_eq!(buffer.push("\x1b[K\n"), ["100% of everything"], "what clears a line says nothing");
            assert_eq!(buffer.take(), None);
        }
    }
}
