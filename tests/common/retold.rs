//! A strict reader of a run in a format: blocks of `id:` and one `data:`, and comments of one line.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Connection, Request, Response};
use super::stream_body::StreamBody;

/// One event of a format.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub id: Option<String>,
    /// What it says: JSON, but for the word that ends the AI SDK's streams.
    pub data: Value,
}

impl Frame {
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_else(|| self.data.as_str().unwrap_or_default())
    }
}

/// A stream that is read.
pub struct RetoldStream {
    pub head: Response,
    body: StreamBody,
}

impl RetoldStream {
    /// One that must begin.
    pub fn open(to: SocketAddr, request: Request) -> Self {
        let mut connection = Connection::open(to);
        connection.write(&request.header("Accept", "text/event-stream").bytes(to));
        Self::over(connection)
    }

    /// One whose request was sent on a connection.
    pub fn over(mut connection: Connection) -> Self {
        let head = connection.head().expect("an answer");
        assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")), "{head:?}");
        Self { body: StreamBody::new(connection, &head), head }
    }

    /// The next event; none where the stream has ended.
    pub fn next(&mut self) -> Option<Frame> {
        let (mut id, mut data) = (None, None);
        loop {
            let line = self.body.line()?;
            match line.split_once(": ") {
                Some(("id", value)) if data.is_none() && id.is_none() => id = Some(value.to_owned()),
                Some(("retry", ms)) if data.is_none() && id.is_none() => {
                    ms.parse::<u64>().expect("milliseconds");
                }
                Some(("data", value)) if data.is_none() => data = Some(value.to_owned()),
                None if line == ":" && id.is_none() && data.is_none() => {}
                None if line.is_empty() => break,
                _ => panic!("no line of a format: {line:?}"),
            }
        }
        let data = data.expect("a block has data");
        Some(Frame { id, data: serde_json::from_str(&data).unwrap_or(Value::String(data)) })
    }

    /// Events up to the first that `is_it`, with it.
    pub fn until(&mut self, mut is_it: impl FnMut(&Frame) -> bool) -> Vec<Frame> {
        let mut seen = Vec::new();
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the stream ended behind {seen:#?}"));
            let is_found = is_it(&frame);
            seen.push(frame);
            if is_found {
                return seen;
            }
        }
    }

    /// All events until the stream ends.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Did the server say that the stream ends here, rather than break off?
    pub fn is_at_its_end(&self) -> bool {
        self.body.is_at_its_end()
    }
}
