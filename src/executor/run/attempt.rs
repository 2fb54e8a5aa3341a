//! The life of one attempt: taken by a worker, output, success or failure, delay, retry.

use std::mem;
use std::time::Duration;

use serde_json::Value;

use super::ending::Abort;
use super::retry;
use super::step::{DelayEnd, Leave, Live, Phase, Stopwatch, TimeLimit};
use super::{ABANDON_AFTER, AttemptError, Course, Effects, Launch, Run, Standing, Unit};
use crate::executor::tool::registry::Timeout;
use crate::executor::tool::{CancelToken, Outcome};
use crate::model::{Deadline, Now, OutputStream, Record, Step, StepStatus, StepUpdate, Told};

impl Run {
    /// Hands the next ready step to a worker that is free. `None` where no step was ready, or where the one that was
    /// turned out not to run: ask again while [`has_ready`](Self::has_ready).
    pub fn take(&mut self, now: Now, out: &mut Effects) -> Option<Launch> {
        let (_, unit) = self.ready.pop_first()?;
        let step = self.index(unit);
        if self.eager.is_some() && self.handling.is_none() {
            self.enter_level(step, now, out);
        }
        let is_first = unit.item.is_none() && self.state.steps[step].attempt == 0;
        if is_first && !self.passes_condition(step, now, out) {
            self.advance(now, out);
            return None;
        }
        if unit.item.is_none() && self.plan.steps[step].for_each.is_some() {
            self.spread(step, now, out);
            self.advance(now, out);
            return None;
        }
        Some(self.launch(unit, now, out))
    }

    /// As [`take`](Self::take), while it [has a suspect](Self::has_suspect), that one.
    pub fn take_suspect(&mut self, now: Now, out: &mut Effects) -> Option<Launch> {
        let (_, unit) = self.suspects.pop_first()?;
        Some(self.launch(unit, now, out))
    }

    /// A running attempt said something.
    pub fn output(&mut self, at: (Unit, u32), stream: OutputStream, bytes: Vec<u8>, now: Now, out: &mut Effects) {
        let (unit, attempt) = at;
        if !self.is_calling(unit, attempt) {
            return;
        }
        let whole = Unit { item: None, ..unit };
        let Some(of_step) = self.live.get_mut(&whole) else { return };
        let chunks = of_step.output.push(unit.item, stream, &bytes, now.mono);
        let kept = self.live.get_mut(&unit).and_then(|live| live.keep(bytes, self.context.step_output_bytes_max));
        if let Some(bytes) = kept {
            let (project, run, step) = (self.project.clone(), self.state.run_id.clone(), self.output_id(unit));
            out.records.push(Record::Output { project, run, step, attempt, stream, bytes });
        }
        self.say_chunks(whole, chunks, now, out);
        self.set_deadline(whole);
    }

    /// A worker has returned from an attempt.
    pub fn finish(&mut self, at: (Unit, u32), result: Result<Outcome, AttemptError>, now: Now, out: &mut Effects) {
        let (unit, attempt) = at;
        if !self.is_calling(unit, attempt) {
            return;
        }
        self.flush_output(unit, now, out);
        if !matches!(result, Ok(Outcome::Plan { .. })) {
            self.give_interrupted_child_up(unit, out);
        }
        match &self.live[&unit].phase {
            Phase::Leaving { why, .. } => self.leave_with(unit, *why, result, now, out),
            Phase::Finishing { .. } => self.leave_with(unit, Leave::RunEnds, result, now, out),
            &Phase::Calling { timeout, .. } => match result {
                Ok(Outcome::Output(output)) => self.complete_unit(unit, output, now, out),
                Ok(Outcome::After(delay, output)) => self.delay(unit, delay, output, timeout, now),
                Ok(Outcome::Plan { name, inputs }) => self.call_plan(unit, (name, inputs), timeout, now, out),
                Ok(Outcome::Wait(approval, expires)) => self.ask(unit, (approval, expires), timeout, now, out),
                Err(error) => self.fail_attempt(unit, error, now, out),
            },
            Phase::Queued
            | Phase::Delaying { .. }
            | Phase::Retrying { .. }
            | Phase::Joining { .. }
            | Phase::Spread { .. }
            | Phase::Waiting { .. } => {}
        }
        self.advance(now, out);
    }

