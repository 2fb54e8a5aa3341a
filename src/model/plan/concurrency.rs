//! Concurrency groups: runs of a project of which only a limited number run at a time.

use std::sync::Arc;

use super::fields::{Fields, Place};

/// The longest name of a group, in characters.
pub const GROUP_CHARS_MAX: usize = 256;

/// How many runs of a group may run at a time at most.
const LIMIT_MAX: u64 = 1_000;

/// `concurrency` of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// The group's name; in a plan as it was written a template over its inputs.
    pub group: Arc<str>,
    /// How many runs of the group run at a time.
    pub limit: usize,
    /// What becomes of a run where the group is full.
    pub on_conflict: OnConflict,
}

/// What becomes of a run whose group is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It waits; of those that wait the one that came first begins first.
    #[default]
    Queue,
    /// It is not taken on.
    Reject,
    /// The oldest runs of the group are cancelled, and it begins once they have ended.
    Cancel,
}

impl Concurrency {
    /// Reads the object in the field `concurrency`.
    pub(super) fn read(plan: &mut Fields<'_, '_>) -> Option<Self> {
        let object = plan.object("concurrency")?;
        let place = Place { inside: Some("concurrency"), ..Place::default() };
        let mut fields = Fields { object, place, issues: plan.issues };
        let words = [("queue", OnConflict::Queue), ("reject", OnConflict::Reject), ("cancel", OnConflict::Cancel)];
        let limit = fields.integer("limit", 1..=LIMIT_MAX).and_then(|limit| usize::try_from(limit).ok());
        let on_conflict = fields.word("onConflict", &words).unwrap_or_default();
        let group = fields.required_text("group", GROUP_CHARS_MAX)?;
        Some(Self { group: group.into(), limit: limit.unwrap_or(1), on_conflict })
    }
}
