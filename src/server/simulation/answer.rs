//! Reads the head of a response strictly.

use crate::http::Coding;

/// A head.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The head that `bytes` begin with and its length, once it is there whole.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let text = str::from_utf8(&bytes[..end]).expect("a head is ASCII");
        assert!(!text.contains(|c: char| c.is_ascii_control() && c != '\r' && c != '\n'), "{text}");
        let mut lines = text.split("\r\n");
        let status_line = lines.next().expect("a first line");
        let (version, rest) = status_line.split_once(' ').expect("a status line");
        let (status, reason) = rest.split_once(' ').expect("a status line");
        assert!(version == "HTTP/1.1" && !reason.is_empty() && status.len() == 3, "{status_line}");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let head = Self { status: status.parse().expect("a status"), headers: lines.map(header).collect() };
        if head.status != 100 {
            assert!(head.get("date").is_some(), "{head:?}");
        }
        Some((head, end + 4))
    }

    /// A header, which no answer has twice.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = found.next();
        assert!(found.next().is_none(), "{name} stands twice in {self:?}");
        first
    }

    /// Does the connection end after it?
    pub(super) fn closes(&self) -> bool {
        self.get("connection") == Some("close")
    }

    /// Is it a stream's? Then it is to the letter what the contract says.
    pub(super) fn is_stream(&self) -> bool {
        let is_stream = self.get("content-type") == Some("text/event-stream");
        if is_stream {
            assert_eq!((self.status, self.get("content-length")), (200, None));
            assert_eq!(self.get("cache-control"), Some("no-cache, no-transform"));
            assert_eq!(self.get("x-accel-buffering"), Some("no"));
            assert!(self.closes());
        }
        is_stream
    }

    /// How the content of a stream is framed.
    pub(super) fn coding(&self) -> Coding {
        match self.get("transfer-encoding") {
            Some(coding) => {
                assert_eq!(coding, "chunked");
                Coding::Chunked
            }
            None => Coding::UntilClose,
        }
    }

    /// Bytes of content after it.
    pub(super) fn content_length(&self, is_head: bool) -> usize {
        let length = self.get("content-length").map(|length| length.parse().expect("a length"));
        match self.status {
            100 | 204 => {
                assert_eq!(length, None);
                0
            }
            _ => {
                let length = length.expect("an answer says its length");
                if is_head { 0 } else { length }
            }
        }
    }
}
