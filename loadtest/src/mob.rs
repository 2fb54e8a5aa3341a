//! Many peers that behave badly, on one thread: each connects, does what its [`Habit`] says, and comes back when it is
//! gone. How many connect and how much is repeated in a second is bounded, so that what is measured is the server and
//! not this program.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::net::sockopt;

use crate::failure::{Outcome, failure};
use crate::habit::{Habit, Then};
use crate::loopback::Target;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// How often what is due by itself is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Between two bytes of those who drip.
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// Reads of one peer before it is another one's turn.
const READS_MAX: usize = 4;

/// Receive buffer of those who do not read: what they leave waits at the server.
const DEAF_RECEIVE_BYTES: usize = 4096;

/// What a mob does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// The peers go round these.
    pub habits: Vec<Habit>,
    /// Peers at a time.
    pub peers: usize,
    /// Connections in all; unbounded ones go on until they are stopped.
    pub attempts: u64,
    /// The first of each peer aside, so many connections and repetitions a second.
    pub per_second: f64,
    /// All of them come from one address.
    pub is_alone: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections that were begun.
    pub attempts: u64,
    /// Those that the server ended, or refused.
    pub ended: u64,
    /// Those for which this machine had no port, or no descriptor.
    pub lacking: u64,
    /// The first answers on a connection, by status.
    pub statuses: BTreeMap<String, u64>,
}

/// A mob at work; it goes when it is dropped.
#[derive(Debug)]
pub struct Mob {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome<Seen>>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopping: AtomicBool,
    attempts: AtomicU64,
}

impl Mob {
    /// Lets it loose.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(plan: Plan) -> Outcome<Self> {
        let shared = Arc::new(Shared::default());
        let kept = shared.clone();
        let builder = std::thread::Builder::new().name("mob".to_owned());
        let thread = builder.spawn(move || Work::new(plan, kept)?.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Connections begun so far.
    pub fn attempts(&self) -> u64 {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// It has made all its attempts and everyone has left, or it has failed.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Everyone leaves; what became of it.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn stop(mut self) -> Outcome<Seen> {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.and_then(Result::ok).unwrap_or_else(|| failure("the thread of the hostile peers panicked"))
    }
}

impl Drop for Mob {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
    }
}

struct Peer {
    habit: usize,
    socket: Option<TcpStream>,
    /// How much of the opening is sent.
    sent: usize,
    is_answered: bool,
}

struct Work {
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    peers: Vec<Peer>,
    /// Peers without a connection.
    absent: VecDeque<usize>,
    /// Peers that may send their opening again.
    repeating: VecDeque<usize>,
    /// Connections and repetitions that may be made now.
    budget: f64,
    last_tick: Instant,
    last_drip: Instant,
    scratch: Vec<u8>,
    seen: Seen,
}

impl Work {
    fn new(plan: Plan, shared: Arc<Shared>) -> Outcome<Self> {
        if plan.habits.is_empty() {
            return failure("no kinds of hostile peers were given");
        }
        let peer = |number| Peer { habit: number % plan.habits.len(), socket: None, sent: 0, is_answered: false };
        let now = Instant::now();
        Ok(Self {
            poll: Poll::new()?,
            peers: (0..plan.peers).map(peer).collect(),
            absent: (0..plan.peers).collect(),
            repeating: VecDeque::new(),
            budget: plan.peers as f64,
            last_tick: now,
            last_drip: now,
            scratch: vec![0; 64 * 1024],
            seen: Seen::default(),
            plan,
            shared,
        })
    }

