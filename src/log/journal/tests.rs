//! The journal over the memory store: commands in, deliveries, orders and answers out.

mod at_once;
mod children;
mod claims;
mod cluster;
mod conflict;
mod fences;
mod groups;
mod late;
mod lists;
mod load;
mod messages;
mod outage;
mod outbox;
mod outputs;
mod projects;
mod refused;
mod retelling;
mod runs;
mod several;
mod simulation;
mod slow_readers;
mod steering;
mod streams;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::{IdSigner, Instance, ServerKeys};
use crate::executor::testing::plan;
use crate::http::{Conditions, Problem};
use crate::log::history_thread::Historian;
use crate::log::lookup::{self, Asked, Known};
use crate::log::protocol::Position;
use crate::log::store::Write;
use crate::log::testing::{created, everything, number, number_of, reply_to, subscribe};
use crate::log::{
    Answer, Claim, Command, Delivery, EventList, Fingerprint, Frames, Journal, Limits, Order, Outcome, Page,
    PublishedEvent, Query, Refusal, ResetReason, Resume, ResumeFrom, Retention, RunNumber, Spends, StartingPosition,
    Submission, Subscription, View, WantedOutput, WantedRun,
};
use crate::model::{
    Concurrency, EndReason, Now, OnConflict, OutputStream, PerformanceMetrics, Plan, Progress, ProjectId, Record,
    RunCompleted, RunEvent, RunEventKind, RunFailed, RunId, RunStarted, RunStatus, StepId, StepOutput, StepProgress,
    StepUpdate, Timestamp,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const KEEP_ALL: Retention = Retention { messages: 10_000, bytes: 1 << 30, age_ms: 7 * DAY_MS, runs: 1000 };

fn limits() -> Limits {
    Limits {
        retention: KEEP_ALL,
        open_runs: 2000,
        project_runs: usize::MAX,
        projects: 100,
        key_bytes: 1 << 20,
        state_outputs_bytes: super::STATE_OUTPUTS_BYTES_MAX,
        plans: Default::default(),
        recent_ms: 60_000,
    }
}

fn keeping(retention: Retention) -> Limits {
    Limits { retention, ..limits() }
}

fn p() -> ProjectId {
    project("p")
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

fn run_id(text: &str) -> RunId {
    RunId::parse(text).expect("an id")
}

fn step_id(text: &str) -> StepId {
    StepId::parse(text).expect("an id")
}

/// A journal, and what time it is.
struct Bench {
    journal: Journal,
    signer: IdSigner,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self::with(limits())
    }

    fn with(limits: Limits) -> Self {
        let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::from_millis(1_700_000_000_000) };
        let journal = Journal::over_nothing(signer.clone(), limits, now);
        Self { journal, signer, now }
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    fn handle(&mut self, commands: Vec<Command>) -> Outcome {
        self.journal.handle(commands, self.now)
    }

    /// Hands over one command; its answer.
    fn ask(&mut self, command: Command) -> Answer {
        let mut answers = answers(self.handle(vec![command]));
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0).1
    }

    /// What a query is answered by the journal alone, which is what readers beside it answer.
    fn read(&mut self, query: Query) -> Answer {
        let is_read_beside =
            matches!(query, Query::Run { .. } | Query::Output { .. } | Query::Runs { .. } | Query::Projects { .. });
        let beside = is_read_beside.then(|| self.read_beside(&query));
        let answer = self.ask(Command::Read { query, reply: reply_to(0) });
        if let Some(beside) = beside {
            // What is left of a run holds maps, which are shown in any order.
            let shown = |answer: &Answer| match answer {
                Answer::LongJson { length, bytes, rest } => format!("{length} {bytes:?} {}", rest.is_some()),
                other => format!("{other:?}"),
            };
            assert_eq!(shown(&beside), shown(&answer));
        }
        answer
    }

    /// What a reader of the store answers, with what the journal tells it where it needs that.
    fn read_beside(&mut self, query: &Query) -> Answer {
        let reader = self.journal.store.reader().expect("readable").expect("there is a reader");
        let mut historian = Historian::new(reader, self.signer.clone(), self.journal.heads.clone());
        historian.answer(query, &Known::Untold).unwrap_or_else(|| {
            let asked = self.question(Command::Read { query: query.clone(), reply: reply_to(0) });
            let Asked::Look(query, known) = asked else { panic!("no look") };
            historian.answer(&query, &known).expect("the journal told what there is")
        })
    }

    /// What the journal has a reader answer.
    fn question(&mut self, command: Command) -> Asked {
        self.journal.has_readers = true;
        let mut outcome = self.handle(vec![command]);
        self.journal.has_readers = false;
        assert!(!outcome.deliveries.iter().any(|it| matches!(it, Delivery::Reply { .. })), "{outcome:?}");
        outcome.questions.pop().expect("a question").asked
    }

    fn json(&mut self, query: Query) -> Value {
        match self.read(query) {
            Answer::Json(body) => serde_json::from_slice(&body).expect("JSON"),
            other => panic!("no body: {other:?}"),
        }
    }

    fn publish(&mut self, project: &ProjectId, count: usize) -> u64 {
        match self.ask(publish(project, count, 0)) {
            Answer::Published { first_seq, count: kept } if kept == count => first_seq,
            other => panic!("not published: {other:?}"),
        }
    }

    fn submit(&mut self, run: &str) {
        let answer = self.ask(submit(run, None, 0, 0));
        assert!(matches!(answer, Answer::Accepted { replayed: false, .. }), "{answer:?}");
    }

    /// A run speaks.
    fn say(&mut self, run: &str, kinds: Vec<RunEventKind>) -> Outcome {
        let at = self.now.wall;
        let records = kinds.into_iter().map(|kind| event(run, kind, at)).collect();
        self.handle(vec![Command::Records(records)])
    }

    /// A run is taken on, begins, and says so much between its first message and its last.
    fn whole_run(&mut self, run: &str, between: usize) {
        self.submit(run);
        let mut kinds = vec![started()];
        kinds.extend((0..between).map(|n| output_chunk(&n.to_string())));
        kinds.push(completed());
        self.say(run, kinds);
    }

    fn attach(&mut self, resume: Option<ResumeFrom>, run: Option<&str>) -> StartingPosition {
        let wanted = Subscription { resume, run: run.map(run_id), ..everything(p()) };
        match self.ask(subscribe(wanted, 0)) {
            Answer::StartsAt(start) => *start,
            other => panic!("no start: {other:?}"),
        }
    }

    fn page(&mut self, after: u64, run: Option<RunNumber>, bytes_max: usize) -> Answer {
        self.read(Query::Page { project: p(), after, run, view: View::Events, bytes_max })
    }

    fn id(&self, seq: u64) -> String {
        let mut id = Vec::new();
        self.signer.write(&mut id, &p(), seq);
        String::from_utf8(id).expect("ids are ASCII")
    }

    /// Follows a stream of `after` to where it is live: the `seq`s that it is sent, and whether it ends.
    fn follow(&mut self, mut after: u64, run: Option<RunNumber>) -> (Vec<u64>, bool) {
        let mut seqs = Vec::new();
        for _ in 0..1000 {
            match self.page(after, run, 1) {
                Answer::Page(page) => {
                    seqs.extend(seqs_of(&page.bytes));
                    if page.has_last || page.messages == 0 {
                        return (seqs, page.has_last);
                    }
                    after = page.up_to;
                }
                other => panic!("no page behind {after}: {other:?}"),
            }
        }
        panic!("a stream comes to its end: {seqs:?}");
    }
}

