//! Lookups, page by page where there may be much data, so that neither side ever holds all of it in memory.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::codes::{
    WHOLE, bytes, count, damaged, get, id, int, message, ms, notable_of, run_key, run_number, status_code, stream_code,
    timestamp,
};
use super::connection::Connection;
use super::failure::Failure;
use super::page::Page;
use super::sql;
use crate::log::store::{
    Due, DueId, DueRow, DueTimes, Ends, Flow, History, KeyRow, NodeId, PlanCounts, PlanRow, RunNumber, RunRow,
    StoreError, StoredMessage, StoredOutput, WantedPlans,
};
use crate::model::{OutputStream, PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// A parameter.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// Has a way to the engine. Whoever has can be asked what it holds.
pub(super) trait Readable {
    fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;

    /// The node that reads.
    fn node(&self) -> NodeId;

    /// The only row, or none.
    fn row(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }
}

/// The rows of what reads, which is no harm to do again.
pub(super) fn rows_again(
    conn: &RefCell<Connection>,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<Row>, StoreError> {
    let mut conn = conn.borrow_mut();
    let rows = match conn.query(sql, values) {
        Err(Failure::Lost(_)) => conn.query(sql, values),
        rows => rows,
    };
    rows.map_err(|failure| failure.at(conn.address().shown()))
}

/// A reader over some connection to the engine.
pub struct Reading<W>(pub(super) W);

impl<W> Deref for Reading<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.0
    }
}

impl<W> DerefMut for Reading<W> {
    fn deref_mut(&mut self) -> &mut W {
        &mut self.0
    }
}

impl<W: Readable> History for Reading<W> {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.row(sql::NEWEST, &[&project.as_str()])?.map_or(Ok(0), |row| count(&row, 0))
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.row(sql::FLOOR, &[&project.as_str()])?.map_or(Ok(1), |row| count(&row, 0))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        match run {
            None => messages(&self.0, project, after, each),
            Some(run) => messages_of_run(&self.0, run, after, each),
        }
    }

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let mut before = int(before);
        let mut page = Page::first();
        while page.is_wanted() {
            let rows = self.rows(sql::MESSAGES_BEFORE, &[&project.as_str(), &before, &page.rows])?;
            page.has_come(&rows, 4);
            for row in &rows {
                let message = message(row, 0)?;
                before = int(message.seq);
                page.note(each(&message));
                if page.is_over {
                    break;
                }
            }
        }
        Ok(())
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        let row = self.row(sql::RUN_BY_ID, &[&project.as_str(), &run.as_str()])?;
        row.map(|row| run_number(&row, 0)).transpose()
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        let ends = |row: Row| {
            let (first, last): (Option<i64>, Option<i64>) = (get(&row, 0)?, get(&row, 1)?);
            Ok(Ends { first: first.map(super::codes::nat), last: last.map(super::codes::nat) })
        };
        self.row(sql::ENDS, &[&run_key(number)])?.map(ends).transpose()
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        sliced(&self.rows(sql::STATE, &[&run_key(number)])?, 0, 1)
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.row(sql::SUMMARY, &[&run_key(number)])?.map(|row| bytes(&row, 0)).transpose()
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        let mut before = before.map_or(i64::MAX, run_key);
        let mut page = Page::first();
        while page.is_wanted() {
            let project = project.as_str();
            let rows = match ended_as {
                None => self.rows(sql::RUNS, &[&project, &before, &page.rows])?,
                Some(status) => {
                    self.rows(sql::RUNS_ENDED_AS, &[&project, &before, &page.rows, &status_code(status)])?
                }
            };
            page.has_come_small(&rows);
            for row in &rows {
                let number = run_number(row, 0)?;
                before = run_key(number);
                page.note(each(number));
                if page.is_over {
                    break;
                }
            }
        }
        Ok(())
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        sliced(&self.rows(sql::DOCUMENT, &[&run_key(number)])?, 0, 1)
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        let kept = |row: Row| {
            let attempt = u32::try_from(count(&row, 0)?).unwrap_or(u32::MAX);
            let (stdout, stderr, text) = (count(&row, 1)?, count(&row, 2)?, count(&row, 3)?);
            Ok(StoredOutput { attempt, stdout, stderr, text })
        };
        self.row(sql::OUTPUT, &[&run_key(number), &step.as_str()])?.map(kept).transpose()
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        pieces(&self.0, number, step, stream_code(stream), range, to)
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        let row = self.row(sql::OUTPUT, &[&run_key(number), &step.as_str()])?;
        let length = row.map_or(Ok(0), |row| count(&row, 4))?;
        Ok((length > 0).then_some(length))
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        pieces(&self.0, number, step, WHOLE, range, to)
    }

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        let mut from = i64::from(from);
        let mut page = Page::first();
        while page.is_wanted() {
            let rows = self.rows(sql::ITEMS, &[&run_key(number), &step.as_str(), &from, &page.rows])?;
            page.has_come(&rows, 1);
            for row in &rows {
                let item = u32::try_from(count(row, 0)?).map_err(|_| damaged("invalid item"))?;
                from = i64::from(item) + 1;
                page.note(each(item, get(row, 1)?));
                if page.is_over {
                    break;
                }
            }
        }
        Ok(())
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        let rows = self.rows(sql::OUTBOX, &[])?;
        rows.iter().map(|row| Ok((get::<&str>(row, 0)?.into(), count(row, 1)?))).collect()
    }

    /// Nothing where another node tells webhooks.
    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        let is_over = due(&self.0, webhook, (i64::MIN, ms(times.now)), each)?;
        match is_over {
            true => Ok(()),
            false => due(&self.0, webhook, (ms(times.horizon), i64::MAX), each).map(drop),
        }
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        let node = self.node();
        let row = self.row(sql::NEXT_DUE, &[&webhook, &ms(times.now), &ms(times.horizon), &&node.0[..]])?;
        let next: Option<i64> = row.map_or(Ok(None), |row| get(&row, 0))?;
        Ok(next.map(|at| Timestamp::from_millis(super::codes::nat(at))))
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        if let WantedPlans::Named(project, name) = wanted {
            let row = self.row(sql::PLAN, &[&project.as_str(), &name.as_str()])?;
            if let Some(row) = row {
                each(&plan(&row)?);
            }
            return Ok(());
        }
        let mut behind = (String::new(), String::new());
        let mut page = Page::first();
        while page.is_wanted() {
            let rows = match wanted {
                WantedPlans::OfProject(project) => {
                    self.rows(sql::PLANS, &[&project.as_str(), &behind.1, &page.rows])?
                }
                _ => self.rows(sql::SCHEDULED_PLANS, &[&behind.0, &behind.1, &page.rows])?,
            };
            page.has_come(&rows, 4);
            for row in &rows {
                let plan = plan(row)?;
                page.note(each(&plan));
                if page.is_over {
                    break;
                }
                behind = (plan.project.to_string(), plan.name.to_string());
            }
        }
        Ok(())
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        sliced(&self.rows(sql::PLAN_DOCUMENT, &[&project.as_str(), &name.as_str()])?, 0, 1)
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        let row = self.row(sql::PLAN_COUNTS, &[&project.as_str()])?;
        let counts = |row: Row| {
            Ok(PlanCounts { of_project: count(&row, 0)?, scheduled: count(&row, 1)?, bytes: count(&row, 2)? })
        };
        row.map_or(Ok(PlanCounts::default()), counts)
    }
}

