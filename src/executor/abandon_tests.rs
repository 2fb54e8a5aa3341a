//! Runs that are let go: by a random play of the [`Foreman`] on a virtual clock, and by the real thread with real commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};

use super::foreman::Foreman;
use super::ledger::Limits;
use super::run::{AttemptError, ChildWish};
use super::scheduler::{Command, Job, Report};
use super::testing::{Rng, context_with, new_run, plan, retries};
use super::tool::{
    Call, CommandSpec, Outcome, Registry, Tool, ToolDeclaration, ToolError, ToolKind, ToolSettings, UsageSpec,
};
use super::{Context, Executor, Settings, Unstarted};
use crate::model::{Budget, Now, OutputStream, Record, RunEvent, RunId};

/// Seeds played by default.
const SEEDS: u64 = 500;

/// Within this a let go is done, whatever workers do.
const BOUND: Duration = Duration::from_secs(3);

fn settings(workers: usize) -> Settings {
    Settings { workers, active_runs_max: 3, grace: Duration::ZERO }
}

struct World {
    rng: Rng,
    foreman: Foreman,
    now: Now,
    workers: Vec<Job>,
    /// Batches on their way to the log, and how many it has counted.
    handed: Vec<Vec<Record>>,
    counted: u64,
    /// Runs that were started since the last let go and have not said their last message, and whether they said their first.
    open: BTreeMap<RunId, bool>,
    /// The number of the newest abandon, and those that were answered.
    newest: u64,
    answered: BTreeSet<u64>,
    /// When the newest let go was.
    let_go_at: Option<Duration>,
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Limits { batches: 3, records: 12, ..Limits::default() };
        let foreman = Foreman::new(settings(2), limits, context_with(|_| {}));
        let (workers, handed, open, answered) = Default::default();
        let (rng, now) = (Rng::new(seed), Now::default());
        Self { rng, foreman, now, workers, handed, counted: 0, open, newest: 0, answered, let_go_at: None }
    }

    fn play(mut self) {
        for _ in 0..300 {
            self.step();
            self.turn();
        }
        self.foreman.set_store_down(false);
        self.abandon();
        self.turn();
        self.now = self.now.plus(BOUND);
        self.turn();
        self.turn();
        assert_eq!(self.answered.last(), Some(&self.newest), "the last is answered, whatever workers do");
        while let Some(job) = self.workers.pop() {
            self.foreman.report(Report::Finished { call: job.call, result: Ok(Outcome::Output(json!(1))) }, self.now);
        }
        self.turn();
        self.count(usize::MAX);
        self.turn();
        assert_eq!((self.foreman.ledger().records(), self.foreman.next_deadline()), (0, None), "nothing is left");
        assert_eq!(self.foreman.ledger().kept(), self.counted);
        [98, 99].into_iter().for_each(|run| self.start(run));
        self.turn();
        assert_eq!(self.workers.len(), 2, "all workers are free");
    }

    fn step(&mut self) {
        match self.rng.below(24) {
            0..6 => {
                let run = self.rng.below(4);
                self.start(run);
            }
            6..13 => self.finish(),
            13..17 => self.count(2),
            17 => self.foreman.set_store_down(self.rng.one_in(2)),
            18 => {
                let run = new_run(&format!("r{}", self.rng.below(4)), plan(&["a"]));
                self.foreman.command(Command::Cancel { project: run.project, run: run.run }, self.now);
            }
            19 => self.say(),
            20 => self.abandon(),
            21 if self.rng.one_in(2) => {
                self.foreman.let_go(self.now);
                self.note_let_go();
            }
            21 if !self.answered.is_empty() => self.foreman.abandon(self.newest.min(1), self.now),
            _ => self.now = self.now.plus(Duration::from_millis(self.rng.below(900) as u64)),
        }
    }

    fn start(&mut self, run: usize) {
        let mut plan = plan(&["a", "b", "c: a b"]);
        plan.steps[0].retry = retries(1, 500);
        plan.steps[1].tool = ["echo", "once"][self.rng.below(2)].into();
        let new = new_run(&format!("r{run}"), plan);
        // The log takes no run on twice, and none while it waits for an answer.
        if self.is_abandoned() && !self.open.contains_key(&new.run) {
            self.open.insert(new.run.clone(), false);
            self.foreman.command(Command::Start(new), self.now);
        }
    }

    fn is_abandoned(&self) -> bool {
        self.newest == 0 || self.answered.contains(&self.newest)
    }

    fn finish(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let job = self.workers.swap_remove(self.rng.below(self.workers.len()));
        let result = match self.rng.below(4) {
            0 => Err(AttemptError::Passing("broken".to_owned())),
            1 => Ok(Outcome::Plan { name: "child".to_owned(), inputs: Default::default() }),
            _ => Ok(Outcome::Output(json!("done"))),
        };
        self.foreman.report(Report::Finished { call: job.call, result }, self.now);
    }

    fn say(&mut self) {
        if let Some(job) = self.workers.first() {
            let report = Report::Output { call: job.call, stream: OutputStream::Text, bytes: b"word".to_vec() };
            self.foreman.report(report, self.now);
        }
    }

    /// The log counts some of its batches, kept or thrown away.
    fn count(&mut self, most: usize) {
        let n = self.handed.len().min(most);
        self.handed.drain(..n);
        self.counted += n as u64;
        self.foreman.note_kept(self.counted);
    }

    fn abandon(&mut self) {
        self.newest += 1;
        self.foreman.abandon(self.newest, self.now);
        self.note_let_go();
    }

    fn note_let_go(&mut self) {
        self.let_go_at = Some(self.now.mono);
        self.open.clear();
    }

    fn turn(&mut self) {
        self.workers.extend(self.foreman.turn(self.now));
        assert!(self.workers.len() <= 2, "never more than workers");
        let has_room = !self.rng.one_in(5);
        let mut handed = Vec::new();
        self.foreman.hand_over(self.now, |batch| match has_room {
            true => {
                handed.push(batch);
                Ok(())
            }
            false => Err(batch),
        });
        handed.iter().flatten().for_each(|record| self.hear(record));
        self.handed.append(&mut handed);
        let (answered, mut has_room) = (&mut self.answered, !self.rng.one_in(3));
        let is_due = self.let_go_at.is_none_or(|at| at + BOUND <= self.now.mono);
        has_room |= is_due;
        self.foreman.answer(self.now, |number| {
            if has_room {
                answered.insert(number);
            }
            has_room
        });
        for wish in self.foreman.take_children() {
            if let ChildWish::Begin(child) = wish {
                assert!(self.open.contains_key(&child.parent.run_id), "of a run that was let go");
            }
        }
        assert!(
            self.workers
                .iter()
                .all(|job| { self.open.contains_key(&job.launch.run) || job.launch.cancel.is_cancelled() }),
            "an attempt goes on"
        );
    }

    fn hear(&mut self, record: &Record) {
        for event in record.events() {
            let has_begun = self.open.get_mut(&event.run_id).expect("a run that was let go says nothing");
            assert_ne!(*has_begun, event.is_first(), "the first message is the first");
            *has_begun = true;
            if event.is_last() {
                self.open.remove(&event.run_id);
            }
        }
    }
}

