//! Makes text from elsewhere safe for a terminal.
//!
//! Titles, outputs and errors come from plans, programs and servers. A terminal interprets control characters, so none
//! of them may reach it: not to change colours, move the cursor, rename the window or reorder the text.

use std::borrow::Cow;

use super::escapes::{escape_len, without_escapes};

/// What a tab becomes, for a line whose columns are not the terminal's.
const TAB: &str = "    ";

/// `text` without anything that a terminal would obey. Colours, cursor movements, links and titles go, tabs become spaces,
/// and any other control character becomes a visible sign.
pub fn neutral(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let sequence = escape_len(rest);
        match c {
            _ if sequence > 0 => {}
            '\t' => clean.push_str(TAB),
            c if is_active(c) => clean.push(sign(c)),
            c => clean.push(c),
        }
        rest = &rest[sequence.max(c.len_utf8())..];
    }
    Cow::Owned(clean)
}

/// `text` on one line: its lines, as they are in the end and trimmed, with a space between them, and [`neutral`].
pub fn one_line(text: &str) -> String {
    let lines = text.split('\n').map(|line| last_state(line).trim()).filter(|line| !line.is_empty());
    neutral(&lines.collect::<Vec<_>>().join(" ")).into_owned()
}

/// What is to be seen of a line in the end: a carriage return begins it anew, as progress does (`10%\r50%\r100%`). Of what
/// it was in turn, the last that says something.
pub fn last_state(line: &str) -> &str {
    let mut states = line.rsplit('\r');
    let last = states.clone().next().unwrap_or(line);
    states.find(|state| says_something(state)).unwrap_or(last)
}

/// Is there anything to be seen in `text`? Escape sequences, control characters and blanks are nothing.
pub fn says_something(text: &str) -> bool {
    without_escapes(text).chars().any(|c| !c.is_whitespace() && !c.is_control())
}

/// The beginning of `text`, at most `max` characters, the last of them `…` where something is left out.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.chars().count() <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(max.saturating_sub(1)).chain(['…']).collect())
}

/// Does a terminal do something else with `c` than show it?
fn is_active(c: char) -> bool {
    // The marks that turn the direction of text make it read otherwise than it is (CVE-2021-42574).
    const DIRECTION: [char; 12] = [
        '\u{061c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
        '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || DIRECTION.contains(&c)
}

/// What is shown for a character that must not act.
fn sign(c: char) -> char {
    match u32::from(c) {
        // The block of control pictures is in the order of the controls.
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '␡',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let table = [
            ("plain ünïcode 漢字 🎉", "plain ünïcode 漢字 🎉"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b[38;5;1mred\x1b[m", "red"),
            ("up\x1b[2Ahome\x1b[Hclear\x1b[2J", "uphomeclear"),
            ("\x1b[?25l\x1b[>4;2mx", "x"),
            ("\x1b]0;title\x07", ""),
            ("\x1b]8;;https://example.org/\x1b\\a link\x1b]8;;\x1b\\.", "a link."),
            ("\x1b]8;;https://example.org/", "␛]8;;https://example.org/"),
            ("\x1bP1$r\x1b\\", ""),
            ("\x1b\x1b[m[31mx", "␛[31mx"),
            ("\x1b[", "␛["),
            ("\x1b[31", "␛[31"),
            ("\x1b[31\u{e9}", "␛[31\u{e9}"),
            ("\u{9b}31mx\u{85}", "\u{fffd}31mx\u{fffd}"),
            ("a\tb\0c\x7f\r\n\x08", "a    b␀c␡␍␊␈"),
            ("\u{202e}gpj.exe\u{2066}\u{2028}", "\u{fffd}gpj.exe\u{fffd}\u{fffd}"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(neutral(text), expected, "{text:?}");
            assert!(!neutral(text).chars().any(is_active), "{text:?}");
        }
    }

    #[test]
    fn lines_are_joined_and_texts_cut() {
        assert_eq!(one_line("a\r\n  b\n\n\x1b[1mc\n"), "a b c");
        assert_eq!(one_line("10%\r50%\r\x1b[1m100%\r\x1b[K\nfatal: disk full\r\n"), "100% fatal: disk full");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äbcd", 3), "äb…");
        assert_eq!(shortened("abc", 0), "…");
    }

    #[test]
    fn of_progress_the_last_state_is_shown() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("two\r", "two"),
            ("10%\r50%\r100%", "100%"),
            ("10%\r50%\r\r\r", "50%"),
            ("\r10%\r\x1b[2K\r  \t", "10%"),
            ("\x1b]8;;x\x07\r", ""),
            ("  ", "  "),
        ];
        for (line, expected) in table {
            assert_eq!(last_state(line), expected, "{line:?}");
        }
    }
}
