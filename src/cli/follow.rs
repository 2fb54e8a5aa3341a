//! Follows a project's stream as any client does: over HTTP, by Server-Sent Events.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::CommandError;
use crate::model::{ProjectId, RunEvent};

/// A message, as far as it is looked at here.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    message_type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The messages of runs in a project's stream.
pub(super) struct RunEvents {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl RunEvents {
    /// Begins to follow `project` at the server that listens on `address`.
    pub(super) fn follow(address: SocketAddr, project: &ProjectId) -> Result<Self, CommandError> {
        let connect = || {
            let mut socket = TcpStream::connect(address)?;
            write!(
                socket,
                "GET /api/sse/projects/{project}?snapshot=0 HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n"
            )?;
            let mut lines = BufReader::new(socket).lines();
            // `connected` is the first message: once it is here, everything later comes too.
            for line in lines.by_ref() {
                if line?.starts_with("data:") {
                    return Ok(lines);
                }
            }
            Err(std::io::ErrorKind::UnexpectedEof.into())
        };
        let lines = connect().map_err(|error| CommandError::io(&format!("follow http://{address}"), &error))?;
        Ok(Self { lines })
    }
}

impl Iterator for RunEvents {
    type Item = RunEvent;

    /// The next message of a run; none once the stream has ended.
    fn next(&mut self) -> Option<RunEvent> {
        loop {
            let line = self.lines.next()?.ok()?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let Ok(envelope) = serde_json::from_str::<Envelope>(data) else { continue };
            if let Ok(event) = RunEvent::from_payload(envelope.message_type, envelope.payload.get().as_bytes()) {
                return Some(event);
            }
        }
    }
}
