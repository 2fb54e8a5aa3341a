//! Streams that use a ticket: they begin once its use has been committed.

use super::{Journal, Outcome};
use crate::log::protocol::{Answer, Command, Refusal, ReplyTo, Spends, StartingPosition};
use crate::model::{Now, ProjectId};

/// A stream that a ticket is spent for.
pub(super) struct Spending {
    pub(super) spends: Spends,
    pub(super) start: Box<StartingPosition>,
    pub(super) reply: ReplyTo,
}

impl Spending {
    /// The first of those to a project.
    pub(super) fn first_of<'s>(streams: &'s mut [Self], project: &ProjectId) -> Option<&'s mut Self> {
        streams.iter_mut().find(|it| it.start.project == *project)
    }
}

impl Journal {
    /// Spends the tickets of these streams in one commit, and begins the streams. A stream whose ticket another node
    /// has spent begins only if its client shows an id that only a stream can have sent.
    pub(super) fn spend(&mut self, streams: Vec<Spending>, now: Now, outcome: &mut Outcome) {
        if streams.is_empty() {
            return;
        }
        let note = |it: &Spending| Command::Note { note: it.spends.note.clone(), reply: None };
        let notes: Vec<_> = streams.iter().map(note).collect();
        self.spent.clear();
        let is_kept = self.keep(&notes, now, outcome);
        let spent = std::mem::take(&mut self.spent);
        let begins = |it: &Spending| is_kept && (it.spends.is_proven || !spent.contains(&it.spends.note));
        let (mut begun, refused): (Vec<_>, Vec<_>) = streams.into_iter().partition(begins);
        for Spending { mut start, reply, .. } in refused {
            // The project's newest messages go to the next stream.
            match (start.backlog.take(), Spending::first_of(&mut begun, &start.project)) {
                (Some(backlog), Some(next)) => next.start.backlog = Some(backlog),
                (Some(_), None) => self.unwatch(&start.project),
                (None, _) => {}
            }
            let refusal = if is_kept { Refusal::TicketSpent } else { Refusal::StoreUnavailable };
            outcome.reply(&reply, Answer::Refused(refusal));
        }
        begun.into_iter().for_each(|it| self.tell_where(it.start, it.reply, outcome));
    }
}
