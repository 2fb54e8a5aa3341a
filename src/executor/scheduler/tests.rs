//! The scheduler played by hand: the test is the workers and the clock.

use serde_json::{Value, json};

use super::*;
use crate::executor::testing::{context, context_with, new_run, plan, retries};
use crate::executor::tool::{Call, Outcome, Tool, ToolError};
use crate::executor::{AttemptError, ChildEnd, ChildWish, ResumedRun};
use crate::model::{Concurrency, OnConflict, OutputStream, Plan, RunEventKind, RunState, StepUpdate};

const GRACE: Duration = Duration::from_secs(10);

struct Desk {
    scheduler: Scheduler,
    now: Now,
    actions: Actions,
    /// What workers have, oldest first.
    jobs: VecDeque<Job>,
}

impl Desk {
    fn new(workers: usize, active_runs_max: usize) -> Self {
        Self::with(Settings { workers, active_runs_max, grace: GRACE }, context())
    }

    /// One with these tools.
    fn of(context: Arc<Context>) -> Self {
        Self::with(Settings { workers: 1, active_runs_max: 1, grace: GRACE }, context)
    }

    fn with(settings: Settings, context: Arc<Context>) -> Self {
        let scheduler = Scheduler::new(settings, context);
        Self { scheduler, now: Now::default(), actions: Actions::default(), jobs: VecDeque::new() }
    }

    fn command(&mut self, command: Command) {
        self.scheduler.command(command, self.now, &mut self.actions);
        self.turn();
    }

    fn start(&mut self, name: &str, plan: Plan) {
        self.command(Command::Start(new_run(name, plan)));
    }

    fn cancel(&mut self, name: &str) {
        let new = new_run(name, plan(&["a"]));
        self.command(Command::Cancel { project: new.project, run: new.run });
    }

    fn turn(&mut self) {
        self.scheduler.turn(self.now, &mut self.actions);
        self.jobs.extend(self.actions.jobs.drain(..));
        assert!(self.scheduler.calls.len() <= self.scheduler.settings.workers, "never more jobs than workers");
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.turn();
    }

    /// The oldest job is done; its run's name comes back.
    fn finish(&mut self) -> String {
        let job = self.jobs.pop_front().expect("a job");
        self.report(job.call, Ok(Outcome::Output(Value::Null)));
        job.launch.run.to_string()
    }

    fn report(&mut self, call: CallId, result: Result<Outcome, AttemptError>) {
        self.scheduler.report(Report::Finished { call, result }, self.now, &mut self.actions);
        self.turn();
    }

    /// Message types and statuses since the last call, by run.
    fn log(&mut self) -> Vec<String> {
        let records = std::mem::take(&mut self.actions.records);
        let events = records.iter().flat_map(Record::events);
        events.map(|event| format!("{} {}", event.run_id, event.message_type())).collect()
    }
}

