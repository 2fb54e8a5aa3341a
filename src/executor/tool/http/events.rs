//! A streamed answer taken apart: the data of each event of an SSE stream, or each line of an NDJSON one.
//!
//! Pure and incremental: bytes in, in any pieces, events out. Lines may end with LF, CR or CRLF.

/// The largest event or line, in bytes. Past it the stream is given up.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a streamed answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `text/event-stream`
    Sse,
    /// One value a line.
    Lines,
}

impl Framing {
    /// The framing of an answer of this content type; nothing where it is no stream.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "text/event-stream" => Some(Self::Sse),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines"
            | "application/json-seq"
            | "application/stream+json" => Some(Self::Lines),
            _ => None,
        }
    }
}

/// Takes a streamed answer apart.
#[derive(Debug)]
pub(super) struct EventReader {
    framing: Framing,
    line: Vec<u8>,
    data: Option<String>,
    /// A CR ended the last line: an LF right after it belongs to it.
    after_cr: bool,
    is_first_line: bool,
}

impl EventReader {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, line: Vec::new(), data: None, after_cr: false, is_first_line: true }
    }

    /// Takes `bytes` and returns the data of every event that they complete.
    ///
    /// # Errors
    /// Where an event is too large.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut events = Vec::new();
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) {
            self.extend_line(&bytes[..end])?;
            events.extend(self.end_line());
            let is_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.after_cr = is_cr && bytes.is_empty();
            if is_cr {
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend_line(bytes)?;
        Ok(events)
    }

    /// Nothing follows: the data of an event that lacks its end.
    pub(super) fn finish(&mut self) -> Option<String> {
        let from_line = if self.line.is_empty() { None } else { self.end_line() };
        from_line.or_else(|| self.data.take())
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), String> {
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > EVENT_BYTES_MAX {
            return Err(format!("an event of the answer is over {EVENT_BYTES_MAX} bytes"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let line = if self.is_first_line { text.trim_start_matches('\u{feff}') } else { &text };
        self.is_first_line = false;
        match self.framing {
            Framing::Sse => self.sse_line(line),
            Framing::Lines => {
                let line = line.trim_start_matches('\u{1e}');
                (!line.trim().is_empty()).then(|| line.to_owned())
            }
        }
    }

    fn sse_line(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            return self.data.take();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(framing: Framing, pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = EventReader::new(framing);
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(reader.push(piece).expect("fits"));
        }
        events.extend(reader.finish());
        events
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_events() {
        let table: [(Framing, &str, &[&str]); 9] = [
            (Framing::Sse, "data: a\n\ndata:b\n\n", &["a", "b"]),
            (Framing::Sse, "\u{feff}data: a\r\n\r\ndata: b\r\rdata: c\n\n", &["a", "b", "c"]),
            (Framing::Sse, ": comment\nevent: x\nid: 1\nretry: 5\ndata: a\ndata: b\ndata\n\n", &["a\nb\n"]),
            (Framing::Sse, "event: ping\n\ndata:  two spaces\n\n", &[" two spaces"]),
            (Framing::Sse, "data: no end", &["no end"]),
            (Framing::Sse, "data: no blank line\n", &["no blank line"]),
            (Framing::Sse, "data: ä: ö\n\n", &["ä: ö"]),
            (Framing::Lines, "{\"a\": 1}\n\n{\"b\": 2}\r\n[3]", &["{\"a\": 1}", "{\"b\": 2}", "[3]"]),
            (Framing::Lines, "\u{1e}{\"a\": 1}\n\u{1e}2\n", &["{\"a\": 1}", "2"]),
        ];
        for (framing, stream, expected) in table {
            let bytes = stream.as_bytes();
            for (i, j) in (0..=bytes.len()).flat_map(|i| (i..=bytes.len()).map(move |j| (i, j))) {
                assert_eq!(events(framing, &[&bytes[..i], &bytes[i..j], &bytes[j..]]), expected, "{stream:?} {i} {j}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut reader = EventReader::new(Framing::Sse);
        let line = [b"data: ".as_slice(), &[b'x'; 1024 * 1024], b"\n"].concat();
        assert!((0..5).any(|_| reader.push(&line).is_err()));
    }

    #[test]
    fn a_framing_is_told_by_the_content_type() {
        assert_eq!(Framing::of("text/event-stream; charset=utf-8"), Some(Framing::Sse));
        assert_eq!(Framing::of("Application/X-NDJSON"), Some(Framing::Lines));
        assert_eq!(Framing::of("application/json"), None);
    }
}
