//! Steps that call their tool for each item of an array.
//!
//! To others such a step is a single step: it runs from its first item to its last, and reports the totals from time to
//! time. Its items are [units](Unit) with their own attempts. Each change of an item is a [`Record::Item`], from which
//! a restart continues. The array itself is evaluated once when the step starts, and again after a restart from the
//! same outputs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ending::Abort;
use super::step::{Live, Phase, Stopwatch};
use super::{Course, Effects, INTERRUPTED, Run, Unit, cut};
use crate::executor::template::Scope;
use crate::model::{
    Deadline, INDEX_NAME, ITEMS_MAX, ItemCounts, ItemState, Now, Record, StepId, StepStatus, StepUpdate, Usage,
};

/// How soon after one message about its items a step may send the next: four a second at most.
const TELL_PACE: Duration = Duration::from_millis(250);

/// What a run knows about the items of a running step.
#[derive(Debug)]
pub(super) struct Each {
    values: Vec<Arc<Value>>,
    states: Vec<ItemState>,
    /// By item: its whole output.
    outputs: Vec<Option<Arc<Value>>>,
    counts: ItemCounts,
    /// The first item that was not made ready.
    next: usize,
    /// Items that wait for a worker for the first time.
    queued: usize,
    /// None begins any more: one has failed.
    is_stopped: bool,
    /// The counts that were reported last, and when.
    told: ItemCounts,
    told_at: Duration,
}

impl Each {
    fn new(values: Vec<Value>, now: Now) -> Self {
        let total = values.len();
        Self {
            states: (0..total as u32).map(ItemState::pending).collect(),
            outputs: vec![None; total],
            values: values.into_iter().map(Arc::new).collect(),
            counts: ItemCounts { total, ..ItemCounts::default() },
            next: 0,
            queued: 0,
            is_stopped: false,
            told: ItemCounts::default(),
            told_at: now.mono,
        }
    }

    /// How far the items are.
    pub(super) fn counts(&self) -> ItemCounts {
        self.counts
    }

    /// Where an item is. Only items that the step has are asked for.
    pub(super) fn state(&self, item: u32) -> &ItemState {
        &self.states[item as usize]
    }

    /// Does no item run, or wait for a worker?
    fn is_idle(&self) -> bool {
        self.queued == 0 && self.counts.running == 0
    }

    fn output(&mut self) -> Value {
        let output = |output: Option<Arc<Value>>| output.map_or(Value::Null, Arc::unwrap_or_clone);
        std::mem::take(&mut self.outputs).into_iter().map(output).collect()
    }

    /// Why the step fails: its first item that failed, and how many did.
    fn error(&self) -> String {
        let mut failed = self.states.iter().filter(|item| item.status == StepStatus::Failed);
        let first = failed.clone().next();
        let error = |item: &ItemState| item.error.clone().unwrap_or_default();
        let ItemCounts { done, failed: count, total, .. } = self.counts;
        let counts = format!("{count} of {total} items failed, {done} completed");
        match first {
            // The step counts as interrupted if nothing else is wrong with it.
            Some(first) if failed.all(|item| error(item).starts_with(INTERRUPTED)) => {
                format!("{} (item {}; {counts})", error(first), first.item)
            }
            Some(first) => format!("item {} failed: {} ({counts})", first.item, error(first)),
            None => counts,
        }
    }
}

impl Run {
    /// A step begins that has items: they are made ready.
    pub(super) fn spread(&mut self, step: usize, now: Now, out: &mut Effects) {
        let values = match self.items_of(step) {
            Ok(values) => values,
            Err(error) => return self.fail_step(step, error, now, out),
        };
        let unit = self.unit(step);
        let message = format!("Running: {} ({} items)", self.plan.steps[step].title, values.len());
        let mut each = Each::new(values, now);
        each.told = each.counts;
        self.each.insert(unit.step, each);
        self.live.insert(unit, Live::new(Stopwatch::start(now), Phase::Spread { tell: None }));
        let step_description = self.plan.steps[step].description.clone();
        self.say(step, 1, StepUpdate::Running { step_description, message }, now, out);
        self.go_on_with_items(unit, now, out);
    }

