//! A run's messages as lines for people. Pure.

use super::format::{ERROR_CHARS_MAX, count, duration, names, share, step_counts};
use super::harmless::{one_line, shortened};
use crate::model::{
    Choice, Decision, HandlerKind, LevelCompleted, OutputStream, PlanChanged, RunEvent, RunEventKind, RunId,
    RunStarted, StepId, StepProgress, StepUpdate,
};

/// How much of a run's id tells it from others: `run_` and six characters, one in 10^10.
const LABEL_CHARS: usize = 10;

/// What tells the lines of a run from those of others.
pub fn label(run: &RunId) -> String {
    run.as_str().chars().take(LABEL_CHARS).collect()
}

/// A line of a step's live output.
pub fn output_line(step: &StepId, stream: OutputStream, line: &str) -> String {
    let mark = if stream == OutputStream::Stderr { '!' } else { '|' };
    format!("{step} {mark} {line}").trim_end().to_owned()
}

/// What a run says, on one line without its time.
pub fn described(event: &RunEvent) -> String {
    match &event.kind {
        RunEventKind::Started(started) => started_line(started, event.run_id.as_str()),
        RunEventKind::LevelStarted(level) => {
            format!("level {} of {} started: {}", level.level + 1, level.total_levels, names(&level.steps, ", "))
        }
        RunEventKind::Progress(progress) => progress_line(progress),
        RunEventKind::StepOutput(output) => output_line(&output.step_id, output.stream, &one_line(&output.chunk)),
        RunEventKind::LevelCompleted(level) => level_line(level),
        RunEventKind::PlanChanged(changed) => plan_line(changed),
        RunEventKind::Completed(_) => "run completed".to_owned(),
        RunEventKind::Failed(failed) => format!("run failed: {}", error_text(&failed.error)),
    }
}

fn started_line(started: &RunStarted, run: &str) -> String {
    let (steps, levels) = (count(started.step_count, "step"), count(started.total_levels, "level"));
    format!("run {run} started: {}, {steps} in {levels}", one_line(&started.plan_name))
}

fn level_line(level: &LevelCompleted) -> String {
    let LevelCompleted { completed_steps, failed_steps, skipped_steps, cancelled_steps, .. } = level;
    let steps = step_counts(completed_steps.len(), failed_steps.len(), skipped_steps.len(), cancelled_steps.len());
    let took = duration(level.execution_time);
    format!("level {} of {} ended after {took}: {steps}", level.level + 1, level.total_levels)
}

fn plan_line(changed: &PlanChanged) -> String {
    let PlanChanged { revision, added, removed, changed, step_count, total_levels, by, .. } = changed;
    let mut what = Vec::new();
    for (word, steps) in [("added", added), ("changed", changed), ("removed", removed)] {
        if !steps.is_empty() {
            what.push(format!("{word} {}", names(steps, ", ")));
        }
    }
    let (steps, levels) = (count(*step_count, "step"), count(*total_levels, "level"));
    format!("plan changed by {} (revision {revision}): {}; {steps} in {levels}", one_line(by), what.join("; "))
}

/// What is said of a step, on one line.
pub fn progress_line(said: &StepProgress) -> String {
    let StepProgress { step_id, attempt, handler, progress, omitted_bytes, usage, decision, .. } = said;
    let what = match &said.update {
        StepUpdate::Running { message, .. } if said.counts_items() => one_line(message),
        StepUpdate::Running { .. } if *attempt > 1 => format!("started again, attempt {attempt}"),
        StepUpdate::Running { .. } => format!("started: {}", one_line(&said.step_title)),
        StepUpdate::Retrying { error, delay, max_retries, .. } => {
            // Attempts that a restart interrupted come on top of those that the policy allows.
            let attempts = max_retries.saturating_add(1).max(attempt.saturating_add(1));
            let delay = duration(*delay);
            format!("attempt {attempt} of {attempts} failed, retrying in {delay}: {}", error_text(error))
        }
        StepUpdate::Waiting { message, approval } => {
            let until = approval.expires_at.map(|at| format!(", until {at}")).unwrap_or_default();
            format!("waiting for a decision{until}: {}", error_text(message))
        }
        StepUpdate::Completed { reused: true, .. } => format!("reused ({})", share(progress)),
        StepUpdate::Completed { duration: took, .. } => {
            format!("completed after {} ({})", duration(*took), share(progress))
        }
        StepUpdate::Failed { error, duration: took, continued } => {
            let goes_on = if *continued { ", the run continues" } else { "" };
            format!("failed after {} ({}){goes_on}: {}", duration(*took), share(progress), error_text(error))
        }
        StepUpdate::Skipped { reason, .. } => format!("skipped ({}): {}", share(progress), error_text(reason)),
        StepUpdate::Cancelled { reason, .. } => format!("cancelled ({}): {}", share(progress), error_text(reason)),
    };
    let omitted = omitted_bytes.map(|bytes| format!(" ({bytes} bytes of its output omitted)")).unwrap_or_default();
    let usage = usage.as_ref().map(|usage| format!(" ({usage})")).unwrap_or_default();
    let decided = decision.as_ref().map(|decision| format!(" ({})", decision_text(decision))).unwrap_or_default();
    let handler = handler.map(|kind| format!(" ({})", handler_text(kind))).unwrap_or_default();
    format!("{step_id}{handler}: {what}{decided}{omitted}{usage}")
}

/// When a handler runs, which is in no level.
pub fn handler_text(kind: HandlerKind) -> &'static str {
    match kind {
        HandlerKind::Success => "on success",
        HandlerKind::Failure => "on failure",
        HandlerKind::Cancel => "on cancel",
        HandlerKind::Exit => "on exit",
    }
}

fn decision_text(decision: &Decision) -> String {
    let what = match decision.choice {
        Choice::Approve => "approved",
        Choice::Reject => "rejected",
    };
    match &decision.by {
        Some(by) => format!("{what} by {}", one_line(by)),
        None => format!("{what}, because nobody decided in time"),
    }
}

fn error_text(error: &str) -> String {
    shortened(&one_line(error), ERROR_CHARS_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Cost, Progress, Usage};

    #[test]
    fn what_was_left_out_last_is_told_where_the_step_ends() {
        let update = StepUpdate::Completed {
            output: std::sync::Arc::new(json!(null)),
            duration: 1500,
            truncated: false,
            output_bytes: None,
            reused: false,
        };
        let progress = Progress { completed: 1, total: 1, percent: 100, ..Progress::default() };
        let step = StepId::parse("a").expect("an id");
        let mut said = StepProgress { attempt: 1, ..StepProgress::of(&step, &"A".into(), update, progress) };
        let line = progress_line(&said);
        said.omitted_bytes = Some(2048);
        assert_eq!(progress_line(&said), line.clone() + " (2048 bytes of its output omitted)");
        let (total_tokens, cost) = (1234, Cost::of_units(0.5));
        said.omitted_bytes = None;
        said.usage = Some(Box::new(Usage { total_tokens, cost, ..Usage::default() }));
        assert_eq!(progress_line(&said), line + " (1,234 tokens, cost 0.5)");
    }

    #[test]
    fn a_handler_says_when_it_runs() {
        let update = StepUpdate::Running { step_description: "".into(), message: String::new() };
        let step = StepId::parse("tidy").expect("an id");
        let said = StepProgress::of(&step, &"Tidy up".into(), update, Progress::of(1));
        let said = StepProgress { attempt: 1, handler: Some(HandlerKind::Exit), ..said };
        assert_eq!(progress_line(&said), "tidy (on exit): started: Tidy up");
    }
}
