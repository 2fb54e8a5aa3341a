//! One client that asks, reads the answer whole and drops it, and asks again: for answers of any size, where what counts
//! is that they are being sent. A stream is read up to the end of its first snapshot.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::chunks::Chunks;
use crate::failure::{Failure, Outcome, failure};
use crate::http::{Head, read_head};
use crate::loopback::Target;

/// How long a read waits before it is looked whether to stop.
const TICK: Duration = Duration::from_millis(20);

/// After so long without a byte the server is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Where bodies are read to.
const SCRATCH_BYTES: usize = 256 * 1024;

/// What of a refusal's body is told.
const REFUSAL_BYTES_MAX: usize = 300;

/// What a snapshot is known by, and what ends a block. A server keeps a block whole inside one chunk.
const SNAPSHOT: &[u8] = br#""type":"workflow_snapshot""#;
const BLOCK_END: &[u8] = b"\n\n";

/// Up to where an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its end; the connection is kept.
    End,
    /// The end of its first `workflow_snapshot`; then the connection is dropped.
    Snapshot,
}

/// A request, and how its answer is read.
#[derive(Debug, Clone)]
pub struct Question {
    request: Vec<u8>,
    until: Until,
}

impl Question {
    /// `GET path`, with more lines in its head.
    pub fn get(target: Target, path: &str, lines: &str, until: Until) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", target.address()).into_bytes();
        Self { request, until }
    }
}

/// A client, with its connection while it has one.
#[derive(Debug)]
pub struct Asker {
    target: Target,
    socket: Option<TcpStream>,
    scratch: Vec<u8>,
    /// Answers that were read whole.
    pub answers: u64,
    /// Bytes that were read, also of answers that were broken off.
    pub bytes: u64,
}

impl Asker {
    /// One without a connection.
    pub fn new(target: Target) -> Self {
        Self { target, socket: None, scratch: vec![0; SCRATCH_BYTES], answers: 0, bytes: 0 }
    }

    /// Asks once; the status of an answer that was read whole, none where it `is_over` before.
    ///
    /// # Errors
    /// Where there is no answer.
    pub fn ask(&mut self, question: &Question, is_over: impl Fn() -> bool) -> Outcome<Option<u16>> {
        let is_kept = self.socket.is_some();
        match self.try_ask(question, &is_over) {
            // A kept connection may have been closed meanwhile.
            Err(Broken::Unheard(_)) if is_kept => {
                self.socket = None;
                self.try_ask(question, &is_over).map_err(Broken::into_failure)
            }
            other => other.map_err(Broken::into_failure),
        }
    }

    fn try_ask(&mut self, question: &Question, is_over: &impl Fn() -> bool) -> Result<Option<u16>, Broken> {
        // Taken out: a connection on which an answer was broken off is of no use.
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(self.target).map_err(Broken::Unheard)?,
        };
        socket.write_all(&question.request).map_err(|error| Broken::Unheard(error.into()))?;
        let (mut answer, mut last) = (Answer::new(question.until), Instant::now());
        loop {
            match socket.read(&mut self.scratch) {
                Ok(0) if answer.is_unheard() => return Err(Broken::Unheard(Failure("closed".to_owned()))),
                Ok(0) => return Err(Broken::Off(Failure("the server broke an answer off".to_owned()))),
                Ok(n) => {
                    self.bytes += n as u64;
                    last = Instant::now();
                    if let Some(status) = answer.take(&self.scratch[..n]).map_err(Broken::Off)? {
                        self.answers += 1;
                        self.socket = (question.until == Until::End).then_some(socket);
                        return Ok(Some(status));
                    }
                }
                Err(error) if is_waiting(&error) && last.elapsed() > SILENCE_MAX => {
                    return Err(Broken::Off(Failure("the server has stopped answering".to_owned())));
                }
                Err(error) if is_waiting(&error) => {}
                Err(error) if answer.is_unheard() => return Err(Broken::Unheard(error.into())),
                Err(error) => return Err(Broken::Off(error.into())),
            }
            if is_over() {
                return Ok(None);
            }
        }
    }
}

/// Where a question was left without an answer.
enum Broken {
    /// Nothing of an answer has come.
    Unheard(Failure),
    /// Some of it has.
    Off(Failure),
}

impl Broken {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unheard(failure) | Self::Off(failure) => failure,
        }
    }
}

