//! Remembers which tickets were used, the only thing about a ticket that the ticket itself can't tell.
//!
//! A ticket is in one of four states, which depend on the book, the clock and the ticket:
//! - *unused*: younger than its lifetime since it was issued or last extended; it opens a stream once and is then
//!   spent.
//! - *spent*: opens a stream only together with a message id of the project, until the JWT expires.
//! - *expired*: its lifetime is over and it was never used; it opens nothing.
//! - *unknown past*: issued before a restart across which the book does not remember, so it may have been used. It does
//!   not open a stream the first time, even within its lifetime; together with a message id it does, like a spent one.
//!
//! If several nodes share a store, another node may have used a ticket without this book's knowledge. The store knows
//! the used tickets whose lifetime is not over; after that, a message id is required anyway.
//!
//! Changes are returned as a [`TicketNote`], which is stored and applied again after a restart.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ticket::{Subject, Ticket};
use super::{MessageId, Principal, TicketError, TicketKey, TicketNonce};
use crate::model::{Lender, ProjectId, Taken, Timestamp};

/// The most tickets remembered of one subject: 100,000 x some 130 bytes are 13 MB. At the limit it spends no further one
/// until the tokens of some have ended; what is remembered is never forgotten before that, so no stream that goes on is
/// shut out, and no other subject is touched. The book is bounded by that, times the subjects whose tokens live: those
/// whom the operator has given one.
pub const TICKETS_REMEMBERED_MAX: usize = 100_000;

/// What of tickets comes to a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketMemory {
    /// Everything: notes of before a restart are [applied](TicketBook::apply).
    All,
    /// What has been since this start, of which the tickets are marked that were issued since. Others may have been used
    /// unbeknown to this book, and open nothing without a message id.
    SinceStart(StartMark),
    /// Of what other nodes note: which tickets have more time, though late. That a ticket is spent the store knows.
    Shared,
}

/// Tells the tickets of one start of a server from those of others: random.
pub type StartMark = [u8; 6];

/// Remembers which tickets were used, and which unused ones have more time.
pub struct TicketBook {
    key: TicketKey,
    ttl_ms: u64,
    memory: TicketMemory,
    remembered_max: usize,
    /// How often a subject was refused for want of room.
    refused: u64,
    entries: HashMap<TicketNonce, Entry>,
    /// The key of each entry, the one that ends first at the front.
    by_end: BTreeSet<(Timestamp, TicketNonce)>,
    /// How many entries are whose; nobody has none.
    by_subject: HashMap<Subject, usize>,
    /// Spent for streams that did not begin.
    unspent: Lender<Spent>,
}

/// What there is to remember of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketNote {
    nonce: TicketNonce,
    kind: TicketNoteKind,
    until: Timestamp,
    /// None in notes of servers that did not count by subject.
    #[serde(default)]
    subject: Option<Subject>,
}

impl TicketNote {
    /// Up to when it makes a difference.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// The ticket that it says is spent.
    #[cfg(feature = "postgres")]
    pub(crate) fn spends(&self) -> Option<TicketNonce> {
        (self.kind == TicketNoteKind::Spent).then_some(self.nonce)
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

/// A project that a stream is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub project: ProjectId,
    /// A genuine id of it, from the header.
    pub proof: Option<MessageId>,
}

/// A stream may be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission {
    /// For whom: with the scope `subscribe` and no other.
    pub principal: Principal,
    /// That the ticket is spent now, unless the stream does not begin. None if it was spent before.
    pub spends: Option<Spending>,
}

/// A ticket that is spent for a stream that may still be refused: dropped, it is as it was before.
#[derive(Debug, PartialEq, Eq)]
pub struct Spending(Taken<Spent>);

#[derive(Debug, PartialEq, Eq)]
struct Spent {
    note: TicketNote,
    /// A message id of a project came with it.
    is_proven: bool,
    is_kept: bool,
    before: Option<Entry>,
}

impl Spending {
    /// What must be durable before the stream begins; nothing where it [is](Self::note_kept).
    pub fn note(&self) -> Option<&TicketNote> {
        let spent = self.0.as_ref();
        (!spent.is_kept).then_some(&spent.note)
    }

    /// That the ticket is spent is durable: to be asked once more, it would seem to be spent by another.
    pub fn note_kept(&mut self) {
        self.0.as_mut().is_kept = true;
    }

    /// Did a message id of a project come with it, that only who has watched it can know? Then the stream may begin though
    /// another node has spent the ticket.
    pub fn is_proven(&self) -> bool {
        self.0.as_ref().is_proven
    }