#[test]
fn runs_take_turns_so_that_a_large_one_starves_nobody() {
    let mut desk = Desk::new(1, 10);
    let names: Vec<_> = (0..10_000).map(|step| format!("s{step}")).collect();
    desk.start("large", plan(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    desk.start("small", plan(&["a", "b: a", "c: b"]));
    let order: Vec<_> = (0..8).map(|_| desk.finish()).collect();
    let other = ["large", "large", "small", "large", "small", "large", "small", "large"];
    assert_eq!(order.iter().filter(|name| *name == "small").count(), 3, "{order:?}");
    assert_eq!(order, other);
}

#[test]
fn jobs_go_out_while_a_worker_is_free() {
    let mut desk = Desk::new(2, 10);
    desk.start("r", plan(&["a", "b", "c"]));
    assert_eq!((desk.jobs.len(), desk.scheduler.next_deadline()), (2, None));
    desk.finish();
    assert_eq!(desk.jobs.len(), 2);
}

#[test]
fn runs_beyond_the_limit_wait_in_the_order_in_which_they_came() {
    let mut desk = Desk::new(4, 1);
    for name in ["first", "second", "third"] {
        desk.start(name, plan(&["a"]));
    }
    assert_eq!(desk.log(), ["first workflow_started", "first workflow_level_started", "first workflow_progress"]);
    desk.finish();
    assert_eq!(desk.finish(), "second");
    assert_eq!(desk.finish(), "third");
    assert!(desk.scheduler.runs.is_empty() && desk.scheduler.keys.is_empty() && desk.scheduler.deadlines.is_empty());
}

#[test]
fn a_waiting_run_can_be_cancelled() {
    let mut desk = Desk::new(4, 1);
    desk.start("first", plan(&["a"]));
    desk.start("second", plan(&["a"]));
    desk.log();
    desk.cancel("second");
    assert_eq!(desk.log(), ["second workflow_started", "second workflow_progress", "second workflow_failed"]);
    desk.finish();
    assert!(desk.jobs.is_empty());
}

#[test]
fn a_cancel_of_no_run_does_nothing() {
    let mut desk = Desk::new(1, 1);
    desk.cancel("nobody");
    desk.start("r", plan(&["a"]));
    desk.finish();
    desk.log();
    desk.cancel("r");
    assert_eq!(desk.log(), [""; 0]);
}

#[test]
fn a_run_that_was_started_twice_runs_once() {
    let mut desk = Desk::new(4, 10);
    desk.start("r", plan(&["a"]));
    desk.start("r", plan(&["a"]));
    assert_eq!(desk.jobs.len(), 1);
    assert_eq!(desk.log().len(), 3);
}

#[test]
fn a_worker_that_ignores_a_cancel_stays_busy_while_the_run_ends_without_it() {
    let mut desk = Desk::new(1, 10);
    desk.start("stuck", plan(&["a"]));
    desk.start("next", plan(&["a"]));
    desk.cancel("stuck");
    assert_eq!(desk.actions.cancels.len(), 1);
    desk.log();
    desk.wait(ABANDON_AFTER);
    assert_eq!(desk.log().last().map(String::as_str), Some("stuck workflow_failed"));
    assert_eq!(desk.jobs.len(), 1, "its worker is not free");
    assert_eq!(desk.finish(), "stuck");
    assert_eq!(desk.jobs.len(), 1, "now it is");
    assert_eq!(desk.finish(), "next");
}

#[test]
fn a_retry_comes_back_at_its_deadline() {
    let mut desk = Desk::new(1, 10);
    let mut one = plan(&["a"]);
    one.steps[0].retry = retries(1, 1000);
    desk.start("r", one);
    let job = desk.jobs.pop_front().expect("a job");
    desk.report(job.call, Err(AttemptError::Passing("x".to_owned())));
    assert_eq!(desk.scheduler.next_deadline(), Some(Duration::from_secs(1)));
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.jobs.front().map(|job| job.launch.attempt), Some(2));
}

#[test]
fn a_turn_looks_at_a_bounded_number_of_steps_and_comes_back_for_the_rest() {
    let mut desk = Desk::new(1, 10);
    let names: Vec<_> = (0..PICKS_PER_TURN_MAX + 1).map(|step| format!("s{step}")).collect();
    let mut never = plan(&names.iter().map(String::as_str).collect::<Vec<_>>());
    never.steps.iter_mut().for_each(|step| step.conditional = Some("false".into()));
    desk.start("r", never);
    assert_eq!(desk.scheduler.next_deadline(), Some(Duration::ZERO));
    desk.turn();
    assert_eq!(desk.log().last().map(String::as_str), Some("r workflow_completed"));
    assert_eq!(desk.scheduler.next_deadline(), None);
}

#[test]
fn a_shutdown_starts_nothing_and_lets_what_runs_finish() {
    let mut desk = Desk::new(1, 1);
    desk.start("r", plan(&["a", "b: a"]));
    desk.start("waiting", plan(&["a"]));
    desk.log();
    desk.command(Command::Shutdown);
    assert!(!desk.scheduler.is_done());
    assert_eq!(desk.scheduler.next_deadline(), Some(GRACE));
    desk.finish();
    let closing = ["r workflow_progress", "r workflow_level_completed", "r workflow_level_started"];
    assert_eq!(desk.log(), closing, "what ended is said; the rest is for the next start");
    assert!(desk.jobs.is_empty() && desk.scheduler.is_done());
}

#[test]
fn after_its_grace_what_runs_is_cancelled_without_a_word() {
    let mut desk = Desk::new(2, 10);
    desk.start("r", plan(&["a", "b"]));
    desk.log();
    desk.command(Command::Shutdown);
    desk.wait(GRACE);
    assert_eq!((desk.actions.cancels.len(), desk.log().len()), (2, 0));
    assert!(!desk.scheduler.is_done(), "its workers are waited for");
    desk.finish();
    desk.finish();
    assert!(desk.log().is_empty() && desk.scheduler.is_done());
}

#[test]
fn a_shutdown_waits_for_no_worker_for_ever() {
    let mut desk = Desk::new(1, 10);
    desk.start("r", plan(&["a"]));
    desk.command(Command::Shutdown);
    desk.wait(GRACE);
    desk.wait(ABANDON_AFTER);
    assert!(desk.scheduler.is_done());
}

#[test]
fn a_shutdown_does_not_wait_for_what_cannot_end_in_its_grace() {
    for (delay, is_waited_for) in [(GRACE, true), (GRACE * 2, false)] {
        let mut desk = Desk::new(1, 10);
        desk.start("r", plan(&["a"]));
        let job = desk.jobs.pop_front().expect("a job");
        desk.report(job.call, Ok(Outcome::After(delay, json!(1))));
        desk.command(Command::Shutdown);
        assert_eq!(desk.scheduler.is_done(), !is_waited_for);
    }
}

#[test]
fn a_second_shutdown_ends_at_once() {
    let mut desk = Desk::new(1, 10);
    desk.start("r", plan(&["a"]));
    desk.command(Command::Shutdown);
    desk.command(Command::Shutdown);
    assert_eq!((desk.actions.cancels.len(), desk.scheduler.is_done()), (1, true));
}

#[test]
fn a_run_that_was_active_goes_on_at_once_and_one_that_waited_waits() {
    let resumed = |name: &str, began: bool| {
        let new = new_run(name, plan(&["a", "b"]));
        let mut state = RunState::new(new.run.clone(), &new.plan, new.created_at);
        if began {
            let mut effects = Effects::default();
            Run::new(new.clone(), context()).cancel(Now::default(), &mut effects);
            let Some(Record::Event { event, .. }) = effects.records.first() else { panic!("no message") };
            state.apply(event);
        }
        Command::Resume(Box::new(ResumedRun {
            new,
            state,
            whole_outputs: HashMap::new(),
            items: HashMap::new(),
            cancelled: false,
        }))
    };
    let mut desk = Desk::new(8, 1);
    for (name, began) in [("waited", false), ("active1", true), ("active2", true)] {
        desk.scheduler.command(resumed(name, began), desk.now, &mut desk.actions);
    }
    desk.turn();
    let is_first = |job: &Job| job.durability == Durability::First;
    assert!(desk.jobs.iter().all(is_first), "what may have ended the process is told before it begins");
    let names: Vec<_> = desk.jobs.iter().map(|job| job.launch.run.to_string()).collect();
    assert_eq!(names, ["active1", "active2", "active1", "active2"], "above the limit, as it was when they began");
    assert!(!desk.log().contains(&"active1 workflow_started".to_owned()));
    while !desk.jobs.is_empty() {
        desk.finish();
    }
    assert_eq!(desk.log().last().map(String::as_str), Some("waited workflow_completed"));
}

/// It stayed queued until a place was free, or its group's turn came, and nobody else of the group came before it.
#[test]
fn a_run_that_was_cancelled_while_it_waited_went_on_waiting_after_a_crash() {
    for is_held in [true, false] {
        let mut desk = Desk::new(4, 1);
        desk.start("first", plan(&["a"]));
        desk.log();
        let new = NewRun { is_held, ..new_run("second", plan(&["a"])) };
        let state = RunState::new(new.run.clone(), &new.plan, new.created_at);
        let (whole_outputs, items) = (HashMap::new(), HashMap::new());
        desk.command(Command::Resume(Box::new(ResumedRun { new, state, whole_outputs, items, cancelled: true })));
        assert_eq!(desk.log(), ["second workflow_started", "second workflow_progress", "second workflow_failed"]);
        assert!(!desk.scheduler.waiting.has_next() && desk.scheduler.keys.len() == 1);
        assert_eq!((desk.finish().as_str(), desk.jobs.len()), ("first", 0));
    }
}

/// All places were held by runs that waited for their children, whose children waited for a run of their group to end, and
/// that one for a place.
#[test]
fn parents_held_the_places_that_what_their_children_waited_for_needed() {
    let of_group = || Plan { concurrency: Some(Arc::new(group())), ..plan(&["a"]) };
    let mut desk = Desk::new(2, 1);
    desk.start("parent", plan(&["a"]));
    for (name, plan) in [("behind", plan(&["a"])), ("of_group", of_group())] {
        desk.start(name, plan);
    }
    let call = desk.jobs.pop_front().expect("the parent's").call;
    desk.report(call, Ok(Outcome::Plan { name: "child".to_owned(), inputs: serde_json::Map::default() }));
    let [ChildWish::Begin(wish)] = &desk.actions.children[..] else { panic!("{:?}", desk.actions.children) };
    let (project, parent, name) = (wish.project.clone(), wish.parent.clone(), wish.run.clone());
    assert!(desk.jobs.is_empty(), "the parent keeps its place: of many of them not all begin at once");
    let child = Plan { parent: Some(parent.clone()), ..of_group() };
    desk.command(Command::Start(NewRun { is_held: true, ..new_run(name.as_str(), child) }));
    assert_eq!(desk.finish(), "of_group", "the child waits for it");
    assert!(desk.jobs.is_empty(), "and for nothing else");
    desk.command(Command::Release { project: project.clone(), run: name.clone() });
    assert_eq!(desk.finish(), name.as_str());
    let (parent, child) = (parent.run_id, name);
    desk.command(Command::ChildEnded {
        project,
        parent,
        child,
        end: ChildEnd { result: Ok(Value::Null), usage: None },
    });
    assert!(desk.log().contains(&"parent workflow_completed".to_owned()));
    assert_eq!(desk.finish(), "behind");
}

fn group() -> Concurrency {
    Concurrency { group: "g".into(), limit: 1, on_conflict: OnConflict::Queue }
}

/// To go on with a run whose one step was interrupted so often in a row.
fn interrupted(name: &str, times: usize) -> Command {
    let (new, now, mut effects) = (new_run(name, plan(&["a"])), Now::default(), Effects::default());
    let mut run = Run::new(new.clone(), context());
    for _ in 0..times {
        run.start(now, &mut effects);
        run.take(now, &mut effects).or_else(|| run.take_suspect(now, &mut effects)).expect("it runs");
        let (new, state) = (new.clone(), run.state().clone());
        run = Run::resume(
            ResumedRun { new, state, whole_outputs: HashMap::new(), items: HashMap::new(), cancelled: false },
            context(),
            now,
        );
    }
    let state = run.state().clone();
    Command::Resume(Box::new(ResumedRun {
        new,
        state,
        whole_outputs: HashMap::new(),
        items: HashMap::new(),
        cancelled: false,
    }))
}

#[test]
fn of_steps_that_may_end_the_process_each_time_one_is_tried_at_a_time_and_others_go_on() {
    let mut desk = Desk::new(8, 10);
    let names = |desk: &Desk| desk.jobs.iter().map(|job| job.launch.run.to_string()).collect::<Vec<_>>();
    for (name, times) in [("once", 1), ("first", 2), ("second", 2), ("third", 2)] {
        desk.command(interrupted(name, times));
    }
    assert_eq!(names(&desk), ["once", "first"], "the last chance of one, and what was interrupted once");
    assert_eq!((desk.finish(), names(&desk)), ("once".to_owned(), vec!["first".to_owned()]));
    assert_eq!((desk.finish(), names(&desk)), ("first".to_owned(), vec!["second".to_owned()]));
    desk.cancel("second");
    desk.wait(ABANDON_AFTER);
    assert_eq!(names(&desk), ["second", "third"], "one that is given up is waited for no longer");
    desk.finish();
    desk.finish();
    assert!(desk.scheduler.runs.is_empty() && desk.jobs.is_empty());
}

#[test]
fn a_bystander_failed_for_a_step_whose_first_attempt_no_message_had_told_of() {
    let mut desk = Desk::new(8, 10);
    for (name, times) in [("bomb", 1), ("bystander", 2)] {
        desk.scheduler.command(interrupted(name, times), desk.now, &mut desk.actions);
    }
    desk.start("new", plan(&["a"]));
    let names = |desk: &Desk| desk.jobs.iter().map(|job| job.launch.run.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&desk), ["bystander", "new"], "what was interrupted is run one at a time");
    assert_eq!((desk.finish(), names(&desk)), ("bystander".to_owned(), vec!["new".to_owned(), "bomb".to_owned()]));
}

