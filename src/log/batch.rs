//! What a batch of commands has changed so far, and what it will let out once it is kept.

use std::collections::HashMap;

use super::frames::Frames;
use super::journal::Outcome;
use super::store::{RunRow, Write};
use super::{Answer, Delivery, Order, ReplyTo, RunNumber, WorkCounts};
use crate::model::ProjectId;

/// What a batch has changed so far, and what it will let out.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    frames: Vec<(ProjectId, Frames)>,
    frames_of: HashMap<ProjectId, usize>,
    replies: Vec<(ReplyTo, Answer)>,
    pub(super) orders: Vec<Order>,
    pub(super) work: WorkCounts,
    /// Where in `writes` the runs are that it has taken on, for a call that comes twice within it.
    created: HashMap<RunNumber, usize>,
    pub(super) created_by_key: HashMap<(ProjectId, String), RunNumber>,
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
        to.orders.extend(self.orders);
        to.deliveries.extend(self.frames.into_iter().map(|(project, frames)| Delivery::Frames { project, frames }));
        to.deliveries.extend(self.replies.into_iter().map(|(to, answer)| Delivery::Reply { to, answer }));
        if !self.work.is_empty() {
            to.deliveries.push(Delivery::Worked(self.work));
        }
    }

    pub(super) fn create(&mut self, number: RunNumber, project: ProjectId, row: RunRow) {
        self.created.insert(number, self.writes.len());
        if let Some(key) = &row.idempotency_key {
            self.created_by_key.insert((project.clone(), key.clone()), number);
        }
        self.writes.push(Write::RunCreated { number, project, row: Box::new(row) });
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
