//! The same request again and again over keep-alive connections, each with one in flight: how many are answered in a
//! second? A lean loop on one thread, for calls of a few microseconds; where latency is what matters, the publisher
//! measures it from when a message was due.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::failure::{Failure, Outcome, failure};
use crate::http::read_head;
use crate::loopback::Target;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// Where answers are read to.
const SCRATCH_BYTES: usize = 64 * 1024;

/// An answer longer than this is none that was asked for.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// After so long without any answer it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often the time is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(50);

/// `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// Connections at work.
pub struct Hammer {
    poll: Poll,
    connections: Vec<Connection>,
    request: Vec<u8>,
    scratch: Vec<u8>,
    /// What the last answer began with and how long it was: most are like it.
    usual: ([u8; STATUS_BYTES], usize),
}

struct Connection {
    socket: TcpStream,
    /// The beginning of an answer.
    input: Vec<u8>,
    is_waiting: bool,
}

impl Hammer {
    /// So many connections on their way.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn new(target: Target, request: Vec<u8>, connections: usize) -> Outcome<Self> {
        let poll = Poll::new()?;
        let connect = |index| {
            let mut socket = target.connect(index, None)?;
            poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            Ok(Connection { socket, input: Vec::new(), is_waiting: false })
        };
        let connections = (0..connections).map(connect).collect::<Outcome<_>>()?;
        Ok(Self { poll, connections, request, scratch: vec![0; SCRATCH_BYTES], usual: ([0; STATUS_BYTES], 0) })
    }

    /// Goes on for so long; how many requests were answered, and in how many seconds.
    ///
    /// # Errors
    /// Where one is refused, or the server says nothing any more.
    pub fn go(&mut self, time: Duration) -> Outcome<(u64, f64)> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let (began, mut last, mut answered) = (Instant::now(), Instant::now(), 0);
        while began.elapsed() < time {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                answered += u64::from(self.look_at(index)?);
            }
            if !events.is_empty() {
                last = Instant::now();
            } else if last.elapsed() > SILENCE_MAX {
                return failure("the server has stopped answering");
            }
        }
        Ok((answered, began.elapsed().as_secs_f64()))
    }

    /// Whether an answer has come; then the next request is on its way.
    fn look_at(&mut self, index: usize) -> Outcome<bool> {
        let connection = &mut self.connections[index];
        if !connection.is_waiting {
            return connection.send(&self.request).map(|()| false);
        }
        let n = match connection.socket.read(&mut self.scratch) {
            Ok(0) => return failure("the server closed a connection"),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let is_usual = connection.input.is_empty() && n == self.usual.1 && self.scratch.starts_with(&self.usual.0);
        if !is_usual {
            connection.input.extend_from_slice(&self.scratch[..n]);
            let Some((status, bytes)) = answer(&connection.input)? else { return Ok(false) };
            self.usual = (status, bytes);
            connection.input.clear();
        }
        connection.is_waiting = false;
        connection.send(&self.request).map(|()| true)
    }
}

impl Connection {
    /// A request goes out in one piece: an idle connection has room for it.
    fn send(&mut self, request: &[u8]) -> Outcome<()> {
        match self.socket.write(request) {
            Ok(n) if n == request.len() => self.is_waiting = true,
            Ok(_) => return failure("an idle connection had no room for a request"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// How an answer begins and how long it is; none while it is not complete.
fn answer(input: &[u8]) -> Outcome<Option<([u8; STATUS_BYTES], usize)>> {
    let Some(head) = read_head(input).map_err(Failure)? else { return Ok(None) };
    let Some(length) = head.length.filter(|length| *length <= ANSWER_BYTES_MAX) else {
        return failure(format!("an answer {} of no sensible length", head.status));
    };
    if input.len() < head.bytes + length {
        return Ok(None);
    }
    let status = input.first_chunk::<STATUS_BYTES>().copied().unwrap_or_default();
    match (200..300).contains(&head.status) && input.len() == head.bytes + length {
        true => Ok(Some((status, input.len()))),
        false => failure(format!("refused: {}", String::from_utf8_lossy(input))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_waited_for_or_refused() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut]).expect("so far good"), None, "{cut}");
        }
        assert_eq!(answer(whole).expect("good"), Some((*b"HTTP/1.1 202", whole.len())));
        for bad in ["HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(answer(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
