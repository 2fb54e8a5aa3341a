//! So many runs at a time in one project, each that ends making room for the next: on one thread, which neither waits for
//! another nor looks at more of the project's stream than where runs end. What it takes of a machine with two processors
//! would otherwise be what is measured.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::failure::{Outcome, failure};
use crate::follower::{Follower, connect};
use crate::http::read_head;
use crate::loopback::Target;

/// Connections that submit: enough that hardly any run waits for the answer to another.
const CALLERS_MAX: usize = 16;

/// Where bytes are read to.
const SCRATCH_BYTES: usize = 256 * 1024;

/// How long it waits for anything to happen.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a run's last message begins, behind the line before it.
const COMPLETED: &[u8] = b"\ndata: {\"type\":\"workflow_completed\"";

/// The stream; callers have the numbers from 0 on.
const STREAM: Token = Token(usize::MAX);

/// Runs in flight.
pub struct Flight {
    poll: Poll,
    stream: TcpStream,
    ends: Ends,
    callers: Vec<Caller>,
    idle: Vec<usize>,
    request: Vec<u8>,
    /// Runs that are to be submitted.
    room: usize,
    scratch: Vec<u8>,
}

struct Caller {
    socket: TcpStream,
    /// What has come of its answer.
    answer: Vec<u8>,
}

impl Flight {
    /// None yet of `in_flight` runs of `plan` in `project`.
    ///
    /// # Errors
    /// Where no stream or connection is to be had.
    pub fn new(target: Target, project: &str, plan: &str, in_flight: usize) -> Outcome<Self> {
        let poll = Poll::new()?;
        let register = |socket: std::net::TcpStream, token| {
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, token, Interest::READABLE).map(|()| socket)
        };
        let stream = register(Follower::start(target, project)?.into_socket(), STREAM)?;
        let mut callers = Vec::new();
        for number in 0..in_flight.min(CALLERS_MAX) {
            callers.push(Caller { socket: register(connect(target)?, Token(number))?, answer: Vec::new() });
        }
        let (host, length) = (target.address(), plan.len());
        let head = format!(
            "POST /api/projects/{project}/workflows HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        );
        Ok(Self {
            ends: Ends { finder: Finder::new(COMPLETED), unread: Vec::new() },
            idle: (0..callers.len()).collect(),
            request: (head + plan).into_bytes(),
            room: in_flight,
            scratch: vec![0; SCRATCH_BYTES],
            poll,
            stream,
            callers,
        })
    }

    /// Keeps them in flight for so long; how many have ended.
    ///
    /// # Errors
    /// Where a plan is refused, or nothing happens any more.
    pub fn keep_up(&mut self, time: Duration) -> Outcome<usize> {
        let (mut events, mut ended) = (Events::with_capacity(CALLERS_MAX + 1), 0);
        let began = Instant::now();
        while began.elapsed() < time {
            self.submit()?;
            match self.poll.poll(&mut events, Some(TIMEOUT)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            if events.is_empty() {
                return failure("no run has ended for 30 s");
            }
            for event in &events {
                match event.token() {
                    STREAM => ended += self.read_stream()?,
                    Token(number) => self.read_answer(number)?,
                }
            }
        }
        Ok(ended)
    }

    /// Submits as many as there is room for, and callers that wait for no answer.
    fn submit(&mut self) -> Outcome<()> {
        while self.room > 0
            && let Some(number) = self.idle.pop()
        {
            self.room -= 1;
            self.callers[number].socket.write_all(&self.request)?;
        }
        Ok(())
    }

    fn read_stream(&mut self) -> Outcome<usize> {
        let mut ended = 0;
        while let Some(read) = read_some(&mut self.stream, &mut self.scratch)? {
            ended += self.ends.count(&self.scratch[..read]);
        }
        self.room += ended;
        Ok(ended)
    }

    fn read_answer(&mut self, number: usize) -> Outcome<()> {
        let Caller { socket, answer } = &mut self.callers[number];
        while let Some(read) = read_some(socket, &mut self.scratch)? {
            answer.extend_from_slice(&self.scratch[..read]);
        }
        let Some(head) = read_head(answer).map_err(crate::failure::Failure)? else { return Ok(()) };
        if answer.len() < head.bytes + head.length.unwrap_or(0) {
            return Ok(());
        }
        answer.clear();
        self.idle.push(number);
        match head.status {
            202 => Ok(()),
            status => failure(format!("a plan was answered with {status}")),
        }
    }
}

/// What has come; none where nothing is left.
fn read_some(socket: &mut TcpStream, scratch: &mut [u8]) -> Outcome<Option<usize>> {
    match socket.read(scratch) {
        Ok(0) => failure("the server closed a connection"),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Counts the last messages of runs.
struct Ends {
    finder: Finder<'static>,
    /// The end of what came before: a message may begin in it.
    unread: Vec<u8>,
}

impl Ends {
    fn count(&mut self, bytes: &[u8]) -> usize {
        self.unread.extend_from_slice(bytes);
        let ends = self.finder.find_iter(&self.unread).count();
        let seen = self.unread.len().saturating_sub(COMPLETED.len() - 1);
        self.unread.drain(..seen);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_last_message_is_counted_once_wherever_reads_cut_it() {
        let stream = [&b"id: 1"[..], COMPLETED, b",\"x\":1}\n\nid: 2", COMPLETED, b"}\n\n"].concat();
        for size in 1..=stream.len() {
            let mut ends = Ends { finder: Finder::new(COMPLETED), unread: Vec::new() };
            let counted: usize = stream.chunks(size).map(|bytes| ends.count(bytes)).sum();
            assert_eq!(counted, 2, "in pieces of {size}");
        }
    }
}
