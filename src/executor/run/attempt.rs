//! The way of one attempt: taken by a worker, heard, ended well or badly, waited for, tried again.

use std::mem;
use std::time::Duration;

use serde_json::Value;

use super::retry;
use super::step::{DelayEnd, Leave, Live, Phase, Stopwatch, TimeLimit};
use super::{ABANDON_AFTER, AttemptError, Course, Effects, Launch, Run};
use crate::executor::tool::registry::Timeout;
use crate::executor::tool::{CancelToken, Outcome};
use crate::model::{Deadline, Now, OutputStream, Record, Step, StepState, StepStatus, StepUpdate, Told};

impl Run {
    /// Hands the next ready step to a worker that is free. `None` where no step was ready, or where the one that was
    /// turned out not to run: ask again while [`has_ready`](Self::has_ready).
    pub fn take(&mut self, now: Now, out: &mut Effects) -> Option<Launch> {
        let rank = self.ready.pop_first()?;
        let step = self.plan.levels[self.level()][rank];
        let is_first = self.state.steps[step].attempt == 0;
        if is_first && !self.passes_condition(step, now, out) {
            self.advance(now, out);
            return None;
        }
        Some(self.launch(rank, step, now, out))
    }

    /// As [`take`](Self::take), while it [has a suspect](Self::has_suspect), that one.
    pub fn take_suspect(&mut self, now: Now, out: &mut Effects) -> Option<Launch> {
        let rank = self.suspects.pop_first()?;
        let step = self.plan.levels[self.level()][rank];
        Some(self.launch(rank, step, now, out))
    }

    /// A running attempt said something.
    pub fn output(&mut self, at: (usize, u32), stream: OutputStream, bytes: Vec<u8>, now: Now, out: &mut Effects) {
        let (step, attempt) = at;
        if !self.is_calling(step, attempt) {
            return;
        }
        let Some(live) = self.live.get_mut(&step) else { return };
        let chunks = live.output.push(stream, &bytes, now.mono);
        if let Some(bytes) = live.keep(bytes, self.context.step_output_bytes_max) {
            let (project, run, id) =
                (self.project.clone(), self.state.run_id.clone(), self.plan.steps[step].id.clone());
            out.records.push(Record::Output { project, run, step: id, attempt, stream, bytes });
        }
        self.say_chunks(step, chunks, now, out);
        self.set_deadline(step);
    }

    /// A worker has returned from an attempt.
    pub fn finish(&mut self, at: (usize, u32), result: Result<Outcome, AttemptError>, now: Now, out: &mut Effects) {
        let (step, attempt) = at;
        if !self.is_calling(step, attempt) {
            return;
        }
        self.flush_output(step, now, out);
        match &self.live[&step].phase {
            Phase::Leaving { why, .. } => self.leave(step, *why, now, out),
            &Phase::Calling { timeout, .. } => match result {
                Ok(Outcome::Output(output)) => self.complete(step, output, now, out),
                Ok(Outcome::After(delay, output)) => self.delay(step, delay, output, timeout, now),
                Err(error) => self.fail_attempt(step, error, now, out),
            },
            Phase::Queued | Phase::Delaying { .. } | Phase::Retrying { .. } => {}
        }
        self.advance(now, out);
    }

    /// Is it still interested in this attempt's reports?
    pub fn is_calling(&self, step: usize, attempt: u32) -> bool {
        let phase = self.live.get(&step).map(|live| &live.phase);
        let has_worker = matches!(phase, Some(Phase::Calling { .. } | Phase::Leaving { .. }));
        has_worker && self.state.steps[step].attempt == attempt
    }

    /// An attempt is kept back until the log has kept that it runs. Its time does not run meanwhile.
    pub fn withhold(&mut self, at: (usize, u32)) {
        self.limit_time(at, TimeLimit::not_begun);
    }

    /// An attempt that was kept back begins.
    pub fn release(&mut self, at: (usize, u32), now: Now) {
        self.limit_time(at, |limit| TimeLimit::from(now, limit));
    }

    fn limit_time(&mut self, (step, attempt): (usize, u32), anew: impl FnOnce(Timeout) -> TimeLimit) {
        if !self.is_calling(step, attempt) {
            return;
        }
        if let Some(Live { phase: Phase::Calling { timeout: Some(timeout), .. }, .. }) = self.live.get_mut(&step) {
            *timeout = anew(timeout.limit);
            self.set_deadline(step);
        }
    }

    fn launch(&mut self, rank: usize, step: usize, now: Now, out: &mut Effects) -> Launch {
        let attempt = self.state.steps[step].attempt + 1;
        let (plan, cancel) = (self.plan.clone(), CancelToken::new());
        let wanted = &plan.steps[step];
        let timeout = self.context.registry.timeout(&wanted.tool, wanted.timeout);
        let timeout = timeout.map(|limit| TimeLimit::from(now, limit));
        let calling = Phase::Calling { cancel: cancel.clone(), timeout };
        self.live.entry(step).or_insert_with(|| Live::new(rank, Stopwatch::start(now), Phase::Queued)).said = 0;
        self.set_phase(step, calling);
        let message = running_sentence(wanted, &self.state.steps[step]);
        let running = StepUpdate::Running { step_description: wanted.description.clone(), message };
        self.say(step, attempt, running, now, out);
        let (project, run) = (self.project.clone(), self.state.run_id.clone());
        Launch { project, run, scope: self.scope(step), plan, step, attempt, cancel }
    }

