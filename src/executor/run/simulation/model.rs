//! A model of a run, which follows its messages.

use super::*;
use crate::model::{CauseKind, OnFailure, StepUpdate};

pub(super) struct Model {
    /// The plan as it is by the message that is looked at.
    pub(super) plan: Arc<Plan>,
    pub(super) steps: Vec<Seen>,
    pub(super) levels: Vec<Bracket>,
    /// A step was skipped outside of any bracket: the run ends.
    pub(super) is_over: bool,
    pub(super) handlers: handlers::Told,
}

/// How far a level has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Bracket {
    Before,
    /// Started, and no step has moved yet.
    Fresh,
    Open,
    Closed,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) status: Option<StepStatus>,
    pub(super) attempt: u32,
    /// Attempts that failed and were to be tried again.
    pub(super) retries: u32,
    /// Attempts before this one that were interrupted, in a row.
    pub(super) interruptions: u32,
    /// Failed, and not continued over.
    pub(super) is_fatal: bool,
    pub(super) skipped_by: Option<CauseKind>,
    /// Failed because it must not run twice.
    pub(super) is_interrupted: bool,
}

impl Model {
    pub(super) fn follow(&mut self, kind: &RunEventKind) {
        match kind {
            RunEventKind::Started(started) => assert_eq!(started.step_count, self.steps.len()),
            RunEventKind::LevelStarted(level) => {
                assert_eq!(self.levels[level.level], Bracket::Before, "once");
                let in_order = self.levels[..level.level].iter().all(|before| *before == Bracket::Closed);
                let is_alone = self.levels[level.level..].iter().all(|after| *after == Bracket::Before);
                assert!(self.is_eager() || (in_order && is_alone), "levels in order");
                assert!(self.steps.iter().all(|step| !step.ended_the_run()), "no level after the run's early end");
                let may_go_on = self.plan.on_failure == OnFailure::Continue;
                assert!(may_go_on || self.steps.iter().all(|step| !step.is_fatal), "a failed step stops the run");
                self.levels[level.level] = Bracket::Fresh;
            }
            RunEventKind::LevelCompleted(level) => {
                assert!(self.is_open(level.level), "it was open");
                assert!((0.0..=1.0).contains(&level.efficiency));
                self.levels[level.level] = Bracket::Closed;
                let told = [&level.completed_steps, &level.failed_steps, &level.skipped_steps, &level.cancelled_steps]
                    .map(Vec::len);
                let ended = self.of_level(level.level).filter(|step| step.is_ended()).count();
                assert_eq!(told.iter().sum::<usize>(), ended, "each step that ended is in one list");
                let size = self.plan.levels[level.level].len();
                assert!(!self.is_eager() || ended == size, "none of its steps moves after it");
                let cancelled = self.of_level(level.level).filter(|step| step.status == Some(StepStatus::Cancelled));
                self.check_cancelled(&level.cancelled_steps, cancelled.count());
            }
            RunEventKind::PlanChanged(said) => self.check_change(said),
            RunEventKind::StepOutput(said) if self.index(&said.step_id) >= self.steps.len() => {
                assert_eq!(self.handlers.of(&said.step_id), (StepStatus::Running, said.attempt));
            }
            RunEventKind::Progress(said) if said.handler.is_some() => {
                self.check_end();
                self.handlers.follow(said, &self.plan);
            }
            RunEventKind::StepOutput(said) => {
                let seen = &self.steps[self.index(&said.step_id)];
                assert_eq!(seen.status, Some(StepStatus::Running));
                assert!(said.item.is_some() || seen.attempt == said.attempt);
                let level = self.plan.steps[self.index(&said.step_id)].level;
                assert!(said.chunk.len() <= 16 * 1024 && self.is_open(level));
            }
            RunEventKind::Progress(said) => self.step_moves(said),
            RunEventKind::Completed(completed) => {
                self.check_end();
                assert!(self.steps.iter().all(|step| !step.is_fatal && step.status != Some(StepStatus::Cancelled)));
                assert_eq!(completed.outputs.len(), self.steps.len());
                self.handlers.check_end(RunStatus::Completed, None, &completed.failed_handlers, &self.plan);
            }
            RunEventKind::Failed(failed) => {
                self.check_end();
                let count = self.steps.iter().filter(|step| step.status == Some(StepStatus::Failed)).count();
                assert_eq!(failed.failed_steps.len(), count);
                let (status, failed_handlers) = (failed.reason.run_status(), &failed.failed_handlers);
                self.handlers.check_end(status, Some(failed.reason), failed_handlers, &self.plan);
                let cancelled = self.steps.iter().filter(|step| step.status == Some(StepStatus::Cancelled));
                self.check_cancelled(&failed.cancelled_steps, cancelled.count());
                let is_of_steps = matches!(word(&json!(failed.reason)), "step_failed" | "interrupted");
                assert!(!is_of_steps || self.steps.iter().any(|step| step.is_fatal));
                let all_interrupted = self.steps.iter().all(|step| !step.is_fatal || step.is_interrupted);
                assert_eq!(failed.reason == EndReason::Interrupted, is_of_steps && all_interrupted);
            }
        }
    }

