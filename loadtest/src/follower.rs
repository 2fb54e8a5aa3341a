//! One reader and one caller that wait: for what is measured one after the other, where the [fleet](crate::fleet) is for
//! what happens to many at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::failure::{Failure, Outcome, failure};
use crate::http::read_head;
use crate::loopback::Target;

/// How long either waits for the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's head and body are taken to be no longer than this.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A project's stream, message by message.
#[derive(Debug)]
pub struct Follower {
    lines: BufReader<TcpStream>,
    line: String,
}

impl Follower {
    /// A stream that has begun.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(target: Target, project: &str) -> Outcome<Self> {
        let mut socket = connect(target)?;
        let host = target.address();
        write!(socket, "GET /api/sse/projects/{project}?snapshot=0 HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut follower = Self { lines: BufReader::new(socket), line: String::new() };
        match follower.next_message()?["type"].as_str() {
            Some("connected") => Ok(follower),
            other => failure(format!("the stream began with {other:?}")),
        }
    }

    /// The next message, when it has come.
    ///
    /// # Errors
    /// Where none comes any more.
    pub fn next_message(&mut self) -> Outcome<Value> {
        loop {
            self.line.clear();
            if self.lines.read_line(&mut self.line)? == 0 {
                return failure("the stream has ended");
            }
            if let Some(data) = self.line.strip_prefix("data: ") {
                return serde_json::from_str(data).map_err(|error| Failure(format!("no JSON: {error}")));
            }
        }
    }

    /// Its socket. What has come and was not asked for is lost.
    pub fn into_socket(self) -> TcpStream {
        self.lines.into_inner()
    }

    /// The next message of this type and, where one is given, this status.
    ///
    /// # Errors
    /// As [`Follower::next_message`].
    pub fn wait_for(&mut self, message_type: &str, status: Option<&str>) -> Outcome<Value> {
        loop {
            let message = self.next_message()?;
            let is_it = message["type"] == message_type
                && status.is_none_or(|status| message["payload"]["status"].as_str() == Some(status));
            if is_it {
                return Ok(message);
            }
        }
    }
}

/// A kept connection on which calls are made one after the other.
#[derive(Debug)]
pub struct Caller {
    target: Target,
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    /// A connection.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(target: Target) -> Outcome<Self> {
        Ok(Self { target, socket: connect(target)?, answer: Vec::new() })
    }

    /// Sends a body of JSON; the answer's status, once it has come whole.
    ///
    /// # Errors
    /// Where no answer comes.
    pub fn post(&mut self, path: &str, body: &str) -> Outcome<u16> {
        let (host, length) = (self.target.address(), body.len());
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        self.socket.write_all((head + body).as_bytes())?;
        self.answer.clear();
        let mut scratch = [0; 16 * 1024];
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            match self.socket.read(&mut scratch)? {
                0 => return failure("closed before it answered"),
                n if self.answer.len() < ANSWER_BYTES_MAX => self.answer.extend_from_slice(&scratch[..n]),
                _ => return failure("an answer without end"),
            }
        }
    }

    fn status(&self) -> Outcome<Option<u16>> {
        let Some(head) = read_head(&self.answer).map_err(Failure)? else { return Ok(None) };
        let whole = head.bytes + head.length.unwrap_or(0);
        Ok((self.answer.len() >= whole).then_some(head.status))
    }
}

/// A connection.
///
/// # Errors
/// Where there is none.
pub fn connect(target: Target) -> Outcome<TcpStream> {
    let socket = TcpStream::connect_timeout(&target.address(), TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
