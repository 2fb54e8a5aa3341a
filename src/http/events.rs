//! Reads an event stream like `EventSource`: section 9.2 ("Server-sent events") of the WHATWG HTML Standard,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>. The writer is [`sse`](super::sse).
//!
//! Pure and incremental: bytes go in, split anywhere, and events come out. An event is complete only after its blank
//! line; [`EventReader::finish`] reports an incomplete one.

use std::fmt;

/// The type of an event without `event:` field.
pub const MESSAGE: &str = "message";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The value of its last `event:` field; [`MESSAGE`] where that is empty or missing.
    pub kind: String,
    /// The values of its `data:` fields, a line each.
    pub data: String,
}

/// An event is larger than the reader allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge {
    /// The maximum size of an event in bytes.
    pub bytes_max: usize,
}

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event is larger than {} bytes", self.bytes_max)
    }
}

impl std::error::Error for EventTooLarge {}

/// Parses an event stream. It stores only the current, incomplete event.
#[derive(Debug)]
pub struct EventReader {
    bytes_max: usize,
    line: Vec<u8>,
    /// The last line ended with CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    is_first_line: bool,
    block: Block,
    last_event_id: String,
    retry_ms: Option<u64>,
}

/// The lines since the last blank one.
#[derive(Debug, Default)]
struct Block {
    /// Whether there is a field: a comment alone does not start an event.
    has_begun: bool,
    kind: String,
    data: Option<String>,
    id: Option<String>,
}