    pub(super) fn step_moves(&mut self, said: &StepProgress) {
        let index = self.index(&said.step_id);
        let seen = self.steps[index].clone();
        let plan_step = &self.plan.steps[index];
        assert!(!seen.is_ended(), "{} moves after its end", said.step_id);
        let in_bracket = self.is_open(plan_step.level);
        assert!(!self.is_over || !in_bracket, "brackets are closed before what never opened is skipped");
        if in_bracket {
            self.levels[plan_step.level] = Bracket::Open;
        }
        let is_at_it = matches!(seen.status, Some(StepStatus::Running | StepStatus::Waiting));
        let has_begun = is_at_it && seen.attempt == said.attempt;
        let mut next = Seen { attempt: said.attempt, retries: seen.retries, ..Seen::default() };
        let has_items = plan_step.for_each.is_some();
        match &said.update {
            // How its items move is looked at apart.
            StepUpdate::Running { .. } if has_items && seen.status == Some(StepStatus::Running) => next = seen,
            StepUpdate::Running { message, .. } => {
                assert!(in_bracket && said.attempt == seen.attempt + 1);
                assert!(self.plan.kept(&said.step_id).is_none(), "what is kept is not run");
                let ready = |&dependency: &usize| self.steps[dependency].is_ended() && !self.descends(dependency);
                assert!(plan_step.dependencies.iter().all(ready), "what it waits for is done");
                let runs_again = seen.status == Some(StepStatus::Running);
                assert!(!runs_again || &*plan_step.tool != "once", "it must not run twice");
                next.interruptions = if runs_again { seen.interruptions + 1 } else { 0 };
                let is_bounded = &*plan_step.tool != "wait";
                assert!(!is_bounded || next.interruptions < INTERRUPTIONS_MAX, "it is tried again for ever");
                assert_eq!(message.starts_with("Running again"), runs_again, "{message}");
                next.status = Some(StepStatus::Running);
            }
            StepUpdate::Waiting { .. } => {
                assert!(in_bracket && (seen.status, seen.attempt) == (Some(StepStatus::Running), said.attempt));
                (next.status, next.interruptions) = (Some(StepStatus::Waiting), seen.interruptions);
            }
            StepUpdate::Retrying { .. } => {
                assert!(in_bracket && has_begun);
                next.status = Some(StepStatus::Retrying);
                next.retries += 1;
                assert!(next.retries <= plan_step.retry.max_retries, "no more than its policy allows");
            }
            StepUpdate::Completed { output, truncated, output_bytes, reused, .. } => {
                let kept = self.plan.kept(&said.step_id);
                assert_eq!(*reused, kept.is_some(), "what is kept is not run");
                match kept {
                    Some(kept) => {
                        assert!(in_bracket && (seen.status, said.attempt) == (None, 0), "at once, without a worker");
                        assert_eq!((output, *truncated), (&kept.output, kept.truncated));
                    }
                    None => {
                        assert!(in_bracket && has_begun)
                    }
                }
                assert_eq!(*truncated, output_bytes.is_some());
                let shown = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
                assert!(shown.len() <= 64, "cut to 64 bytes");
                next.status = Some(StepStatus::Completed);
            }
            StepUpdate::Failed { continued, error, .. } => {
                assert!(in_bracket && seen.attempt == said.attempt);
                let may_retry = seen.retries < plan_step.retry.max_retries;
                assert!(has_items || !(may_retry && error.contains("broken")), "no fewer than its policy allows");
                let is_interrupted = error.starts_with(INTERRUPTED);
                let may_be = match &*plan_step.tool {
                    "once" => true,
                    "wait" => false,
                    _ => has_items || seen.interruptions + 1 == INTERRUPTIONS_MAX,
                };
                assert!(!is_interrupted || (may_be && seen.status == Some(StepStatus::Running)), "{said:?}");
                next.is_interrupted = is_interrupted;
                assert_eq!(*continued, plan_step.continue_on_failure);
                (next.status, next.is_fatal) = (Some(StepStatus::Failed), !continued);
            }
            StepUpdate::Cancelled { .. } => {
                assert!(in_bracket && said.attempt > 0 && seen.attempt == said.attempt);
                next.status = Some(StepStatus::Cancelled);
            }
            StepUpdate::Skipped { cause, .. } => {
                assert_eq!((said.attempt, seen.attempt), (0, 0), "it never ran");
                assert!(in_bracket || !self.is_any_open(), "in its level or in none");
                self.is_over |= !in_bracket;
                assert_eq!(cause.kind == CauseKind::UpstreamFailed, cause.step_id.is_some());
                let below = cause.step_id.as_ref().is_none_or(|failed| self.steps[self.index(failed)].is_fatal);
                assert!(below && (cause.step_id.is_none() || self.descends(index)));
                assert!(cause.kind != CauseKind::RunFailed || !self.descends(index));
                next.status = Some(StepStatus::Skipped);
                let is_end = cause.kind.of_run().is_some();
                assert!(in_bracket || is_end || cause.kind == CauseKind::UpstreamFailed);
                next.skipped_by = (is_end || !in_bracket).then_some(cause.kind);
            }
        }
        self.steps[index] = next;
        self.check_progress(said);
    }

