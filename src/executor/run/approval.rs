//! Steps that wait for a decision: how the wait starts, continues after a restart, and ends.
//!
//! No worker waits, and a shutdown does not wait for it either. The question and its deadline are part of a message, so
//! after a restart the step continues to wait without calling the tool again. The step's timeout, if it has one, also
//! applies to the wait. A rejected or expired approval is not retried.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::step::{Leave, Phase, TimeLimit, millis};
use super::{Effects, Run, Unit};
use crate::executor::tool::approval;
use crate::model::{
    Approval, Choice, Deadline, Decide, Decision, Now, OnExpire, OnReject, SteeringError, StepStatus, StepUpdate, Told,
};

/// Why an item fails that asks for a decision.
const ITEMS_WAIT_NOT: &str = "an approval can't be used with forEach; use a separate step";

/// Why a handler fails that asks for a decision.
const HANDLERS_WAIT_NOT: &str = "an approval can't be used in a handler";

impl Run {
    /// An attempt asks for a decision. An item can't ask: decisions name steps.
    pub(super) fn ask(
        &mut self,
        unit: Unit,
        (mut approval, expires): (Box<Approval>, Option<Duration>),
        timeout: Option<TimeLimit>,
        now: Now,
        out: &mut Effects,
    ) {
        if unit.item.is_some() {
            return self.fail_unit(unit, ITEMS_WAIT_NOT.to_owned(), now, out);
        }
        let step = self.index(unit);
        if self.plan.steps[step].handler.is_some() {
            return self.fail_unit(unit, HANDLERS_WAIT_NOT.to_owned(), now, out);
        }
        approval.expires_at = expires.map(|lasts| now.wall.plus_millis(millis(lasts)));
        let expiry = expires.map(|lasts| Deadline::after(lasts, now));
        self.set_phase(unit, Phase::Waiting { expiry, timeout });
        let attempt = self.state.steps[step].attempt;
        self.say(step, attempt, StepUpdate::Waiting { message: approval.message.clone(), approval }, now, out);
    }

    /// The step asked before a restart: it continues to wait until its expiry.
    pub(super) fn waiting_phase(&self, step: usize, now: Now) -> Phase {
        let state = &self.state.steps[step];
        let until = state.approval.as_ref().and_then(|approval| approval.expires_at);
        let expiry = state.waiting_since.zip(until).map(|(at, until)| {
            let lasts = Duration::from_millis(until.millis_since(at));
            Deadline::restored(Told { at, lasts }, now)
        });
        let wanted = &self.plan.steps[step];
        let limit = self.context.registry.timeout(&wanted.tool, wanted.timeout);
        let timeout = limit.zip(state.attempt_started_at).map(|(limit, at)| TimeLimit {
            ends: Some(Deadline::restored(Told { at, lasts: limit.lasts }, now)),
            limit,
        });
        Phase::Waiting { expiry, timeout }
    }

    /// The time of a step that waits has come, either for a decision or for its attempt.
    pub(super) fn wait_is_over(
        &mut self,
        unit: Unit,
        (expiry, timeout): (Option<Deadline>, Option<TimeLimit>),
        now: Now,
        out: &mut Effects,
    ) {
        let ends = timeout.and_then(|timeout| timeout.ends);
        match (timeout, ends) {
            (Some(TimeLimit { limit, .. }), Some(ends))
                if ends.has_passed(now) && expiry.is_none_or(|expiry| ends < expiry) =>
            {
                self.leave(unit, Leave::TimedOut(limit), now, out);
            }
            _ if expiry.is_some_and(|expiry| expiry.has_passed(now)) => self.expire(self.index(unit), now, out),
            _ => {}
        }
    }

    fn expire(&mut self, step: usize, now: Now, out: &mut Effects) {
        let Some(approval) = self.state.steps[step].approval.clone() else { return };
        let choice = match approval.on_expire {
            OnExpire::Fail => {
                return self.fail_step(step, "the approval expired before anyone decided".to_owned(), now, out);
            }
            OnExpire::Reject => Choice::Reject,
            OnExpire::Approve => Choice::Approve,
        };
        let decision = Decision { choice, by: None, at: now.wall, payload: None, expired: true };
        self.end_wait(step, decision, approval.on_reject, now, out);
    }

    /// Someone decides.
    pub(super) fn decide(
        &mut self,
        decide: &Decide,
        by: &Arc<str>,
        now: Now,
        out: &mut Effects,
    ) -> Result<Value, SteeringError> {
        let step = self.state.position(&decide.step).ok_or(SteeringError::UnknownStep)?;
        // A decision after the expiry is too late, even if the clock was not checked since.
        if let Some(&Phase::Waiting { expiry, timeout }) = self.live.get(&self.unit(step)).map(|live| &live.phase) {
            self.wait_is_over(self.unit(step), (expiry, timeout), now, out);
        }
        let approval = self.question(step)?;
        if !approval.deciders.is_empty() && !approval.deciders.iter().any(|decider| **decider == **by) {
            return Err(SteeringError::NotADecider);
        }
        let payload = match (decide.choice, &approval.schema) {
            (Choice::Approve, Some(schema)) => Some(approval::checked_payload(schema, decide.payload.clone())?),
            _ => decide.payload.clone(),
        };
        let decision = Decision { choice: decide.choice, by: Some(by.clone()), at: now.wall, payload, expired: false };
        let answer = json!({"runId": self.state.run_id, "stepId": decide.step, "decision": decision.choice, "by": by,
            "at": decision.at});
        self.end_wait(step, decision, approval.on_reject, now, out);
        Ok(answer)
    }

    /// The current question of a step.
    fn question(&self, step: usize) -> Result<Box<Approval>, SteeringError> {
        let state = &self.state.steps[step];
        let is_asked = matches!(self.live.get(&self.unit(step)).map(|live| &live.phase), Some(Phase::Waiting { .. }));
        match (&state.approval, &state.decision) {
            (Some(approval), _) if is_asked && state.status == StepStatus::Waiting => Ok(approval.clone()),
            (_, Some(decision)) => {
                let (choice, by, at) = (decision.choice, decision.by.clone(), decision.at);
                Err(SteeringError::AlreadyDecided { choice, by, at })
            }
            _ => Err(SteeringError::NotWaiting { status: state.status }),
        }
    }

    fn end_wait(&mut self, step: usize, decision: Decision, on_reject: OnReject, now: Now, out: &mut Effects) {
        let error = match (decision.choice, on_reject, &decision.by) {
            (Choice::Approve, ..) | (_, OnReject::Continue, _) => None,
            (Choice::Reject, OnReject::Fail, Some(by)) => Some(format!("rejected by {by}")),
            (Choice::Reject, OnReject::Fail, None) => {
                Some("rejected: the approval expired before anyone decided".to_owned())
            }
        };
        let output = decision.output();
        if let Some(live) = self.live.get_mut(&self.unit(step)) {
            live.decision = Some(Box::new(decision));
        }
        match error {
            None => self.complete(step, output, now, out),
            Some(error) => self.fail_step(step, error, now, out),
        }
    }
}
