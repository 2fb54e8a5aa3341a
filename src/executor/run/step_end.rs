//! How steps end: their last messages, and the consequences for the run.

use std::sync::Arc;

use serde_json::Value;

use super::{Course, Effects, Run, Unit, cut};
use crate::model::{Cause, CauseKind, KeptOutput, Now, OnFailure, Record, StepUpdate};

impl Run {
    pub(super) fn fail_step(&mut self, step: usize, error: String, now: Now, out: &mut Effects) {
        let continued = self.plan.steps[step].continue_on_failure;
        if continued {
            self.outputs[step] = Some(Arc::new(Value::Null));
        } else if self.course == Course::Onward && self.plan.on_failure == OnFailure::Stop && self.handling.is_none() {
            self.stop();
        }
        let duration = self.duration(step, now);
        self.end_step(step, StepUpdate::Failed { error, duration, continued }, now, out);
        self.assign_blame(step);
    }

    /// Nothing begins any more that its level does not bring along.
    pub(super) fn stop(&mut self) {
        self.course = Course::Stopping;
        if self.eager.is_some() {
            self.ready.retain(|(_, unit)| unit.item.is_some() || self.live.contains_key(unit));
        }
    }

    pub(super) fn complete(&mut self, step: usize, output: Value, now: Now, out: &mut Effects) {
        let change = match self.change_of(step, &output) {
            Ok(change) => change,
            Err(why) => return self.fail_step(step, why, now, out),
        };
        let mark = out.records.len();
        let output = Arc::new(output);
        let shown = cut::cut(&output, self.context.output_bytes_max);
        if shown.cut_from.is_some() {
            let (project, run, id) =
                (self.project.clone(), self.state.run_id.clone(), self.plan.steps[step].id.clone());
            out.records.push(Record::Whole { project, run, step: id, output: output.clone() });
        }
        self.outputs[step] = Some(output);
        let duration = self.duration(step, now);
        self.context.durations.note(&self.project, &self.plan, &self.plan.steps[step], duration);
        let update = StepUpdate::Completed {
            output: shown.value,
            duration,
            truncated: shown.cut_from.is_some(),
            output_bytes: shown.cut_from,
            reused: false,
        };
        self.end_step(step, update, now, out);
        if let Some(change) = change {
            let by = self.plan.steps[step].id.clone();
            self.change_by_step(&change, &by, mark, now, out);
        }
    }

    /// Is the step not run, because the run that this one goes on from has its output?
    pub(super) fn is_kept(&self, step: usize) -> bool {
        !matches!(self.course, Course::Aborting(_)) && self.plan.kept(&self.plan.steps[step].id).is_some()
    }

    /// The step is as the run left it that this one goes on from.
    pub(super) fn reuse(&mut self, step: usize, now: Now, out: &mut Effects) {
        let Some(kept) = self.plan.kept(&self.plan.steps[step].id).cloned() else { return };
        let KeptOutput { output, truncated, output_bytes } = kept;
        self.outputs[step] = match truncated {
            true => self.whole_outputs.remove(&self.plan.steps[step].id),
            false => Some(output.clone()),
        };
        let update = StepUpdate::Completed { output, duration: 0, truncated, output_bytes, reused: true };
        self.end_step(step, update, now, out);
    }

    pub(super) fn skip_below(&mut self, step: usize, failed: usize, now: Now, out: &mut Effects) {
        let failed = self.plan.steps[failed].id.clone();
        let reason = format!("it depends on step {failed}, which failed");
        self.skip(step, reason, Cause { kind: CauseKind::UpstreamFailed, step_id: Some(failed) }, now, out);
    }

    pub(super) fn skip(&mut self, step: usize, reason: String, cause: Cause, now: Now, out: &mut Effects) {
        self.outputs[step] = Some(Arc::new(Value::Null));
        self.end_step(step, StepUpdate::Skipped { reason, cause }, now, out);
    }

    /// Says a step's last message.
    pub(super) fn end_step(&mut self, step: usize, update: StepUpdate, now: Now, out: &mut Effects) {
        let (attempt, unit) = (self.state.steps[step].attempt, self.unit(step));
        self.give_interrupted_child_up(unit, out);
        self.say(step, attempt, update, now, out);
        let is_handler = self.plan.steps[step].handler.is_some();
        if !is_handler {
            self.unended[self.plan.steps[step].level] -= 1;
        }
        self.drop_live(unit);
        self.each.remove(&unit.step);
        if let Some(eager) = &mut self.eager
            && !is_handler
        {
            eager.note_end(step);
        }
    }

    pub(super) fn drop_live(&mut self, unit: Unit) {
        if let Some(live) = self.live.remove(&unit) {
            live.due.map(|due| self.deadlines.remove(&(due, unit)));
        }
    }

    /// Milliseconds since the step's first attempt; 0 where there was none.
    pub(super) fn duration(&self, step: usize, now: Now) -> u64 {
        self.unit_duration(self.unit(step), now)
    }

    pub(super) fn unit_duration(&self, unit: Unit, now: Now) -> u64 {
        self.live.get(&unit).map_or(0, |live| live.watch.elapsed_ms(now))
    }
}
