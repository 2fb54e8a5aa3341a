//! Stored plans as parameters: for each plan, its final state in the batch.

use std::collections::BTreeMap;

use super::codes::{int, ms};
use super::connection::Step;
use super::sql;
use crate::log::store::{PlanChange, PlanRow};
use crate::model::{PlanName, ProjectId, RunId};

/// The last word on each plan.
#[derive(Default)]
pub(super) struct PlanColumns<'w>(BTreeMap<(&'w ProjectId, &'w PlanName), Becomes<'w>>);

/// What becomes of a plan.
#[derive(Clone, Copy)]
enum Becomes<'w> {
    /// With this document, where one came along.
    There(&'w PlanRow, Option<&'w [u8]>),
    Gone,
}

impl<'w> PlanColumns<'w> {
    pub(super) fn add(&mut self, change: &'w PlanChange) {
        let name = change.name();
        let becomes = match change {
            PlanChange::Put(row, document) => {
                let before = self.0.get(&name).and_then(|before| match before {
                    Becomes::There(_, document) => *document,
                    Becomes::Gone => None,
                });
                Becomes::There(row, document.as_deref().or(before))
            }
            PlanChange::Removed(..) => Becomes::Gone,
        };
        self.0.insert(name, becomes);
    }

    pub(super) fn last(&self) -> LastPlans<'w> {
        let mut last = LastPlans::default();
        for ((project, name), becomes) in &self.0 {
            match becomes {
                Becomes::There(row, document) => last.put(row, *document),
                Becomes::Gone => {
                    last.gone.0.push(project.as_str());
                    last.gone.1.push(name.as_str());
                }
            }
        }
        last
    }
}

/// Those columns.
#[derive(Default)]
pub(super) struct LastPlans<'w> {
    projects: Vec<&'w str>,
    names: Vec<&'w str>,
    tags: Vec<&'w str>,
    updated_ats: Vec<i64>,
    summaries: Vec<&'w [u8]>,
    schedules: Vec<Option<&'w [u8]>>,
    scheduled_ats: Vec<i64>,
    firings: Vec<&'w [u8]>,
    last_runs: Vec<Option<&'w str>>,
    document_bytes: Vec<i64>,
    weights: Vec<i64>,
    documents: (Vec<&'w str>, Vec<&'w str>, Vec<&'w [u8]>),
    gone: (Vec<&'w str>, Vec<&'w str>),
}

impl<'w> LastPlans<'w> {
    fn put(&mut self, row: &'w PlanRow, document: Option<&'w [u8]>) {
        let (project, name) = (row.project.as_str(), row.name.as_str());
        self.projects.push(project);
        self.names.push(name);
        self.tags.push(&row.tag);
        self.updated_ats.push(ms(row.updated_at));
        self.summaries.push(&row.summary);
        self.schedules.push(row.schedule.as_deref());
        self.scheduled_ats.push(ms(row.scheduled_at));
        self.firings.push(&row.firings);
        self.last_runs.push(row.last_run.as_ref().map(RunId::as_str));
        self.document_bytes.push(int(row.document_bytes));
        self.weights.push(int(row.weight()));
        if let Some(document) = document {
            self.documents.0.push(project);
            self.documents.1.push(name);
            self.documents.2.push(document);
        }
    }

    pub(super) fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        if !self.gone.0.is_empty() {
            steps.push(Step { sql: sql::REMOVE_PLANS, values: vec![&self.gone.0, &self.gone.1] });
        }
        if !self.names.is_empty() {
            steps.push(Step {
                sql: sql::PUT_PLANS,
                values: vec![
                    &self.projects,
                    &self.names,
                    &self.tags,
                    &self.updated_ats,
                    &self.summaries,
                    &self.schedules,
                    &self.scheduled_ats,
                    &self.firings,
                    &self.last_runs,
                    &self.document_bytes,
                    &self.weights,
                ],
            });
        }
        if !self.documents.0.is_empty() {
            let (projects, names, documents) = &self.documents;
            steps.push(Step { sql: sql::PUT_PLAN_DOCUMENTS, values: vec![projects, names, documents] });
        }
        steps
    }
}
