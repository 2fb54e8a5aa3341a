//! Reads an event stream strictly: what a lenient client would ignore fails here.

use serde_json::Value;

use crate::http::Coding;

/// A piece of a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'b> {
    /// A block, whole in its chunk where there are chunks.
    Block(Block<'b>),
    /// The last chunk.
    End,
}

/// One block of a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Block<'b> {
    /// A heartbeat.
    Comment,
    /// An event.
    Event {
        /// `retry:`
        retry: Option<u64>,
        /// `id:`
        id: Option<&'b str>,
        /// `data:`
        data: &'b [u8],
    },
}

/// A message made for one stream alone, or `connected`.
#[derive(Debug)]
pub(super) struct Special {
    pub(super) kind: String,
    pub(super) project: String,
    pub(super) seq: u64,
    pub(super) payload: Value,
}

/// The first piece of `bytes` and its length, once it is there whole.
pub(super) fn next_piece(bytes: &[u8], coding: Coding) -> Option<(Piece<'_>, usize)> {
    if coding == Coding::UntilClose {
        let (block, n) = next_block(bytes)?;
        return Some((Piece::Block(block), n));
    }
    let line_end = memchr::memmem::find(bytes, b"\r\n")?;
    let size = str::from_utf8(&bytes[..line_end]).expect("a size is ASCII");
    assert!(size == "0" || !size.starts_with('0'), "{size}");
    let size = usize::from_str_radix(size, 16).expect("a chunk's size");
    let data = line_end + 2;
    let end = data + size;
    assert_eq!(bytes.get(end..end + 2)?, b"\r\n", "a chunk ends where its size says");
    if size == 0 {
        return Some((Piece::End, end + 2));
    }
    let (block, n) = next_block(&bytes[data..end]).expect("a chunk holds a whole block");
    assert_eq!(n, size, "a chunk holds one block");
    Some((Piece::Block(block), end + 2))
}

/// The first block of `bytes` and its length, once it is there whole.
fn next_block(bytes: &[u8]) -> Option<(Block<'_>, usize)> {
    if bytes.starts_with(b":\n") {
        return Some((Block::Comment, 2));
    }
    let end = memchr::memmem::find(bytes, b"\n\n")?;
    Some((read_block(&bytes[..end]), end + 2))
}

/// Nothing but `retry:`, `id:`, `data:` in this order, of which the last alone must be there.
fn read_block(block: &[u8]) -> Block<'_> {
    assert!(!block.contains(&b'\r') && !block.contains(&0), "{}", String::from_utf8_lossy(block));
    let (mut retry, mut id, mut data) = (None, None, None);
    for line in block.split(|&b| b == b'\n') {
        if let Some(ms) = line.strip_prefix(b"retry: ") {
            assert!(retry.is_none() && id.is_none() && data.is_none());
            retry = Some(str::from_utf8(ms).ok().and_then(|ms| ms.parse().ok()).expect("milliseconds"));
        } else if let Some(text) = line.strip_prefix(b"id: ") {
            assert!(id.is_none() && data.is_none());
            id = Some(str::from_utf8(text).expect("an id is ASCII"));
        } else if let Some(json) = line.strip_prefix(b"data: ") {
            assert!(data.replace(json).is_none(), "one line of data");
        } else {
            panic!("no field of ours: {}", String::from_utf8_lossy(line));
        }
    }
    let id_is_fit = |id: &str| {
        // Those of streams of several projects are longer.
        let bytes_max = if id.contains(".~") { 640 } else { 64 };
        (1..=bytes_max).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
    };
    assert!(id.is_none_or(id_is_fit), "{id:?}");
    Block::Event { retry, id, data: data.expect("a block has data") }
}

impl Special {
    /// Reads the message in `data`: the four members of every message, in their order, and no other.
    pub(super) fn read(data: &[u8]) -> Self {
        let message: Value = serde_json::from_slice(data).expect("a message is JSON");
        let members = message.as_object().expect("a message is an object");
        assert!(members.keys().eq(["type", "projectId", "seq", "payload"]), "{message}");
        assert!(message["payload"].is_object(), "{message}");
        let text = |name: &str| message[name].as_str().expect("a text").to_owned();
        let seq = message["seq"].as_u64().expect("a number");
        Self { kind: text("type"), project: text("projectId"), seq, payload: message["payload"].clone() }
    }

    /// A text of the payload.
    pub(super) fn word(&self, name: &str) -> &str {
        self.payload[name].as_str().unwrap_or_default()
    }
}
