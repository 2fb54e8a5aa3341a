//! Which tickets were used: the one thing about a ticket that it can't say itself.
//!
//! A ticket is in one of four states, told by the book, the clock and what the ticket says:
//! - *unused*: within its time of being issued, or of its last extension; admits once, and is spent.
//! - *spent*: admits who shows a message id of the project besides, until the JWT ends.
//! - *expired*: its time is over and it was never used; admits nobody.
//! - *unknown past*: as expired, but issued before a restart that the book does not remember across, so it may well
//!   have been spent; treated as spent.
//!
//! What changes is handed back as a [`TicketNote`], to be made durable and applied again after a restart.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ticket::Ticket;
use super::{MessageId, Principal, TicketError, TicketKey, TicketNonce};
use crate::model::{ProjectId, Timestamp};

/// The most tickets remembered: 100,000 x some 120 bytes are 12 MB. At the limit the one that ends first is forgotten;
/// a stream that was opened with it can't be opened with it again.
pub const TICKETS_REMEMBERED_MAX: usize = 100_000;

/// Remembers which tickets were used, and which unused ones have more time.
pub struct TicketBook {
    key: TicketKey,
    ttl_ms: u64,
    began: Timestamp,
    remembers_restarts: bool,
    remembered_max: usize,
    /// Those that were forgotten because they were too many.
    forgotten: u64,
    entries: HashMap<TicketNonce, Entry>,
    /// The key of each entry, the one that ends first at the front.
    by_end: BTreeSet<(Timestamp, TicketNonce)>,
}

/// What there is to remember of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketNote {
    nonce: TicketNonce,
    kind: TicketNoteKind,
    until: Timestamp,
}

impl TicketNote {
    /// Up to when it makes a difference.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// What happened to a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketNoteKind {
    /// It was used; remembered until its JWT ends.
    Spent,
    /// It was not used, through no fault of its bearer, and may be until the note ends.
    Extended,
}

/// A stream may be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission {
    /// For whom: with the scope `subscribe` and no other.
    pub principal: Principal,
    /// What must be durable before the stream begins: that the ticket is spent now. None where it was spent before.
    pub spends: Option<TicketNote>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: TicketNoteKind,
    until: Timestamp,
}

/// How an acceptable ticket opens a stream.
enum Opening {
    First,
    Again,
}