#[test]
fn output_goes_to_its_run_and_late_output_nowhere() {
    let mut desk = Desk::new(1, 10);
    desk.start("r", plan(&["a"]));
    let call = desk.jobs[0].call;
    let output = || Report::Output { call, stream: OutputStream::Stdout, bytes: b"hello".to_vec() };
    desk.log();
    desk.scheduler.report(output(), desk.now, &mut desk.actions);
    assert_eq!(desk.actions.records.len(), 2, "whole, and live");
    desk.finish();
    desk.actions.records.clear();
    desk.scheduler.report(output(), desk.now, &mut desk.actions);
    assert!(desk.actions.records.is_empty());
}

#[test]
fn an_attempt_is_said_to_run_before_its_job_is_handed_out() {
    let mut desk = Desk::new(1, 10);
    desk.start("r", plan(&["a"]));
    let Some(Record::Event { event, .. }) = desk.actions.records.last() else { panic!("no message") };
    let RunEventKind::Progress(said) = &event.kind else { panic!("no progress") };
    assert!(matches!(said.update, StepUpdate::Running { .. }) && desk.jobs.len() == 1);
}

#[test]
fn what_takes_no_time_waited_for_a_worker() {
    let instant = |tool: &str, inputs: Value| {
        let mut desk = Desk::of(context_with(|registry| {
            registry.insert("instant", Instant);
        }));
        let mut three = plan(&["a", "b: a", "c: b"]);
        three.steps.iter_mut().for_each(|step| step.tool = tool.into());
        three.steps[1].inputs = inputs.as_object().cloned().unwrap_or_default();
        desk.start("r", three);
        (desk.jobs.pop_front().map(|job| job.launch.step), desk.log().last().cloned())
    };
    assert_eq!(instant("instant", json!({"x": [1, "text"]})), (None, Some("r workflow_completed".to_owned())));
    assert_eq!(instant("instant", json!({"x": [{"y": "{{ 1 }}"}]})).0, Some(1), "a template may take a while");
    assert_eq!(instant("instant", json!({"panic": true})), (None, Some("r workflow_failed".to_owned())));
    assert_eq!(instant("echo", json!({})).0, Some(0));
}

#[test]
fn a_long_chain_that_needs_no_worker_kept_commands_waiting() {
    let mut desk = Desk::of(context_with(|registry| {
        registry.insert("instant", Instant);
    }));
    let lines: Vec<_> =
        (0..1000).map(|at| if at == 0 { "s0".to_owned() } else { format!("s{at}: s{}", at - 1) }).collect();
    let mut chain = plan(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    chain.steps.iter_mut().for_each(|step| step.tool = "instant".into());
    desk.start("r", chain);
    assert_eq!(desk.scheduler.next_deadline(), Some(Duration::ZERO), "it comes back for the rest");
    desk.cancel("r");
    assert_eq!(desk.log().last().map(String::as_str), Some("r workflow_failed"));
}

/// Answers at once, and panics where it is told to.
struct Instant;

impl Tool for Instant {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        assert!(!call.inputs.contains_key("panic"), "as it was told");
        Ok(Outcome::Output(Value::Null))
    }

    fn is_instant(&self) -> bool {
        true
    }
}