    /// The stream begins.
    pub fn keep(self) {
        self.0.keep();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: TicketNoteKind,
    until: Timestamp,
    subject: Option<Subject>,
}

/// How an acceptable ticket opens a stream.
enum Opening {
    First,
    Again,
}

impl TicketBook {
    /// An empty book over the tickets of `key`, which are good for `ttl` unused.
    pub fn new(key: TicketKey, ttl: Duration, memory: TicketMemory) -> Self {
        Self {
            key,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            memory,
            remembered_max: TICKETS_REMEMBERED_MAX,
            refused: 0,
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
            by_subject: HashMap::new(),
            unspent: Lender::default(),
        }
    }

    /// A book that remembers at most this many tickets of a subject, at least one.
    #[must_use]
    pub fn remembering(self, tickets: usize) -> Self {
        Self { remembered_max: tickets.max(1), ..self }
    }

    /// The nonce of a ticket that is issued now: `random`, with the mark of this start where that counts.
    pub fn nonce(&self, mut random: [u8; 16]) -> [u8; 16] {
        if let TicketMemory::SinceStart(mark) = self.memory {
            random[..mark.len()].copy_from_slice(&mark);
        }
        random
    }

    /// Opens a stream of all that is asked for with `ticket`. One that is opened again need only be for a part of it, which is
    /// for the principal to tell: a list may have changed since.
    ///
    /// A first use marks the ticket at once, so that no second one gets in while the note is on its way to the log; dropped,
    /// what the admission spends is unspent.
    ///
    /// # Errors
    /// [`TicketError`] says why it opens nothing.
    pub fn admit(&mut self, ticket: &str, asked: &[Asked], now: Timestamp) -> Result<Admission, TicketError> {
        self.unspend();
        let ticket = self.open(ticket)?;
        let spends = match self.judge(&ticket, asked, now)? {
            Opening::First => Some(self.spend(&ticket, has_proof(&ticket, asked))?),
            Opening::Again => None,
        };
        Ok(Admission { principal: ticket.principal, spends })
    }

    fn spend(&mut self, ticket: &Ticket, is_proven: bool) -> Result<Spending, TicketError> {
        let note = self.note(ticket, TicketNoteKind::Spent, ticket.ends_at());
        if !self.has_room_for(&note) {
            self.refused += 1;
            return Err(TicketError::TooMany(self.remembered_max));
        }
        let before = self.entries.get(&note.nonce).copied();
        self.put(&note);
        Ok(Spending(self.unspent.lend(Spent { note, is_proven, is_kept: false, before })))
    }

    /// May `principal` have a further ticket?
    ///
    /// # Errors
    /// [`TicketError::TooMany`]: it could not be spent, as so many are remembered already.
    pub fn check_room(&mut self, principal: &Principal) -> Result<(), TicketError> {
        self.unspend();
        if self.remembered_of(self.key.subject(principal)) < self.remembered_max {
            return Ok(());
        }
        self.refused += 1;
        Err(TicketError::TooMany(self.remembered_max))
    }

    /// Whom [`admit`](Self::admit) would admit; spends nothing.
    ///
    /// # Errors
    /// As `admit`.
    pub fn peek(&mut self, ticket: &str, asked: &[Asked], now: Timestamp) -> Result<Principal, TicketError> {
        self.unspend();
        let ticket = self.open(ticket)?;
        self.judge(&ticket, asked, now)?;
        Ok(ticket.principal)
    }

    /// Gives `ticket` its full time again, if it is unused and valid, and its subject has room. Returns the note to
    /// store; none if there is nothing to extend.
    pub fn extend(&mut self, ticket: &str, now: Timestamp) -> Option<TicketNote> {
        self.unspend();
        let ticket = self.key.open(ticket)?;
        if ticket.ends_at() <= now || !self.is_unused(&ticket, now) {
            return None;
        }
        let until = now.plus_millis(self.ttl_ms).min(ticket.ends_at());
        let note = self.note(&ticket, TicketNoteKind::Extended, until);
        self.has_room_for(&note).then(|| self.apply(&note))?;
        Some(note)
    }

    /// The stream of a ticket can't begin now: the ticket is unused again, with its full time. Returns the note to
    /// store.
    pub fn postpone(&mut self, spending: Spending, now: Timestamp) -> TicketNote {
        let Spent { mut note, .. } = spending.0.keep();
        (note.kind, note.until) = (TicketNoteKind::Extended, now.plus_millis(self.ttl_ms).min(note.until));
        self.put(&note);
        note
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
        self.unspend();
        while let Some((until, nonce)) = self.by_end.first().copied()
            && until <= now
        {
            self.forget(nonce);
        }
    }

