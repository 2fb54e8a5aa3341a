//! A client: what it has asked, how much of that it has sent, and what it was answered.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::follower::{Follower, Wanted};
use super::socket::Wire;
use crate::model::{ProjectId, RunId, StepId};
use crate::server::PollToken;

/// See the [module](self).
pub(super) struct Client {
    pub(super) wire: Rc<RefCell<Wire>>,
    /// What the poll knows its socket by.
    pub(super) token: PollToken,
    pub(super) address: IpAddr,
    /// It counts towards its address.
    pub(super) is_counted: bool,
    /// It is one more than may be.
    pub(super) is_refused: bool,
    /// It speaks for others.
    pub(super) is_proxy: bool,
    /// It has gone silent in the middle of a request.
    pub(super) is_stuck: bool,
    outbound: VecDeque<u8>,
    /// Bytes ever asked to be sent, and sent.
    queued: u64,
    pub(super) sent: u64,
    /// What has no answer yet, in order.
    pub(super) asked: VecDeque<Asked>,
    /// What came and is not read yet.
    pub(super) unread: Vec<u8>,
    pub(super) mode: Mode,
    /// Whose stream it is: an index into the world's tokens.
    pub(super) stream_of: Option<usize>,
    /// The ticket that opened it: an index into the world's tickets.
    pub(super) ticket: Option<usize>,
    /// Since when it has a stream.
    pub(super) watches_since: Duration,
    /// It was looked at after the server let go of it.
    pub(super) is_buried: bool,
    /// Reads that what it sends on its stream may take.
    pub(super) chatter: usize,
}

/// What the client reads.
pub(super) enum Mode {
    Answers,
    Stream(Box<Follower>),
    /// Nothing more may come.
    Over,
}

/// One request.
pub(super) struct Asked {
    pub(super) what: What,
    /// The byte after it, counted from the connection's first.
    pub(super) end: u64,
    pub(super) is_head: bool,
    /// It is of HTTP/1.0.
    pub(super) is_of_1_0: bool,
    pub(super) expects_continue: bool,
    /// Whose: an index into the world's tokens.
    pub(super) who: Option<usize>,
    /// The token gives what the call needs.
    pub(super) may: bool,
    /// The token had ended before it was asked.
    pub(super) is_late: bool,
    /// When it was asked.
    pub(super) at: Duration,
}

/// A stream that was lost with the server, as an `EventSource` goes on with it.
pub(super) struct Lost {
    pub(super) wanted: Wanted,
    /// The position that the newest id names that it was sent.
    pub(super) seq: u64,
    /// The positions that it names in the stream's other projects.
    pub(super) beside: Vec<u64>,
    /// Whose: an index into the world's tokens.
    pub(super) who: Option<usize>,
    /// The ticket in its address: an index into the world's tickets.
    pub(super) ticket: Option<usize>,
}

/// What a request is for.
pub(super) enum What {
    /// This status, whatever else is the case; where the framing is broken, before all of it has come.
    Status(u16),
    /// 200, or 404.
    Read,
    /// 200 or 503.
    Ready,
    /// One run's state.
    Run {
        project: ProjectId,
        run: RunId,
    },
    /// One run's messages.
    Events {
        project: ProjectId,
        run: RunId,
    },
    /// A project's messages that are of no run.
    History {
        project: ProjectId,
    },
    Publish {
        project: ProjectId,
        events: Vec<(String, String)>,
    },
    /// Under this key and in this project; none where empty.
    Submit {
        key: String,
        body: String,
    },
    /// A run again, under this key; none where empty.
    Rerun {
        key: String,
        of: String,
    },
    Cancel,
    /// One of these, whatever else is the case.
    Any(&'static [u16]),
    /// Something that is wanted of a run.
    Steer(Box<Steered>),
    Ticket {
        project: ProjectId,
    },
    Stream {
        wanted: Box<Wanted>,
        ticket: Option<TicketUse>,
    },
}

/// What is wanted of a run.
#[derive(Debug, Clone)]
pub(super) struct Steered {
    pub(super) what: Steer,
    pub(super) project: ProjectId,
    pub(super) run: RunId,
    pub(super) key: Option<String>,
    pub(super) body: String,
}

/// See [`Steered`].
#[derive(Debug, Clone)]
pub(super) enum Steer {
    /// A step is decided.
    Decide { step: StepId, choice: String },
    /// Its plan is changed.
    Change { of_revision: u32 },
    /// It is gone on from.
    Retry,
}

/// A ticket that a stream is asked for with.
#[derive(Debug, Clone, Copy)]
pub(super) struct TicketUse {
    /// An index into the world's tickets.
    pub(super) ticket: usize,
    /// It was spent, and no id says that the client has watched before.
    pub(super) must_fail: bool,
    /// It was spent, and an id says so.
    pub(super) must_pass: bool,
}

impl Client {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, token: PollToken, address: IpAddr) -> Self {
        Self {
            wire,
            token,
            address,
            is_counted: false,
            is_refused: false,
            is_proxy: false,
            is_stuck: false,
            outbound: VecDeque::new(),
            queued: 0,
            sent: 0,
            asked: VecDeque::new(),
            unread: Vec::new(),
            mode: Mode::Answers,
            stream_of: None,
            ticket: None,
            watches_since: Duration::ZERO,
            is_buried: false,
            chatter: 0,
        }
    }

    /// Queues a request after those that are to be sent.
    pub(super) fn ask(&mut self, bytes: &[u8], mut asked: Asked) {
        self.outbound.extend(bytes);
        self.queued += bytes.len() as u64;
        asked.end = self.queued;
        self.asked.push_back(asked);
    }

    /// Sends up to this many bytes of its requests.
    pub(super) fn send(&mut self, bytes_max: usize) {
        let n = bytes_max.min(self.outbound.len());
        if n > 0 && !self.wire.borrow().has_left() {
            self.sent += n as u64;
            self.wire.borrow_mut().send(self.outbound.drain(..n));
        }
    }

    pub(super) fn has_to_send(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Is the connection there, for both sides?
    pub(super) fn is_connected(&self) -> bool {
        let wire = self.wire.borrow();
        !wire.is_dropped && !wire.has_left()
    }

    /// The socket is still the server's.
    pub(super) fn is_alive(&self) -> bool {
        !self.wire.borrow().is_dropped
    }

    /// The oldest request without an answer, if it was sent whole.
    pub(super) fn owed(&self) -> Option<&Asked> {
        self.asked.front().filter(|asked| asked.end <= self.sent)
    }

    /// The server is gone, and with it the connection. The stream that it had, to be gone on with.
    pub(super) fn lose(&mut self) -> Option<Lost> {
        self.is_buried = true;
        self.unread.clear();
        let has_left = self.wire.borrow().has_left();
        match std::mem::replace(&mut self.mode, Mode::Over) {
            Mode::Stream(follower) if !has_left => {
                let seq = follower.last_id.filter(|_| !follower.has_seen_the_end())?;
                let beside = follower.beside.iter().flat_map(|beside| &beside.parts);
                let beside = beside.map(|part| part.last_id).collect::<Option<_>>()?;
                Some(Lost { beside, wanted: follower.wanted, seq, who: self.stream_of, ticket: self.ticket })
            }
            _ => None,
        }
    }

    /// Its stream, where it has one.
    pub(super) fn follower(&mut self) -> Option<&mut Follower> {
        match &mut self.mode {
            Mode::Stream(follower) => Some(follower),
            Mode::Answers | Mode::Over => None,
        }
    }
}
