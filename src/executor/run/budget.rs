//! The language model usage of a run, and the end of a run that has reached its budget.
//!
//! The usage of ended attempts is part of their messages and survives a restart; the usage of an interrupted attempt is
//! lost. The usage that running attempts have reported so far also counts.

use std::time::Duration;

use super::ending::Abort;
use super::step::{Live, Phase};
use super::{Course, Effects, Run, Unit};
use crate::model::{Budget, Deadline, Now, Reached, Usage};

/// How long an attempt may continue after its report used up the budget. The end of an answer follows within a round
/// trip; a longer answer costs only this much more.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The budget that is used up.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    Plan,
    Tool(&'a str),
}

impl Run {
    /// A running attempt has used so much by now.
    pub fn note_usage(&mut self, at: (Unit, u32), usage: Box<Usage>, now: Now, out: &mut Effects) {
        let (unit, attempt) = at;
        if !self.is_calling(unit, attempt) {
            return;
        }
        if let Some(live) = self.live.get_mut(&unit) {
            live.usage = Some(usage);
        }
        if self.is_to_end_for_its_cost() {
            self.let_finish(unit, now);
            self.abort(Abort::Budget, now, out);
        }
    }

    /// Ends the run early once it has used all that it may.
    pub(super) fn keep_budget(&mut self, now: Now, out: &mut Effects) {
        if self.is_to_end_for_its_cost() {
            self.abort(Abort::Budget, now, out);
        }
    }

    fn is_to_end_for_its_cost(&self) -> bool {
        !self.is_ended() && self.handling.is_none() && self.has_used_up()
    }

    /// The report of this attempt ends the run. Usage is mostly reported last, so its answer may be complete except for
    /// its end.
    fn let_finish(&mut self, unit: Unit, now: Now) {
        if matches!(self.course, Course::Aborting(_)) {
            return;
        }
        if let Some(Live { phase: Phase::Calling { cancel, .. }, .. }) = self.live.get(&unit) {
            let (cancel, until) = (cancel.clone(), Deadline::after(FINISH_WITHIN, now));
            self.set_phase(unit, Phase::Finishing { cancel, until });
        }
    }

    /// There is no time any more for answers that may be about to end.
    pub(super) fn finish_nothing(&mut self, now: Now, out: &mut Effects) {
        let is_finishing = |live: &Live| matches!(live.phase, Phase::Finishing { .. });
        let units: Vec<_> = self.live.iter().filter(|(_, live)| is_finishing(live)).map(|(unit, _)| *unit).collect();
        units.into_iter().for_each(|unit| self.ask_to_leave(unit, now, out));
    }

    /// Has it used all that it may?
    pub(super) fn has_used_up(&self) -> bool {
        self.reached().is_some()
    }

    /// The error of a run that ends this way. A crash may have lost the last usage.
    pub(super) fn budget_sentence(&self) -> String {
        match self.reached() {
            Some((Whose::Plan, reached)) => format!("the run has used {reached} (the plan's budget)"),
            Some((Whose::Tool(tool), reached)) => format!("the run has used {reached} (tools.{tool}.budget)"),
            None => "the run has used up its budget".to_owned(),
        }
    }

    fn reached(&self) -> Option<(Whose<'_>, Reached)> {
        let of_plan = self.plan.budget != Budget::default();
        let of_plan = of_plan.then(|| self.plan.budget.reached_by(&self.used(None))).flatten();
        of_plan.map(|reached| (Whose::Plan, reached)).or_else(|| self.reached_at_a_tool())
    }

    fn reached_at_a_tool(&self) -> Option<(Whose<'_>, Reached)> {
        self.context.registry.budgets().find_map(|(tool, budget)| {
            let reached = budget.reached_by(&self.used(Some(tool)))?;
            Some((Whose::Tool(tool), reached))
        })
    }

    /// The usage of all attempts so far, or of those at one tool.
    fn used(&self, tool: Option<&str>) -> Usage {
        let is_meant = |of: &str| tool.is_none_or(|tool| tool == of);
        let ended = self.state.steps.iter().filter(|step| is_meant(&step.tool));
        let running = self.live.iter().filter(|(unit, _)| is_meant(&self.plan.steps[self.index(**unit)].tool));
        let told = ended.filter_map(|step| step.usage.as_deref());
        let told = told.chain(running.filter_map(|(_, live)| live.usage.as_deref()));
        told.fold(Usage::default(), |mut sum, usage| {
            sum.add(usage);
            sum
        })
    }
}
