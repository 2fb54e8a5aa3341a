//! A publisher: one thread, several keep-alive connections with one request each in flight.
//!
//! At a rate, a message counts from when it was due, whether or not a connection was free then: a server that stalls
//! does not get the messages that it held up left out of its figures (Gil Tene's "coordinated omission").

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::body::Template;
use crate::clock::now_ns;
use crate::failure::{Failure, Outcome, failure};
use crate::http::read_head;
use crate::latency::Latencies;
use crate::loopback::Target;

/// Messages that are due and not yet sent, at most: then the server is so far behind that waiting tells nothing more.
const WAITING_MAX: usize = 1_000_000;

/// An answer longer than this is none that was asked for.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Connections that are opened again because the server closed them, at most.
const REOPENED_MAX: usize = 1000;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// How often a publisher without events looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

const TIMER: Token = Token(usize::MAX);

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many requests a second, evenly.
    PerSecond(f64),
    /// The next one on a connection as soon as the last is answered.
    BackToBack,
}

/// What is published.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Requests go round these.
    pub projects: Vec<String>,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Events in a request.
    pub batch: usize,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// When.
    pub pace: Pace,
    /// Requests in all; unbounded ones go on until they are stopped.
    pub requests: u64,
    /// What it shows to be let in.
    pub token: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Messages that the server answered for with 202, or what else says yes at other servers.
    pub messages: u64,
    /// Requests that were answered otherwise, and how the first of them was.
    pub refused: u64,
    /// How the first of them was answered.
    pub first_refusal: Option<String>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// From when a request was due until it was answered.
    pub answers: Latencies,
    /// From when a request was due until it was sent: what this program, or a lack of free connections, adds.
    pub lateness: Latencies,
}

/// A publisher at work.
#[derive(Debug)]
pub struct Publisher {
    is_stopping: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<Outcome<Published>>>,
}

impl Publisher {
    /// Starts to publish.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(plan: Plan) -> Outcome<Self> {
        let (is_stopping, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (is_stopping.clone(), accepted.clone());
        let builder = std::thread::Builder::new().name("publisher".to_owned());
        let thread = builder.spawn(move || Work::new(plan, stop, count)?.run())?;
        Ok(Self { is_stopping, accepted, thread: Some(thread) })
    }

    /// Messages answered with 202 so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// It has published everything, or failed.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Sends nothing more; what came of it once the last answer is there.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn stop(mut self) -> Outcome<Published> {
        self.is_stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.and_then(Result::ok).unwrap_or_else(|| failure("the publisher's thread has ended"))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

struct Connection {
    socket: TcpStream,
    /// What of the request the socket has not taken yet.
    output: Vec<u8>,
    input: Vec<u8>,
    /// When the request in flight was due.
    due_ns: Option<u64>,
}

struct Work {
    plan: Plan,
    is_stopping: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    poll: Poll,
    timer: OwnedFd,
    templates: Vec<Template>,
    connections: Vec<Connection>,
    /// Connections without a request, the one that was free longest first, so that all of them stay in use.
    free: VecDeque<usize>,
    reopened: usize,
    waiting: VecDeque<u64>,
    /// Requests that became due.
    started: u64,
    /// Requests that were sent.
    sent: u64,
    answered: u64,
    began_ns: u64,
    stopping_since_ns: Option<u64>,
    published: Published,
}

impl Work {
    fn new(plan: Plan, is_stopping: Arc<AtomicBool>, accepted: Arc<AtomicU64>) -> Outcome<Self> {
        let poll = Poll::new()?;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let template = |project: &String| {
            Template::new(plan.target, project, plan.token.as_deref(), (plan.payload_bytes, plan.batch))
        };
        let templates = plan.projects.iter().map(template).collect();
        let mut work = Self {
            poll,
            timer,
            templates,
            is_stopping,
            accepted,
            connections: Vec::with_capacity(plan.connections),
            free: VecDeque::with_capacity(plan.connections),
            reopened: 0,
            waiting: VecDeque::new(),
            started: 0,
            sent: 0,
            answered: 0,
            began_ns: now_ns(),
            stopping_since_ns: None,
            published: Published::default(),
            plan,
        };
        work.connect()?;
        Ok(work)
    }

    /// Opens all connections; the time begins when they are on their way.
    fn connect(&mut self) -> Outcome<()> {
        for index in 0..self.plan.connections {
            let connection = self.open(index)?;
            self.connections.push(connection);
            self.free.push_back(index);
        }
        self.began_ns = now_ns();
        Ok(())
    }

    fn open(&self, index: usize) -> Outcome<Connection> {
        let mut socket = self.plan.target.connect(index, None)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(index), interest)?;
        Ok(Connection { socket, output: Vec::new(), input: Vec::new(), due_ns: None })
    }

    /// A server may close a connection that has nothing to do; the publisher opens another one.
    fn reopen(&mut self, index: usize) -> Outcome<()> {
        self.reopened += 1;
        if self.reopened > REOPENED_MAX {
            return failure("publish: the server keeps closing connections that have nothing to do");
        }
        self.connections[index] = self.open(index)?;
        Ok(())
    }