    pub(super) fn check_progress(&self, said: &StepProgress) {
        let count = |status| self.steps.iter().filter(|step| step.status == Some(status)).count();
        let (completed, failed) = (count(StepStatus::Completed), count(StepStatus::Failed));
        let (skipped, cancelled) = (count(StepStatus::Skipped), count(StepStatus::Cancelled));
        let total = self.steps.len();
        let percent = ((completed + failed + skipped + cancelled) * 100 / total) as u8;
        assert_eq!(said.progress, crate::model::Progress { completed, failed, skipped, cancelled, total, percent });
    }

    pub(super) fn check_cancelled(&self, told: &[StepId], count: usize) {
        let all_are = told.iter().all(|id| self.steps[self.index(id)].status == Some(StepStatus::Cancelled));
        assert!(all_are && told.len() == count, "{told:?}");
    }

    pub(super) fn check_end(&self) {
        assert!(!self.is_any_open() && self.steps.iter().all(Seen::is_ended), "nothing is left open");
    }

    pub(super) fn is_eager(&self) -> bool {
        self.plan.scheduling == Scheduling::Eager
    }

    pub(super) fn is_open(&self, level: usize) -> bool {
        matches!(self.levels[level], Bracket::Fresh | Bracket::Open)
    }

    pub(super) fn is_any_open(&self) -> bool {
        (0..self.levels.len()).any(|level| self.is_open(level))
    }

    /// Is it a step that failed, or does it come after one?
    pub(super) fn descends(&self, step: usize) -> bool {
        let above = &self.plan.steps[step].dependencies;
        self.steps[step].is_fatal || above.iter().any(|&dependency| self.descends(dependency))
    }

    pub(super) fn of_level(&self, level: usize) -> impl Iterator<Item = &Seen> {
        self.plan.levels[level].iter().map(|&step| &self.steps[step])
    }

    pub(super) fn index(&self, id: &StepId) -> usize {
        self.plan.steps.iter().position(|step| step.id == *id).expect("a step of the plan")
    }
}

impl Seen {
    pub(super) fn is_ended(&self) -> bool {
        self.status.is_some_and(StepStatus::is_ended)
    }

    pub(super) fn ended_the_run(&self) -> bool {
        self.status == Some(StepStatus::Cancelled) || self.skipped_by.is_some()
    }
}

pub(super) fn word(value: &Value) -> &str {
    value.as_str().expect("a word")
}
