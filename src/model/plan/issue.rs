//! Collects the issues of a plan, and shows them up to a limit.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::StepId;

/// The most issues that are shown. If there are more, the last one says how many.
pub const ISSUES_MAX: usize = 100;

/// A problem of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// The place, such as `steps[2].dependencies[0]`.
    pub path: String,
    /// The problem, in one sentence.
    pub message: String,
    /// The step, if it has a usable id.
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
/// Only the first [`ISSUES_MAX`] are written out and the rest are counted, so a hostile document costs no more than
/// reading it. Each pass has a limit of its own, so that a pass with many issues does not hide those of another.
#[derive(Debug, Default)]
pub struct Issues {
    kept: Vec<(Option<usize>, Issue)>,
    more: usize,
}

impl Issues {
    /// No issues so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no issues.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds an issue at `path`, in the step with the index `step` if it is in one.
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

    /// Adds the issues of another pass.
    pub fn absorb(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.more += other.more;
    }

    /// All issues in the document's order, those of the plan itself first; at most [`ISSUES_MAX`].
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
