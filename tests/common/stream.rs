//! A strict reader of event streams: what the contract does not allow on the wire makes the test fail.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Connection, Request, Response};
use super::stream_body::StreamBody;

/// A message, with the fields of its block.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub message: Value,
    /// The block as it came, without the blank line.
    pub raw: String,
}

impl Event {
    pub fn kind(&self) -> &str {
        self.message["type"].as_str().expect("a type")
    }

    pub fn seq(&self) -> u64 {
        self.message["seq"].as_u64().expect("a seq")
    }

    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("an id: {self:?}"))
    }
}

/// A block of a stream.
#[derive(Debug, Clone)]
pub enum Block {
    Comment,
    Event(Event),
}

/// A stream that is read.
pub struct Sse {
    pub head: Response,
    body: StreamBody,
}

impl Sse {
    pub fn open(to: SocketAddr, request: Request) -> Self {
        Self::over(Connection::open(to), to, request)
    }

    /// One whose socket takes little, so that what is not read soon waits at the server.
    pub fn open_narrow(to: SocketAddr, request: Request) -> Self {
        Self::over(Connection::open_narrow(to), to, request)
    }

    /// As [`open`](Self::open), or [`open_narrow`](Self::open_narrow), of a server that may be gone or be killed before
    /// it has answered.
    pub fn try_open(to: SocketAddr, request: Request, narrow: bool) -> Option<Self> {
        let connection = if narrow { Connection::try_open_narrow(to)? } else { Connection::try_open(to)? };
        Self::try_over(connection, to, request)
    }

    /// One that comes over a proxy, which may cut it into chunks and keeps to itself what was meant for proxies.
    pub fn through_proxy(mut connection: Connection, proxy: SocketAddr, request: Request) -> Self {
        connection.write(&request.header("Accept", "text/event-stream").bytes(proxy));
        let head = connection.head().expect("an answer");
        assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")), "{head:?}");
        Self { body: StreamBody::through_proxy(connection, &head), head }
    }

    fn over(connection: Connection, to: SocketAddr, request: Request) -> Self {
        Self::try_over(connection, to, request).expect("an answer")
    }

    fn try_over(mut connection: Connection, to: SocketAddr, request: Request) -> Option<Self> {
        connection.write(&request.header("Accept", "text/event-stream").bytes(to));
        let head = connection.head_if_whole()?;
        if head.status == 200 {
            assert_eq!(head.header("Content-Type"), Some("text/event-stream"), "{head:?}");
            assert_eq!(head.header("Cache-Control"), Some("no-cache, no-transform"), "{head:?}");
            assert_eq!(head.header("X-Accel-Buffering"), Some("no"), "{head:?}");
            assert_eq!(head.header("Transfer-Encoding"), Some("chunked"), "{head:?}");
        }
        Some(Self { body: StreamBody::new(connection, &head), head })
    }

    /// The next block; none where the stream has ended.
    pub fn block(&mut self) -> Option<Block> {
        let mut lines = Vec::new();
        loop {
            match self.body.line()? {
                line if line.starts_with(':') => {
                    assert_eq!((line.as_str(), lines.len()), (":", 0), "a comment of one line between blocks");
                    return Some(Block::Comment);
                }
                line if line.is_empty() => break,
                line => lines.push(line),
            }
        }
        assert!(!lines.is_empty(), "a blank line between blocks");
        Some(Block::Event(event(&lines)))
    }

    /// The next message, comments left out; none where the stream has ended.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Block::Event(event) = self.block()? {
                return Some(event);
            }
        }
    }

    /// Messages up to the first one that `is_it`, with it.
    pub fn until(&mut self, mut is_it: impl FnMut(&Value) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended behind {seen:#?}"));
            let is_found = is_it(&event.message);
            seen.push(event);
            if is_found {
                return seen;
            }
        }
    }

    /// The next `count` messages.
    pub fn take(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|n| self.next().unwrap_or_else(|| panic!("only {n} of {count} messages"))).collect()
    }

    /// All messages until the stream ends.
    pub fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Did the server say that the stream ends here, rather than break off?
    pub fn is_at_its_end(&self) -> bool {
        self.body.is_at_its_end()
    }
}

fn event(lines: &[String]) -> Event {
    let (mut id, mut retry, mut data) = (None, None, None);
    for line in lines {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field line: {line:?}"));
        let slot = match field {
            "id" => &mut id,
            "retry" => &mut retry,
            "data" => &mut data,
            other => panic!("no field {other:?} belongs in a block: {lines:?}"),
        };
        assert!(slot.replace(value.to_owned()).is_none(), "{field} twice in a block: {lines:?}");
    }
    let message: Value = serde_json::from_str(&data.expect("data")).expect("one line of JSON");
    let keys: Vec<&str> = message.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["type", "projectId", "seq", "payload"], "{message}");
    assert!(message["payload"].is_object() && message["seq"].is_u64(), "{message}");
    if let Some(id) = &id {
        // Those of streams of several projects are longer.
        let bytes_max = if id.contains(".~") { 640 } else { 64 };
        assert!((1..=bytes_max).contains(&id.len()), "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte)), "{id}");
    }
    Event { id, retry: retry.map(|ms| ms.parse().expect("milliseconds")), message, raw: lines.join("\n") }
}