    /// A step that was running when the process ended goes on with the items that were not done.
    pub(super) fn spread_again(&mut self, step: usize, now: Now, out: &mut Effects) {
        let unit = self.unit(step);
        let is_aborting = matches!(self.course, Course::Aborting(_));
        let watch = Stopwatch::resume(self.state.steps[step].started_at, now);
        let kept = self.kept_items.remove(&self.plan.steps[step].id).unwrap_or_default();
        let mut live = Live::new(watch, Phase::Spread { tell: None });
        live.usage = self.untold_usage(step, &kept);
        self.live.insert(unit, live);
        let values = match self.items_of(step) {
            Ok(values) => values,
            Err(error) if !is_aborting => return self.fail_step(step, error, now, out),
            Err(_) => Vec::new(),
        };
        let mut each = Each::new(values, now);
        each.told = self.state.steps[step].items.unwrap_or_default();
        let kept: Vec<_> = kept.into_iter().filter(|item| (item.item as usize) < each.states.len()).collect();
        for item in &kept {
            let at = item.item as usize;
            each.states[at] = item.clone();
            each.outputs[at] = self.kept_output(step, item);
            match item.status {
                StepStatus::Running | StepStatus::Retrying => each.counts.running += 1,
                StepStatus::Completed => each.counts.done += 1,
                StepStatus::Failed => each.counts.failed += 1,
                StepStatus::Pending | StepStatus::Waiting | StepStatus::Skipped | StepStatus::Cancelled => {}
            }
        }
        each.is_stopped = each.counts.failed > 0 && !self.plan.steps[step].tries_all_items(self.plan.on_failure);
        self.each.insert(unit.step, each);
        for item in kept {
            let unit = Unit { item: Some(item.item), ..unit };
            match item.status {
                StepStatus::Running => self.run_again(unit, now, out),
                StepStatus::Retrying => self.wait_on(unit, now),
                _ => {}
            }
        }
        if !is_aborting {
            self.go_on_with_items(unit, now, out);
        }
    }

    /// The usage of items that was not reported when the process ended: the step reports it with its next message.
    fn untold_usage(&self, step: usize, kept: &[ItemState]) -> Option<Box<Usage>> {
        let mut used = None;
        kept.iter().filter_map(|item| item.usage.as_deref()).for_each(|usage| Usage::add_to(&mut used, usage));
        let told = self.state.steps[step].usage.as_deref();
        told.map_or(used.clone(), |told| used?.without(told).map(Box::new))
    }

    fn items_of(&self, step: usize) -> Result<Vec<Value>, String> {
        let Some(each) = &self.plan.steps[step].for_each else { return Ok(Vec::new()) };
        let items = self.context.engine.items(&each.items, &self.scope(step), ITEMS_MAX);
        items.map_err(|error| format!("forEach: {error}"))
    }

    fn kept_output(&mut self, step: usize, item: &ItemState) -> Option<Arc<Value>> {
        match item.status {
            StepStatus::Completed if item.truncated => self.whole_outputs.remove(&item.id(&self.plan.steps[step].id)),
            StepStatus::Completed => item.output.clone(),
            _ => None,
        }
    }

    /// As what a unit's output is kept.
    pub(super) fn output_id(&self, unit: Unit) -> StepId {
        let id = &self.plan.steps[self.index(unit)].id;
        unit.item.map_or_else(|| id.clone(), |item| id.of_item(item))
    }

    /// Adds the values that only the inputs of an item may name.
    pub(super) fn with_item(&self, scope: Scope, unit: Unit) -> Scope {
        let step = &self.plan.steps[self.index(unit)];
        let each = self.each.get(&unit.step).zip(step.for_each.as_ref());
        match each.zip(unit.item) {
            None => scope,
            Some(((each, said), item)) => scope
                .with(said.name.to_string(), each.values[item as usize].clone())
                .with(INDEX_NAME, Arc::new(Value::from(item))),
        }
    }

    /// A worker is about to have an item for the first time.
    pub(super) fn note_item_begins(&mut self, unit: Unit) {
        if let Some(each) = self.each.get_mut(&unit.step).filter(|_| unit.item.is_some()) {
            each.queued = each.queued.saturating_sub(1);
            each.counts.running += 1;
        }
    }

    /// No item that has not begun does any more.
    pub(super) fn forget_queued_items(&mut self) {
        self.each.values_mut().for_each(|each| each.queued = 0);
    }

    /// Says a move of an item that goes on.
    pub(super) fn move_item(&mut self, unit: Unit, attempt: u32, update: &StepUpdate, now: Now, out: &mut Effects) {
        let id = self.plan.steps[self.index(unit)].id.clone();
        let used = match update {
            StepUpdate::Running { .. } => None,
            _ => self.live.get_mut(&unit).and_then(|live| live.usage.take()),
        };
        let Some((each, item)) = self.each.get_mut(&unit.step).zip(unit.item) else { return };
        let state = &mut each.states[item as usize];
        state.apply(attempt, update, now.wall);
        if let (Some(used), Some(of_step)) = (used, self.live.get_mut(&Unit { item: None, ..unit })) {
            // Its step tells it with its next message.
            Usage::add_to(&mut state.usage, &used);
            Usage::add_to(&mut of_step.usage, &used);
        }
        let (project, run, state) = (self.project.clone(), self.state.run_id.clone(), Box::new(state.clone()));
        out.records.push(Record::Item { project, run, step: id, state });
        self.tell_items(Unit { item: None, ..unit }, now, out);
    }

