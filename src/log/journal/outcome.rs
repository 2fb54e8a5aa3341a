//! The output of a journal.

use crate::log::lookup::Question;
use crate::log::protocol::{Answer, Delivery, Order, ReplyTo};
use crate::model::ProjectId;

/// What a batch lets out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the loop, in order.
    pub deliveries: Vec<Delivery>,
    /// For the executor, in order.
    pub orders: Vec<Order>,
    /// For those who read beside the log.
    pub questions: Vec<Question>,
    /// There is something that webhooks are to be told.
    pub has_due: bool,
    /// There is another schedule than before, or one less.
    pub has_schedules: bool,
    /// Projects that this node has moved, and of which others are to be told; and wishes, or answers to them, are among what
    /// was kept. Only where the store is shared.
    pub moved: Vec<ProjectId>,
    /// See `moved`.
    pub has_wishes: bool,
}

impl Outcome {
    pub(in crate::log) fn reply(&mut self, to: &ReplyTo, answer: Answer) {
        self.deliveries.push(Delivery::Reply { to: to.clone(), answer });
    }
}