    /// A delay counts from here, or, where the attempt makes up for one that was interrupted, from the start of that one:
    /// the delay that it may have begun keeps its end over a restart. Whether it outlasts the attempt's timeout is not
    /// for the restart to change.
    fn delay(&mut self, step: usize, delay: Duration, output: Value, timeout: Option<TimeLimit>, now: Now) {
        let left = timeout.and_then(|timeout| Some((timeout.ends?.at().saturating_sub(now.mono), timeout.limit)));
        let (lasts, end) = match left {
            Some((left, limit)) if left < delay => (left, DelayEnd::TimedOut(limit)),
            _ => (delay, DelayEnd::Done(output)),
        };
        let until = match self.state.steps[step].interrupted_since {
            Some(at) => Deadline::restored(Told { at, lasts }, now),
            None => Deadline::after(lasts, now),
        };
        self.set_phase(step, Phase::Delaying { until, end });
    }

    /// The deadline of a live step has come.
    pub(super) fn step_due(&mut self, step: usize, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get_mut(&step) else { return };
        let chunks = live.output.poll(now.mono);
        self.say_chunks(step, chunks, now, out);
        let Some(live) = self.live.get_mut(&step) else { return };
        match &mut live.phase {
            Phase::Calling { cancel, timeout: Some(TimeLimit { ends: Some(ends), limit }) } if ends.has_passed(now) => {
                out.cancels.push(cancel.clone());
                let why = Leave::TimedOut(*limit);
                live.phase = Phase::Leaving { cancel: cancel.clone(), until: Deadline::after(ABANDON_AFTER, now), why };
            }
            Phase::Leaving { until, why, .. } if until.has_passed(now) => {
                let why = *why;
                self.flush_output(step, now, out);
                self.abandon(step, why, now, out);
            }
            Phase::Delaying { until, end } if until.has_passed(now) => {
                match mem::replace(end, DelayEnd::Done(Value::Null)) {
                    DelayEnd::Done(output) => self.complete(step, output, now, out),
                    DelayEnd::TimedOut(limit) => self.leave(step, Leave::TimedOut(limit), now, out),
                }
            }
            Phase::Retrying { until } if until.has_passed(now) => {
                live.phase = Phase::Queued;
                self.ready.insert(live.rank);
            }
            _ => {}
        }
        self.set_deadline(step);
    }

    /// An attempt has not ended that was asked to: the step goes on without it, but begins no other beside it where its
    /// tool must not run twice.
    fn abandon(&mut self, step: usize, why: Leave, now: Now, out: &mut Effects) {
        let may_run_twice = self.context.registry.tool(&self.plan.steps[step].tool).is_none_or(|tool| tool.rerun());
        match why {
            Leave::TimedOut(limit) if !may_run_twice => {
                let timed_out = limit.sentence(&self.plan.steps[step].tool);
                let error = format!("{timed_out}; the attempt does not end, and its tool must not run twice");
                self.fail_attempt(step, AttemptError::Lasting(error), now, out);
            }
            _ => self.leave(step, why, now, out),
        }
    }

    /// An attempt has ended that was asked to.
    fn leave(&mut self, step: usize, why: Leave, now: Now, out: &mut Effects) {
        match (why, self.course) {
            (Leave::TimedOut(limit), _) => {
                let error = limit.sentence(&self.plan.steps[step].tool);
                self.fail_attempt(step, AttemptError::Passing(error), now, out);
            }
            (Leave::RunEnds, Course::Aborting(abort)) => self.end_cancelled(step, abort, now, out),
            (Leave::RunEnds, _) => debug_assert!(false, "asked to leave by a run that goes on"),
        }
    }

    fn fail_attempt(&mut self, step: usize, error: AttemptError, now: Now, out: &mut Effects) {
        let &StepState { attempt, retries, .. } = &*self.state.steps[step];
        let policy = self.plan.steps[step].retry;
        let (error, asked) = match error {
            AttemptError::Passing(error) => (error, Duration::ZERO),
            AttemptError::Busy(error, wait) => (error, wait),
            AttemptError::Lasting(error) => return self.fail_step(step, error, now, out),
        };
        // Failures alone use retries up, interruptions don't.
        if retries >= policy.max_retries {
            return self.fail_step(step, error, now, out);
        }
        let delay = retry::delay_ms(&policy, retries + 1, retry::mix(self.seed, step, attempt));
        let delay = retry::lengthened_ms(delay, asked, &policy);
        let until = Deadline::after(Duration::from_millis(delay), now);
        self.set_phase(step, Phase::Retrying { until });
        let (max_retries, next_retry_at) = (policy.max_retries, now.wall.plus_millis(delay));
        self.say(step, attempt, StepUpdate::Retrying { error, delay, max_retries, next_retry_at }, now, out);
    }

    fn set_phase(&mut self, step: usize, phase: Phase) {
        if let Some(live) = self.live.get_mut(&step) {
            live.phase = phase;
        }
        self.set_deadline(step);
    }

    /// Keeps the run's deadlines in step with what the live step has to be looked at for.
    pub(super) fn set_deadline(&mut self, step: usize) {
        let Some(live) = self.live.get_mut(&step) else { return };
        let due = live.deadline();
        if due != live.due {
            live.due.map(|due| self.deadlines.remove(&(due, step)));
            due.map(|due| self.deadlines.insert((due, step)));
            live.due = due;
        }
    }

    fn flush_output(&mut self, step: usize, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get_mut(&step) else { return };
        let chunks = live.output.finish(now.mono);
        self.say_chunks(step, chunks, now, out);
    }
}

/// Says of the attempt that starts now which one it is. `before` is the step before it.
fn running_sentence(step: &Step, before: &StepState) -> String {
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
