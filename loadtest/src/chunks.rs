//! The chunked transfer coding, undone: what a server sends that frames every piece of its stream again.

/// A chunk's size has so many hexadecimal digits at most.
const DIGITS_MAX: u8 = 8;

/// Where in the coding a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line that says the size.
    Size { size: usize, digits: u8, is_read: bool },
    /// So many bytes of a chunk are left.
    Data(usize),
    /// At the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Over,
}

/// Takes a body's bytes, however they were cut, and gives those of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks(State);

const SIZE: State = State::Size { size: 0, digits: 0, is_read: false };

impl Default for Chunks {
    fn default() -> Self {
        Self(SIZE)
    }
}

impl Chunks {
    /// Takes off the front of `bytes` what it has looked at, and gives a piece of a chunk; none where `bytes` has no
    /// more of them.
    ///
    /// # Errors
    /// Where it is not chunked.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        if self.0 == SIZE
            && let Some((chunk, rest)) = usual(bytes)
        {
            *bytes = rest;
            return Ok(Some(chunk));
        }
        while !bytes.is_empty() {
            match self.0 {
                State::Data(left) => {
                    let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                    *bytes = rest;
                    self.0 = if piece.len() == left { State::DataEnd } else { State::Data(left - piece.len()) };
                    return Ok(Some(piece));
                }
                State::Over => return Ok(None),
                State::Size { .. } | State::DataEnd => {
                    self.0 = step(self.0, bytes[0])?;
                    *bytes = &bytes[1..];
                }
            }
        }
        Ok(None)
    }

    /// The last chunk has been taken: the stream has ended.
    pub fn is_over(self) -> bool {
        self.0 == State::Over
    }
}

/// A chunk that is there whole, without extensions, and what follows it. At millions of chunks a second a look at each byte
/// of their framing would be what is measured.
fn usual(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const USUAL_DIGITS_MAX: usize = 5;
    let mut size = 0;
    for (digits, byte) in bytes.iter().enumerate().take(USUAL_DIGITS_MAX + 1) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'\r' if size > 0 => {
                let data = bytes[digits..].strip_prefix(b"\r\n")?;
                let (chunk, rest) = data.split_at_checked(size)?;
                return Some((chunk, rest.strip_prefix(b"\r\n")?));
            }
            _ => return None,
        };
        size = size * 16 + usize::from(digit);
    }
    None
}

fn step(state: State, byte: u8) -> Result<State, String> {
    let not_chunked = || Err(format!("not a chunk: byte {byte:#04x}"));
    match (state, byte) {
        (State::DataEnd, b'\r') => Ok(State::DataEnd),
        (State::DataEnd, b'\n') => Ok(SIZE),
        (State::Size { digits: 0, .. }, b'\n') => not_chunked(),
        (State::Size { size: 0, .. }, b'\n') => Ok(State::Over),
        (State::Size { size, .. }, b'\n') => Ok(State::Data(size)),
        (State::Size { size, digits, is_read: false }, _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
            let digit = char::from(byte).to_digit(16).unwrap_or(0) as usize;
            Ok(State::Size { size: size * 16 + digit, digits: digits + 1, is_read: false })
        }
        // What follows the digits is an extension, or the line's end.
        (State::Size { size, digits: 1.., .. }, b'\r' | b';' | b' ') => {
            Ok(State::Size { size, digits: 1, is_read: true })
        }
        (State::Size { is_read: true, .. }, _) => Ok(state),
        _ => not_chunked(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), String> {
        let (mut chunks, mut body) = (Chunks::default(), Vec::new());
        for mut piece in pieces.iter().copied() {
            while let Some(bytes) = chunks.next(&mut piece)? {
                body.extend_from_slice(bytes);
            }
        }
        Ok((body, chunks.is_over()))
    }

    #[test]
    fn any_cut_gives_the_same_body() {
        let coded = b"5\r\nabcde\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n";
        let expected = Ok((b"abcde0123456789".to_vec(), true));
        for first in 0..coded.len() {
            for second in first..coded.len() {
                let pieces = [&coded[..first], &coded[first..second], &coded[second..]];
                assert_eq!(decode(&pieces), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for coded in ["data: x\n\n", "\r\n", "g\r\n", "123456789\r\n", "2\r\nabc\r\n"] {
            assert!(decode(&[coded.as_bytes()]).is_err(), "{coded:?}");
        }
        assert_eq!(decode(&[b"3\r\nab"]), Ok((b"ab".to_vec(), false)));
    }
}
