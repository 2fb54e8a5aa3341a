//! Stores a batch completely or not at all, and reports for certain which.
//!
//! A batch is sent together with its `COMMIT`. If the connection is lost before the answer, the next connection
//! increments the epoch of this node: this waits for whatever the old connection is still doing, and anything of it
//! that arrives later is refused. Then the number of the last committed batch says whether this batch was committed.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::codes::{count, get, id, nat};
use super::columns::Columns;
use super::connection::{Step, Together};
use super::failure::{Failure, code};
use super::{PostgresStore, Writing, sql};
use crate::log::store::{AppendError, Head, Objection, StoreError, Write};
use crate::model::{ProjectId, Timestamp};

/// How often a batch is sent again that is known not to be kept, because two were in each other's way or a connection was lost.
const TRIES_MAX: u32 = 5;

/// How long it is waited before it is asked once more what became of a batch.
const PACE: Duration = Duration::from_millis(50);

/// What this node's appends go by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epoch {
    pub(super) epoch: i64,
    /// The number of the last batch that was sent.
    pub(super) batch: i64,
    /// The connection that has this epoch.
    pub(super) connection: u64,
}

/// The result of sending a batch.
enum Sent {
    /// It is kept.
    Kept,
    /// It is not, and may be sent again.
    Again(StoreError),
}

impl PostgresStore {
    /// See [`Store::append`](crate::log::store::Store::append).
    pub(super) fn keep(&mut self, expected: &[Head], entries: &[Write], wall: Timestamp) -> Result<(), AppendError> {
        let columns = Columns::of(expected, entries, &self.tails.borrow()).map_err(AppendError::Refused)?;
        let mut why = StoreError("the write was not attempted".to_owned());
        for _ in 0..TRIES_MAX {
            let sent = self.send(&columns, expected, wall);
            if let Err(AppendError::Conflict(heads)) = &sent {
                self.contention.note_conflicts(heads);
            }
            match sent? {
                Sent::Kept => {
                    columns.projects.note_tails(&mut self.tails.borrow_mut());
                    self.contention.note_kept();
                    return Ok(());
                }
                Sent::Again(error) => why = error,
            }
        }
        Err(AppendError::Down(why))
    }

    fn send(&mut self, columns: &Columns<'_>, expected: &[Head], wall: Timestamp) -> Result<Sent, AppendError> {
        self.hold_epoch()?;
        self.epoch.batch += 1;
        let batch = self.epoch.batch;
        match self.execute(columns, batch, wall) {
            Ok(None) => Ok(Sent::Kept),
            Ok(Some(of)) => Err(AppendError::Conflict(conflicts(&of, columns))),
            Err(Failure::Unreachable(why)) => Err(AppendError::Down(self.trouble(Failure::Unreachable(why)))),
            Err(Failure::Lost(why) | Failure::Late(why)) => self.find_out(batch, why),
            Err(failure) => self.refused(failure, columns, expected),
        }
    }

    /// The messages' statement, and what else there is to do after it: where it is alone, of what there are conflicts.
    fn execute(&mut self, columns: &Columns<'_>, batch: i64, wall: Timestamp) -> Result<Option<String>, Failure> {
        let node = self.me.node();
        let (node, epoch, wall) = (&node.0[..], self.epoch.epoch, super::codes::ms(wall));
        let p = columns.projects.columns();
        let rest = columns.rest(node);
        let others = columns.steps(&rest);
        let is_alone = others.is_empty();
        let values: Vec<&(dyn ToSql + Sync)> = vec![
            &node,
            &epoch,
            &batch,
            &wall,
            &p.names,
            &p.heads,
            &p.revisions,
            &p.raises,
            &p.actives,
            &p.counts,
            &p.first_ats,
            &p.newest_ats,
            &p.message_bytes,
            &p.run_bytes,
            &p.tail_firsts,
            &p.tail_first_ats,
            &p.tail_bytes,
            &p.projects,
            &p.seqs,
            &p.ats,
            &p.segments,
            &p.runs,
            &p.places,
            &p.jsons,
            columns.revising(),
            &is_alone,
        ];
        let mut steps = vec![Step { sql: sql::APPEND, values }];
        steps.extend(others);
        let together = match (self.end_lock(), is_alone) {
            (true, _) => Together::Ended,
            // One statement is a transaction by itself.
            (false, true) => Together::No,
            (false, false) => Together::Whole(sql::BEGIN),
        };
        let notice = self.telling.as_ref().and_then(|telling| telling.with_append(&p.names, self.me.node()));
        let channel = self.me.channel();
        let aside = notice.as_ref().map(|notice| Step { sql: sql::NOTIFY, values: vec![&channel, notice] });
        let rows = self.conn.borrow_mut().run_with(together, &steps, columns.weight, aside.as_ref())?;
        if let (Some(telling), Some(_)) = (&self.telling, &notice) {
            telling.has_told(&p.names);
        }
        let row = rows.first().and_then(|rows| rows.first());
        // An answer that can't be read leaves open what has become of it.
        let of = row.ok_or_else(|| Failure::Lost("an answer is missing".to_owned()))?.try_get(0);
        of.map_err(|error| Failure::Lost(error.to_string()))
    }

    /// Has a connection whose appends are this node's last ones.
    pub(super) fn hold_epoch(&mut self) -> Result<(), AppendError> {
        let made = self.conn.borrow_mut().ensure();
        let made = made.map_err(|failure| AppendError::Down(self.trouble(failure)))?;
        if made == self.epoch.connection {
            return Ok(());
        }
        let raised = match self.raise_epoch() {
            // That connection may have been lost long before, which nobody has noticed; raising it twice is no harm.
            Err(Failure::Lost(_)) => self.raise_epoch(),
            raised => raised,
        };
        match raised {
            Ok((_, true)) => Ok(()),
            Ok((_, false)) => Err(AppendError::Fenced),
            Err(failure) => Err(AppendError::Down(self.trouble(failure))),
        }
    }