    /// Is it still interested in this attempt's reports?
    pub fn is_calling(&self, unit: Unit, attempt: u32) -> bool {
        let phase = self.live.get(&unit).map(|live| &live.phase);
        let has_worker = matches!(phase, Some(Phase::Calling { .. } | Phase::Leaving { .. } | Phase::Finishing { .. }));
        has_worker && self.standing(unit).attempt == attempt
    }

    /// An attempt is kept back until the log has kept that it runs. Its time does not run meanwhile.
    pub fn withhold(&mut self, at: (Unit, u32)) {
        self.limit_time(at, TimeLimit::not_begun);
    }

    /// An attempt that was kept back begins.
    pub fn release(&mut self, at: (Unit, u32), now: Now) {
        self.limit_time(at, |limit| TimeLimit::from(now, limit));
    }

    fn limit_time(&mut self, (unit, attempt): (Unit, u32), anew: impl FnOnce(Timeout) -> TimeLimit) {
        if !self.is_calling(unit, attempt) {
            return;
        }
        if let Some(Live { phase: Phase::Calling { timeout: Some(timeout), .. }, .. }) = self.live.get_mut(&unit) {
            *timeout = anew(timeout.limit);
            self.set_deadline(unit);
        }
    }

    fn launch(&mut self, unit: Unit, now: Now, out: &mut Effects) -> Launch {
        let step = self.index(unit);
        let before = self.standing(unit);
        let attempt = before.attempt + 1;
        let (plan, cancel) = (self.plan.clone(), CancelToken::new());
        let wanted = &plan.steps[step];
        let timeout = self.context.registry.timeout(&wanted.tool, wanted.timeout);
        let timeout = timeout.map(|limit| TimeLimit::from(now, limit));
        let calling = Phase::Calling { cancel: cancel.clone(), timeout };
        if !self.live.contains_key(&unit) {
            self.note_item_begins(unit);
        }
        self.live.entry(unit).or_insert_with(|| Live::new(Stopwatch::start(now), Phase::Queued)).begin();
        self.set_phase(unit, calling);
        let message = running_sentence(wanted, before);
        let running = StepUpdate::Running { step_description: wanted.description.clone(), message };
        self.move_unit(unit, attempt, running, now, out);
        let (project, run) = (self.project.clone(), self.state.run_id.clone());
        Launch { project, run, scope: self.with_item(self.scope(step), unit), plan, step, unit, attempt, cancel }
    }

    /// A delay counts from here, or, where the attempt makes up for one that was interrupted, from the start of that one:
    /// the delay that it may have begun keeps its end over a restart. Whether it outlasts the attempt's timeout is not
    /// for the restart to change.
    fn delay(&mut self, unit: Unit, delay: Duration, output: Value, timeout: Option<TimeLimit>, now: Now) {
        let left = timeout.and_then(|timeout| Some((timeout.ends?.at().saturating_sub(now.mono), timeout.limit)));
        let (lasts, end) = match left {
            Some((left, limit)) if left < delay => (left, DelayEnd::TimedOut(limit)),
            _ => (delay, DelayEnd::Done(output)),
        };
        let until = match self.standing(unit).interrupted_since {
            Some(at) => Deadline::restored(Told { at, lasts }, now),
            None => Deadline::after(lasts, now),
        };
        self.set_phase(unit, Phase::Delaying { until, end });
    }