    /// The number of tickets remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often a subject was refused a ticket, because it has spent too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn open(&self, ticket: &str) -> Result<Ticket, TicketError> {
        self.key.open(ticket).ok_or(TicketError::Unknown)
    }

    fn judge(&self, ticket: &Ticket, asked: &[Asked], now: Timestamp) -> Result<Opening, TicketError> {
        if ticket.ends_at() <= now {
            return Err(TicketError::TokenExpired);
        }
        let has_proof = has_proof(ticket, asked);
        if !has_proof && !asked.iter().all(|asked| ticket.principal.sees(&asked.project)) {
            return Err(TicketError::OtherProject);
        }
        if self.is_unused(ticket, now) {
            return Ok(Opening::First);
        }
        let is_spent = self.is_spent(ticket);
        let may_be_spent = is_spent || self.is_of_unknown_past(ticket) || self.memory == TicketMemory::Shared;
        match has_proof {
            true if may_be_spent => Ok(Opening::Again),
            _ if is_spent => Err(TicketError::Spent),
            _ => Err(TicketError::Expired),
        }
    }

    fn is_spent(&self, ticket: &Ticket) -> bool {
        self.entries.get(&ticket.nonce).is_some_and(|entry| entry.kind == TicketNoteKind::Spent)
    }

    fn is_of_unknown_past(&self, ticket: &Ticket) -> bool {
        matches!(self.memory, TicketMemory::SinceStart(mark) if !ticket.nonce.is_of(&mark))
    }

    fn is_unused(&self, ticket: &Ticket, now: Timestamp) -> bool {
        let first_end = ticket.issued_at.plus_millis(self.ttl_ms);
        match self.entries.get(&ticket.nonce) {
            Some(Entry { kind: TicketNoteKind::Spent, .. }) => false,
            // By a clock that was set back since, the later end may be no answer, and the first one is.
            Some(Entry { kind: TicketNoteKind::Extended, until, .. }) => {
                [first_end, *until].into_iter().any(|end| self.is_ahead(end, now))
            }
            None => self.is_ahead(first_end, now) && !self.is_of_unknown_past(ticket),
        }
    }

    /// Is `end` still to come, and no further away than a clock that is set a little back explains? One that was set back
    /// by more would give an unused ticket so much more time.
    fn is_ahead(&self, end: Timestamp, now: Timestamp) -> bool {
        now < end && end.millis_since(now) <= 2 * self.ttl_ms
    }

    fn note(&self, ticket: &Ticket, kind: TicketNoteKind, until: Timestamp) -> TicketNote {
        TicketNote { nonce: ticket.nonce, kind, until, subject: Some(self.key.subject(&ticket.principal)) }
    }

    /// What is remembered already takes no further room.
    fn has_room_for(&self, note: &TicketNote) -> bool {
        let remembered = note.subject.map_or(0, |subject| self.remembered_of(subject));
        self.entries.contains_key(&note.nonce) || remembered < self.remembered_max
    }

    fn remembered_of(&self, subject: Subject) -> usize {
        self.by_subject.get(&subject).copied().unwrap_or_default()
    }

    /// Takes back what was spent for nothing.
    fn unspend(&mut self) {
        for Spent { note, before, .. } in self.unspent.returned() {
            self.forget(note.nonce);
            if let Some(Entry { kind, until, subject }) = before {
                self.put(&TicketNote { nonce: note.nonce, kind, until, subject });
            }
        }
    }

    fn put(&mut self, note: &TicketNote) {
        self.forget(note.nonce);
        self.entries.insert(note.nonce, Entry { kind: note.kind, until: note.until, subject: note.subject });
        self.by_end.insert((note.until, note.nonce));
        if let Some(subject) = note.subject {
            *self.by_subject.entry(subject).or_default() += 1;
        }
        debug_assert_eq!(self.entries.len(), self.by_end.len(), "each entry has its place in the order");
    }

    fn forget(&mut self, nonce: TicketNonce) {
        let Some(entry) = self.entries.remove(&nonce) else { return };
        self.by_end.remove(&(entry.until, nonce));
        if let Some(subject) = entry.subject
            && let Some(count) = self.by_subject.get_mut(&subject)
        {
            *count -= 1;
            if *count == 0 {
                self.by_subject.remove(&subject);
            }
        }
    }
}

/// Is a message id shown of a project that the ticket is for?
fn has_proof(ticket: &Ticket, asked: &[Asked]) -> bool {
    asked.iter().any(|asked| asked.proof.is_some() && ticket.principal.sees(&asked.project))
}

#[cfg(test)]
#[path = "ticket_book_tests.rs"]
mod tests;