/// Without a gap: if messages between two pages are deleted meanwhile, an error says so.
fn messages(
    from: &impl Readable,
    project: &ProjectId,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> Result<(), StoreError> {
    let (mut after, mut page, mut has_begun) = (int(after), Page::first(), false);
    while page.is_wanted() {
        let rows = from.rows(sql::MESSAGES, &[&project.as_str(), &after, &page.rows])?;
        page.has_come(&rows, 4);
        for row in &rows {
            let message = message(row, 0)?;
            if has_begun && int(message.seq) != after + 1 {
                return Err(StoreError(format!("history of {project} was trimmed while it was read")));
            }
            (after, has_begun) = (int(message.seq), true);
            page.note(each(&message));
            if page.is_over {
                break;
            }
        }
    }
    Ok(())
}

fn messages_of_run(
    from: &impl Readable,
    run: RunNumber,
    after: u64,
    each: &mut dyn FnMut(&StoredMessage) -> Flow,
) -> Result<(), StoreError> {
    let (mut after, mut page) = (int(after), Page::first());
    while page.is_wanted() {
        let rows = from.rows(sql::MESSAGES_OF_RUN, &[&run_key(run), &after, &page.rows])?;
        page.has_come(&rows, 4);
        for row in &rows {
            let message = message(row, 0)?;
            after = int(message.seq);
            page.note(each(&message));
            if page.is_over {
                break;
            }
        }
    }
    Ok(())
}

/// Only those pieces are read that hold any of the range.
fn pieces(
    from: &impl Readable,
    run: RunNumber,
    step: &StepId,
    stream: i16,
    range: Range<u64>,
    to: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let mut page = Page::first();
    let mut next = range.start;
    while page.is_wanted() && next < range.end {
        let values: [Value<'_>; 6] = [&run_key(run), &step.as_str(), &stream, &int(next), &int(range.end), &page.rows];
        let rows = from.rows(sql::PIECES, &values)?;
        page.has_come(&rows, 1);
        for row in &rows {
            let (at, piece): (u64, &[u8]) = (count(row, 0)?, get(row, 1)?);
            let within = |offset: u64| offset.saturating_sub(at).min(piece.len() as u64) as usize;
            to.extend_from_slice(&piece[within(next)..within(range.end).max(within(next))]);
            next = next.max(at + piece.len() as u64);
        }
    }
    Ok(())
}

/// Reads the events due between these times, the first of them excluded. Has `each` said stop?
fn due(
    from: &impl Readable,
    webhook: &str,
    (after, up_to): (i64, i64),
    each: &mut dyn FnMut(&DueRow) -> Flow,
) -> Result<bool, StoreError> {
    let name: Arc<str> = webhook.into();
    let (mut behind, mut page) = ((after, i64::MAX), Page::first());
    let node = from.node();
    while page.is_wanted() {
        let values: [Value<'_>; 6] = [&webhook, &behind.0, &behind.1, &up_to, &page.rows, &&node.0[..]];
        let rows = from.rows(sql::DUE, &values)?;
        page.has_come_small(&rows);
        for row in &rows {
            let due = due_row(row, &name)?;
            behind = (ms(due.next_at), int(due.id.0));
            page.note(each(&due));
            if page.is_over {
                break;
            }
        }
    }
    Ok(page.is_over)
}

fn due_row(row: &Row, webhook: &Arc<str>) -> Result<DueRow, StoreError> {
    let due = Due {
        webhook: webhook.clone(),
        project: id(row, 3, ProjectId::parse)?,
        number: run_number(row, 4)?,
        run: id(row, 5, RunId::parse)?,
        seq: count(row, 6)?,
        notable: notable_of(get(row, 7)?).ok_or_else(|| damaged("unknown event kind"))?,
        at: timestamp(row, 8)?,
    };
    let attempts = u32::try_from(count(row, 1)?).unwrap_or(u32::MAX);
    Ok(DueRow { id: DueId(count(row, 0)?), due, attempts, next_at: timestamp(row, 2)? })
}

fn plan(row: &Row) -> Result<PlanRow, StoreError> {
    let (schedule, last_run): (Option<&[u8]>, Option<&str>) = (get(row, 5)?, get(row, 8)?);
    let last_run = last_run.map(|run| RunId::parse(run).map_err(|_| damaged("invalid run id"))).transpose()?;
    Ok(PlanRow {
        project: id(row, 0, ProjectId::parse)?,
        name: id(row, 1, PlanName::parse)?,
        tag: get::<&str>(row, 2)?.into(),
        updated_at: timestamp(row, 3)?,
        summary: bytes(row, 4)?,
        schedule: schedule.map(Arc::from),
        scheduled_at: timestamp(row, 6)?,
        firings: bytes(row, 7)?,
        last_run,
        document_bytes: count(row, 9)?,
    })
}

/// The stored data of a run. The columns, in order: id, when, fingerprint, slice of its document, answer; and where the
/// slice begins. None if there is no row.
pub(super) fn run_row(rows: &[Row], column: usize, begins: usize) -> Result<Option<RunRow>, StoreError> {
    let (Some(row), Some(document)) = (rows.first(), sliced(rows, column + 3, begins)?) else { return Ok(None) };
    let fingerprint: &[u8] = get(row, column + 2)?;
    Ok(Some(RunRow {
        run: id(row, column, RunId::parse)?,
        created_at: timestamp(row, column + 1)?,
        document,
        answer: bytes(row, column + 4)?,
        fingerprint: fingerprint.try_into().map_err(|_| damaged("invalid fingerprint"))?,
    }))
}

/// Joins a value that has come in slices, each a row with its offset, counted as in SQL. None if there is no row, or
/// the value is null.
pub(super) fn sliced(rows: &[Row], column: usize, begins: usize) -> Result<Option<Arc<[u8]>>, StoreError> {
    if let [row] = rows {
        return Ok(get::<Option<&[u8]>>(row, column)?.map(Arc::from));
    }
    let mut whole = Vec::new();
    for row in rows {
        let (at, slice): (i32, &[u8]) = (get(row, begins)?, get(row, column)?);
        if usize::try_from(at).ok() != Some(whole.len() + 1) {
            return Err(damaged("a slice is missing"));
        }
        whole.extend_from_slice(slice);
    }
    Ok((!rows.is_empty()).then(|| whole.into()))
}

pub(super) fn key_row(row: &Row, project: &ProjectId, name: &str) -> Result<KeyRow, StoreError> {
    let fingerprint: &[u8] = get(row, 1)?;
    Ok(KeyRow {
        project: project.clone(),
        name: name.to_owned(),
        at: timestamp(row, 0)?,
        fingerprint: fingerprint.try_into().map_err(|_| damaged("invalid fingerprint"))?,
        answer: bytes(row, 2)?,
    })
}