    /// The deadline of a live unit has come.
    pub(super) fn unit_due(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get_mut(&unit) else { return };
        let chunks = live.output.poll(now.mono);
        self.say_chunks(unit, chunks, now, out);
        let Some(live) = self.live.get_mut(&unit) else { return };
        match &mut live.phase {
            Phase::Calling { cancel, timeout: Some(TimeLimit { ends: Some(ends), limit }) } if ends.has_passed(now) => {
                out.cancels.push(cancel.clone());
                let why = Leave::TimedOut(*limit);
                live.phase = Phase::Leaving { cancel: cancel.clone(), until: Deadline::after(ABANDON_AFTER, now), why };
            }
            Phase::Finishing { until, .. } if until.has_passed(now) => self.ask_to_leave(unit, now, out),
            Phase::Leaving { until, why, .. } if until.has_passed(now) => {
                let why = *why;
                self.flush_output(unit, now, out);
                self.abandon(unit, why, now, out);
            }
            Phase::Delaying { until, end } if until.has_passed(now) => {
                match mem::replace(end, DelayEnd::Done(Value::Null)) {
                    DelayEnd::Done(output) => self.complete_unit(unit, output, now, out),
                    DelayEnd::TimedOut(limit) => self.leave(unit, Leave::TimedOut(limit), now, out),
                }
            }
            Phase::Joining { timeout: Some(TimeLimit { ends: Some(ends), .. }), .. } if ends.has_passed(now) => {
                self.time_child_out(unit, now, out);
            }
            &mut Phase::Waiting { expiry, timeout } => self.wait_is_over(unit, (expiry, timeout), now, out),
            Phase::Retrying { until } if until.has_passed(now) => {
                live.phase = Phase::Queued;
                self.ready.insert((self.rank(unit), unit));
            }
            Phase::Spread { tell: Some(tell) } if tell.has_passed(now) => self.tell_items(unit, now, out),
            _ => {}
        }
        self.set_deadline(unit);
    }

    /// A cancelled attempt has not ended: the step continues without it, but starts no other attempt if the tool must
    /// not run twice.
    fn abandon(&mut self, unit: Unit, why: Leave, now: Now, out: &mut Effects) {
        let step = self.index(unit);
        let may_run_twice = self.context.registry.tool(&self.plan.steps[step].tool).is_none_or(|tool| tool.rerun());
        match why {
            Leave::TimedOut(limit) if !may_run_twice => {
                let timed_out = limit.sentence(&self.plan.steps[step].tool);
                let error = format!("{timed_out}; the attempt is still running, and its tool must not run twice");
                self.fail_attempt(unit, AttemptError::Lasting(error), now, out);
            }
            _ => self.leave(unit, why, now, out),
        }
    }

    /// The run ends, and a worker is to give an attempt of it up.
    pub(super) fn ask_to_leave(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get_mut(&unit) else { return };
        if let Phase::Calling { cancel, .. } | Phase::Finishing { cancel, .. } = &live.phase {
            let (cancel, until) = (cancel.clone(), Deadline::after(ABANDON_AFTER, now));
            out.cancels.push(cancel.clone());
            self.set_phase(unit, Phase::Leaving { cancel, until, why: Leave::RunEnds });
        }
    }

    /// A worker has returned from a cancelled attempt. If it was cancelled for its cost but has completed, its output
    /// is kept, because it was paid for.
    fn leave_with(
        &mut self,
        unit: Unit,
        why: Leave,
        result: Result<Outcome, AttemptError>,
        now: Now,
        out: &mut Effects,
    ) {
        match (why, self.course, result) {
            (Leave::RunEnds, Course::Aborting(Abort::Budget), Ok(Outcome::Output(output))) => {
                self.complete_unit(unit, output, now, out);
            }
            _ => self.leave(unit, why, now, out),
        }
    }

    /// An attempt has ended that was asked to.
    pub(super) fn leave(&mut self, unit: Unit, why: Leave, now: Now, out: &mut Effects) {
        let step = self.index(unit);
        match (why, self.course) {
            (Leave::TimedOut(limit), _) => {
                let error = limit.sentence(&self.plan.steps[step].tool);
                self.fail_attempt(unit, AttemptError::TimedOut(error), now, out);
            }
            (Leave::RunEnds, Course::Aborting(abort)) => self.end_cancelled(unit, abort, now, out),
            (Leave::RunEnds, _) => debug_assert!(false, "asked to leave by a run that goes on"),
        }
    }

