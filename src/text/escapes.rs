//! Finds the escape sequences of a terminal in text: colours, cursor movements, links (`OSC 8`), titles.
//!
//! `anstyle-parse` recognises the sequences. In addition, text is UTF-8, so no single byte above ASCII is a control
//! character; and a sequence never extends over a line end or into the next sequence, so that an incomplete one hides
//! nothing of the following text.

use std::borrow::Cow;

use anstyle_parse::state::{State, state_change};

/// What ends a sequence that holds text.
const STRING_END: &str = "\x1b\\";

/// The bytes of the escape sequence that `text` begins with; 0 where it begins with none. Only whole ones count: half of
/// one is text like any other.
pub fn escape_len(text: &str) -> usize {
    if !text.starts_with('\x1b') {
        return 0;
    }
    let mut state = State::Ground;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => return 0,
            b'\x1b' if at > 0 => {
                let ends_string = is_string(state) && text[at..].starts_with(STRING_END);
                return if ends_string { at + STRING_END.len() } else { 0 };
            }
            0x80.. if is_string(state) => continue,
            0x80.. => return 0,
            _ => {}
        }
        match state_change(state, byte).0 {
            // Stays as it is.
            State::Anywhere => {}
            State::Ground => return at + 1,
            next => state = next,
        }
    }
    0
}

/// `text` without its escape sequences.
pub fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        let (before, escape) = rest.split_at(at);
        kept.push_str(before);
        let len = escape_len(escape);
        if len == 0 {
            kept.push('\x1b');
        }
        rest = &escape[len.max(1)..];
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// Does a sequence in this state hold text, for as long as it takes?
fn is_string(state: State) -> bool {
    matches!(state, State::OscString | State::DcsPassthrough | State::DcsIgnore | State::SosPmApcString)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_sequences_are_nothing_and_half_ones_are_text() {
        let table = [
            ("plain ünïcode 漢字 🎉", "plain ünïcode 漢字 🎉"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b[38;2;1;2;3m\x1b[?25l\x1b[>4;2mx\x1b[K\x1b[2A", "x"),
            ("\x1b]8;;https://example.org/ä\x1b\\link\x1b]8;;\x1b\\.", "link."),
            ("\x1b]8;id=1;file:///a\x07link\x1b]8;;\x07.", "link."),
            ("\x1b]0;朜 title\x07x", "x"),
            ("\x1bP1$r0m\x1b\\x\x1b_app\x1b\\y\x1b^pm\x1b\\z", "xyz"),
            ("\x1b7saved\x1b8\x1b(Bx\x1b=", "savedx"),
            ("\x1b\x1b[mx", "\x1bx"),
            ("\x1b]0;never ended\x1b[31mred", "\x1b]0;never endedred"),
            ("\x1b", "\x1b"),
            ("a\x1b[31", "a\x1b[31"),
            ("\x1b[31é m", "\x1b[31é m"),
            ("\x1b]0;never ended\nfatal", "\x1b]0;never ended\nfatal"),
            ("\x1b]0;never ended\rfatal\x1b\\", "\x1b]0;never ended\rfatal"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(without_escapes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn many_halves_take_no_longer_than_their_text() {
        // Each would be looked at up to the end of the text, were the next one not the end of it.
        let halves = "\x1b]".repeat(100_000);
        let looked_at: usize = halves.match_indices('\x1b').map(|(at, _)| escape_len(&halves[at..])).sum();
        assert_eq!(looked_at, 0);
    }
}
