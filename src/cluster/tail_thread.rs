//! The thread that reads what other nodes have written. It always drains the notifications of its connection: a
//! listener that does not read would block the notification queue of the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::looks::{BYTES_MAX, Look, Looks, PUBLISHED_MAX, with_more};
use super::pulse::SharedPulse;
use super::trouble::{Trouble, level};
use super::vitals::Vitals;
use super::wakes::Bell;
use super::{Hands, Pace};
use crate::clock;
use crate::log::{Answer, Command, ReplyTo, StoreError, Tail};
use crate::model::ProjectId;

/// See the top of this file.
pub(crate) struct TailThread {
    tail: Box<dyn Tail>,
    looks: Looks,
    pulse: SharedPulse,
    /// The bell of the lease thread.
    bell: Bell,
    vitals: Arc<Vitals>,
    hands: Arc<dyn Hands>,
    is_closed: Arc<AtomicBool>,
    trouble: Trouble,
    /// Signals that the log has processed what it was given last.
    answered: Option<Receiver<Answer>>,
    probed: u64,
    /// The first waiting message of an application at the last read.
    published: Option<u64>,
}

/// Handle of a [`TailThread`].
pub(crate) struct TailHandle(Arc<AtomicBool>);

impl TailHandle {
    /// Stops the thread: it ends at its next check, within a second.
    pub(crate) fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a read has found.
#[derive(Debug, Default)]
struct Found {
    commands: Vec<Command>,
    /// Projects that may have more.
    again: Option<Look>,
    has_tickets: bool,
}

impl TailThread {
    /// Creates a thread that reads with this tail, and its handle.
    pub(crate) fn new(
        tail: Box<dyn Tail>,
        pace: Pace,
        (pulse, bell): (SharedPulse, Bell),
        vitals: Arc<Vitals>,
        hands: Arc<dyn Hands>,
    ) -> (Self, TailHandle) {
        let is_closed = Arc::new(AtomicBool::new(false));
        let handle = TailHandle(Arc::clone(&is_closed));
        let (looks, trouble) = (Looks::new(pace, clock::mono()), Trouble::with("read what other nodes write"));
        (
            Self {
                tail,
                looks,
                pulse,
                bell,
                vitals,
                hands,
                is_closed,
                trouble,
                answered: None,
                probed: 0,
                published: None,
            },
            handle,
        )
    }

    /// Runs until it is closed.
    pub(crate) fn run(mut self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            let turned = self.turn();
            let (wait, line) = match &turned {
                Ok(()) => (Duration::ZERO, self.trouble.is_over()),
                Err(StoreError(reason)) => self.trouble.has_failed(reason),
            };
            line.into_iter().for_each(|line| log::log!(level(turned.is_ok()), "{line}"));
            if turned.is_err() {
                std::thread::sleep(wait);
                self.looks.look_at_all(clock::mono());
            }
        }
    }

    /// Receives notifications, and reads what is due.
    pub(super) fn turn(&mut self) -> Result<(), StoreError> {
        let hints = self.tail.wait(self.looks.wait(clock::mono()))?;
        let now = clock::mono();
        if hints.has_left {
            self.pulse.hurry(now);
            self.bell.rouse();
        }
        self.looks.hear(hints, now);
        if self.answered.as_ref().is_some_and(|answered| !answered.is_empty()) {
            self.answered = None;
            self.looks.is_answered();
        }
        let is_log_idle = self.hands.is_log_idle();
        if self.looks.probes(now) && self.hands.try_send(vec![Command::Probe]).is_err() {
            self.looks.probes_soon(now);
        }
        if let Some(look) = self.looks.next(is_log_idle, now) {
            self.look(look, now)?;
        }
        let probed = self.tail.probed();
        if probed != self.probed {
            self.probed = probed;
            self.vitals.has_come_back(clock::mono());
        }
        Ok(())
    }

    fn look(&mut self, look: Look, now: Duration) -> Result<(), StoreError> {
        let mut found = Found::default();
        let looked = self.find(&look, &mut found);
        let Found { mut commands, again, has_tickets } = found;
        if looked.is_ok() && again.is_none() && look.projects.is_none() {
            self.vitals.has_looked(now);
        }
        if commands.is_empty() {
            return looked;
        }
        let (reply, answered) = bounded(1);
        commands.push(Command::Barrier(ReplyTo::Caller(reply)));
        match self.hands.try_send(commands) {
            Ok(()) => {
                self.answered = Some(answered);
                self.looks.has_handed(clock::mono());
                if has_tickets {
                    self.tail.has_told_tickets();
                }
                again.into_iter().for_each(|again| self.looks.look_again(again, now));
            }
            Err(_) => self.looks.had_no_room(look, clock::mono()),
        }
        looked
    }

    /// If reading fails, what was found before is kept.
    fn find(&mut self, look: &Look, found: &mut Found) -> Result<(), StoreError> {
        let with_more = self.follow(look.projects.as_deref(), &mut found.commands)?;
        if look.wishes {
            let wishes = self.tail.wishes(&self.hands.wishes())?;
            if !wishes.open.is_empty() || !wishes.answered.is_empty() {
                found.commands.push(Command::Wishes(wishes));
            }
        }
        if look.projects.is_none() {
            let notes = self.tail.tickets()?;
            if !notes.is_empty() {
                found.has_tickets = true;
                found.commands.push(Command::Tickets(notes));
            }
        }
        let mut has_more_published = false;
        if look.published {
            let published = self.tail.published(PUBLISHED_MAX, &self.hands.put_off())?;
            let bytes: usize = published.iter().map(|it| it.payload.len()).sum();
            let first = published.first().map(|it| it.id);
            // Where it begins with the same, nothing has come of it: that waits for the next look.
            let has_moved = std::mem::replace(&mut self.published, first) != first;
            has_more_published = has_moved && (published.len() == PUBLISHED_MAX || bytes >= BYTES_MAX);
            if !published.is_empty() {
                found.commands.push(Command::Drain(published));
            }
        }
        if has_more_published || !with_more.is_empty() {
            found.again = Some(Look { projects: Some(with_more), wishes: false, published: has_more_published });
        }
        Ok(())
    }

    /// Reads the changes of followed projects. Returns the projects that may have more.
    fn follow(
        &mut self,
        projects: Option<&[ProjectId]>,
        commands: &mut Vec<Command>,
    ) -> Result<Vec<ProjectId>, StoreError> {
        if projects.is_some_and(<[_]>::is_empty) {
            return Ok(Vec::new());
        }
        let standings = self.hands.standings(projects);
        if standings.is_empty() {
            return Ok(Vec::new());
        }
        let changes = self.tail.changes_since(&standings, BYTES_MAX)?;
        let with_more = with_more(&standings, &changes);
        if !changes.is_empty() {
            commands.push(Command::Follow(changes));
        }
        Ok(with_more)
    }
}