    pub(super) fn fail_attempt(&mut self, unit: Unit, error: AttemptError, now: Now, out: &mut Effects) {
        let step = self.index(unit);
        let is_timeout = matches!(error, AttemptError::TimedOut(_));
        let Standing { attempt, retries, .. } = self.standing(unit);
        let (policy, retry_on) = (self.plan.steps[step].retry, self.plan.steps[step].retry_on.clone());
        let is_worth_it = |failure| retry_on.as_ref().is_none_or(|retry_on| is_timeout || retry_on.matches(failure));
        let (error, failure, asked) = match error {
            AttemptError::Passing(error) => (error, None, Duration::ZERO),
            AttemptError::TimedOut(error) => (error, None, Duration::ZERO),
            AttemptError::Busy(error, wait) => (error, None, wait),
            AttemptError::Known { error, failure, wait } => (error, Some(failure), wait.unwrap_or_default()),
            AttemptError::Lasting(error) => return self.fail_unit(unit, error, now, out),
        };
        // Failures alone use retries up, interruptions don't.
        if retries >= policy.max_retries || !is_worth_it(failure) {
            return self.fail_unit(unit, error, now, out);
        }
        self.give_interrupted_child_up(unit, out);
        let seed = self.seed.wrapping_add(u64::from(unit.item.unwrap_or(0)));
        let delay = retry::delay_ms(&policy, retries + 1, retry::mix(seed, step, attempt));
        let delay = retry::lengthened_ms(delay, asked, &policy);
        let until = Deadline::after(Duration::from_millis(delay), now);
        self.set_phase(unit, Phase::Retrying { until });
        let (max_retries, next_retry_at) = (policy.max_retries, now.wall.plus_millis(delay));
        self.move_unit(unit, attempt, StepUpdate::Retrying { error, delay, max_retries, next_retry_at }, now, out);
    }

    fn move_unit(&mut self, unit: Unit, attempt: u32, update: StepUpdate, now: Now, out: &mut Effects) {
        match unit.item {
            None => self.say(self.index(unit), attempt, update, now, out),
            Some(_) => self.move_item(unit, attempt, &update, now, out),
        }
    }

    pub(super) fn complete_unit(&mut self, unit: Unit, output: Value, now: Now, out: &mut Effects) {
        match unit.item {
            None => self.complete(self.index(unit), output, now, out),
            Some(_) => self.complete_item(unit, output, now, out),
        }
    }

    pub(super) fn fail_unit(&mut self, unit: Unit, error: String, now: Now, out: &mut Effects) {
        match unit.item {
            None => self.fail_step(self.index(unit), error, now, out),
            Some(_) => self.fail_item(unit, error, now, out),
        }
    }

    pub(super) fn set_phase(&mut self, unit: Unit, phase: Phase) {
        if let Some(live) = self.live.get_mut(&unit) {
            live.phase = phase;
        }
        self.set_deadline(unit);
    }

    /// Keeps the run's deadlines in step with what the live unit has to be looked at for.
    pub(super) fn set_deadline(&mut self, unit: Unit) {
        let Some(live) = self.live.get_mut(&unit) else { return };
        let due = live.deadline();
        if due != live.due {
            live.due.map(|due| self.deadlines.remove(&(due, unit)));
            due.map(|due| self.deadlines.insert((due, unit)));
            live.due = due;
        }
    }

    fn flush_output(&mut self, unit: Unit, now: Now, out: &mut Effects) {
        let whole = Unit { item: None, ..unit };
        let Some(of_step) = self.live.get_mut(&whole) else { return };
        let chunks = of_step.output.finish(unit.item, now.mono);
        self.say_chunks(whole, chunks, now, out);
        self.set_deadline(whole);
    }
}

/// Says of the attempt that starts now which one it is. `before` is the step before it.
fn running_sentence(step: &Step, before: Standing) -> String {
    let (last, attempt) = (before.attempt, before.attempt + 1);
    match before.status {
        StepStatus::Running => {
            format!("Running again (attempt {attempt}): the server stopped while attempt {last} was running")
        }
        _ if last == 0 => format!("Running: {}", step.title),
        _ => {
            // Interrupted attempts add to those that the policy allows.
            let retries_left = step.retry.max_retries.saturating_sub(before.retries);
            format!("Attempt {attempt} of {}", attempt.saturating_add(retries_left))
        }
    }
}
