//! One thread's share of a fleet: polls its subscribers, and does what it is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::gauges::Gauges;
use super::settings::Settings;
use crate::clock::now_ns;
use crate::failure::Outcome;
use crate::loopback::Target;
use crate::subscriber::{Pace, Position, Reading, Subscriber, Verdict};
use crate::tally::Tally;
use crate::wire::Wire;

/// Connections of one thread that are being opened at once: the rest wait, or the listener's queue would overflow and
/// the kernel's retries, a second apart, would be what is measured.
const OPENING_MAX: usize = 512;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// Where bytes are read to.
const SCRATCH_BYTES: usize = 128 * 1024;

/// How often paced readers read, and waiting ones are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Receive buffer of readers that are slow: what they leave unread waits at the server, not in this process.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// What wakes a thread that is told something.
pub(super) const WAKER: Token = Token(usize::MAX);

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Open,
    Close,
    Goal(u64, Sender<()>),
    Forget(Sender<()>),
    Tally(Sender<Tally>),
    Position(Sender<Option<Position>>),
    Stop,
}

/// One thread's share.
pub(super) struct Work {
    settings: Settings,
    poll: Poll,
    members: Vec<Subscriber>,
    gauges: Arc<Gauges>,
    tally: Tally,
    scratch: Vec<u8>,
    goal: u64,
    /// Those that are to open a stream as soon as fewer are opening.
    to_open: Vec<usize>,
    opening: usize,
    /// Those that may have more to read than they were given time for.
    unread: Vec<(usize, bool)>,
    last_tick_ns: u64,
}