impl EventReader {
    /// A reader of events of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_cr: false,
            is_first_line: true,
            block: Block::default(),
            last_event_id: String::new(),
            retry_ms: None,
        }
    }

    /// Takes `bytes` and returns the events that they complete.
    ///
    /// # Errors
    /// If an event is too large. The reader must not be used any more then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, EventTooLarge> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (used, event) = self.take(bytes)?;
            events.extend(event);
            bytes = &bytes[used..];
        }
        Ok(events)
    }

    /// Takes of `bytes` what there is up to the end of the next event; how many that were, and the event. What
    /// [`last_event_id`](Self::last_event_id) says then is that event's.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), EventTooLarge> {
        let mut used = 0;
        while let Some(&first) = bytes.get(used) {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                used += 1;
                continue;
            }
            let rest = &bytes[used..];
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                self.extend_line(rest)?;
                return Ok((bytes.len(), None));
            };
            self.extend_line(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            used += end + 1;
            if let Some(event) = self.end_line() {
                return Ok((used, Some(event)));
            }
        }
        Ok((used, None))
    }

    /// Ends the stream, and returns the data of an incomplete event; none if the stream ended between events.
    pub fn finish(mut self) -> Option<String> {
        if !self.line.is_empty() {
            self.end_line();
        }
        let Block { has_begun, data, .. } = self.block;
        has_begun.then(|| data.unwrap_or_default())
    }

    /// The `Last-Event-ID` of a reconnect: the last `id:` of a block that has ended. Empty before there is one.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The delay before a reconnect in milliseconds, according to the last `retry:`.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        let held = self.line.len() + self.block.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > self.bytes_max {
            return Err(EventTooLarge { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let is_first = std::mem::take(&mut self.is_first_line);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(&text);
        if text.is_empty() {
            return self.end_block();
        }
        match text.split_once(':').unwrap_or((text, "")) {
            // A comment.
            ("", _) => {}
            (field, value) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
        }
        None
    }

    fn field(&mut self, name: &str, value: &str) {
        self.block.has_begun = true;
        match name {
            "event" => value.clone_into(&mut self.block.kind),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.block.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
    }

    fn end_block(&mut self) -> Option<Event> {
        let Block { kind, data, id, .. } = std::mem::take(&mut self.block);
        if let Some(id) = id {
            self.last_event_id = id;
        }
        data.map(|data| Event { kind: if kind.is_empty() { MESSAGE.to_owned() } else { kind }, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events, and what `finish` says.
    fn read(pieces: &[&[u8]]) -> (Vec<(String, String)>, Option<String>) {
        let mut reader = EventReader::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(reader.push(piece).expect("fits").into_iter().map(|event| (event.kind, event.data)));
        }
        (events, reader.finish())
    }

    #[test]
    fn any_split_of_a_stream_gives_the_events_of_the_standard() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);
        let table: [Case; 24] = [
            ("", &[], None),
            ("data: a\n\ndata:b\n\n", &[("message", "a"), ("message", "b")], None),
            ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", &[("message", "a"), ("message", "b"), ("message", "c")], None),
            ("data: a\r\r\ndata: b\r\n\n", &[("message", "a"), ("message", "b")], None),
            ("\u{feff}data: a\n\n", &[("message", "a")], None),
            ("\u{feff}\u{feff}data: a\n\n", &[], None),
            ("data: a\n\n\u{feff}data: b\n\n", &[("message", "a")], None),
            (": comment\nevent: x\nid: 1\nretry: 5\ndata: a\ndata: b\ndata\n\n", &[("x", "a\nb\n")], None),
            ("data\n\ndata\ndata\n\n", &[("message", ""), ("message", "\n")], None),
            ("event: x\n\ndata:  two spaces\n\n", &[("message", " two spaces")], None),
            ("event: x\nevent:\ndata: a\n\n", &[("message", "a")], None),
            ("data:test\n\ndata: test\n\n", &[("message", "test"), ("message", "test")], None),
            ("data: ä: ö\n\n", &[("message", "ä: ö")], None),
            ("Data: a\n data: b\ndata : c\n\n", &[], None),
            ("\n\n:\n\n", &[], None),
            ("data: a\n\n: over", &[("message", "a")], None),
            ("data: a\n\n:", &[("message", "a")], None),
            ("\u{feff}", &[], None),
            ("data: a\n\ndata: no blank line\n", &[("message", "a")], Some("no blank line")),
            ("data: a\ndata: no e", &[], Some("a\nno e")),
            ("data: a\r", &[], Some("a")),
            ("data: a\n\nda", &[("message", "a")], Some("")),
            ("id: 7\n", &[], Some("")),
            ("event: x", &[], Some("")),
        ];
        for (stream, events, rest) in table {
            let bytes = stream.as_bytes();
            let events: Vec<_> = events.iter().map(|&(kind, data)| (kind.to_owned(), data.to_owned())).collect();
            let expected = (events, rest.map(str::to_owned));
            for (i, j) in (0..=bytes.len()).flat_map(|i| (i..=bytes.len()).map(move |j| (i, j))) {
                assert_eq!(read(&[&bytes[..i], &bytes[i..j], &bytes[j..]]), expected, "{stream:?} {i} {j}");
            }
        }
    }

    #[test]
    fn an_id_counts_when_its_block_ends_and_a_retry_at_once() {
        let table: [(&str, &str, Option<u64>); 8] = [
            ("", "", None),
            ("id: a\nretry: 20\n", "", Some(20)),
            ("id: a\n\nid: b", "a", None),
            ("id: a\n\nid\ndata: x\n\n", "", None),
            ("id: a\ndata: x\n\ndata: y\n\n", "a", None),
            ("id: a\n\nid: b\0c\n\n", "a", None),
            ("retry: 20\nretry: 3s\nretry: -1\nretry:\n", "", Some(20)),
            ("retry: 20\nretry: +5\nretry: 99999999999999999999999\n", "", Some(20)),
        ];
        for (stream, id, retry_ms) in table {
            let mut reader = EventReader::new(1000);
            reader.push(stream.as_bytes()).expect("fits");
            assert_eq!((reader.last_event_id(), reader.retry_ms()), (id, retry_ms), "{stream:?}");
        }
    }

    #[test]
    fn an_event_is_taken_with_its_id_before_the_next_one_is() {
        let (mut reader, mut bytes) =
            (EventReader::new(1000), &b"id: a\r\ndata: x\r\n\r\nid: b\n\ndata: y\r\rid: c\n"[..]);
        let mut taken = Vec::new();
        while !bytes.is_empty() {
            let (used, event) = reader.take(bytes).expect("fits");
            taken.extend(event.map(|event| (reader.last_event_id().to_owned(), event.data)));
            bytes = &bytes[used..];
        }
        assert_eq!(taken, [("a", "x"), ("b", "y")].map(|(id, data)| (id.to_owned(), data.to_owned())));
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let line = [b"data: ".as_slice(), &[b'x'; 300], b"\n"].concat();
        let mut lines = EventReader::new(1000);
        assert_eq!((0..5).find_map(|_| lines.push(&line).err()), Some(EventTooLarge { bytes_max: 1000 }));
        assert!(EventReader::new(1000).push(&[b'x'; 1001]).is_err());
        let mut events = EventReader::new(1000);
        assert!((0..5).all(|_| events.push(&[line.as_slice(), b"\n"].concat()).is_ok()));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(read(&[b"data: a\xff\xc3", b"\xa4\n\n"]).0, [("message".to_owned(), "a\u{fffd}ä".to_owned())]);
    }
}
