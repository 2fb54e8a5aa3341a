//! Checks a change of a run's plan: the result is a plan and is checked like any other.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::{check_submission, reread_plan};
use super::complete::complete_again;
use super::context::Context;
use super::tool::Registry;
use crate::model::{
    FIRST_REVISION, Issue, Parent, Patched, Plan, PlanChange, RetryOf, StepId, Submission, SubmissionError,
    unnoted_document,
};

/// How often the plan of a run may change.
pub const CHANGES_MAX: u32 = 1_000;

/// A stored plan.
#[derive(Deserialize)]
struct Kept {
    plan: Value,
    inputs: Map<String, Value>,
    #[serde(default)]
    revision: Option<u32>,
    #[serde(default)]
    levels: Vec<Vec<StepId>>,
    #[serde(default, rename = "retryOf")]
    retry_of: Option<Arc<RetryOf>>,
    #[serde(default)]
    parent: Option<Parent>,
}

/// Puts a change, an object with `add`, `replace` and `remove`, into the plan of this document, which has this revision, and
/// checks what comes of it. Where a step makes it, the document notes that.
///
/// # Errors
/// Everything that is wrong, with the places of the change where it comes from there.
pub fn check_change(
    document: &str,
    of_revision: u32,
    change: &str,
    by: Option<&StepId>,
    context: &Context,
) -> Result<PlanChange, Vec<Issue>> {
    let mut patched = Patched::new(document, change, by)?;
    let (bytes, limit) = (patched.document.len(), context.plan_limits.bytes);
    if bytes > limit {
        let message = format!("the changed plan has {bytes} bytes (limit {limit}, limits.body_bytes)");
        return Err(vec![Issue { path: String::new(), message, step_id: None }]);
    }
    let text = String::from_utf8(std::mem::take(&mut patched.document)).map_err(|error| vec![unreadable(&error)])?;
    let submission = Submission::parse(text.as_bytes()).map_err(|error| match error {
        SubmissionError::Issues(issues) => patched.in_change(issues),
        SubmissionError::NotJson(error) => vec![unreadable(&error)],
        SubmissionError::NotAnObject => vec![unreadable(&"it is not an object")],
    })?;
    let plan = check_submission(&submission, &context.registry, &context.engine, context.plan_limits.steps);
    let plan = plan.map_err(|issues| patched.in_change(issues))?.with_inputs(submission.inputs);
    let plan = Some(Arc::new(plan.with_source(&text, &context.registry)));
    let document: Arc<str> = text.into();
    let Patched { added, removed, changed, .. } = patched;
    Ok(PlanChange { of_revision, added, removed, changed, document, plan })
}

/// The plan of a stored document, with what its run has noted about it.
///
/// # Errors
/// Why it is no valid plan.
pub fn read_kept(document: &[u8], context: &Context) -> Result<Plan, String> {
    let kept: Kept = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let plan = reread_plan(&kept.plan, &context.engine);
    let plan = plan.map_err(|issues| issues.first().map_or_else(String::new, |issue| issue.message.clone()))?;
    let plan = complete_again(plan, kept.inputs, &context.engine)?;
    let mut plan = Plan { retry_of: kept.retry_of, parent: kept.parent, ..plan };
    plan.revision = kept.revision.unwrap_or(FIRST_REVISION);
    if !kept.levels.is_empty() && !plan.place_as_noted(&kept.levels) {
        return Err("the levels stored with the plan do not match it".to_owned());
    }
    let text = String::from_utf8_lossy(document);
    Ok(plan.with_source(&text, &context.registry))
}

