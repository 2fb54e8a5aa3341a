//! Levels: the messages that open and close them, and runs that process them one after another. Overlapping levels are
//! in [`eager`](super::eager).

use super::step::Stopwatch;
use super::{Course, Effects, Run, metrics};
use crate::model::{LevelCompleted, LevelStarted, Now, RunEventKind, StepId, StepStatus};

impl Run {
    /// Closes levels and opens them, until a step has to be waited for or the run has ended.
    pub(super) fn advance_by_levels(&mut self, now: Now, out: &mut Effects) {
        while !self.is_ended() && self.handling.is_none() {
            match self.open_level() {
                Some(level) if self.is_waiting_in(level) => return,
                Some(level) => self.complete_level(level, now, out),
                None if self.course == Course::Onward => self.next_level(now, out),
                None => self.end_early(now, out),
            }
        }
    }

    /// The one level that is open, if any is.
    pub(super) fn open_level(&self) -> Option<usize> {
        self.state.current_level.filter(|_| self.state.level_open)
    }

    fn is_waiting_in(&self, level: usize) -> bool {
        match self.course {
            Course::Aborting(_) => !self.live.is_empty(),
            Course::Onward | Course::Stopping => self.unended[level] > 0,
        }
    }

    fn next_level(&mut self, now: Now, out: &mut Effects) {
        let level = self.state.current_level.map_or(0, |level| level + 1);
        let plan = self.plan.clone();
        let Some(steps) = plan.levels.get(level) else { return self.end_in_time(now, out) };
        self.start_level(level, now, out);
        for &step in steps {
            self.enqueue(step, now, out);
        }
    }

    /// A step's level has come: it waits for a worker, or is skipped below one that failed.
    pub(super) fn enqueue(&mut self, step: usize, now: Now, out: &mut Effects) {
        self.assign_blame(step);
        match self.blame[step] {
            _ if self.is_kept(step) => self.reuse(step, now, out),
            Some(failed) => self.skip_below(step, failed, now, out),
            None => self.make_ready(step),
        }
    }

    /// Opens a level's bracket.
    pub(super) fn start_level(&mut self, level: usize, now: Now, out: &mut Effects) {
        self.level_watches.insert(level, Stopwatch::start(now));
        let (total_levels, steps) = (self.plan.levels.len(), self.state.levels[level].clone());
        self.emit(RunEventKind::LevelStarted(LevelStarted { level, total_levels, steps }), now, out);
    }

    /// Closes a level's bracket.
    pub(super) fn complete_level(&mut self, level: usize, now: Now, out: &mut Effects) {
        let execution_time = self.level_watches.remove(&level).unwrap_or_default().elapsed_ms(now);
        let ended = |among: fn(StepStatus) -> bool| -> Vec<StepId> {
            let steps = self.plan.levels[level].iter().map(|&step| &self.state.steps[step]);
            steps.filter(|step| among(step.status)).map(|step| step.id.clone()).collect()
        };
        let completed = LevelCompleted {
            level,
            total_levels: self.plan.levels.len(),
            completed_steps: ended(|status| status == StepStatus::Completed),
            failed_steps: ended(|status| status == StepStatus::Failed),
            skipped_steps: ended(|status| status == StepStatus::Skipped),
            cancelled_steps: ended(|status| status == StepStatus::Cancelled),
            execution_time,
            efficiency: metrics::efficiency(&self.plan, &self.state, level, execution_time),
        };
        self.emit(RunEventKind::LevelCompleted(completed), now, out);
    }
}