    fn run(mut self) -> Outcome<Seen> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.shared.is_stopping.load(Ordering::Relaxed) && !self.is_over() {
            self.act()?;
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.look_at(event);
            }
        }
        Ok(self.seen)
    }

    fn is_over(&self) -> bool {
        self.seen.attempts >= self.plan.attempts && self.absent.len() == self.peers.len()
    }

    /// What is done without being asked: coming back, repeating, dripping.
    fn act(&mut self) -> Outcome<()> {
        let now = Instant::now();
        let grown = self.budget + (now - self.last_tick).as_secs_f64() * self.plan.per_second;
        // What was not used does not pile up, but for the first wave.
        self.budget = grown.min((self.plan.per_second / 10.0).max(self.budget));
        self.last_tick = now;
        while self.budget >= 1.0 && self.seen.attempts < self.plan.attempts {
            let Some(index) = self.absent.pop_front() else { break };
            self.budget -= 1.0;
            self.connect(index)?;
        }
        for _ in 0..self.repeating.len() {
            let (true, Some(index)) = (self.budget >= 1.0, self.repeating.pop_front()) else { break };
            self.budget -= 1.0;
            self.peers[index].sent = 0;
            self.send(index);
        }
        if now - self.last_drip >= DRIP_EVERY {
            self.last_drip = now;
            (0..self.peers.len()).for_each(|index| self.drip(index));
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Outcome<()> {
        let reads = self.habit(index).reads;
        let receive_bytes = (!reads).then_some(DEAF_RECEIVE_BYTES);
        let connected = match self.plan.is_alone {
            true => self.plan.target.connect_alone(receive_bytes),
            false => self.plan.target.connect(index, receive_bytes),
        };
        self.seen.attempts += 1;
        self.shared.attempts.store(self.seen.attempts, Ordering::Relaxed);
        let Ok(mut socket) = connected else {
            self.seen.lacking += 1;
            self.absent.push_back(index);
            return Ok(());
        };
        self.poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let peer = &mut self.peers[index];
        *peer = Peer { habit: peer.habit, socket: Some(socket), sent: 0, is_answered: false };
        Ok(())
    }

    fn habit(&self, index: usize) -> &Habit {
        &self.plan.habits[self.peers[index].habit]
    }

    fn look_at(&mut self, event: &mio::event::Event) {
        let Token(index) = event.token();
        if event.is_writable() {
            self.send(index);
        }
        let is_ending = event.is_read_closed() || event.is_error();
        if self.habit(index).reads && (event.is_readable() || is_ending) {
            self.read(index);
        } else if is_ending && self.peers[index].socket.is_some() {
            self.end(index);
        }
    }

    /// Sends what of the opening is left, and does what comes after it.
    fn send(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let habit = &self.plan.habits[peer.habit];
        let Some(socket) = &mut peer.socket else { return };
        if peer.sent == habit.opening.len() {
            return;
        }
        while peer.sent < habit.opening.len() {
            match socket.write(&habit.opening[peer.sent..]) {
                Ok(n) => peer.sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(_) => return self.end(index),
            }
        }
        match habit.then {
            // Fails where the server has gone, which the next event tells.
            Then::HalfClose => drop(socket.shutdown(Shutdown::Write)),
            Then::Reset => self.leave(index, true),
            Then::Repeat => self.repeating.push_back(index),
            Then::Stay | Then::Drip(_) | Then::Leave | Then::ResetAnswered => {}
        }
    }

    fn drip(&mut self, index: usize) {
        let Then::Drip(byte) = self.habit(index).then else { return };
        let is_open = self.peers[index].sent == self.habit(index).opening.len();
        if let (true, Some(socket)) = (is_open, &mut self.peers[index].socket)
            && let Err(error) = socket.write(&[byte])
            && error.kind() != ErrorKind::WouldBlock
        {
            self.end(index);
        }
    }

    fn read(&mut self, index: usize) {
        for _ in 0..READS_MAX {
            let peer = &mut self.peers[index];
            let Some(socket) = &mut peer.socket else { return };
            match socket.read(&mut self.scratch) {
                Ok(0) => return self.end(index),
                Ok(n) if !peer.is_answered => {
                    peer.is_answered = true;
                    self.note_answer(index, n);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(_) => return self.end(index),
            }
        }
        // There may be more, of which no event will tell: whoever talks so much is not listened to any longer.
        self.end(index);
    }

    fn note_answer(&mut self, index: usize, bytes: usize) {
        let status = self.scratch[..bytes].get(9..12).unwrap_or_default();
        let status = String::from_utf8_lossy(status).into_owned();
        *self.seen.statuses.entry(status).or_default() += 1;
        match self.habit(index).then {
            Then::Leave => self.leave(index, false),
            Then::ResetAnswered => self.leave(index, true),
            _ => {}
        }
    }

    /// The server has ended it.
    fn end(&mut self, index: usize) {
        self.seen.ended += 1;
        self.leave(index, false);
    }

    fn leave(&mut self, index: usize, is_reset: bool) {
        let Some(socket) = self.peers[index].socket.take() else { return };
        if is_reset {
            // Without it the connection is closed in order, which is no reason to stop.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        self.repeating.retain(|other| *other != index);
        self.absent.push_back(index);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn plan(target: Target, habit: Habit) -> Plan {
        Plan { target, habits: vec![habit], peers: 1, attempts: 2, per_second: 1000.0, is_alone: true }
    }

    fn listener() -> (TcpListener, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = Target::new(listener.local_addr().expect("an address")).expect("loopback");
        (listener, target)
    }

    #[test]
    fn a_peer_comes_back_until_all_attempts_are_made_and_its_answers_are_counted() {
        let (listener, target) = listener();
        let habit = Habit { name: "one", opening: b"hello".to_vec(), reads: true, then: Then::Stay };
        let mob = Mob::start(plan(target, habit)).expect("a mob");
        for _ in 0..2 {
            let (mut socket, peer) = listener.accept().expect("a peer");
            assert_eq!(peer.ip().to_string(), "127.0.0.252");
            let mut hello = [0; 5];
            socket.read_exact(&mut hello).expect("the opening");
            assert_eq!(&hello, b"hello");
            socket.write_all(b"HTTP/1.1 408 Late\r\n\r\n").expect("it reads");
        }
        while !mob.is_finished() {
            std::thread::yield_now();
        }
        let seen = mob.stop().expect("no failure");
        assert_eq!((seen.attempts, seen.ended, seen.lacking), (2, 2, 0));
        assert_eq!(seen.statuses.get("408"), Some(&2));
    }

    #[test]
    fn whoever_resets_breaks_off() {
        let (listener, target) = listener();
        let habit = Habit { name: "rude", opening: b"hello".to_vec(), reads: false, then: Then::Reset };
        let mob = Mob::start(Plan { attempts: 1, ..plan(target, habit) }).expect("a mob");
        let (mut socket, _) = listener.accept().expect("a peer");
        let mut text = String::new();
        let error = socket.read_to_string(&mut text).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(mob.stop().expect("no failure").ended, 0);
    }
}