#[test]
fn runs_that_are_let_go_say_nothing_more_and_leave_nothing_behind_whatever_happens() {
    let one = std::env::var("STEPCAST_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let played = std::panic::catch_unwind(|| World::new(seed).play());
        played.unwrap_or_else(|_| panic!("STEPCAST_SEED={seed}"));
    }
}

/// What the log hears.
enum Heard {
    Event(Box<RunEvent>),
    Abandoned(u64),
}

fn executor(workers: usize, context: Arc<Context>) -> (Executor, Receiver<Heard>) {
    let (sender, heard) = unbounded();
    let same_way = sender.clone();
    let send = move |batch: Vec<Record>| {
        let events = batch.iter().flat_map(Record::events).cloned();
        events.for_each(|event| drop(sender.send(Heard::Event(Box::new(event)))));
        Ok(())
    };
    let answer = move |number| same_way.send(Heard::Abandoned(number)).is_ok();
    (Unstarted::new().start(settings(workers), context, send, answer).expect("threads"), heard)
}

/// The messages up to the answer, and its number.
fn until_abandoned(heard: &Receiver<Heard>) -> (Vec<RunEvent>, u64) {
    let mut events = Vec::new();
    loop {
        match heard.recv().expect("the executor goes on") {
            Heard::Event(event) => events.push(*event),
            Heard::Abandoned(number) => return (events, number),
        }
    }
}

