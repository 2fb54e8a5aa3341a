//! Events for webhooks as parameters: consecutive changes of one kind are one statement.

use super::codes::{int, ms, notable_code, run_key};
use super::connection::Step;
use super::sql;
use crate::log::store::{Due, OutboxChange};

/// See the top of this file.
#[derive(Default)]
pub(super) struct DueColumns<'w>(Vec<Part<'w>>);

enum Part<'w> {
    New(Box<New<'w>>),
    PutOff { ids: Vec<i64>, attempts: Vec<i64>, next_ats: Vec<i64> },
    Done(Vec<i64>),
    LetGo(Vec<&'w str>),
}

#[derive(Default)]
struct New<'w> {
    webhooks: Vec<&'w str>,
    ats: Vec<i64>,
    projects: Vec<&'w str>,
    runs: Vec<i64>,
    run_ids: Vec<&'w str>,
    seqs: Vec<i64>,
    notables: Vec<i16>,
}

impl<'w> DueColumns<'w> {
    pub(super) fn add(&mut self, change: &'w OutboxChange) {
        match (change, self.0.last_mut()) {
            (OutboxChange::Due(due), Some(Part::New(new))) => new.add(due),
            (OutboxChange::Due(due), _) => {
                let mut new = Box::<New<'_>>::default();
                new.add(due);
                self.0.push(Part::New(new));
            }
            (OutboxChange::PutOff { id, attempts, next_at }, last) => {
                let (id, attempt, next_at) = (int(id.0), i64::from(*attempts), ms(*next_at));
                match last {
                    // Twice in one statement would be either.
                    Some(Part::PutOff { ids, attempts, next_ats }) if !ids.contains(&id) => {
                        ids.push(id);
                        attempts.push(attempt);
                        next_ats.push(next_at);
                    }
                    _ => self.0.push(Part::PutOff { ids: vec![id], attempts: vec![attempt], next_ats: vec![next_at] }),
                }
            }
            (OutboxChange::Done(id), Some(Part::Done(ids))) => ids.push(int(id.0)),
            (OutboxChange::Done(id), _) => self.0.push(Part::Done(vec![int(id.0)])),
            (OutboxChange::LetGo(webhook), Some(Part::LetGo(webhooks))) => webhooks.push(webhook),
            (OutboxChange::LetGo(webhook), _) => self.0.push(Part::LetGo(vec![webhook])),
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.0.iter().map(|part| match part {
            Part::New(new) => {
                let New { webhooks, ats, projects, runs, run_ids, seqs, notables } = &**new;
                let values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                    vec![webhooks, ats, projects, runs, run_ids, seqs, notables];
                Step { sql: sql::NEW_DUE, values }
            }
            Part::PutOff { ids, attempts, next_ats } => {
                Step { sql: sql::PUT_OFF, values: vec![ids, attempts, next_ats] }
            }
            Part::Done(ids) => Step { sql: sql::DELETE_DUE, values: vec![ids] },
            Part::LetGo(webhooks) => Step { sql: sql::LET_DUE_GO, values: vec![webhooks] },
        })
    }
}

impl<'w> New<'w> {
    fn add(&mut self, due: &'w Due) {
        self.webhooks.push(&due.webhook);
        self.ats.push(ms(due.at));
        self.projects.push(due.project.as_str());
        self.runs.push(run_key(due.number));
        self.run_ids.push(due.run.as_str());
        self.seqs.push(int(due.seq));
        self.notables.push(notable_code(due.notable));
    }
}