impl TicketBook {
    /// An empty book over the tickets of `key`, which are good for `ttl` unused.
    ///
    /// `began` is when this server started; `remembers_restarts` says whether the notes of those before it were, or
    /// will be, [applied](Self::apply). Where not, a ticket issued before `began` may have been used unbeknown to this
    /// book.
    pub fn new(key: TicketKey, ttl: Duration, began: Timestamp, remembers_restarts: bool) -> Self {
        Self {
            key,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            began,
            remembers_restarts,
            remembered_max: TICKETS_REMEMBERED_MAX,
            forgotten: 0,
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// One that remembers so many tickets at most, at least one.
    #[must_use]
    pub fn remembering(self, tickets: usize) -> Self {
        Self { remembered_max: tickets.max(1), ..self }
    }

    /// Opens a stream of `project` with `ticket`. `resume` is a genuine id of that project, from the header.
    ///
    /// A first use marks the ticket at once, so that no second one gets in while the note is on its way to the log.
    ///
    /// # Errors
    /// [`TicketError`] says why it opens nothing.
    pub fn admit(
        &mut self,
        ticket: &str,
        project: &ProjectId,
        resume: Option<MessageId>,
        now: Timestamp,
    ) -> Result<Admission, TicketError> {
        let ticket = self.open(ticket)?;
        let spends = match self.judge(&ticket, project, resume, now)? {
            Opening::First => {
                let note = TicketNote { nonce: ticket.nonce, kind: TicketNoteKind::Spent, until: ticket.ends_at() };
                self.put(&note);
                Some(note)
            }
            Opening::Again => None,
        };
        Ok(Admission { principal: ticket.principal, spends })
    }

    /// Whom [`admit`](Self::admit) would admit; spends nothing.
    ///
    /// # Errors
    /// As `admit`.
    pub fn peek(
        &self,
        ticket: &str,
        project: &ProjectId,
        resume: Option<MessageId>,
        now: Timestamp,
    ) -> Result<Principal, TicketError> {
        let ticket = self.open(ticket)?;
        self.judge(&ticket, project, resume, now)?;
        Ok(ticket.principal)
    }

    /// Gives `ticket` its time anew, where it is unused and still good. The note is to be made durable; none where
    /// there is nothing to extend.
    pub fn extend(&mut self, ticket: &str, now: Timestamp) -> Option<TicketNote> {
        let ticket = self.key.open(ticket)?;
        if ticket.ends_at() <= now || !self.is_unused(&ticket, now) {
            return None;
        }
        let until = now.plus_millis(self.ttl_ms).min(ticket.ends_at());
        let note = TicketNote { nonce: ticket.nonce, kind: TicketNoteKind::Extended, until };
        self.apply(&note);
        Some(note)
    }

    /// Takes back what [`admit`](Self::admit) marked, where `spends` could not be made durable and the stream did not
    /// begin: the ticket is unused and has its time anew.
    pub fn refund(&mut self, spends: &TicketNote, now: Timestamp) {
        let until = now.plus_millis(self.ttl_ms).min(spends.until);
        self.put(&TicketNote { nonce: spends.nonce, kind: TicketNoteKind::Extended, until });
    }

    /// Remembers what `note` says; again is no harm, and in any order: spent stays spent, and the later end counts.
    pub fn apply(&mut self, note: &TicketNote) {
        let is_news = self.entries.get(&note.nonce).is_none_or(|known| match (known.kind, note.kind) {
            (TicketNoteKind::Spent, TicketNoteKind::Extended) => false,
            (TicketNoteKind::Extended, TicketNoteKind::Spent) => true,
            _ => known.until < note.until,
        });
        if is_news {
            self.put(note);
        }
    }

    /// Forgets what no longer makes a difference at `now`. To be called now and then.
    pub fn forget_expired(&mut self, now: Timestamp) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    /// The number of tickets remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tickets that were forgotten before their time, because they were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Is no ticket remembered?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn open(&self, ticket: &str) -> Result<Ticket, TicketError> {
        self.key.open(ticket).ok_or(TicketError::Unknown)
    }

    fn judge(
        &self,
        ticket: &Ticket,
        project: &ProjectId,
        resume: Option<MessageId>,
        now: Timestamp,
    ) -> Result<Opening, TicketError> {
        if ticket.ends_at() <= now {
            return Err(TicketError::TokenExpired);
        }
        if !ticket.principal.sees(project) {
            return Err(TicketError::OtherProject);
        }
        if self.is_unused(ticket, now) {
            return Ok(Opening::First);
        }
        let is_spent = self.is_spent(ticket);
        let may_be_spent = is_spent || (!self.remembers_restarts && ticket.issued_at < self.began);
        match resume {
            Some(_) if may_be_spent => Ok(Opening::Again),
            _ if is_spent => Err(TicketError::Spent),
            _ => Err(TicketError::Expired),
        }
    }

    fn is_spent(&self, ticket: &Ticket) -> bool {
        self.entries.get(&ticket.nonce).is_some_and(|entry| entry.kind == TicketNoteKind::Spent)
    }

    fn is_unused(&self, ticket: &Ticket, now: Timestamp) -> bool {
        let first_end = ticket.issued_at.plus_millis(self.ttl_ms);
        match self.entries.get(&ticket.nonce) {
            Some(Entry { kind: TicketNoteKind::Spent, .. }) => false,
            Some(Entry { kind: TicketNoteKind::Extended, until }) => now < first_end.max(*until),
            None => now < first_end,
        }
    }

    fn put(&mut self, note: &TicketNote) {
        let entry = Entry { kind: note.kind, until: note.until };
        if let Some(old) = self.entries.insert(note.nonce, entry) {
            self.by_end.remove(&(old.until, note.nonce));
        }
        self.by_end.insert((note.until, note.nonce));
        if self.entries.len() > self.remembered_max {
            self.forgotten += 1;
            self.forget_first();
        }
        debug_assert_eq!(self.entries.len(), self.by_end.len(), "each entry has its place in the order");
    }

    fn forget_first(&mut self) {
        if let Some((_, nonce)) = self.by_end.pop_first() {
            self.entries.remove(&nonce);
        }
    }
}

#[cfg(test)]
#[path = "ticket_book_tests.rs"]
mod tests;