/// Waits for what a message says of live output.
fn wait_for_output(heard: &Receiver<Heard>) -> String {
    loop {
        if let Heard::Event(event) = heard.recv().expect("the executor goes on")
            && let crate::model::RunEventKind::StepOutput(said) = event.kind
        {
            return said.chunk.trim().to_owned();
        }
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn runs(tool: &str, name: &str) -> super::NewRun {
    let mut plan = plan(&["a"]);
    plan.steps[0].tool = tool.into();
    new_run(name, plan)
}

#[test]
fn the_whole_process_group_of_a_command_is_dead_when_its_run_is_abandoned() {
    // Neither the leader nor its child hears SIGTERM; the child says its id once it does not.
    let script = "trap '' TERM; (trap '' TERM; sh -c 'echo $PPID'; sleep 60; sleep 60) & wait; sleep 60";
    let argv = ["sh", "-c", script].map(str::to_owned).into();
    let declaration = ToolDeclaration {
        name: "stubborn".to_owned(),
        timeout: None,
        rerun: true,
        may_plan: false,
        inputs: None,
        usage: UsageSpec::default(),
        budget: Budget::default(),
        kind: ToolKind::Command(CommandSpec { argv, ..CommandSpec::default() }),
    };
    let context = context_with(|registry: &mut Registry| {
        registry.declare(declaration, ToolSettings::default()).expect("a good declaration");
    });
    let (executor, heard) = executor(1, context);
    executor.handle().start(runs("stubborn", "r"));
    let pid = wait_for_output(&heard);
    assert!(is_alive(&pid));
    executor.handle().abandon(1);
    let (events, number) = until_abandoned(&heard);
    assert_eq!((events.iter().any(RunEvent::is_last), number), (false, 1));
    assert!(!is_alive(&pid), "killed, for it hears no SIGTERM");
    // The next has the worker, and the same id.
    executor.handle().start(runs("echo", "r"));
    let is_last = |heard: &Heard| matches!(heard, Heard::Event(event) if event.is_last());
    assert!(heard.iter().any(|it| is_last(&it)));
    executor.handle().abandon(1);
    assert_eq!(until_abandoned(&heard), (vec![], 1), "it was done, and is answered");
    executor.handle().shutdown();
    executor.join().expect("no panic");
}

/// Hears no cancel: ends when it is told to.
struct Deaf {
    begun: Sender<()>,
    ends: Receiver<()>,
}

impl Tool for Deaf {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let _ = self.begun.send(());
        let _ = self.ends.recv();
        call.output.write(OutputStream::Text, b"late");
        Ok(Outcome::Output(Value::from("late")))
    }
}

#[test]
fn what_a_worker_brings_that_was_stuck_when_its_run_was_abandoned_reaches_no_later_run_of_the_id() {
    let ((begun, has_begun), (end, ends)) = (bounded(1), bounded(0));
    let context = context_with(|registry| registry.insert("deaf", Deaf { begun, ends }));
    let (executor, heard) = executor(2, context);
    let is_of_a_step = |events: &[RunEvent]| events.iter().any(|event| event.message_type() == "workflow_step_output");
    executor.handle().start(runs("deaf", "r"));
    has_begun.recv().expect("it begins");
    executor.handle().abandon(1);
    let (events, number) = until_abandoned(&heard);
    assert_eq!((events.iter().any(RunEvent::is_last), number), (false, 1), "nobody waits for it for ever");
    // The same step of the same run, at the other worker, stuck as well.
    executor.handle().start(runs("deaf", "r"));
    has_begun.recv().expect("it begins");
    end.send(()).expect("one of the two ends");
    end.send(()).expect("and the other");
    let events: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Event(event) => Some(*event),
            Heard::Abandoned(_) => None,
        })
        .scan(false, |is_over, event| {
            let goes_on = !std::mem::replace(is_over, event.is_last());
            goes_on.then_some(event)
        })
        .take_while(|event| !event.is_last())
        .collect();
    assert!(is_of_a_step(&events), "of the later run");
    executor.handle().abandon(2);
    let (rest, _) = until_abandoned(&heard);
    assert!(!is_of_a_step(&rest), "what the first brought is told nowhere");
    executor.handle().shutdown();
    executor.join().expect("no panic");
}

#[test]
fn runs_are_let_go_while_the_log_takes_nothing() {
    let ((begun, has_begun), (end, ends)) = (bounded(1), bounded::<()>(0));
    let context = context_with(|registry| registry.insert("deaf", Deaf { begun, ends }));
    let executor = Unstarted::new();
    let handle = executor.handle();
    let (answered, answers) = unbounded();
    let has_room = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let room = has_room.clone();
    let answer = move |number| {
        let _ = answered.send(number);
        room.load(std::sync::atomic::Ordering::SeqCst)
    };
    let executor = executor.start(settings(1), context, Err, answer).expect("threads");
    handle.start(runs("deaf", "r"));
    has_begun.recv().expect("it begins");
    handle.let_go();
    drop(end);
    handle.abandon(1);
    assert_eq!([answers.recv(), answers.recv()], [Ok(1), Ok(1)], "it is said again where there was no room");
    has_room.store(true, std::sync::atomic::Ordering::SeqCst);
    handle.shutdown();
    assert_eq!(executor.join().map(|rest| rest.len()), Ok(0), "nothing that was said is left");
}
