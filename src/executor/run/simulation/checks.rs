//! What holds of the messages of a run that has ended.

use super::model::{Bracket, Model, Seen};
use super::*;
use crate::model::{CauseKind, StepUpdate};

pub(super) fn is_of_handler(record: &Record) -> bool {
    let Record::Event { event, .. } = record else { return false };
    matches!(&event.kind, RunEventKind::Progress(said) if said.handler.is_some())
}

/// What ends the run, where a message of one of its steps tells it.
pub(super) fn told_cause(event: &RunEvent) -> Option<CauseKind> {
    match &event.kind {
        RunEventKind::Progress(said) if said.handler.is_none() => match &said.update {
            StepUpdate::Skipped { cause, .. } | StepUpdate::Cancelled { cause, .. } => cause.kind.of_run(),
            _ => None,
        },
        _ => None,
    }
}

/// The same of its last message, where it has failed.
pub(super) fn ended_for(last: &RunEvent) -> Option<CauseKind> {
    let RunEventKind::Failed(failed) = &last.kind else { return None };
    Some(match failed.reason {
        EndReason::StepFailed | EndReason::Interrupted => CauseKind::RunFailed,
        EndReason::Cancelled => CauseKind::Cancelled,
        EndReason::Timeout => CauseKind::Timeout,
        EndReason::QueueTimeout => CauseKind::QueueTimeout,
        EndReason::Budget => CauseKind::Budget,
    })
}

/// A run has one end, which is told of each step that it ends; and it times out only where a step was not done.
pub(super) fn check_one_end(events: &[RunEvent]) {
    let last = events.last().and_then(ended_for);
    let told: Vec<_> = events.iter().filter_map(told_cause).collect();
    assert!(told.iter().all(|cause| Some(*cause) == last), "{told:?} {last:?}");
    assert!(last != Some(CauseKind::Timeout) || !told.is_empty(), "all of its steps were done in time");
}

/// Was its budget what ended the run, before anyone asked for its end? Then attempts that end well keep their output.
pub(super) fn is_end_of_budget(last: &RunEvent) -> bool {
    matches!(&last.kind, RunEventKind::Failed(failed) if failed.reason == EndReason::Budget)
}

/// Nothing begins, goes on or succeeds once the end was asked for, but for handlers.
pub(super) fn check_after_cancel(record: &Record) {
    assert!(!matches!(record, Record::Plan { .. }), "nobody changes the plan of a run that ends");
    let event = match record {
        Record::Event { event, .. } => event,
        Record::Item { state, .. } => return assert_eq!(state.status, StepStatus::Cancelled),
        _ => return,
    };
    match &event.kind {
        RunEventKind::Progress(said) => {
            assert!(matches!(said.update, StepUpdate::Skipped { .. } | StepUpdate::Cancelled { .. }), "{said:?}");
        }
        RunEventKind::LevelStarted(_) | RunEventKind::Completed(_) => panic!("it goes on: {event:?}"),
        _ => {}
    }
}

/// Holds the messages of a run that has ended against what the contract says of any.
pub(super) fn check_sequence(first: &Arc<Plan>, events: &[RunEvent], plans: &[Arc<Plan>]) {
    assert!(
        events.first().is_some_and(RunEvent::is_first) && events.iter().filter(|event| event.is_first()).count() == 1
    );
    assert!(events.last().is_some_and(RunEvent::is_last) && events.iter().filter(|event| event.is_last()).count() == 1);
    check_one_end(events);
    let levels = vec![Bracket::Before; first.levels.len()];
    let steps = vec![Seen::default(); first.step_count()];
    let handlers = handlers::Told::default();
    let mut model = Model { plan: first.clone(), steps, levels, is_over: false, handlers };
    let mut plans = plans.iter();
    for event in events {
        if matches!(event.kind, RunEventKind::PlanChanged(_)) {
            model.replan(plans.next().expect("it came with the message"));
        }
        model.follow(&event.kind);
    }
}

/// What a run and each of its steps have used is what their messages say, and a run within its budget does not end for it.
pub(super) fn check_usage(plan: &Plan, state: &RunState, events: &[RunEvent]) {
    let (mut of_run, mut of_steps, mut before_handlers) = (None, HashMap::new(), None);
    for event in events {
        let RunEventKind::Progress(said) = &event.kind else { continue };
        let Some(used) = &said.usage else { continue };
        assert!(
            said.items.is_some() || !matches!(said.update, StepUpdate::Running { .. } | StepUpdate::Skipped { .. }),
            "an attempt has ended"
        );
        Usage::add_to(&mut of_run, used);
        if said.handler.is_none() {
            Usage::add_to(&mut before_handlers, used);
        }
        Usage::add_to(of_steps.entry(&said.step_id).or_insert(None), used);
    }
    assert_eq!(state.usage, of_run);
    assert!(state.steps.iter().all(|step| step.usage == *of_steps.get(&step.id).unwrap_or(&None)));
    let told = match events.last().map(|event| &event.kind) {
        Some(RunEventKind::Completed(completed)) => &completed.usage,
        Some(RunEventKind::Failed(failed)) => &failed.usage,
        _ => return,
    };
    assert_eq!(*told, of_run);
    if matches!(&events[events.len() - 1].kind, RunEventKind::Completed(_)) {
        let is_used_up = before_handlers.is_some_and(|used| plan.budget.reached_by(&used).is_some());
        assert!(!is_used_up, "it went on beyond its budget");
    }
}

/// As long as nobody sets the wall clock, messages come in its order, and no retry before its time.
pub(super) fn check_times(events: &[RunEvent]) {
    assert!(events.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
    let mut due: HashMap<StepId, Timestamp> = HashMap::new();
    for event in events {
        let RunEventKind::Progress(said) = &event.kind else { continue };
        match said.update {
            StepUpdate::Retrying { next_retry_at, .. } => drop(due.insert(said.step_id.clone(), next_retry_at)),
            StepUpdate::Running { .. } => {
                let due = due.remove(&said.step_id);
                assert!(due.is_none_or(|due| due <= event.timestamp), "{said:?}");
            }
            _ => {}
        }
    }
}
