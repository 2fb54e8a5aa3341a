//! Reconstructs the messages that lead to the current state of a run, as far as the state contains them, for a display
//! that starts late.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{
    Cause, CauseKind, EndReason, LevelStarted, OpenLevel, PerformanceMetrics, Progress, RunCompleted, RunEvent,
    RunEventKind, RunFailed, RunStarted, RunState, RunStatus, StepProgress, StepState, StepStatus, StepUpdate,
    Timestamp,
};

/// Messages that a display shows `state` from, which is as it is `now`. Outputs, and attempts before a step's newest, are
/// not among them.
pub fn events_of(state: &RunState, now: Timestamp) -> Vec<RunEvent> {
    let Some(started_at) = state.started_at else { return Vec::new() };
    let mut events = vec![(started_at, RunEventKind::Started(started(state)))];
    let mut moves: Vec<_> = state.steps.iter().filter_map(|step| last_move(step, now)).collect();
    moves.sort_by_key(|(at, ..)| *at);
    let mut progress = Progress::of(state.step_count());
    for (at, step, update) in moves {
        if step.handler.is_none() {
            progress.count(update.status());
        }
        events.push((at, RunEventKind::Progress(said(step, update, progress))));
    }
    events.extend(open_levels(state));
    events.sort_by_key(|(at, _)| *at);
    events.extend(end(state, started_at));
    let event = |(timestamp, kind)| RunEvent { run_id: state.run_id.clone(), timestamp, kind };
    events.into_iter().map(event).collect()
}

fn started(state: &RunState) -> RunStarted {
    RunStarted {
        parent: state.parent.clone(),
        plan_name: state.plan_name.clone(),
        step_count: state.step_count(),
        total_levels: state.levels.len(),
        estimated_duration: 0,
        parallelizable: state.levels.iter().any(|level| level.len() > 1),
        levels: state.levels.to_vec(),
        scheduling: state.scheduling,
        revision: state.revision,
        steps: Vec::new(),
        retry_of: state.retry_of.clone(),
    }
}

/// Where a step is, and since when; nothing of one that has not started.
fn last_move(step: &StepState, now: Timestamp) -> Option<(Timestamp, &StepState, StepUpdate)> {
    let since = step.finished_at.or(step.started_at).unwrap_or(now);
    let took = step.duration.unwrap_or_default();
    let reason = || step.reason.clone().unwrap_or_default();
    let error = || step.error.clone().unwrap_or_default();
    // Why, for programs, the state does not tell; no display shows it.
    let cause = |kind| Cause { kind, step_id: None };
    let update = match step.status {
        StepStatus::Pending => return None,
        StepStatus::Running => StepUpdate::Running { step_description: "".into(), message: String::new() },
        StepStatus::Retrying => {
            let next_retry_at = step.next_retry_at.unwrap_or(now);
            let delay = next_retry_at.millis_since(now);
            StepUpdate::Retrying { error: error(), delay, max_retries: step.attempt, next_retry_at }
        }
        StepStatus::Waiting => {
            let approval = step.approval.clone()?;
            StepUpdate::Waiting { message: approval.message.clone(), approval }
        }
        StepStatus::Completed => StepUpdate::Completed {
            output: Arc::new(Value::Null),
            duration: took,
            truncated: false,
            output_bytes: None,
            reused: step.reused,
        },
        StepStatus::Failed => StepUpdate::Failed { error: error(), duration: took, continued: step.continued },
        StepStatus::Skipped => StepUpdate::Skipped { reason: reason(), cause: cause(CauseKind::RunFailed) },
        StepStatus::Cancelled => StepUpdate::Cancelled { reason: reason(), cause: cause(CauseKind::Cancelled) },
    };
    Some((since, step, update))
}

fn said(step: &StepState, update: StepUpdate, progress: Progress) -> StepProgress {
    let &StepState { level, attempt, handler, items, .. } = step;
    let decision = step.decision.clone();
    let said = StepProgress::of(&step.id, &step.title, update, progress);
    StepProgress { level, attempt, handler, items, decision, ..said }
}

fn open_levels(state: &RunState) -> impl Iterator<Item = (Timestamp, RunEventKind)> {
    state.open_levels.iter().filter_map(|&OpenLevel { level, started_at }| {
        let steps = state.levels.get(level)?.clone();
        let level = LevelStarted { level, total_levels: state.levels.len(), steps };
        Some((started_at, RunEventKind::LevelStarted(level)))
    })
}

fn end(state: &RunState, started_at: Timestamp) -> Option<(Timestamp, RunEventKind)> {
    let at = state.finished_at.filter(|_| state.status.is_ended())?;
    let steps_that = |status| {
        let ended_so = state.steps.iter().filter(move |step| step.status == status && step.handler.is_none());
        ended_so.map(|step| step.id.clone()).collect()
    };
    let failed_steps = steps_that(StepStatus::Failed);
    let failed_handlers = state.failed_handlers();
    let plan_name = state.plan_name.clone();
    if state.status == RunStatus::Completed {
        let performance_metrics = PerformanceMetrics {
            total_execution_time: at.millis_since(started_at),
            critical_path: Vec::new(),
            step_time: state.steps.iter().filter_map(|step| step.duration).sum(),
        };
        let completed = RunCompleted {
            failed_handlers,
            plan_name,
            outputs: Map::new(),
            truncated: Vec::new(),
            failed_steps,
            performance_metrics,
            usage: state.usage.clone(),
        };
        return Some((at, RunEventKind::Completed(completed)));
    }
    let reason = if state.status == RunStatus::Cancelled { EndReason::Cancelled } else { EndReason::StepFailed };
    let error = state.error.clone().unwrap_or_default();
    let cancelled_steps = steps_that(StepStatus::Cancelled);
    let usage = state.usage.clone();
    let failed = RunFailed { plan_name, error, reason, failed_steps, cancelled_steps, failed_handlers, usage };
    Some((at, RunEventKind::Failed(failed)))
}
