//! Concurrency groups: runs of a project of which only a limited number run at a time.

use std::sync::Arc;

use super::fields::{Fields, Location};

/// The maximum length of a group's name, in characters.
pub const GROUP_CHARS_MAX: usize = 256;

/// The maximum of `limit`.
const LIMIT_MAX: u64 = 1_000;

/// The field `concurrency` of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// The group's name; before evaluation, a template over the run's inputs.
    pub group: Arc<str>,
    /// The maximum number of active runs in the group.
    pub limit: usize,
    /// What happens to a run whose group is full.
    pub on_conflict: OnConflict,
}

/// What happens to a run whose group is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It waits; waiting runs start in the order in which they arrived.
    #[default]
    Queue,
    /// It is rejected.
    Reject,
    /// The oldest runs of the group are cancelled, and it starts when they have ended.
    Cancel,
}

impl Concurrency {
    /// Reads the object in the field `concurrency`.
    pub(super) fn read(plan: &mut Fields<'_, '_>) -> Option<Self> {
        let object = plan.object("concurrency")?;
        let location = Location { inside: Some("concurrency"), ..Location::default() };
        let mut fields = Fields::new(object, location, plan.issues);
        let words = [("queue", OnConflict::Queue), ("reject", OnConflict::Reject), ("cancel", OnConflict::Cancel)];
        let limit = fields.integer("limit", 1..=LIMIT_MAX).and_then(|limit| usize::try_from(limit).ok());
        let on_conflict = fields.word("onConflict", &words).unwrap_or_default();
        let group = fields.required_text("group", GROUP_CHARS_MAX)?;
        Some(Self { group: group.into(), limit: limit.unwrap_or(1), on_conflict })
    }
}