fn connect(target: Target) -> Outcome<TcpStream> {
    let socket = TcpStream::connect_timeout(&target.address(), SILENCE_MAX)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn is_waiting(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// An answer on its way.
#[derive(Debug)]
enum Answer {
    Head { bytes: Vec<u8>, until: Until },
    Length { status: u16, left: usize },
    Chunks { status: u16, chunks: Chunks },
    Snapshot { status: u16, is_begun: bool, tail: Vec<u8> },
}

impl Answer {
    fn new(until: Until) -> Self {
        Self::Head { bytes: Vec::new(), until }
    }

    fn is_unheard(&self) -> bool {
        matches!(self, Self::Head { bytes, .. } if bytes.is_empty())
    }

    /// Takes the next bytes; the status, once all is there.
    fn take(&mut self, bytes: &[u8]) -> Outcome<Option<u16>> {
        if let Self::Head { bytes: so_far, until } = self {
            so_far.extend_from_slice(bytes);
            let Some(head) = read_head(so_far).map_err(Failure)? else { return Ok(None) };
            let body = so_far.split_off(head.bytes);
            *self = Self::after_head(&head, *until, &body)?;
            return self.take_body(&body);
        }
        self.take_body(bytes)
    }

    /// What is read behind a head, of which `body` has come.
    fn after_head(head: &Head, until: Until, body: &[u8]) -> Outcome<Self> {
        let status = head.status;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]);
            return failure(format!("refused: {status} {text}"));
        }
        match (until, head.length) {
            (Until::Snapshot, _) => Ok(Self::Snapshot { status, is_begun: false, tail: Vec::new() }),
            (Until::End, Some(left)) => Ok(Self::Length { status, left }),
            (Until::End, None) if head.is_chunked => Ok(Self::Chunks { status, chunks: Chunks::default() }),
            (Until::End, None) => failure(format!("an answer {status} without a length")),
        }
    }

    fn take_body(&mut self, mut bytes: &[u8]) -> Outcome<Option<u16>> {
        match self {
            Self::Head { .. } => Ok(None),
            Self::Length { status, left } => {
                *left = left.saturating_sub(bytes.len());
                Ok((*left == 0).then_some(*status))
            }
            Self::Chunks { status, chunks } => {
                while !bytes.is_empty() && chunks.next(&mut bytes).map_err(Failure)?.is_some() {}
                Ok(chunks.is_over().then_some(*status))
            }
            Self::Snapshot { status, is_begun, tail } => Ok(has_snapshot(is_begun, tail, bytes).then_some(*status)),
        }
    }
}

/// Whether the end of a snapshot is among these bytes; `tail` keeps what may be the beginning of what is looked for.
fn has_snapshot(is_begun: &mut bool, tail: &mut Vec<u8>, bytes: &[u8]) -> bool {
    tail.extend_from_slice(bytes);
    let mut from = 0;
    if !*is_begun {
        let found = memmem::find(tail, SNAPSHOT);
        *is_begun = found.is_some();
        from = found.unwrap_or(0);
    }
    if *is_begun && memmem::find(&tail[from..], BLOCK_END).is_some() {
        return true;
    }
    tail.drain(..tail.len().saturating_sub(SNAPSHOT.len()));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many of its bytes, one at a time, an answer is whole.
    fn whole_after(until: Until, text: &str) -> Outcome<Option<usize>> {
        let mut answer = Answer::new(until);
        for (at, byte) in text.bytes().enumerate() {
            if answer.take(&[byte])?.is_some() {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let length = "HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\nabc";
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for text in [length, chunks] {
            let whole = whole_after(Until::End, text).expect("good").expect("whole");
            assert!(whole == text.len() || text[whole..].trim().is_empty(), "{text}");
            assert_eq!(
                Answer::new(Until::End).take(text.as_bytes()).expect("good").map(|status| status / 100),
                Some(2)
            );
        }
        assert_eq!(whole_after(Until::End, &length[..length.len() - 1]).expect("good"), None);
    }

    #[test]
    fn a_stream_is_read_to_the_end_of_its_snapshot() {
        let begin =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nid: 1\ndata: {\"type\":\"connected\"}\n\n";
        let snapshot = format!("data: {{\"type\":\"workflow_snapshot\",\"x\":\"{}\"}}\n", "x".repeat(1000));
        let text = [begin, &snapshot, "\ndata: more"].concat();
        let end = begin.len() + snapshot.len() + 1;
        assert_eq!(whole_after(Until::Snapshot, &text).expect("good"), Some(end));
        assert_eq!(whole_after(Until::Snapshot, &text[..end - 1]).expect("good"), None);
    }

    #[test]
    fn a_refusal_is_told() {
        let failed = whole_after(Until::End, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}").expect_err("refused");
        assert!(failed.to_string().contains("404"), "{failed}");
    }
}
