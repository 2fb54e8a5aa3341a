//! Splits a streamed response into the events of an SSE stream or the lines of an NDJSON stream, and recognises how it
//! ends.
//!
//! Pure and incremental: bytes go in, split anywhere, and events come out.

use serde_json::Value;

use crate::http::events::EventReader;

/// The largest event or line, in bytes. Past it the stream is given up.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an event of an SSE stream is called that tells of an error.
const ERROR: &str = "error";

/// How a streamed answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `text/event-stream`
    Sse,
    /// One value a line.
    Lines,
}

impl Framing {
    /// The framing of a response with this content type. `None` if it is not a stream.
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

/// What a stream says at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamEvent {
    /// The data of an event, or a line.
    Data(String),
    /// The data of an SSE event that is called `error`.
    Error(String),
}

/// What the end of a stream leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: it ended between events.
    Nothing,
    /// A last line, whole though no line end follows it.
    Line(String),
    /// The data of an event that has not ended, or the beginning of a line.
    Cut(String),
}

/// Takes a streamed answer apart.
#[derive(Debug)]
pub(super) enum StreamReader {
    Sse(EventReader),
    Lines(LineReader),
}

impl StreamReader {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(EventReader::new(EVENT_BYTES_MAX)),
            Framing::Lines => Self::Lines(LineReader::default()),
        }
    }

    /// Takes `bytes` and returns what they complete.
    ///
    /// # Errors
    /// If an event is too large.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, String> {
        let too_large = || format!("the response contains an event larger than {EVENT_BYTES_MAX} bytes");
        match self {
            Self::Sse(reader) => {
                let events = reader.push(bytes).map_err(|_| too_large())?;
                let told = |event: crate::http::events::Event| match event.kind.as_str() {
                    ERROR => StreamEvent::Error(event.data),
                    _ => StreamEvent::Data(event.data),
                };
                Ok(events.into_iter().map(told).collect())
            }
            Self::Lines(reader) => {
                let lines = reader.push(bytes).ok_or_else(too_large)?;
                Ok(lines.into_iter().map(StreamEvent::Data).collect())
            }
        }
    }

    /// Nothing follows. `is_complete` says that it is known to be all that the server had to say; where only the
    /// connection's end tells, a last line without line end counts as whole if it is JSON that no byte more could change.
    pub(super) fn finish(self, is_complete: bool) -> Rest {
        match self {
            Self::Sse(reader) => reader.finish().map_or(Rest::Nothing, Rest::Cut),
            Self::Lines(reader) => match reader.finish() {
                None => Rest::Nothing,
                Some(line) if is_complete || is_closed_json(&line) => Rest::Line(line),
                Some(line) => Rest::Cut(line),
            },
        }
    }
}

/// Is it JSON whose end can be seen? A number could go on.
fn is_closed_json(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|value| !value.is_number())
}

/// Takes NDJSON apart, and JSON text sequences (RFC 7464), whose records begin with a record separator.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    line: Vec<u8>,
    has_begun: bool,
}

impl LineReader {
    /// The lines that `bytes` complete, without empty ones. `None` if one is too large.
    fn push(&mut self, mut bytes: &[u8]) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(&bytes[..end])?;
            lines.extend(self.end_line());
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes)?;
        Some(lines)
    }

    fn finish(mut self) -> Option<String> {
        self.end_line()
    }

    fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return None;
        }
        self.line.extend_from_slice(bytes);
        Some(())
    }

    fn end_line(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(&text);
        let text = text.trim_start_matches('\u{1e}');
        let line = text.strip_suffix('\r').unwrap_or(text);
        (!line.trim().is_empty()).then(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framing: Framing, is_complete: bool, pieces: &[&[u8]]) -> (Vec<StreamEvent>, Rest) {
        let mut reader = StreamReader::new(framing);
        let events = pieces.iter().flat_map(|piece| reader.push(piece).expect("fits")).collect();
        (events, reader.finish(is_complete))
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_events_and_the_same_end() {
        let data = |text: &str| StreamEvent::Data(text.to_owned());
        let error = |text: &str| StreamEvent::Error(text.to_owned());
        let cut = |text: &str| Rest::Cut(text.to_owned());
        let line = |text: &str| Rest::Line(text.to_owned());
        let (sse, lines) = (Framing::Sse, Framing::Lines);
        let table = [
            (sse, "data: a\n\nevent: x\ndata: b\n\n", vec![data("a"), data("b")], Rest::Nothing, Rest::Nothing),
            (sse, "event: error\ndata: full\n\n", vec![error("full")], Rest::Nothing, Rest::Nothing),
            (sse, "data: a\n\ndata: b\n", vec![data("a")], cut("b"), cut("b")),
            (lines, "{\"a\": 1}\n\n[3]\r\n", vec![data("{\"a\": 1}"), data("[3]")], Rest::Nothing, Rest::Nothing),
            (
                lines,
                "\u{feff}\u{1e}{\"a\": 1}\n\u{1e}2\n",
                vec![data("{\"a\": 1}"), data("2")],
                Rest::Nothing,
                Rest::Nothing,
            ),
            (lines, "{\"a\":\r1}\n", vec![data("{\"a\":\r1}")], Rest::Nothing, Rest::Nothing),
            (lines, "1\n{\"a\": 1}", vec![data("1")], line("{\"a\": 1}"), line("{\"a\": 1}")),
            (lines, "1\n{\"a\": ", vec![data("1")], cut("{\"a\": "), line("{\"a\": ")),
            (lines, "1\n23", vec![data("1")], cut("23"), line("23")),
            (lines, "1\n  ", vec![data("1")], Rest::Nothing, Rest::Nothing),
        ];
        for (framing, stream, events, open_end, known_end) in table {
            let bytes = stream.as_bytes();
            for (i, j) in (0..=bytes.len()).flat_map(|i| (i..=bytes.len()).map(move |j| (i, j))) {
                let pieces = [&bytes[..i], &bytes[i..j], &bytes[j..]];
                for (is_complete, rest) in [(false, &open_end), (true, &known_end)] {
                    let expected = (events.clone(), rest.clone());
                    assert_eq!(read(framing, is_complete, &pieces), expected, "{stream:?} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        for framing in [Framing::Sse, Framing::Lines] {
            let mut reader = StreamReader::new(framing);
            assert!((0..5).any(|_| reader.push(&[b'x'; 1024 * 1024]).is_err()), "{framing:?}");
        }
    }

    #[test]
    fn a_framing_is_told_by_the_content_type() {
        assert_eq!(Framing::of("text/event-stream; charset=utf-8"), Some(Framing::Sse));
        assert_eq!(Framing::of("Application/X-NDJSON"), Some(Framing::Lines));
        assert_eq!(Framing::of("application/json"), None);
    }
}
