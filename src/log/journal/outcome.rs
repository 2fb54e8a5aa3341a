//! The output of a journal.

use crate::log::lookup::Question;
use crate::log::protocol::{Answer, Delivery, Order, ReplyTo};
use crate::model::ProjectId;

/// The outputs of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the loop, in order.
    pub deliveries: Vec<Delivery>,
    /// For the executor, in order.
    pub orders: Vec<Order>,
    /// Questions for the reader threads.
    pub questions: Vec<Question>,
    /// There are new events for webhooks.
    pub has_due: bool,
    /// There is another schedule than before, or one less.
    pub has_schedules: bool,
    /// The projects that this node has changed, for the other nodes. Only if the store is shared.
    pub moved: Vec<ProjectId>,
    /// See `moved`.
    pub has_wishes: bool,
}

impl Outcome {
    pub(in crate::log) fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.deliveries.push(Delivery::Reply { to: to.clone(), answer });
    }
}
