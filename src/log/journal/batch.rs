//! What a batch of commands has changed so far, and what it will let out once it is kept.

use std::collections::HashMap;

use super::Outcome;
use crate::log::frames::Frames;
use crate::log::protocol::{Answer, Delivery, Order, ReplyTo};
use crate::log::store::{KeyRow, RunNumber, RunRow, Write};
use crate::log::work::WorkCounts;
use crate::model::ProjectId;

/// What a batch has changed so far, and what it will let out.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    frames: Vec<(ProjectId, Frames)>,
    frames_of: HashMap<ProjectId, usize>,
    replies: Vec<(ReplyTo, Answer)>,
    pub(super) orders: Vec<Order>,
    /// Batches of records that it keeps.
    pub(super) kept: u64,
    pub(super) work: WorkCounts,
    /// Where in `writes` the runs are that it has taken on, for a call that comes twice within it.
    created: HashMap<RunNumber, usize>,
    /// Where in `writes` the keys are.
    keys: HashMap<(ProjectId, String), usize>,
    /// What the keys weigh, by project and in all.
    key_bytes: HashMap<ProjectId, u64>,
    pub(super) all_key_bytes: u64,
}

impl Batch {
    /// A batch of about so many commands, each of which writes and is answered.
    pub(super) fn with_room_for(commands: usize) -> Self {
        Self { writes: Vec::with_capacity(commands), replies: Vec::with_capacity(commands), ..Self::default() }
    }

    pub(super) fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.replies.push((to.clone(), answer));
    }

    /// It is kept: everything may be told.
    pub(super) fn release(self, to: &mut Outcome) {
        if self.kept > 0 {
            to.orders.push(Order::Kept(self.kept));
        }
        to.orders.extend(self.orders);
        to.deliveries.extend(self.frames.into_iter().map(|(project, frames)| Delivery::Frames { project, frames }));
        to.deliveries.extend(self.replies.into_iter().map(|(to, answer)| Delivery::Reply { to, answer }));
        if !self.work.is_empty() {
            to.deliveries.push(Delivery::Worked(self.work));
        }
    }

    pub(super) fn create(&mut self, number: RunNumber, project: ProjectId, row: RunRow) {
        self.created.insert(number, self.writes.len());
        self.writes.push(Write::RunCreated { number, project, row: Box::new(row) });
    }

    pub(super) fn keep_key(&mut self, row: KeyRow) {
        self.keys.insert((row.project.clone(), row.name.clone()), self.writes.len());
        *self.key_bytes.entry(row.project.clone()).or_default() += row.weight();
        self.all_key_bytes += row.weight();
        self.writes.push(Write::Key(Box::new(row)));
    }

    /// What will be kept of a key.
    pub(super) fn key(&self, project: &ProjectId, name: &str) -> Option<&KeyRow> {
        if self.keys.is_empty() {
            return None;
        }
        match self.writes.get(*self.keys.get(&(project.clone(), name.to_owned()))?)? {
            Write::Key(row) => Some(row),
            _ => None,
        }
    }

    /// What the keys of a project weigh that will be kept.
    pub(super) fn key_bytes(&self, project: &ProjectId) -> u64 {
        self.key_bytes.get(project).copied().unwrap_or_default()
    }

    /// What will be kept of a run that this batch has taken on.
    pub(super) fn created(&self, number: RunNumber) -> Option<&RunRow> {
        match self.writes.get(*self.created.get(&number)?)? {
            Write::RunCreated { row, .. } => Some(row),
            _ => None,
        }
    }

    pub(super) fn frames_of(&mut self, project: &ProjectId, seq: u64) -> &mut Frames {
        let index = match self.frames_of.get(project) {
            Some(&index) => index,
            None => {
                self.frames_of.insert(project.clone(), self.frames.len());
                self.frames.push((project.clone(), Frames::starting_at(seq)));
                self.frames.len() - 1
            }
        };
        &mut self.frames[index].1
    }
}
