//! What a run says. Everything goes through [`Run::emit`].

use super::{Effects, Run};
use crate::executor::joiner::Chunk;
use crate::model::{Now, Record, RunEvent, RunEventKind, StepOutput, StepProgress, StepUpdate};

impl Run {
    pub(super) fn say_chunks(
        &mut self,
        step: usize,
        chunks: impl IntoIterator<Item = Chunk>,
        now: Now,
        out: &mut Effects,
    ) {
        for Chunk { stream, text, omitted } in chunks {
            let attempt = self.state.steps[step].attempt;
            let step_id = self.plan.steps[step].id.clone();
            let said = StepOutput { step_id, attempt, stream, chunk: text, omitted_bytes: omitted };
            self.emit(RunEventKind::StepOutput(said), now, out);
        }
    }

    pub(super) fn say(&mut self, step: usize, attempt: u32, update: StepUpdate, now: Now, out: &mut Effects) {
        let mut progress = self.state.progress;
        progress.count(update.status());
        let said = &self.plan.steps[step];
        let (step_id, step_title, level) = (said.id.clone(), said.title.clone(), said.level);
        let omitted_bytes = match update {
            StepUpdate::Running { .. } => None,
            _ => self.live.get_mut(&step).and_then(|live| live.output.take_omitted()),
        };
        let moved = StepProgress { step_id, step_title, level, attempt, update, omitted_bytes, progress };
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