    /// Waits for a transaction of an earlier connection, or makes it fail. Returns the last committed batch, and
    /// whether this node is still a member.
    fn raise_epoch(&mut self) -> Result<(i64, bool), Failure> {
        let Writing { me, conn, epoch: held, .. } = &mut self.0;
        let node = me.node();
        let node = &node.0[..];
        let conn = conn.get_mut();
        let connection = conn.ensure()?;
        let step = |sql| Step { sql, values: vec![&node] };
        let rows = conn.run(Together::No, &[step(sql::RAISE_EPOCH), step(sql::WRITER)])?;
        let Some(row) = rows.last().and_then(|rows| rows.first()) else { return Ok((-1, false)) };
        let read = |error: tokio_postgres::Error| Failure::Lost(error.to_string());
        let (epoch, batch) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        let is_known = row.try_get(2).map_err(read)?;
        // No number of a batch is used again.
        *held = Epoch { epoch, batch: held.batch.max(batch), connection };
        Ok((batch, is_known))
    }

    /// What became of a batch whose answer was lost. It goes on asking for as long as this node may be thought to be alive.
    fn find_out(&mut self, batch: i64, why: String) -> Result<Sent, AppendError> {
        let why = self.trouble(Failure::Lost(why));
        log::warn!("{why}; checking whether the last batch was committed");
        loop {
            match self.raise_epoch() {
                Ok((kept, _)) if kept == batch => return Ok(Sent::Kept),
                Ok((_, true)) => return Ok(Sent::Again(why)),
                Ok((_, false)) => return Err(AppendError::Fenced),
                Err(failure) if self.me.is_over() => {
                    log::warn!("{}", self.trouble(failure));
                    return Err(AppendError::Fenced);
                }
                Err(_) => std::thread::sleep(PACE),
            }
        }
    }

    /// Handles an error of the engine for a batch.
    fn refused(&mut self, failure: Failure, columns: &Columns<'_>, expected: &[Head]) -> Result<Sent, AppendError> {
        if failure.is_clash() {
            return Ok(Sent::Again(self.trouble(failure)));
        }
        match failure.code() {
            Some(code::FENCED) => Err(AppendError::Fenced),
            Some(code::CONFLICT) => Err(AppendError::Conflict(conflicts(failure.detail(), columns))),
            Some(code::SPENT) => Err(AppendError::Spent(columns.tickets_at(&numbers(failure.detail())))),
            Some(code::TAKEN) => self.taken(failure, columns, expected),
            Some(code::UNIQUE) if failure.is_of(code::RUNS) => self.taken(failure, columns, expected),
            _ => Err(self.objection(failure)),
        }
    }

    /// Finds the projects with conflicts; if there are none any more, the batch may be sent again.
    fn taken(&mut self, failure: Failure, columns: &Columns<'_>, expected: &[Head]) -> Result<Sent, AppendError> {
        let rows = self.conn.borrow_mut().query(sql::TAKEN, &columns.taken());
        let rows = rows.map_err(|failure| AppendError::Down(self.trouble(failure)))?;
        let mut heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>()?;
        if heads.is_empty() && !columns.drained.is_empty() {
            // Their projects are not known any more.
            let names: Vec<&str> = expected.iter().map(|head| head.project.as_str()).collect();
            let rows = self.conn.borrow_mut().query(sql::STANDINGS, &[&names]);
            let rows = rows.map_err(|failure| AppendError::Down(self.trouble(failure)))?;
            heads = rows.iter().map(head).collect::<Result<_, _>>()?;
            let is_missing = |it: &&Head| !heads.iter().any(|head| head.project == it.project);
            let nothing = |it: &Head| Head { project: it.project.clone(), newest: 0, revision: 0 };
            let missing: Vec<_> = expected.iter().filter(is_missing).map(nothing).collect();
            heads.extend(missing);
        }
        if heads.is_empty() { Ok(Sent::Again(self.trouble(failure))) } else { Err(AppendError::Conflict(heads)) }
    }

    /// Never is a batch taken that is too large or contradicts what is kept; everything else may pass.
    fn objection(&self, failure: Failure) -> AppendError {
        let is_too_large = failure.code().is_some_and(|code| code::TOO_LARGE.contains(&code));
        let is_never = failure.code().is_some_and(|code| code::NEVER.iter().any(|class| code.starts_with(class)));
        let why = self.trouble(failure);
        match (is_too_large, is_never) {
            (true, _) => AppendError::Refused(Objection::TooLarge(why)),
            (false, true) => AppendError::Refused(Objection::Contradiction(why)),
            (false, false) => AppendError::Down(why),
        }
    }
}

/// What an append says of projects: place, newest and revision, one after another.
fn conflicts(detail: &str, columns: &Columns<'_>) -> Vec<Head> {
    let numbers = numbers(detail);
    let head = |of: &[usize]| {
        let &[place, newest, revision] = of else { return None };
        let project = columns.projects.name_at(place)?.clone();
        Some(Head { project, newest: newest as u64, revision: revision as u64 })
    };
    numbers.chunks(3).filter_map(head).collect()
}

fn numbers(detail: &str) -> Vec<usize> {
    detail.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// The head of a project. Row: name, newest, revision.
pub(super) fn head(row: &tokio_postgres::Row) -> Result<Head, StoreError> {
    let project = id(row, 0, ProjectId::parse)?;
    Ok(Head { project, newest: count(row, 1)?, revision: nat(get(row, 2)?) })
}