    fn run(mut self) -> Outcome<Published> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.start_due()?;
            self.send_waiting()?;
            if self.is_over()? {
                self.published.took = Duration::from_nanos(now_ns() - self.began_ns);
                return Ok(self.published);
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                if index < self.connections.len() {
                    self.look_at(index, event)?;
                }
            }
        }
    }

    /// All that is to be sent has been answered. Whoever stops it waits a bounded time.
    fn is_over(&mut self) -> Outcome<bool> {
        const LAST_ANSWER: Duration = Duration::from_secs(30);
        let is_stopping = self.is_stopping.load(Ordering::Relaxed);
        if is_stopping {
            self.waiting.clear();
            let since_ns = *self.stopping_since_ns.get_or_insert_with(now_ns);
            if now_ns() - since_ns > LAST_ANSWER.as_nanos() as u64 {
                return failure(format!("{} requests were never answered", self.sent - self.answered));
            }
        }
        let is_all_sent = self.waiting.is_empty() && (is_stopping || self.started == self.plan.requests);
        Ok(is_all_sent && self.answered == self.sent)
    }

    /// Takes note of what has become due, and sets the timer for what is due next.
    fn start_due(&mut self) -> Outcome<()> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now_ns = now_ns();
        match self.plan.pace {
            Pace::BackToBack => {
                let room = (self.free.len() - self.waiting.len()) as u64;
                let more = room.min(self.plan.requests - self.started);
                self.waiting.extend((0..more).map(|_| now_ns));
                self.started += more;
            }
            Pace::PerSecond(rate) => {
                while self.started < self.plan.requests && self.due_ns(rate) <= now_ns {
                    self.waiting.push_back(self.due_ns(rate));
                    self.started += 1;
                }
                self.set_timer(self.due_ns(rate).saturating_sub(now_ns))?;
            }
        }
        if self.waiting.len() > WAITING_MAX {
            return failure(format!("the server is {WAITING_MAX} requests behind"));
        }
        Ok(())
    }

    fn due_ns(&self, rate: f64) -> u64 {
        self.began_ns.saturating_add((self.started as f64 * 1e9 / rate) as u64)
    }

    /// The poll wakes in whole milliseconds; a timer of the kernel's does so to the point.
    fn set_timer(&self, in_ns: u64) -> Outcome<()> {
        let in_ns = in_ns.clamp(1, TICK.as_nanos() as u64);
        let value = Timespec { tv_sec: 0, tv_nsec: in_ns as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    fn send_waiting(&mut self) -> Outcome<()> {
        while !self.free.is_empty() {
            let Some(due_ns) = self.waiting.pop_front() else { break };
            let Some(index) = self.free.pop_front() else { break };
            let number = (self.sent % self.templates.len() as u64) as usize;
            let request = self.templates[number].at(due_ns);
            let connection = &mut self.connections[index];
            connection.due_ns = Some(due_ns);
            self.published.lateness.record(now_ns().saturating_sub(due_ns));
            connection.send(request)?;
            self.sent += 1;
        }
        Ok(())
    }

    fn look_at(&mut self, index: usize, event: &mio::event::Event) -> Outcome<()> {
        let connection = &mut self.connections[index];
        if event.is_writable() {
            connection.flush()?;
        }
        if event.is_readable() || event.is_read_closed() {
            if connection.due_ns.is_none() {
                return self.reopen(index);
            }
            connection.fill()?;
            if let Some((status, text)) = connection.answer()? {
                let due_ns = connection.due_ns.take();
                self.take_answer(status, text, due_ns.unwrap_or_else(now_ns));
                self.free.push_back(index);
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, status: u16, text: String, due_ns: u64) {
        self.answered += 1;
        self.published.answers.record(now_ns().saturating_sub(due_ns));
        if is_yes(status) {
            self.published.messages += self.plan.batch as u64;
            self.accepted.store(self.published.messages, Ordering::Relaxed);
        } else {
            self.published.refused += 1;
            self.published.first_refusal.get_or_insert_with(|| format!("{status} {text}"));
        }
    }
}

fn is_yes(status: u16) -> bool {
    (200..300).contains(&status)
}

impl Connection {
    /// Writes at once what the socket takes, the rest when it is writable.
    fn send(&mut self, request: &[u8]) -> Outcome<()> {
        let taken = self.write(request)?;
        self.output.extend_from_slice(&request[taken..]);
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        if !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            let taken = self.write(&output)?;
            self.output.extend_from_slice(&output[taken..]);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.socket.write(&bytes[taken..]) {
                Ok(n) => taken += n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure(format!("publish: {error}"))),
            }
        }
        Ok(taken)
    }

    fn fill(&mut self) -> Outcome<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return failure("publish: the server closed the connection"),
                Ok(n) => {
                    self.input.extend_from_slice(&chunk[..n]);
                    if n < chunk.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure(format!("publish: {error}"))),
            }
        }
    }

    /// The status of a whole answer, and its body where it is a refusal.
    fn answer(&mut self) -> Outcome<Option<(u16, String)>> {
        let Some(head) = read_head(&self.input).map_err(Failure)? else { return Ok(None) };
        let Some(length) = head.length.filter(|length| *length <= ANSWER_BYTES_MAX) else {
            return failure(format!("publish: an answer {} of no sensible length", head.status));
        };
        if self.input.len() < head.bytes + length {
            return Ok(None);
        }
        let refusal = || String::from_utf8_lossy(&self.input[head.bytes..head.bytes + length]).into_owned();
        let text = if is_yes(head.status) { String::new() } else { refusal() };
        self.input.drain(..head.bytes + length);
        Ok(Some((head.status, text)))
    }
}

#[cfg(test)]
mod tests;