impl Work {
    /// The share of a thread that has not begun.
    pub(super) fn new(settings: Settings, poll: Poll, members: Vec<Subscriber>, gauges: Arc<Gauges>) -> Self {
        Self {
            settings,
            poll,
            members,
            gauges,
            tally: Tally::default(),
            scratch: vec![0; SCRATCH_BYTES],
            goal: u64::MAX,
            to_open: Vec::new(),
            opening: 0,
            unread: Vec::new(),
            last_tick_ns: now_ns(),
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let timeout = if self.unread.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => self.tally.error(format!("poll: {error}")),
            }
            for command in commands.try_iter() {
                if !self.obey(command) {
                    return;
                }
            }
            self.read_on();
            for event in &events {
                self.look_at(event);
            }
            self.tick();
            self.open_next();
        }
    }

    /// Does what it is told; `false` where that is to stop.
    fn obey(&mut self, command: Command) -> bool {
        // Whoever no longer waits for an answer does not need it.
        match command {
            Command::Open => self.to_open = (0..self.members.len()).rev().collect(),
            Command::Close => (0..self.members.len()).for_each(|index| self.close(index)),
            Command::Goal(seq, answer) => {
                self.set_goal(seq);
                let _ = answer.send(());
            }
            Command::Forget(answer) => {
                self.tally = Tally::default();
                let _ = answer.send(());
            }
            Command::Tally(answer) => drop(answer.send(self.tally.clone())),
            Command::Position(answer) => drop(answer.send(self.members.iter().find_map(Subscriber::position))),
            Command::Stop => return false,
        }
        true
    }

    fn set_goal(&mut self, seq: u64) {
        self.goal = seq;
        let now_ns = now_ns();
        for index in 0..self.members.len() {
            if std::mem::take(&mut self.members[index].is_at_goal) {
                self.gauges.at_goal.fetch_sub(1, Ordering::Relaxed);
            }
            self.note_goal(index, now_ns);
        }
    }

    fn note_goal(&mut self, index: usize, now_ns: u64) {
        let member = &mut self.members[index];
        if !member.is_at_goal && member.last_seq().is_some_and(|seq| seq >= self.goal) {
            member.is_at_goal = true;
            self.gauges.last_goal_ns.fetch_max(now_ns, Ordering::Relaxed);
            self.gauges.at_goal.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn look_at(&mut self, event: &mio::event::Event) {
        let Token(index) = event.token();
        if event.token() == WAKER || index >= self.members.len() {
            return;
        }
        if event.is_writable() && self.members[index].write(&mut self.tally) == Verdict::Ended {
            return self.end(index);
        }
        let is_ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_ending {
            self.read(index, is_ending);
        }
    }

    fn read(&mut self, index: usize, is_ending: bool) {
        let member = &mut self.members[index];
        let (was_greeted, was_opening, messages) = (member.is_greeted, member.is_opening(), self.tally.messages);
        if is_ending && was_greeted && self.settings.pace == Pace::Nothing {
            return self.end(index);
        }
        let now_ns = now_ns();
        let reading = Reading { scratch: &mut self.scratch, pace: self.settings.pace, is_ending };
        let verdict = member.read(reading, now_ns, &mut self.tally);
        if !was_greeted && member.is_greeted {
            self.gauges.greeted.fetch_add(1, Ordering::Relaxed);
            self.gauges.last_begun_ns.fetch_max(now_ns, Ordering::Relaxed);
            self.gauges.begun.fetch_add(1, Ordering::Relaxed);
        }
        if was_opening && !member.is_opening() {
            self.opening -= 1;
        }
        if self.tally.messages > messages {
            self.gauges.messages.fetch_add(self.tally.messages - messages, Ordering::Relaxed);
        }
        if self.tally.messages > messages || !was_greeted {
            self.note_goal(index, now_ns);
        }
        match verdict {
            Verdict::Idle => {}
            Verdict::More => self.unread.push((index, is_ending)),
            Verdict::Ended => self.end(index),
        }
    }

    fn read_on(&mut self) {
        for (index, is_ending) in std::mem::take(&mut self.unread) {
            self.read(index, is_ending);
        }
    }

    fn end(&mut self, index: usize) {
        self.tally.ended += 1;
        self.close(index);
        if self.settings.comes_back {
            self.members[index].come_back(now_ns());
        }
    }

    fn close(&mut self, index: usize) {
        let member = &mut self.members[index];
        self.opening -= usize::from(member.is_opening());
        self.gauges.greeted.fetch_sub(u64::from(member.is_greeted), Ordering::Relaxed);
        member.close();
    }

    /// Paced readers read, and those that waited long enough come back.
    fn tick(&mut self) {
        let now_ns = now_ns();
        if now_ns - self.last_tick_ns < TICK.as_nanos() as u64 {
            return;
        }
        self.last_tick_ns = now_ns;
        if let Pace::BytesPerSecond(bytes) = self.settings.pace {
            for index in 0..self.members.len() {
                self.members[index].refill((bytes / 10).max(1));
                self.read(index, false);
            }
        }
        if self.settings.comes_back {
            self.to_open.extend((0..self.members.len()).filter(|index| self.members[*index].is_due(now_ns)));
        }
    }

    fn open_next(&mut self) {
        while self.opening < OPENING_MAX {
            let Some(index) = self.to_open.pop() else { return };
            let now_ns = now_ns();
            if !(self.members[index].is_away() || self.members[index].is_due(now_ns)) {
                continue;
            }
            if let Err(error) = self.open(index) {
                self.tally.error(error.to_string());
            }
        }
    }

    fn open(&mut self, index: usize) -> Outcome<()> {
        let Settings { target, projects, pace, token, tls, .. } = &self.settings;
        let member = &mut self.members[index];
        let receive_bytes = (*pace != Pace::Full).then_some(SLOW_RECEIVE_BYTES);
        let mut socket = target.connect(member.number, receive_bytes)?;
        self.poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let request = request(*target, &projects[member.project], token.as_deref(), member.last_id());
        member.open(Wire::over(socket, tls.as_ref())?, request);
        self.opening += 1;
        Ok(())
    }
}

fn request(target: Target, project: &str, token: Option<&str>, last_id: &[u8]) -> Vec<u8> {
    let host = target.address();
    let path = match project.contains(',') {
        true => format!("/api/sse?projects={project}&snapshot=0"),
        false => format!("/api/sse/projects/{project}?snapshot=0"),
    };
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
    }
    if !last_id.is_empty() {
        request.extend_from_slice(b"Last-Event-ID: ");
        request.extend_from_slice(last_id);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}
