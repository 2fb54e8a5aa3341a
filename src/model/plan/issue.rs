//! Collects the issues of a plan, and shows them up to a limit.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::StepId;

/// How many issues are shown; where there are more, the last one shown says how many.
pub const ISSUES_MAX: usize = 100;

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Where, as `steps[2].dependencies[0]`.
    pub path: String,
    /// What, in one sentence.
    pub message: String,
    /// The step, where it has a usable id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// The issues that one pass over a document finds.
///
/// Only the first [`ISSUES_MAX`] are written out, the rest are counted: a hostile document costs no more than its
/// reading. Each pass has its own room, so that a pass with many issues hides none of another's.
#[derive(Debug, Default)]
pub struct Issues {
    kept: Vec<(Option<usize>, Issue)>,
    more: usize,
}

impl Issues {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is nothing wrong?
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds what is wrong at `path`, in the step of index `step` where it lies in one.
    pub fn report(
        &mut self,
        step: Option<usize>,
        step_id: Option<&StepId>,
        path: fmt::Arguments<'_>,
        message: fmt::Arguments<'_>,
    ) {
        if self.kept.len() >= ISSUES_MAX {
            self.more += 1;
            return;
        }
        let issue = Issue { path: path.to_string(), message: message.to_string(), step_id: step_id.cloned() };
        self.kept.push((step, issue));
    }

    /// Takes over what another pass has found.
    pub fn absorb(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.more += other.more;
    }

    /// All of it in the document's order: the plan's own, then step by step; at most [`ISSUES_MAX`].
    pub fn into_vec(mut self) -> Vec<Issue> {
        self.kept.sort_by_key(|&(step, _)| step);
        let mut shown: Vec<Issue> = self.kept.into_iter().map(|(_, issue)| issue).collect();
        if shown.len() + self.more > ISSUES_MAX {
            let more = shown.len() + self.more - (ISSUES_MAX - 1);
            shown.truncate(ISSUES_MAX - 1);
            shown.push(Issue {
                path: String::new(),
                message: format!("{more} more issues are not shown"),
                step_id: None,
            });
        }
        shown
    }
}