    pub(super) fn complete_item(&mut self, unit: Unit, output: Value, now: Now, out: &mut Effects) {
        let output = Arc::new(output);
        let shown = cut::cut(&output, self.context.output_bytes_max);
        if shown.cut_from.is_some() {
            let (project, run, step) = (self.project.clone(), self.state.run_id.clone(), self.output_id(unit));
            out.records.push(Record::Whole { project, run, step, output: output.clone() });
        }
        if let Some((each, item)) = self.each.get_mut(&unit.step).zip(unit.item) {
            each.outputs[item as usize] = Some(output);
            each.counts.done += 1;
        }
        let update = StepUpdate::Completed {
            output: shown.value,
            duration: self.unit_duration(unit, now),
            truncated: shown.cut_from.is_some(),
            output_bytes: shown.cut_from,
            reused: false,
        };
        self.end_item(unit, &update, now, out);
    }

    pub(super) fn fail_item(&mut self, unit: Unit, error: String, now: Now, out: &mut Effects) {
        let tries_all = self.plan.steps[self.index(unit)].tries_all_items(self.plan.on_failure);
        if let Some(each) = self.each.get_mut(&unit.step) {
            each.counts.failed += 1;
            if !tries_all && !std::mem::replace(&mut each.is_stopped, true) {
                each.queued = 0;
                let live = &self.live;
                self.ready
                    .retain(|(_, other)| other.step != unit.step || other.item.is_none() || live.contains_key(other));
            }
        }
        let duration = self.unit_duration(unit, now);
        self.end_item(unit, &StepUpdate::Failed { error, duration, continued: false }, now, out);
    }

    pub(super) fn cancel_item(&mut self, unit: Unit, abort: Abort, now: Now, out: &mut Effects) {
        let update = StepUpdate::Cancelled { reason: self.abort_sentence(abort), cause: abort.cause() };
        self.end_item(unit, &update, now, out);
    }

    fn end_item(&mut self, unit: Unit, update: &StepUpdate, now: Now, out: &mut Effects) {
        if let Some(each) = self.each.get_mut(&unit.step) {
            each.counts.running = each.counts.running.saturating_sub(1);
        }
        let attempt = self.standing(unit).attempt;
        self.move_item(unit, attempt, update, now, out);
        self.drop_live(unit);
        self.go_on_with_items(Unit { item: None, ..unit }, now, out);
    }

    /// Makes as many items ready as may be on their way, and ends the step where none is left.
    fn go_on_with_items(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        if !matches!(self.course, Course::Aborting(_)) {
            self.make_items_ready(unit);
        }
        self.end_if_idle(unit, now, out);
    }

    fn make_items_ready(&mut self, unit: Unit) {
        let step = self.index(unit);
        let max = self.plan.steps[step].for_each.as_ref().map_or(0, |each| each.max_concurrent);
        let Some(each) = self.each.get_mut(&unit.step) else { return };
        let mut made = Vec::new();
        while !each.is_stopped && each.next < each.states.len() && each.queued + each.counts.running < max {
            if each.states[each.next].status == StepStatus::Pending {
                each.queued += 1;
                made.push(Unit { item: Some(each.next as u32), ..unit });
            }
            each.next += 1;
        }
        for unit in made {
            self.ready.insert((self.rank(unit), unit));
        }
    }

    /// A step whose items are over ends.
    pub(super) fn end_if_idle(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let step = self.index(unit);
        let Some(each) = self.each.get_mut(&unit.step).filter(|each| each.is_idle()) else {
            return self.tell_items(unit, now, out);
        };
        let has_failed = each.counts.failed > 0 && !self.plan.steps[step].tolerates_failed_items();
        match self.course {
            Course::Aborting(abort) => self.end_cancelled(unit, abort, now, out),
            _ if has_failed => {
                let error = each.error();
                self.fail_step(step, error, now, out);
            }
            _ => {
                let output = each.output();
                self.complete(step, output, now, out);
            }
        }
    }

    /// Says how far the items are, where that is not as it was said last and its time has come.
    pub(super) fn tell_items(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let step = self.index(unit);
        let is_aborting = matches!(self.course, Course::Aborting(_));
        let Some(each) = self.each.get_mut(&unit.step) else { return };
        let is_news = each.told != each.counts && !is_aborting;
        let due = each.told_at + TELL_PACE;
        if is_news && due <= now.mono {
            (each.told, each.told_at) = (each.counts, now.mono);
            let ItemCounts { done, failed, total, .. } = each.counts;
            let message = format!("{done} of {total} items completed, {failed} failed");
            let step_description = self.plan.steps[step].description.clone();
            self.say(step, 1, StepUpdate::Running { step_description, message }, now, out);
        }
        let waits = self.each.get(&unit.step).is_some_and(|each| each.told != each.counts) && !is_aborting;
        let tell = waits.then(|| Deadline::after(due.saturating_sub(now.mono), now));
        if self.live.get(&unit).is_some_and(|live| matches!(live.phase, Phase::Spread { .. })) {
            self.set_phase(unit, Phase::Spread { tell });
        }
    }
}
