//! Continues a story after a change of the plan: what was sent about a step stays with the step, even if its index
//! changes.

use std::sync::Arc;

use super::{Part, Story};
use crate::formats::head::StepHead;
use crate::model::{PlannedStep, RunEvent, RunEventKind, StepId};

impl Story {
    /// Folds a message that may bring another plan. A story that began with the newest plan's steps knows them already.
    pub(super) fn fold(&mut self, event: &RunEvent) {
        let planned = match &event.kind {
            RunEventKind::PlanChanged(changed) => &changed.steps,
            RunEventKind::Started(started) if !started.steps.is_empty() => &started.steps,
            _ => return self.state.apply(event),
        };
        let (revision, before) = (self.state.revision, self.state.steps.clone());
        self.state.apply(event);
        if self.state.revision != revision {
            self.move_steps(before.iter().map(|step| &step.id));
            self.note_plan(planned);
        }
    }

    /// Puts what belongs to the steps of `before` where these stand now. Steps that are gone had not moved.
    fn move_steps<'a>(&mut self, before: impl Iterator<Item = &'a StepId>) {
        let places: Vec<Option<usize>> = before.map(|id| self.state.position(id)).collect();
        let count = self.state.steps.len();
        self.steps = moved(std::mem::take(&mut self.steps), &places, count);
        let head = Arc::make_mut(&mut self.head);
        head.steps = moved(std::mem::take(&mut head.steps), &places, count);
        head.start = self.state.at_its_start();
        for part in &mut self.parts {
            let step = part.step_mut();
            *step = places.get(*step).copied().flatten().unwrap_or(*step);
        }
    }

    /// Notes planned steps. Only the plan has their inputs.
    fn note_plan(&mut self, planned: &[PlannedStep]) {
        for step in planned {
            let Some(at) = self.state.position(&step.id) else { continue };
            let head = StepHead { description: step.description.clone(), ..StepHead::default() };
            if let Some(known) = Arc::make_mut(&mut self.head).steps.get_mut(at) {
                *known = head;
            }
        }
    }
}

/// What stood at the places before stands where `places` say now; what is new is empty.
fn moved<T: Default>(before: Vec<T>, places: &[Option<usize>], count: usize) -> Vec<T> {
    let mut now: Vec<T> = std::iter::repeat_with(T::default).take(count).collect();
    for (item, place) in before.into_iter().zip(places) {
        if let Some(to) = place.and_then(|place| now.get_mut(place)) {
            *to = item;
        }
    }
    now
}

impl Part {
    fn step_mut(&mut self) -> &mut usize {
        match self {
            Self::Step(step) => step,
            Self::Call(call) => &mut call.step,
            Self::Text(text) => &mut text.step,
            Self::Log(log) => &mut log.step,
        }
    }
}
