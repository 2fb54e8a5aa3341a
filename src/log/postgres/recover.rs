//! Reads what a start continues from, and what other nodes have changed.

use std::num::NonZeroU64;

use tokio_postgres::Row;

use super::codes::{count, damaged, get, id, nat, run_key, run_number, timestamp};
use super::connection::{Step, Together};
use super::projects::Tails;
use super::read::sliced;
use super::{PostgresStore, sql};
use crate::log::store::segment::Extent;
use crate::log::store::{EndedRun, Ends, NodeId, OpenRun, Recovered, RecoveredProject, RunNumber, StoreError};
use crate::model::{NOTED_REVISION as NOTED, ProjectId, RunId};

const ENDED_RUNS_MS: i64 = Recovered::ENDED_RUNS_MS as i64;

impl PostgresStore {
    /// Reads all projects, or only these, in one snapshot. Without the documents of the runs in `known` whose plans
    /// have not changed.
    pub(super) fn recovered(&self, of: Option<&[ProjectId]>, known: &[RunNumber]) -> Result<Recovered, StoreError> {
        let key_bytes = self.housekeeping.key_bytes()?;
        let (known, noted): (Vec<i64>, &[u8]) = (known.iter().map(|number| run_key(*number)).collect(), NOTED);
        let names: Vec<&str> = of.unwrap_or_default().iter().map(ProjectId::as_str).collect();
        let steps = match of {
            None => [
                Step { sql: sql::PROJECTS, values: vec![] },
                Step { sql: sql::OPEN_RUNS, values: vec![] },
                Step { sql: sql::ENDED_RUNS, values: vec![&ENDED_RUNS_MS] },
                Step { sql: sql::CLOCK, values: vec![] },
            ],
            Some(_) => [
                Step { sql: sql::SOME_PROJECTS, values: vec![&names] },
                Step { sql: sql::SOME_OPEN_RUNS, values: vec![&names, &known, &noted] },
                Step { sql: sql::SOME_ENDED_RUNS, values: vec![&ENDED_RUNS_MS, &names] },
                Step { sql: sql::SOME_CLOCK, values: vec![&names] },
            ],
        };
        let rows = self.read_together(&steps)?;
        let [projects, open, ended, clock] = &rows[..] else { return Err(damaged("an answer is missing")) };
        if of.is_none() {
            self.tails.borrow_mut().forget_all();
        }
        let node = self.me.node();
        let clock = clock.first().ok_or_else(|| damaged("the clock is missing"))?;
        let newest_run: u64 = count(clock, 1)?;
        Ok(Recovered {
            projects: projects.iter().map(|row| self.project(row)).collect::<Result<_, _>>()?,
            open_runs: open.chunk_by(is_of_one_run).map(|rows| open_run(rows, node)).collect::<Result<_, _>>()?,
            ended_runs: ended.iter().map(ended_run).collect::<Result<_, _>>()?,
            next_run_number: NonZeroU64::MIN.saturating_add(newest_run),
            clock: timestamp(clock, 0)?,
            key_bytes,
        })
    }

    /// A project as it was left. Where its last segment goes on is remembered.
    pub(super) fn project(&self, row: &Row) -> Result<RecoveredProject, StoreError> {
        let project = recovered_project(row)?;
        note_tail(row, &project, &mut self.tails.borrow_mut())?;
        Ok(project)
    }

    /// The rows of all of these, as they were in one moment.
    fn read_together(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, StoreError> {
        let anew = Together::Whole(sql::BEGIN_READING);
        let together = if self.is_locked() { Together::Within } else { anew };
        let mut conn = self.conn.borrow_mut();
        let rows = match conn.run(together, steps) {
            // The locks are gone: the next append compares the heads, as always.
            Err(super::failure::Failure::Lost(_)) => conn.run(anew, steps),
            rows => rows,
        };
        rows.map_err(|failure| failure.at(conn.address().shown()))
    }
}

fn recovered_project(row: &Row) -> Result<RecoveredProject, StoreError> {
    Ok(RecoveredProject {
        project: id(row, 0, ProjectId::parse)?,
        newest: count(row, 1)?,
        revision: count(row, 2)?,
        last_activity: timestamp(row, 3)?,
    })
}

fn note_tail(row: &Row, project: &RecoveredProject, tails: &mut Tails) -> Result<(), StoreError> {
    let (first_seq, holds_messages): (u64, bool) = (count(row, 4)?, get(row, 8)?);
    if !holds_messages {
        tails.forget(&project.project);
        return Ok(());
    }
    let tail = Extent {
        first_seq,
        count: (project.newest + 1).saturating_sub(first_seq),
        first_at: timestamp(row, 5)?,
        last_at: timestamp(row, 7)?,
        bytes: nat(get(row, 6)?),
    };
    tails.note(&project.project, tail);
    Ok(())
}

/// A row for each slice of a run's document.
fn is_of_one_run(row: &Row, next: &Row) -> bool {
    let number = |row: &Row| row.try_get::<_, i64>(0).ok();
    number(row) == number(next)
}

fn open_run(rows: &[Row], node: NodeId) -> Result<OpenRun, StoreError> {
    let row = rows.first().ok_or_else(|| damaged("a run is missing"))?;
    let owner: &[u8] = get(row, 5)?;
    Ok(OpenRun {
        number: run_number(row, 0)?,
        project: id(row, 1, ProjectId::parse)?,
        run: id(row, 2, RunId::parse)?,
        created_at: timestamp(row, 3)?,
        document: sliced(rows, 6, 7)?,
        cancelled: get(row, 4)?,
        is_foreign: owner != node.0,
    })
}

fn ended_run(row: &Row) -> Result<EndedRun, StoreError> {
    let (first, last): (Option<i64>, Option<i64>) = (get(row, 3)?, get(row, 4)?);
    let ends = Ends { first: first.map(nat), last: last.map(nat) };
    let (number, project) = (run_number(row, 0)?, id(row, 1, ProjectId::parse)?);
    Ok(EndedRun { number, project, ended_at: timestamp(row, 2)?, ends })
}
