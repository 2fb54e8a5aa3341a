//! The body of a stream, line by line, out of its chunks where it comes in chunks.

use super::client::{Connection, Response};

/// See the top of this file.
pub struct StreamBody {
    connection: Connection,
    /// What chunks held that is not read yet; none where the body ends with the connection.
    unchunked: Option<Vec<u8>>,
    /// A chunk holds whole lines: true of the server, not of a proxy.
    is_strict: bool,
    has_last_chunk: bool,
}

impl StreamBody {
    /// What follows `head` on the connection, as the server sends it.
    pub fn new(connection: Connection, head: &Response) -> Self {
        let coding = head.header("Transfer-Encoding");
        assert!(coding.is_none_or(|coding| coding == "chunked"), "{head:?}");
        Self { connection, unchunked: coding.map(|_| Vec::new()), is_strict: true, has_last_chunk: false }
    }

    /// The same through a proxy, which may cut it elsewhere.
    pub fn through_proxy(connection: Connection, head: &Response) -> Self {
        Self { is_strict: false, ..Self::new(connection, head) }
    }

    /// The next line, without its end; none where the body has ended, or was broken off.
    pub fn line(&mut self) -> Option<String> {
        let Some(unchunked) = &mut self.unchunked else { return self.connection.line() };
        loop {
            if let Some(at) = memchr::memchr(b'\n', unchunked) {
                let line: Vec<u8> = unchunked.drain(..=at).collect();
                return Some(String::from_utf8(line[..at].to_vec()).expect("UTF-8"));
            }
            if self.has_last_chunk {
                return None;
            }
            let size = self.connection.line()?;
            let size =
                usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|_| panic!("a chunk's size: {size:?}"));
            let chunk = self.connection.exactly_if_whole(size + 2)?;
            let data = chunk.strip_suffix(b"\r\n").expect("a chunk's end");
            assert!(!self.is_strict || data.is_empty() || data.ends_with(b"\n"), "a chunk holds whole lines");
            self.has_last_chunk = data.is_empty();
            unchunked.extend(data);
        }
    }

    /// All lines until the body ends.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Did the server say that this is the end, rather than break off?
    pub fn is_at_its_end(&self) -> bool {
        self.has_last_chunk
    }
}