fn answers(outcome: Outcome) -> Vec<(u64, Answer)> {
    let answer = |delivery| match delivery {
        Delivery::Reply { to, answer } => number_of(&to).map(|to| (to, answer)),
        _ => None,
    };
    outcome.deliveries.into_iter().filter_map(answer).collect()
}

fn frames(outcome: &Outcome) -> Vec<(&ProjectId, &Frames)> {
    let mut found = Vec::new();
    for delivery in &outcome.deliveries {
        if let Delivery::Frames { project, frames } = delivery {
            found.push((project, frames));
        }
    }
    found
}

/// The `seq` of each event in `bytes`.
fn seqs_of(bytes: &[u8]) -> Vec<u64> {
    messages_of(bytes).iter().map(|message| message["seq"].as_u64().expect("a number")).collect()
}

fn messages_of(bytes: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(bytes).expect("text");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn publish(project: &ProjectId, count: usize, to: u64) -> Command {
    let event = |n| PublishedEvent { message_type: "note".into(), payload: format!("{{\"n\":{n}}}").into_bytes() };
    Command::Publish { project: project.clone(), events: (0..count).map(event).collect(), reply: reply_to(to) }
}

fn submit(run: &str, key: Option<&str>, fingerprint: u8, to: u64) -> Command {
    Command::Submit { submission: Box::new(submission("p", run, key, fingerprint)), reply: reply_to(to) }
}

fn submission(of: &str, run: &str, key: Option<&str>, fingerprint: u8) -> Submission {
    let fingerprint = Fingerprint { value: [fingerprint; 32], bytes: [fingerprint ^ 0xff; 32] };
    let key = key.map(str::to_owned);
    Submission {
        claim: Claim { project: project(of), key, run: Some(run_id(run)), fingerprint },
        run: run_id(run),
        plan: Arc::new(plan(&["a", "b: a"])),
        document: b"{}".as_slice().into(),
        answer: format!("{{\"runId\":\"{run}\"}}").into_bytes().into(),
        origin: None,
    }
}

fn event(run: &str, kind: RunEventKind, timestamp: Timestamp) -> Record {
    Record::Event { project: p(), event: RunEvent { run_id: run_id(run), timestamp, kind } }
}

fn started() -> RunEventKind {
    RunEventKind::Started(RunStarted {
        parent: None,
        plan_name: "plan".into(),
        step_count: 2,
        total_levels: 2,
        estimated_duration: 0,
        parallelizable: false,
        levels: vec![vec![step_id("a")], vec![step_id("b")]],
        ..RunStarted::empty("plan".into())
    })
}

fn completed() -> RunEventKind {
    RunEventKind::Completed(RunCompleted {
        failed_handlers: vec![],
        plan_name: "plan".into(),
        outputs: Map::new(),
        truncated: vec![],
        failed_steps: vec![],
        performance_metrics: PerformanceMetrics { total_execution_time: 1, critical_path: vec![], step_time: 1 },
        usage: None,
    })
}

fn failed(reason: EndReason) -> RunEventKind {
    let (failed_steps, cancelled_steps) = Default::default();
    RunEventKind::Failed(RunFailed {
        failed_handlers: vec![],
        plan_name: "plan".into(),
        error: "no".into(),
        reason,
        failed_steps,
        cancelled_steps,
        usage: None,
    })
}

fn output_chunk(chunk: &str) -> RunEventKind {
    RunEventKind::StepOutput(StepOutput {
        step_id: step_id("a"),
        item: None,
        attempt: 1,
        stream: OutputStream::Stdout,
        chunk: chunk.into(),
        omitted_bytes: None,
    })
}

fn progress(step: &str, update: StepUpdate) -> RunEventKind {
    let said = StepProgress::of(&step_id(step), &step.into(), update, Progress::of(2));
    RunEventKind::Progress(StepProgress { attempt: 1, ..said })
}

fn running() -> StepUpdate {
    StepUpdate::Running { step_description: "".into(), message: "runs".into() }
}

fn done(output: Value, truncated: bool) -> StepUpdate {
    let output_bytes = truncated.then_some(9999);
    StepUpdate::Completed { output: Arc::new(output), duration: 1, truncated, output_bytes, reused: false }
}

/// The body that a submission is answered, and whether it is a replay; or why it was refused.
fn accepted(answer: Answer) -> Result<(String, bool), Refusal> {
    match answer {
        Answer::Accepted { body, replayed } => Ok((String::from_utf8_lossy(&body).into_owned(), replayed)),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("neither: {other:?}"),
    }
}

fn written(stream: OutputStream, attempt: u32, text: &str) -> Record {
    let bytes = text.as_bytes().to_vec();
    Record::Output { project: p(), run: run_id("r"), step: step_id("a"), attempt, stream, bytes }
}

impl Bench {
    fn records(&mut self, records: Vec<Record>) {
        self.handle(vec![Command::Records(records)]);
    }

    fn output(&mut self, step: &str, stream: Option<OutputStream>) -> Result<(String, bool), Refusal> {
        let wanted = WantedOutput { item: None, stream, asked: Conditions::default(), bytes_max: usize::MAX };
        match self.read(Query::Output { project: p(), run: run_id("r"), step: step_id(step), wanted }) {
            Answer::Output(output) => Ok((String::from_utf8_lossy(&output.bytes).into_owned(), output.is_json)),
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("no output: {other:?}"),
        }
    }
}

fn position(text: &str) -> Position {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A run of a group: `limit` at a time.
fn grouped(run: &str, limit: usize, on_conflict: OnConflict) -> Command {
    let concurrency = Concurrency { group: "g".into(), limit, on_conflict };
    let plan = Plan { concurrency: Some(Arc::new(concurrency)), ..plan(&["a", "b: a"]) };
    let submission = Submission { plan: Arc::new(plan), ..submission("p", run, None, 0) };
    Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
}

/// What the executor is told of runs, in short.
fn told(outcome: &Outcome) -> Vec<String> {
    let in_short = |order: &Order| match order {
        Order::Start { run, is_held, .. } => Some(format!("{run} {}", if *is_held { "waits" } else { "begins" })),
        Order::Resume(run) => {
            Some(format!("{} {}", run.state.run_id, if run.is_held { "waits on" } else { "goes on" }))
        }
        Order::Release { run, .. } => Some(format!("{run} is released")),
        Order::Cancel { run, .. } => Some(format!("{run} is cancelled")),
        Order::ChildEnded { end, .. } => Some(format!("{} hears of {}", end.parent, end.child)),
        Order::Abandon(_) => Some("all are let go".to_owned()),
        Order::Steer { .. } | Order::Kept(_) | Order::StoreIsDown(_) => None,
    };
    outcome.orders.iter().filter_map(in_short).collect()
}

fn ends(bench: &mut Bench, run: &str) -> Vec<String> {
    let timestamp = bench.now.wall;
    let said = [started(), failed(EndReason::Cancelled)].map(|kind| event(run, kind, timestamp));
    told(&bench.handle(vec![Command::Records(said.to_vec())]))
}
