//! What must hold between runs at the end: between a run and its children, between a run and its retries, and among the
//! runs of a group. Also counts which of the things that runs can report have occurred.

use std::collections::BTreeSet;

use serde_json::Value;

use super::model::Model;
use super::run_model::RunModel;
use crate::model::{
    EndReason, ProjectId, RunEventKind, RunId, RunStatus, Scheduling, StepProgress, StepStatus, StepUpdate,
};

impl Model {
    /// Looks at all runs and what each has to do with others; what was met.
    pub(super) fn check_kinships(&self) -> BTreeSet<String> {
        let mut met = BTreeSet::new();
        for (project, run, known) in self.runs() {
            self.check_parent(project, run, known);
            self.check_children(project, run, known);
            self.check_retried(project, known);
            self.check_group(project, run, known);
            known.note_what_it_met(&mut met);
        }
        met
    }

    /// A child begins while its parent goes on, and is asked to end where it outlasts that.
    fn check_parent(&self, project: &ProjectId, run: &RunId, known: &RunModel) {
        let Some(parent) = known.state(0).parent else { return };
        let above = self.run(project, &parent.run_id).expect("its parent was taken on");
        let (Some(end), Some(last)) = (above.last_seq(), known.said.last().map(|(seq, _)| *seq)) else { return };
        assert!(last < end || known.is_cancelled, "{run} outlasts {}", parent.run_id);
        let is_sibling = |other: &RunModel| other.state(0).parent.as_ref() == Some(&parent);
        let siblings = self.runs().filter(|(of, _, other)| *of == project && is_sibling(other)).count();
        let failures = above.progress().filter(|said| said.step_id == parent.step_id);
        let retries = failures.filter(|said| matches!(said.update, StepUpdate::Retrying { .. })).count();
        assert!(siblings <= retries + 1, "step {} of {} has {siblings} children", parent.step_id, parent.run_id);
    }

    /// What a step says of its child is what the child has said.
    fn check_children(&self, project: &ProjectId, run: &RunId, known: &RunModel) {
        for step in known.state(u64::MAX).steps.iter().filter(|step| &*step.tool == "plan" && !step.reused) {
            let Some(Value::Object(output)) = step.output.as_deref() else { continue };
            let child = output.get("runId").and_then(Value::as_str);
            let child = child.unwrap_or_else(|| panic!("no child: {step:?} of {:#?}", known.said));
            let child = RunId::parse(child).expect("an id");
            let child = self.run(project, &child).expect("a run that was taken on").state(u64::MAX);
            assert_eq!(child.status, RunStatus::Completed, "step {} of {run}", step.id);
            let parent = child.parent.expect("it is a child");
            assert_eq!((&parent.run_id, &parent.step_id), (run, &step.id));
        }
    }

    /// What a run keeps of another is what that one had.
    fn check_retried(&self, project: &ProjectId, known: &RunModel) {
        let state = known.state(u64::MAX);
        let Some(of) = state.retry_of.as_ref().and_then(|of| self.run(project, of)) else { return };
        let earlier = of.state(u64::MAX);
        assert!(earlier.status.is_ended(), "it went on");
        for step in state.steps.iter().filter(|step| step.reused) {
            let before = earlier.step(&step.id).expect("it has it from there");
            assert_eq!(before.status, StepStatus::Completed, "{step:?}");
            assert_eq!((&step.output, step.truncated), (&before.output, before.truncated), "{step:?}");
            assert_eq!((step.attempt, state.reused_steps.contains(&step.id)), (0, true), "{step:?}");
        }
    }

    /// When a run opens its first level, fewer of its group are between their first message and their last than may be.
    fn check_group(&self, project: &ProjectId, run: &RunId, known: &RunModel) {
        let Some(own) = &known.plan.concurrency else { return };
        let Some(begins) = known.began() else { return };
        if known.plan.parent.is_some() {
            return;
        }
        let of_group = self.runs().filter(|(of, id, other)| {
            *of == project
                && *id != run
                && other.plan.concurrency.as_ref().is_some_and(|other| other.group == own.group)
        });
        let goes_on = |other: &RunModel| {
            other.began().is_some_and(|at| at < begins) && other.last_seq().is_none_or(|last| last > begins)
        };
        let beside = of_group.filter(|(.., other)| goes_on(other)).count();
        assert!(beside < own.limit, "{run} begins beside {beside} of group {}", own.group);
    }
}

impl RunModel {
    /// The message with which its first level began.
    fn began(&self) -> Option<u64> {
        self.said.iter().find(|(_, event)| matches!(event.kind, RunEventKind::LevelStarted(_))).map(|(seq, _)| *seq)
    }

    fn progress(&self) -> impl Iterator<Item = &StepProgress> {
        self.said.iter().filter_map(|(_, event)| match &event.kind {
            RunEventKind::Progress(said) => Some(said),
            _ => None,
        })
    }

    fn note_what_it_met(&self, met: &mut BTreeSet<String>) {
        let state = self.state(u64::MAX);
        for said in self.progress() {
            if let (Some(kind), StepUpdate::Running { .. }) = (said.handler, &said.update) {
                met.insert(format!("handler {}", kind.as_str()));
            }
            if said.decision.as_ref().is_some_and(|decision| decision.expired) {
                met.insert("decided by expiry".to_owned());
            }
            if matches!(said.update, StepUpdate::Completed { reused: true, .. }) {
                met.insert("output kept".to_owned());
            }
        }
        met.extend(self.changes().map(|told| match told.by.starts_with("step:") {
            true => "plan changed by a step".to_owned(),
            false => "plan changed by someone".to_owned(),
        }));
        let reason = self.said.last().and_then(|(_, event)| match &event.kind {
            RunEventKind::Failed(failed) => Some(failed.reason),
            _ => None,
        });
        match reason {
            Some(EndReason::QueueTimeout) => drop(met.insert("waited too long".to_owned())),
            Some(EndReason::Timeout) => drop(met.insert("took too long".to_owned())),
            _ => {}
        }
        let is_eager = state.scheduling == Scheduling::Eager && self.began().is_some();
        met.extend(is_eager.then(|| "eager".to_owned()));
        let is_child = state.parent.is_some() && state.status == RunStatus::Completed;
        met.extend(is_child.then(|| "child completed".to_owned()));
        let has_items = state.steps.iter().any(|step| step.items.is_some_and(|items| items.total > 0));
        met.extend(has_items.then(|| "items ran".to_owned()));
    }
}
