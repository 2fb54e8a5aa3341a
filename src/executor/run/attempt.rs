//! The way of one attempt: taken by a worker, heard, ended well or badly, waited for, tried again.

use std::mem;
use std::time::Duration;

use serde_json::Value;

use super::retry;
use super::step::{Deadline, DelayEnd, Leave, Live, Phase, Stopwatch, millis};
use super::{ABANDON_AFTER, AttemptError, Course, Effects, Launch, Run};
use crate::executor::tool::{CancelToken, Outcome};
use crate::model::{Now, OutputStream, Record, Step, StepState, StepStatus, StepUpdate};

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

    /// A running attempt said something.
    pub fn output(&mut self, at: (usize, u32), stream: OutputStream, bytes: Vec<u8>, now: Now, out: &mut Effects) {
        let (step, attempt) = at;
        if !self.is_calling(step, attempt) {
            return;
        }
        let Some(live) = self.live.get_mut(&step) else { return };
        live.output.push(stream, &bytes);
        let chunk = live.output.poll(now.mono);
        if let Some(bytes) = live.keep(bytes, self.context.step_output_bytes_max) {
            let (project, run, id) =
                (self.project.clone(), self.state.run_id.clone(), self.plan.steps[step].id.clone());
            out.records.push(Record::Output { project, run, step: id, attempt, stream, bytes });
        }
        self.say_chunks(step, chunk, now, out);
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

    fn launch(&mut self, rank: usize, step: usize, now: Now, out: &mut Effects) -> Launch {
        let attempt = self.state.steps[step].attempt + 1;
        let (plan, cancel) = (self.plan.clone(), CancelToken::new());
        let wanted = &plan.steps[step];
        let timeout = self.context.registry.timeout(&wanted.tool, wanted.timeout);
        let timeout = timeout.map(|limit| Deadline::after(limit, now));
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
    fn delay(&mut self, step: usize, delay: Duration, output: Value, timeout: Option<Deadline>, now: Now) {
        let until = now.mono.saturating_add(delay);
        let (until, end) = match timeout {
            Some(timeout) if timeout.at < until => (timeout.at, DelayEnd::TimedOut(timeout.limit)),
            _ => (until, DelayEnd::Done(output)),
        };
        let since = self.state.steps[step].interrupted_since;
        let before = since.map_or(0, |since| now.wall.millis_since(since));
        let left = until.saturating_sub(now.mono).saturating_sub(Duration::from_millis(before));
        self.set_phase(step, Phase::Delaying { until: now.mono.saturating_add(left), end });
    }

    /// The deadline of a live step has come.
    pub(super) fn step_due(&mut self, step: usize, now: Now, out: &mut Effects) {
        let Some(live) = self.live.get_mut(&step) else { return };
        let chunk = live.output.poll(now.mono);
        self.say_chunks(step, chunk, now, out);
        let Some(live) = self.live.get_mut(&step) else { return };
        match &mut live.phase {
            Phase::Calling { cancel, timeout: Some(timeout) } if timeout.has_passed(now) => {
                out.cancels.push(cancel.clone());
                let why = Leave::TimedOut(timeout.limit);
                live.phase = Phase::Leaving { cancel: cancel.clone(), until: now.mono + ABANDON_AFTER, why };
            }
            Phase::Leaving { until, why, .. } if *until <= now.mono => {
                let why = *why;
                self.flush_output(step, now, out);
                self.leave(step, why, now, out);
            }
            Phase::Delaying { until, end } if *until <= now.mono => {
                match mem::replace(end, DelayEnd::Done(Value::Null)) {
                    DelayEnd::Done(output) => self.complete(step, output, now, out),
                    DelayEnd::TimedOut(limit) => self.leave(step, Leave::TimedOut(limit), now, out),
                }
            }
            Phase::Retrying { until } if *until <= now.mono => {
                live.phase = Phase::Queued;
                self.ready.insert(live.rank);
            }
            _ => {}
        }
        self.set_deadline(step);
    }

    /// An attempt has ended that was asked to.
    fn leave(&mut self, step: usize, why: Leave, now: Now, out: &mut Effects) {
        match (why, self.course) {
            (Leave::TimedOut(limit), _) => {
                let error = format!("timed out after {} ms", millis(limit));
                self.fail_attempt(step, AttemptError::Passing(error), now, out);
            }
            (Leave::RunEnds, Course::Aborting(abort)) => self.end_cancelled(step, abort, now, out),
            (Leave::RunEnds, _) => debug_assert!(false, "asked to leave by a run that goes on"),
        }
    }

    fn fail_attempt(&mut self, step: usize, error: AttemptError, now: Now, out: &mut Effects) {
        let &StepState { attempt, retries, .. } = &self.state.steps[step];
        let policy = self.plan.steps[step].retry;
        match error {
            // Failures alone use retries up, interruptions don't.
            AttemptError::Passing(error) if retries < policy.max_retries => {
                let delay = retry::delay_ms(&policy, retries + 1, retry::mix(self.seed, step, attempt));
                let until = now.mono.saturating_add(Duration::from_millis(delay));
                self.set_phase(step, Phase::Retrying { until });
                let (max_retries, next_retry_at) = (policy.max_retries, now.wall.plus_millis(delay));
                self.say(step, attempt, StepUpdate::Retrying { error, delay, max_retries, next_retry_at }, now, out);
            }
            AttemptError::Passing(error) | AttemptError::Lasting(error) => self.fail_step(step, error, now, out),
        }
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
