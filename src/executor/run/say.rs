//! Emits the messages of a run. All of them go through [`Run::emit`].

use super::{Each, Effects, Run, Unit};
use crate::executor::joiner::Chunk;
use crate::model::{Now, Record, RunEvent, RunEventKind, StepOutput, StepProgress, StepUpdate};

impl Run {
    pub(super) fn say_chunks(
        &mut self,
        unit: Unit,
        chunks: impl IntoIterator<Item = Chunk>,
        now: Now,
        out: &mut Effects,
    ) {
        for Chunk { item, stream, text, omitted } in chunks {
            let attempt = self.standing(Unit { item, ..unit }).attempt;
            let step_id = self.plan.steps[self.index(unit)].id.clone();
            let said = StepOutput { step_id, item, attempt, stream, chunk: text, omitted_bytes: omitted };
            self.emit(RunEventKind::StepOutput(said), now, out);
        }
    }

    pub(super) fn say(&mut self, step: usize, attempt: u32, update: StepUpdate, now: Now, out: &mut Effects) {
        let mut progress = self.state.progress;
        let said = &self.plan.steps[step];
        if said.handler.is_none() {
            progress.count(update.status());
        }
        let handling = self.handling.as_ref().filter(|_| said.handler.is_some());
        let (handler, outcome) = (said.handler, handling.map(|handling| Box::new(handling.outcome.clone())));
        let items = self.each.get(&self.unit(step).step).map(Each::counts);
        let (mut omitted_bytes, mut usage, mut decision) = (None, None, None);
        let begins = matches!(update, StepUpdate::Running { .. }) && !items.is_some_and(|items| items.have_begun());
        if !begins && let Some(live) = self.live.get_mut(&self.unit(step)) {
            (omitted_bytes, usage) = (live.output.take_omitted(), live.usage.take());
            decision = live.decision.take();
        }
        let level = said.level;
        let moved = StepProgress::of(&said.id, &said.title, update, progress);
        let moved = StepProgress { level, attempt, handler, outcome, omitted_bytes, usage, items, decision, ..moved };
        self.emit(RunEventKind::Progress(moved), now, out);
    }

    /// The one door: whatever the run says, it also is.
    pub(super) fn emit(&mut self, kind: RunEventKind, now: Now, out: &mut Effects) {
        debug_assert!(!self.is_ended(), "the last message was said");
        let event = RunEvent { run_id: self.state.run_id.clone(), timestamp: now.wall, kind };
        self.state.apply(&event);
        out.records.push(Record::Event { project: self.project.clone(), event });
    }
}