impl Plan {
    /// The plan with the document that it was read from, without what its run has noted of it, where a tool of it may change
    /// it.
    #[must_use]
    pub fn with_source(self, document: &str, registry: &Registry) -> Self {
        let may_plan = |name: &str| registry.tool(name).is_some_and(|tool| tool.may_plan());
        let source = self.steps.iter().any(|step| may_plan(&step.tool)).then(|| unnoted_document(document)).flatten();
        Self { source: source.map(Arc::from), ..self }
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Issue {
    Issue { path: String::new(), message: format!("the changed plan can't be read: {error}"), step_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::context;
    use crate::model::noted_document;

    const DOCUMENT: &str = r#"{"plan":{"name":"p","steps":[{"id":"a","tool":"echo"},{"id":"b","tool":"echo","dependencies":["a"]}]},"inputs":{"x":1}}"#;

    /// They were counted as bytes of the plan.
    #[test]
    fn what_is_kept_of_another_run_is_no_part_of_the_plan_that_is_changed() {
        let context = context();
        let output = "x".repeat(context.plan_limits.bytes);
        let retry_of = format!(r#"{{"run":"before","kept":{{"a":{{"output":"{output}"}}}}}}"#);
        let document = format!(r#"{},"retryOf":{retry_of}}}"#, &DOCUMENT[..DOCUMENT.len() - 1]);
        let change = r#"{"add":[{"id":"c","tool":"echo","dependencies":["a"]}]}"#;
        let change = check_change(&document, 1, change, None, &context).expect("it is small");
        assert!(change.document.len() < 1000 && !change.document.contains("retryOf"));
        let plan = change.plan.expect("a plan");
        let noted = noted_document(change.document.as_bytes(), 2, &plan.level_ids(), Some(&retry_of));
        let kept = read_kept(&noted, &context).expect("it is read again");
        assert_eq!(kept.retry_of.as_ref().map(|retry_of| retry_of.kept.len()), Some(1));
        assert_eq!(Plan { retry_of: None, revision: 1, ..kept }, *plan);
    }

    #[test]
    fn what_comes_of_a_change_is_checked_whole_and_told_by_the_places_of_the_change() {
        let context = context();
        let wrong = |change: &str| -> Vec<String> {
            let issues = check_change(DOCUMENT, 1, change, None, &context).expect_err(change);
            issues.iter().map(|issue| issue.to_string()).collect()
        };
        for (change, expected) in [
            (r#"{"add":[{"id":"a","tool":"echo"}]}"#, "add[0].id: duplicate step id \"a\"; steps[0] already has it"),
            (r#"{"remove":["a"]}"#, "steps[0].dependencies[0]: unknown step \"a\""),
            (r#"{"add":[{"id":"c","tool":"none"}]}"#, "add[0].tool: unknown tool \"none\""),
            (
                r#"{"replace":[{"id":"a","tool":"echo","dependencies":["b"]}]}"#,
                "replace[0].dependencies: dependency cycle (each step depends on the next): a -> b -> a",
            ),
            (
                r#"{"add":[{"id":"c","tool":"echo","inputs":{"n":12345678901234567890123}}]}"#,
                "add[0].inputs.n: 12345678901234567890123 is an integer",
            ),
        ] {
            let said = wrong(change);
            assert!(said.len() == 1 && said[0].starts_with(expected), "{change}: {said:?}");
        }
        let many: Vec<_> = (0..19).map(|n| format!(r#"{{"id":"s{n}","tool":"echo"}}"#)).collect();
        let said = wrong(&format!(r#"{{"add":[{}]}}"#, many.join(",")));
        assert_eq!(said, ["steps: too many steps: 21 (limit 20, limits.plan_steps)"]);
    }

    #[test]
    fn a_document_is_read_again_with_what_its_run_has_noted() {
        let context = context();
        let change = r#"{"add":[{"id":"c","tool":"echo"}]}"#;
        let change = check_change(DOCUMENT, 1, change, None, &context).expect("is good");
        let mut plan = Plan::clone(&change.plan.expect("made just now"));
        plan.revision = 2;
        plan.place_steps(|id| (id.as_str() == "a").then_some(0), |level| level == 0, 1);
        let noted = noted_document(change.document.as_bytes(), 2, &plan.level_ids(), None);
        assert_eq!(read_kept(&noted, &context), Ok(plan));
    }
}
