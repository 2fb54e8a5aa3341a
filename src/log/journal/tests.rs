//! The journal over the memory store: commands in, deliveries, orders and answers out.

mod conflict;
mod load;
mod outage;
mod outbox;
mod refused;
mod retelling;
mod simulation;
mod slow_readers;

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
    PublishedEvent, Query, Refusal, ResetReason, Resume, ResumeFrom, Retention, RunNumber, StartingPosition,
    Submission, Subscription, View, WantedOutput,
};
use crate::model::{
    EndReason, Now, OutputStream, PerformanceMetrics, Progress, ProjectId, Record, RunCompleted, RunEvent,
    RunEventKind, RunFailed, RunId, RunStarted, RunStatus, StepId, StepOutput, StepProgress, StepUpdate, Timestamp,
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
    }
}

fn event(run: &str, kind: RunEventKind, timestamp: Timestamp) -> Record {
    Record::Event { project: p(), event: RunEvent { run_id: run_id(run), timestamp, kind } }
}

fn started() -> RunEventKind {
    RunEventKind::Started(RunStarted {
        plan_name: "plan".into(),
        step_count: 2,
        total_levels: 2,
        estimated_duration: 0,
        parallelizable: false,
        levels: vec![vec![step_id("a")], vec![step_id("b")]],
    })
}

fn completed() -> RunEventKind {
    RunEventKind::Completed(RunCompleted {
        plan_name: "plan".into(),
        outputs: Map::new(),
        truncated: vec![],
        failed_steps: vec![],
        performance_metrics: PerformanceMetrics { total_execution_time: 1, critical_path: vec![], step_time: 1 },
    })
}

fn failed(reason: EndReason) -> RunEventKind {
    let (failed_steps, cancelled_steps) = Default::default();
    RunEventKind::Failed(RunFailed {
        plan_name: "plan".into(),
        error: "no".into(),
        reason,
        failed_steps,
        cancelled_steps,
    })
}

fn output_chunk(chunk: &str) -> RunEventKind {
    RunEventKind::StepOutput(StepOutput {
        step_id: step_id("a"),
        attempt: 1,
        stream: OutputStream::Stdout,
        chunk: chunk.into(),
        omitted_bytes: None,
    })
}

fn progress(step: &str, update: StepUpdate) -> RunEventKind {
    RunEventKind::Progress(StepProgress {
        step_id: step_id(step),
        step_title: step.into(),
        level: 0,
        attempt: 1,
        update,
        omitted_bytes: None,
        progress: Progress::of(2),
    })
}

fn running() -> StepUpdate {
    StepUpdate::Running { step_description: "".into(), message: "runs".into() }
}

fn done(output: Value, truncated: bool) -> StepUpdate {
    let output_bytes = truncated.then_some(9999);
    StepUpdate::Completed { output: Arc::new(output), duration: 1, truncated, output_bytes }
}

#[test]
fn messages_are_numbered_by_project_without_a_gap() {
    let mut bench = Bench::new();
    assert_eq!([bench.publish(&p(), 3), bench.publish(&project("q"), 1), bench.publish(&p(), 2)], [1, 1, 4]);
    bench.whole_run("r", 2);
    assert_eq!(bench.publish(&p(), 1), 10, "a run's messages count too");
    assert_eq!(bench.follow(0, None).0, (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_read_as_a_whole_and_its_frames_come_before_its_answers() {
    let mut bench = Bench::new();
    bench.attach(None, None);
    let read = Command::Read {
        query: Query::Page { project: p(), after: 0, run: None, view: View::Events, bytes_max: 1 << 20 },
        reply: reply_to(7),
    };
    let outcome = bench.handle(vec![read, publish(&p(), 2, 1), submit("r", None, 0, 2), publish(&p(), 1, 3)]);
    let of_p = frames(&outcome);
    assert_eq!(of_p.len(), 1, "one row a project");
    assert_eq!((of_p[0].1.first_seq, seqs_of(&of_p[0].1.bytes)), (1, vec![1, 2, 3]));
    assert!(matches!(outcome.deliveries[0], Delivery::Frames { .. }));
    assert!(matches!(&outcome.orders[..], [Order::Start { .. }]));
    let answers = answers(outcome);
    let to: Vec<u64> = answers.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [1, 2, 3, 7]);
    let Answer::Page(page) = &answers[3].1 else { panic!("no page: {answers:?}") };
    assert_eq!(seqs_of(&page.bytes), [1, 2, 3], "a read sees all of its batch");
}

#[test]
fn a_project_is_delivered_while_it_is_watched_and_its_tail_is_handed_over_once() {
    let mut bench = Bench::new();
    bench.publish(&p(), 3);
    let first = bench.attach(None, None);
    let tail = first.backlog.expect("the tail");
    assert_eq!((first.after, tail.first_seq, seqs_of(&tail.bytes)), (3, 1, vec![1, 2, 3]));
    assert_eq!(tail.marks.last().map(|mark| mark.end), Some(tail.bytes.len()));
    assert!(bench.attach(None, None).backlog.is_none(), "it is watched already");
    assert_eq!(frames(&bench.handle(vec![publish(&p(), 1, 0)])).len(), 1);

    bench.handle(vec![Command::Unwatch(p())]);
    assert_eq!(frames(&bench.handle(vec![publish(&p(), 1, 0)])).len(), 0);
    let again = bench.attach(Some(ResumeFrom::Seq(3)), None);
    assert_eq!((again.after, again.resume), (3, Resume::Resumed));
    assert_eq!(again.backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![1, 2, 3, 4, 5]));
}

#[test]
fn an_empty_project_may_be_watched() {
    let mut bench = Bench::new();
    let start = bench.attach(None, None);
    let tail = start.backlog.expect("an empty tail");
    assert_eq!((start.after, tail.first_seq, tail.marks.len()), (0, 1, 0));
    let outcome = bench.handle(vec![publish(&p(), 1, 0)]);
    assert_eq!(frames(&outcome)[0].1.first_seq, 1);
}

#[test]
fn pages_hold_what_fits_and_only_the_readers_own() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.submit("r");
    bench.say("r", vec![started()]);
    bench.publish(&p(), 2);
    bench.say("r", vec![completed()]);
    bench.publish(&p(), 1);
    let number = bench.attach(None, Some("r")).run;
    let page = |answer| match answer {
        Answer::Page(Page { bytes, messages, up_to, has_last }) => (seqs_of(&bytes), messages, up_to, has_last),
        other => panic!("no page: {other:?}"),
    };
    for (after, run, bytes_max, expected) in [
        (0, None, 1 << 20, (vec![1, 2, 3, 4, 5, 6, 7], 7, 7, false)),
        (4, None, 1 << 20, (vec![5, 6, 7], 3, 7, false)),
        (0, None, 1, (vec![1], 1, 1, false)),
        (7, None, 1, (vec![], 0, 7, false)),
        (0, number, 1 << 20, (vec![3, 6], 2, 7, true)),
        (0, number, 1, (vec![3], 1, 5, false)),
        (5, number, 1, (vec![6], 1, 7, true)),
        (6, number, 1, (vec![], 0, 7, false)),
    ] {
        assert_eq!(page(bench.page(after, run, bytes_max)), expected, "behind {after} of {run:?}, {bytes_max} bytes");
    }
}

#[test]
fn a_page_and_a_live_frame_are_the_same_bytes() {
    let mut bench = Bench::new();
    bench.attach(None, None);
    let outcome = bench.handle(vec![publish(&p(), 2, 0)]);
    let live = frames(&outcome)[0].1.bytes.clone();
    let Answer::Page(page) = bench.page(0, None, 1 << 20) else { panic!("no page") };
    assert_eq!((&*page.bytes, page.messages), (&*live, 2));
}

#[test]
fn history_is_bounded_by_count_and_keeps_the_ends_of_runs() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.whole_run("r", 5);
    bench.publish(&p(), 10);
    let Answer::StartsAt(reset) = bench.page(0, None, 1) else { panic!("what is gone is not paged") };
    assert_eq!(reset.resume, Resume::Reset(ResetReason::Expired));
    assert_eq!(bench.follow(13, None).0, [14, 15, 16, 17]);
    let events = bench.json(Query::RunEvents {
        project: p(),
        run: run_id("r"),
        after: 0,
        limit: 100,
        list: EventList::Messages,
    });
    let seqs: Vec<_> = events["events"].as_array().expect("an array").iter().map(|event| &event["seq"]).collect();
    assert_eq!(seqs, [1, 7]);
}

#[test]
fn history_is_bounded_by_bytes_and_by_age() {
    let mut bench = Bench::with(keeping(Retention { bytes: 2000, ..KEEP_ALL }));
    bench.publish(&p(), 100);
    bench.publish(&project("q"), 5);
    let kept = bench.attach(None, None).backlog.expect("a tail").marks.len();
    assert!((1..10).contains(&kept), "{kept} messages");

    let mut bench = Bench::with(keeping(Retention { age_ms: 1000, ..KEEP_ALL }));
    bench.publish(&p(), 3);
    bench.wait_ms(600);
    bench.publish(&p(), 3);
    bench.wait_ms(600);
    bench.publish(&project("q"), 1);
    assert_eq!(bench.attach(None, None).backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![4, 5, 6]));
}

#[test]
fn a_position_is_resumed_or_the_stream_is_told_why_not() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.publish(&p(), 10);
    for (from, expected) in [
        (None, (Resume::Fresh, 10)),
        (Some(ResumeFrom::Seq(10)), (Resume::Resumed, 10)),
        (Some(ResumeFrom::Seq(6)), (Resume::Resumed, 6)),
        (Some(ResumeFrom::Seq(5)), (Resume::Reset(ResetReason::Expired), 10)),
        (Some(ResumeFrom::Seq(0)), (Resume::Reset(ResetReason::Expired), 10)),
        (Some(ResumeFrom::Seq(11)), (Resume::Reset(ResetReason::Ahead), 10)),
        (Some(ResumeFrom::Unknown), (Resume::Reset(ResetReason::UnknownId), 10)),
    ] {
        let start = bench.attach(from, None);
        assert_eq!((start.resume, start.after), expected, "{from:?}");
    }
}

#[test]
fn a_stream_of_one_run_begins_with_its_first_message_and_is_over_behind_its_last() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.whole_run("r", 1);
    bench.publish(&p(), 2);
    let fresh = bench.attach(None, Some("r"));
    assert_eq!((fresh.after, fresh.resume, fresh.is_over), (2, Resume::Fresh, false));
    assert!(fresh.snapshots.is_empty() && fresh.run.is_some());
    assert_eq!(bench.follow(fresh.after, fresh.run), (vec![3, 4, 5], true));
    for (seq, is_over) in [(2, false), (4, false), (5, true), (7, true)] {
        let resumed = bench.attach(Some(ResumeFrom::Seq(seq)), Some("r"));
        assert_eq!((resumed.resume, resumed.after, resumed.is_over), (Resume::Resumed, seq, is_over), "{seq}");
    }
    let other = subscribe(Subscription { run: Some(run_id("other")), ..everything(p()) }, 0);
    assert!(matches!(bench.ask(other), Answer::Refused(Refusal::UnknownRun)));
}

#[test]
fn a_stream_of_a_run_that_waits_begins_before_its_first_message() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.submit("r");
    bench.publish(&p(), 1);
    let queued = bench.attach(None, Some("r"));
    assert_eq!((queued.after, queued.resume), (3, Resume::Fresh));
    bench.say("r", vec![started(), failed(EndReason::Cancelled)]);
    assert_eq!(bench.follow(queued.after, queued.run), (vec![4, 5], true));
}

#[test]
fn a_stream_of_a_run_whose_history_is_gone_is_told_its_state_and_its_end_once() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.whole_run("r", 5);
    bench.publish(&p(), 10);
    for from in [None, Some(ResumeFrom::Seq(2)), Some(ResumeFrom::Unknown)] {
        let reset = bench.attach(from, Some("r"));
        assert!(matches!(reset.resume, Resume::Reset(_)), "{from:?}: {:?}", reset.resume);
        assert_eq!((reset.snapshots.len(), reset.after, reset.is_over), (1, 6, false));
        assert_eq!(bench.follow(reset.after, reset.run), (vec![7], true), "not reset again and again");
    }
    for seq in [7, 12] {
        let seen = bench.attach(Some(ResumeFrom::Seq(seq)), Some("r"));
        assert!(seen.is_over, "whoever has seen the last message is told to stay away: {:?}", seen.resume);
    }
}

#[test]
fn a_stream_of_a_run_that_goes_on_is_reset_to_where_the_run_is() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.submit("r");
    bench.say("r", vec![started()]);
    bench.publish(&p(), 10);
    let reset = bench.attach(None, Some("r"));
    assert_eq!((reset.resume, reset.after, reset.snapshots.len()), (Resume::Reset(ResetReason::Expired), 11, 1));
    bench.say("r", vec![completed()]);
    assert_eq!(bench.follow(reset.after, reset.run), (vec![12], true));
}

/// The ids and statuses of the runs that snapshots show.
fn shown(start: &StartingPosition) -> Vec<(String, String)> {
    let show = |snapshot: &Arc<[u8]>| {
        let message: Value = serde_json::from_slice(snapshot).expect("JSON");
        assert_eq!((&message["type"], &message["seq"]), (&json!("workflow_snapshot"), &json!(start.after)));
        let text = |name: &str| message["payload"][name].as_str().expect("a text").to_owned();
        assert!(message["payload"]["timestamp"].is_string());
        (text("runId"), text("status"))
    };
    start.snapshots.iter().map(show).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(run, status)| ((*run).to_owned(), (*status).to_owned())).collect()
}

#[test]
fn snapshots_show_what_is_active_and_the_newest_that_ended_a_moment_ago() {
    let mut bench = Bench::new();
    bench.whole_run("first", 0);
    bench.wait_ms(1000);
    bench.whole_run("second", 0);
    bench.submit("active");
    bench.say("active", vec![started()]);
    bench.submit("waits");
    let fresh = bench.attach(None, None);
    assert_eq!(shown(&fresh), pairs(&[("second", "completed"), ("active", "running"), ("waits", "queued")]));
    assert_eq!(shown(&bench.attach(Some(ResumeFrom::Unknown), None)).len(), 3);
    assert_eq!(shown(&bench.attach(Some(ResumeFrom::Seq(1)), None)).len(), 0, "whoever resumes has seen them");
    let bare = subscribe(Subscription::to(p()), 0);
    assert!(matches!(bench.ask(bare), Answer::StartsAt(start) if start.snapshots.is_empty()));
    bench.wait_ms(60_000);
    assert_eq!(shown(&bench.attach(None, None)).len(), 3);
    bench.wait_ms(1);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("active", "running"), ("waits", "queued")]));
}

#[test]
fn a_snapshot_is_cut_anew_once_anything_has_changed() {
    let mut bench = Bench::new();
    bench.submit("r");
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "queued")]));
    bench.publish(&p(), 1);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "queued")]), "its seq is the stream's position");
    bench.say("r", vec![started()]);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "running")]));
}

#[test]
fn a_snapshot_is_made_beside_the_log_and_once_for_all_who_come_before_its_run_moves_on() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.say("r", vec![started()]);
    let begin = |bench: &mut Bench| {
        let Asked::Snapshots(start) = bench.question(subscribe(everything(p()), 0)) else { panic!("no snapshots") };
        assert!(start.snapshots.is_empty() && start.backlog.is_none(), "the loop has the newest messages already");
        start
    };
    let one = begin(&mut bench);
    bench.publish(&p(), 1);
    let other = begin(&mut bench);
    assert!(Arc::ptr_eq(&one.unmade[0], &other.unmade[0]), "what others say in its project changes no run");
    bench.say("r", vec![progress("a", running())]);
    let later = begin(&mut bench);
    assert!(!Arc::ptr_eq(&one.unmade[0], &later.unmade[0]));
    bench.say("r", vec![completed()]);
    for (start, position) in [(one, 1), (other, 2), (later, 3)] {
        let Answer::StartsAt(start) = lookup::begun(start, &bench.signer) else { panic!("not made") };
        assert_eq!((start.after, start.unmade.len()), (position, 0));
        assert_eq!(shown(&start), pairs(&[("r", "running")]), "as it was when the stream began");
    }
}

#[test]
fn the_outputs_of_a_snapshot_are_bounded_together() {
    let mut bench = Bench::new();
    bench.submit("r");
    let large = Value::String("x".repeat(600 * 1024));
    bench.say("r", vec![started(), progress("a", done(large.clone(), false)), progress("b", done(large, false))]);
    let snapshot = &bench.attach(None, None).snapshots[0];
    let message: Value = serde_json::from_slice(snapshot).expect("JSON");
    let [a, b] = [0, 1].map(|at| &message["payload"]["steps"][at]);
    assert!(a["output"].as_str().is_some_and(|output| output.len() == 600 * 1024) && a["truncated"].is_null());
    assert_eq!((&b["output"], &b["truncated"], &b["outputBytes"]), (&json!(""), &json!(true), &json!(600 * 1024 + 2)));
}

#[test]
fn a_run_with_more_outputs_than_the_store_takes_in_one_value_could_not_end() {
    let mut bench = Bench::with(Limits { state_outputs_bytes: 1500, ..limits() });
    bench.submit("r");
    let large = |c: &str| json!({"long": c.repeat(1000)});
    bench.say("r", vec![started(), progress("a", done(large("a"), false)), progress("b", done(large("b"), false))]);
    for is_ended in [false, true] {
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), whole_outputs: false });
        let [a, b] = [0, 1].map(|at| &run["steps"][at]);
        assert_eq!((&a["output"], &a["truncated"]), (&large("a"), &Value::Null));
        assert_eq!((&b["output"], &b["truncated"], &b["outputBytes"]), (&json!(""), &json!(true), &json!(1011)));
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), whole_outputs: true });
        assert_eq!((&run["steps"][1]["output"], &run["steps"][1]["truncated"]), (&large("b"), &Value::Null));
        assert_eq!(bench.output("b", None), Ok((large("b").to_string(), true)), "ended: {is_ended}");
        let folded = bench.journal.runs.values().next().expect("it is held").state.clone();
        bench.journal.reload(None, bench.now).expect("it can be read");
        assert_eq!(bench.journal.runs.values().next().expect("it is held").state, folded, "ended: {is_ended}");
        if !is_ended {
            bench.say("r", vec![completed()]);
        }
    }
    let kept = bench.journal.store.ended_state(number(1)).expect("it can be read").expect("it is kept");
    assert!(kept.len() < 1500 + 1000, "{} bytes", kept.len());
    let seen = bench.page(0, None, 1 << 20);
    let Answer::Page(page) = seen else { panic!("{seen:?}") };
    let messages = messages_of(&page.bytes);
    assert_eq!(messages[2]["payload"]["output"], large("b"), "its message has all of it");
}

#[test]
fn runs_that_ended_are_not_held_for_ever() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.whole_run(&format!("r{n}"), 0);
        bench.wait_ms(10);
    }
    assert_eq!(bench.journal.runs.len(), 1, "only the newest that ended is shown to who comes");
    bench.wait_ms(60_001);
    bench.publish(&p(), 1);
    assert_eq!(bench.journal.runs.len(), 0);
    let run = bench.json(Query::Run { project: p(), run: run_id("r9"), whole_outputs: true });
    assert_eq!((&run["status"], &run["lastEventId"]), (&json!("completed"), &json!(bench.id(20))));
    assert_eq!(bench.attach(Some(ResumeFrom::Seq(0)), Some("r9")).after, 0);
}

#[test]
fn projects_that_were_only_ever_watched_are_bounded_and_forgotten() {
    let mut bench = Bench::with(Limits { projects: 2, ..limits() });
    let attach = |of: &str| subscribe(everything(project(of)), 0);
    bench.publish(&project("kept"), 1);
    assert!(matches!(bench.ask(attach("a")), Answer::StartsAt(_)));
    assert!(matches!(bench.ask(attach("b")), Answer::Refused(Refusal::TooManyProjects(_))));
    assert!(matches!(bench.ask(publish(&project("b"), 1, 0)), Answer::Refused(Refusal::TooManyProjects(_))));
    bench.handle(vec![Command::Unwatch(project("a")), Command::Unwatch(project("kept"))]);
    assert!(matches!(bench.ask(attach("b")), Answer::StartsAt(_)));
    assert_eq!(bench.publish(&project("kept"), 1), 2, "what was written to goes on where it was");
}

#[test]
fn an_empty_array_of_events_makes_no_project() {
    let mut bench = Bench::new();
    assert_eq!(bench.publish(&p(), 0), 1);
    let projects = bench.json(Query::Projects { visible: None, after: None, limit: 10 });
    assert_eq!(projects, json!({"projects": []}));
}

#[test]
fn projects_are_listed_by_name_page_by_page_as_far_as_they_may_be_seen() {
    let mut bench = Bench::new();
    for name in ["c", "a", "b", "d"] {
        bench.publish(&project(name), 1);
    }
    bench.submit("r");
    bench.journal.watchers().say([(project("c"), Some(2)), (project("d"), None)]);
    let mut listed = |visible: Option<&[&str]>, after: Option<&str>, limit| {
        let visible = visible.map(|names| names.iter().map(|name| project(name)).collect());
        let list = bench.json(Query::Projects { visible, after: after.map(project), limit });
        let row = |row: &Value| {
            format!("{}{}{}", row["projectId"].as_str().unwrap_or("?"), row["activeRuns"], row["subscribers"])
        };
        let rows = list["projects"].as_array().expect("rows");
        (rows.iter().map(row).collect::<Vec<_>>().join(" "), list["next"].clone())
    };
    assert_eq!(listed(None, None, 3), ("a00 b00 c02".into(), json!("c")));
    assert_eq!(listed(None, Some("c"), 3), ("d00 p10".into(), Value::Null));
    assert_eq!(listed(Some(&["d", "b", "b", "none"]), None, 3), ("b00 d00".into(), Value::Null));
    assert_eq!(listed(Some(&["d", "c", "b"]), Some("b"), 1), ("c02".into(), json!("c")));
}

#[test]
fn the_tail_that_is_handed_over_is_bounded_though_messages_are_large() {
    let mut bench = Bench::new();
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(100 * 1024)).into_bytes();
    let event = PublishedEvent { message_type: "note".into(), payload };
    let command = Command::Publish { project: p(), events: vec![event; 20], reply: reply_to(0) };
    bench.ask(command);
    assert_eq!(bench.attach(None, None).backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![19, 20]));
    let mut bench = Bench::new();
    bench.publish(&p(), 10_000);
    let tail = bench.attach(None, None).backlog.expect("a tail");
    assert!((200 * 1024..512 * 1024).contains(&tail.bytes.len()), "{} bytes", tail.bytes.len());
    assert_eq!((tail.next_seq(), tail.marks.len()), (10_001, seqs_of(&tail.bytes).len()));
}

/// The body that a submission is answered, and whether it is a replay; or why it was refused.
fn accepted(answer: Answer) -> Result<(String, bool), Refusal> {
    match answer {
        Answer::Accepted { body, replayed } => Ok((String::from_utf8_lossy(&body).into_owned(), replayed)),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("neither: {other:?}"),
    }
}

#[test]
fn a_call_that_comes_twice_makes_one_run_whether_in_one_batch_or_two() {
    let first = || submit("r1", Some("key"), 1, 1);
    let calls = [
        ("same key, same body", submit("r2", Some("key"), 1, 2), Ok(("{\"runId\":\"r1\"}".to_owned(), true))),
        ("same key, other body", submit("r3", Some("key"), 2, 2), Err(Refusal::KeyReused)),
        ("same run id, same body", submit("r1", None, 1, 2), Ok(("{\"runId\":\"r1\"}".to_owned(), true))),
        ("same run id, other body", submit("r1", None, 2, 2), Err(Refusal::KeyReused)),
        ("another key", submit("r4", Some("other"), 1, 2), Ok(("{\"runId\":\"r4\"}".to_owned(), false))),
    ];
    for (name, call, expected) in calls {
        let Command::Submit { submission, .. } = &call else { unreachable!("a submission") };
        let again = Command::Submit { submission: submission.clone(), reply: reply_to(2) };

        let mut bench = Bench::new();
        let outcome = bench.handle(vec![first(), call]);
        assert_eq!(outcome.orders.len(), if matches!(expected, Ok((_, false))) { 2 } else { 1 }, "{name}");
        let (_, answer) = answers(outcome).remove(1);
        assert_eq!(accepted(answer), expected, "{name}, in one batch");

        let mut bench = Bench::new();
        bench.handle(vec![first()]);
        assert_eq!(accepted(bench.ask(again)), expected, "{name}, in two");
    }
}

#[test]
fn keys_are_a_projects_own_and_good_for_a_day_also_when_the_run_has_ended() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    bench.say("r1", vec![started(), completed()]);
    let elsewhere = Box::new(submission("q", "r2", Some("key"), 2));
    let answer = bench.ask(Command::Submit { submission: elsewhere, reply: reply_to(0) });
    assert!(matches!(accepted(answer), Ok((_, false))));
    bench.wait_ms(DAY_MS);
    assert!(matches!(accepted(bench.ask(submit("r3", Some("key"), 1, 0))), Ok((_, true))));
    bench.wait_ms(1);
    assert!(matches!(accepted(bench.ask(submit("r4", Some("key"), 1, 0))), Ok((_, false))));
    assert!(matches!(accepted(bench.ask(submit("r1", None, 1, 0))), Ok((_, true))), "a run id as long as its run");
}

#[test]
fn a_key_whose_run_was_let_go_made_a_second_run() {
    let mut bench = Bench::with(keeping(Retention { runs: 0, ..KEEP_ALL }));
    let first = accepted(bench.ask(submit("r1", Some("key"), 1, 0)));
    bench.say("r1", vec![started(), completed()]);
    bench.wait_ms(DAY_MS / 2);
    bench.publish(&p(), 1);
    let gone = bench.read(Query::Document { project: p(), run: run_id("r1") });
    assert!(matches!(gone, Answer::Refused(Refusal::UnknownRun)), "{gone:?}");
    let body = first.expect("taken on").0;
    assert_eq!(accepted(bench.ask(submit("r2", Some("key"), 1, 0))), Ok((body.clone(), true)));
    assert_eq!(accepted(bench.ask(submit("r3", Some("key"), 2, 0))), Err(Refusal::KeyReused));
    assert_eq!(accepted(bench.ask(submit("r1", None, 1, 0))), Ok((body, true)), "an id that the caller chose too");
}

#[test]
fn a_call_that_can_not_be_carried_out_is_answered_as_the_one_with_its_key() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    let mut recalled = |key: &str, fingerprint: u8| {
        let mut claim = Box::new(submission("p", "r9", Some(key), fingerprint).claim);
        claim.run = None;
        let otherwise = Box::new(Problem::new(400, "invalid_json", "no JSON"));
        bench.read(Query::Recall { claim, otherwise })
    };
    assert_eq!(accepted(recalled("key", 1)), Ok(("{\"runId\":\"r1\"}".into(), true)), "its tool may be gone since");
    assert_eq!(accepted(recalled("key", 2)), Err(Refusal::KeyReused));
    assert!(matches!(recalled("other", 2), Answer::Problem(problem) if problem.code == "invalid_json"));
}

#[test]
fn a_body_is_known_again_that_an_earlier_version_kept_by_its_bytes() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    // Of the same bytes, and of another value than was kept.
    let again = submit("r2", Some("key"), 1 ^ 0xff, 0);
    assert!(matches!(accepted(bench.ask(again)), Ok((_, true))));
}

#[test]
fn keys_are_bounded_in_bytes_and_one_project_leaves_room_for_the_others() {
    let mut bench = Bench::with(Limits { key_bytes: 4000, open_runs: 10_000, ..limits() });
    let call = |of: &str, n: usize| {
        let mut submission = submission(of, &format!("{of}{n}"), Some(&format!("key{n}")), 1);
        submission.claim.run = None;
        Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
    };
    let fill = |bench: &mut Bench, of: &str| {
        let is_taken = |n: &usize| accepted(bench.ask(call(of, *n))) != Err(Refusal::TooManyKeys(4000));
        (0..1000).take_while(is_taken).count()
    };
    let (first, second) = (fill(&mut bench, "a"), fill(&mut bench, "b"));
    assert!((8..12).contains(&first), "half of it: {first}");
    assert!((4..7).contains(&second), "half of what is left: {second}");
    assert!(bench.journal.key_bytes <= 4000);
    assert!(matches!(accepted(bench.ask(call("a", 0))), Ok((_, true))), "none is forgotten");
    let unnamed = |of: &str, run: &str| {
        let mut submission = submission(of, run, None, 1);
        submission.claim.run = None;
        Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
    };
    assert!(matches!(accepted(bench.ask(unnamed("a", "plain"))), Ok((_, false))), "without a key it needs no room");
    bench.wait_ms(DAY_MS + 1);
    bench.publish(&p(), 1);
    bench.wait_ms(31_000);
    bench.handle(Vec::new());
    assert_eq!(bench.journal.key_bytes, 0);
    assert!(matches!(accepted(bench.ask(call("a", 999))), Ok((_, false))), "after a day there is room");
}

#[test]
fn a_clock_that_leapt_forward_let_all_history_go() {
    let mut bench = Bench::with(keeping(Retention { age_ms: DAY_MS, ..KEEP_ALL }));
    bench.whole_run("r1", 3);
    bench.ask(submit("r2", Some("key"), 1, 0));
    // A board without a clock of its own learns what time it is.
    bench.now.wall = bench.now.wall.plus_millis(50 * 365 * DAY_MS);
    bench.wait_ms(60_000);
    bench.publish(&p(), 1);
    assert_eq!(bench.follow(0, None).0.len(), 6);
    assert!(matches!(accepted(bench.ask(submit("r3", Some("key"), 1, 0))), Ok((_, true))), "nor any key");
    bench.wait_ms(DAY_MS);
    bench.handle(Vec::new());
    assert_eq!(bench.follow(6, None).0.len(), 0);
    let lost = bench.page(0, None, 1);
    assert!(matches!(lost, Answer::StartsAt(_)), "time that passes lets it go all the same: {lost:?}");
}

#[test]
fn projects_that_held_nothing_any_more_filled_the_limit_for_good() {
    let retention = Retention { age_ms: DAY_MS, ..KEEP_ALL };
    let mut bench = Bench::with(Limits { projects: 3, ..keeping(retention) });
    for name in ["a", "b", "c"] {
        bench.publish(&project(name), 2);
    }
    let one_more = publish(&project("d"), 1, 0);
    assert!(matches!(bench.ask(one_more.clone()), Answer::Refused(Refusal::TooManyProjects(_))));
    bench.wait_ms(2 * DAY_MS);
    let outcome = bench.handle(Vec::new());
    let held = outcome.deliveries.iter().find_map(|delivery| match delivery {
        Delivery::Worked(work) => Some(work.held().projects),
        _ => None,
    });
    assert_eq!(held, Some(0), "it is told: {outcome:?}");
    assert!(matches!(bench.ask(one_more), Answer::Published { first_seq: 1, count: 1 }));
    let projects = bench.json(Query::Projects { visible: None, after: None, limit: 10 });
    assert_eq!(projects["projects"].as_array().map(Vec::len), Some(1), "{projects}");
    assert_eq!(bench.publish(&project("a"), 1), 3, "its seq goes on");
    assert_eq!(bench.attach(None, None).after, 0);
    let ahead = Subscription { resume: Some(ResumeFrom::Seq(2)), ..everything(project("b")) };
    assert!(
        matches!(bench.ask(publish(&project("e"), 1, 0)), Answer::Refused(Refusal::TooManyProjects(_))),
        "p is watched"
    );
    bench.handle(vec![Command::Unwatch(p())]);
    match bench.ask(subscribe(ahead, 0)) {
        Answer::StartsAt(start) => assert_eq!((start.resume, start.after), (Resume::Resumed, 2)),
        other => panic!("no start: {other:?}"),
    }
}

#[test]
fn runs_that_have_not_ended_are_limited() {
    let mut bench = Bench::with(Limits { open_runs: 2, ..limits() });
    bench.submit("a");
    bench.submit("b");
    assert_eq!(accepted(bench.ask(submit("c", None, 0, 0))), Err(Refusal::TooManyRuns(2)));
    assert!(matches!(accepted(bench.ask(submit("a", None, 0, 0))), Ok((_, true))), "a replay is none more");
    bench.say("a", vec![started(), failed(EndReason::StepFailed)]);
    bench.submit("c");
}

#[test]
fn one_projects_runs_leave_room_for_those_of_the_others() {
    let mut bench = Bench::with(Limits { open_runs: 4, project_runs: 2, ..limits() });
    bench.submit("a");
    bench.submit("b");
    assert_eq!(accepted(bench.ask(submit("c", None, 0, 0))), Err(Refusal::TooManyProjectRuns(2)));
    assert!(matches!(accepted(bench.ask(submit("a", None, 0, 0))), Ok((_, true))), "a replay is none more");
    let mut elsewhere = submit("c", None, 0, 0);
    if let Command::Submit { submission, .. } = &mut elsewhere {
        submission.claim.project = project("other");
    }
    assert!(matches!(accepted(bench.ask(elsewhere)), Ok((_, false))));
    bench.say("a", vec![started(), failed(EndReason::StepFailed)]);
    bench.submit("c");
}

#[test]
fn each_of_many_open_runs_is_told_its_own() {
    let mut bench = Bench::new();
    for n in 0..1000 {
        bench.submit(&format!("r{n}"));
    }
    for n in (0..1000).rev() {
        bench.say(&format!("r{n}"), vec![started()]);
    }
    bench.say("r500", vec![completed()]);
    let listed = bench.json(Query::Runs { project: p(), status: Some(RunStatus::Running), before: None, limit: 1000 });
    assert_eq!(listed["workflows"].as_array().map(Vec::len), Some(999));
    assert_eq!(bench.follow(0, bench.journal.open_run(&p(), &run_id("r7"))).0, [993]);
}

#[test]
fn only_a_run_that_has_not_ended_can_be_cancelled() {
    let mut bench = Bench::new();
    let cancel = |run: &str| Command::Cancel { project: p(), run: run_id(run), reply: Some(reply_to(0)) };
    assert!(matches!(bench.ask(cancel("r")), Answer::Refused(Refusal::UnknownRun)));
    let outcome = bench.handle(vec![submit("r", None, 0, 0), cancel("r")]);
    assert!(matches!(&outcome.orders[..], [Order::Start { .. }, Order::Cancel { .. }]), "in this order");
    assert!(matches!(answers(outcome).pop(), Some((_, Answer::CancelAccepted))));
    bench.say("r", vec![started(), failed(EndReason::Cancelled)]);
    let outcome = bench.handle(vec![cancel("r")]);
    assert!(outcome.orders.is_empty());
    assert!(matches!(answers(outcome).pop(), Some((_, Answer::Refused(Refusal::RunEnded)))));
    let run = bench.json(Query::Run { project: p(), run: run_id("r"), whole_outputs: true });
    assert_eq!((&run["status"], &run["error"]), (&json!("cancelled"), &json!("no")));
}

#[test]
fn what_a_run_says_after_its_last_message_is_not_kept() {
    let mut bench = Bench::new();
    bench.whole_run("r", 0);
    let outcome = bench.say("r", vec![output_chunk("late")]);
    assert!(outcome.deliveries.is_empty());
    assert_eq!(bench.publish(&p(), 1), 3);
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
        let wanted = WantedOutput { stream, asked: Conditions::default(), bytes_max: usize::MAX };
        match self.read(Query::Output { project: p(), run: run_id("r"), step: step_id(step), wanted }) {
            Answer::Output(output) => Ok((String::from_utf8_lossy(&output.bytes).into_owned(), output.is_json)),
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("no output: {other:?}"),
        }
    }
}

#[test]
fn a_steps_output_is_what_it_has_written_and_what_it_returned_where_it_wrote_nothing() {
    let text = |text: &str| Ok((text.to_owned(), false));
    let mut bench = Bench::new();
    assert_eq!(bench.output("a", None), Err(Refusal::UnknownRun));
    bench.submit("r");
    assert_eq!(bench.output("a", None), text(""));
    assert_eq!(bench.output("other", None), Err(Refusal::UnknownStep));
    bench.say("r", vec![started(), progress("a", running())]);
    bench.records(vec![written(OutputStream::Stdout, 1, "first")]);
    bench.records(vec![written(OutputStream::Stdout, 2, "one "), written(OutputStream::Stdout, 2, "two")]);
    bench.records(vec![written(OutputStream::Stderr, 2, "oh")]);
    assert_eq!(bench.output("a", None), text("one two"), "a further attempt begins anew");
    assert_eq!(bench.output("a", Some(OutputStream::Stderr)), text("oh"));
    assert_eq!(bench.output("a", Some(OutputStream::Text)), text(""));
    let returned = json!({"x": 1});
    bench.say("r", vec![progress("a", done(returned, false)), progress("b", done(json!("a text"), false))]);
    assert_eq!(bench.output("a", None), text("one two"));
    assert_eq!(bench.output("a", Some(OutputStream::Stdout)), text("one two"));
    assert_eq!(bench.output("b", None), text("a text"));
}

#[test]
fn a_run_is_read_beside_the_log_as_it_was_when_the_log_was_asked_and_copied_only_then() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.say("r", vec![started(), progress("a", running())]);
    let get = Query::Run { project: p(), run: run_id("r"), whole_outputs: true };
    let before = bench.json(get.clone());
    let number = bench.journal.open_run(&p(), &run_id("r")).expect("it goes on");
    let held = Arc::as_ptr(&bench.journal.runs[&number].state);
    bench.say("r", vec![progress("b", running())]);
    assert_eq!(Arc::as_ptr(&bench.journal.runs[&number].state), held, "nobody else holds it");
    let between = bench.json(get.clone());
    assert_ne!(between, before);
    let Asked::Look(query, known) = bench.question(Command::Read { query: get.clone(), reply: reply_to(0) }) else {
        panic!("no look")
    };
    bench.say("r", vec![progress("a", done(json!("x"), false)), completed()]);
    assert_ne!(Arc::as_ptr(&bench.journal.runs[&number].state), held, "a reader holds it");
    let reader = bench.journal.store.reader().expect("readable").expect("there is a reader");
    let Some(Answer::Json(answer)) =
        Historian::new(reader, bench.signer.clone(), bench.journal.heads.clone()).answer(&query, &known)
    else {
        panic!("no answer");
    };
    assert_eq!(serde_json::from_slice::<Value>(&answer).expect("JSON"), between);
    assert_eq!(bench.json(get)["status"], "completed");
}

#[test]
fn what_was_read_of_an_output_stays_as_it_was_when_its_step_ends() {
    for (printed, output, shown) in [
        ("one\ntwo\n", json!("one\ntwo"), "one\ntwo"),
        ("one\r\ntwo\r\n", json!("one\r\ntwo"), "one\r\ntwo"),
        ("half\r", json!("half\r"), "half\r"),
        ("{ \"b\": 1.50,\n \"a\": [] }\n", json!({"b": 1.5, "a": []}), "{ \"b\": 1.50,\n \"a\": [] }"),
        ("long\nmore\n", json!("long\n[cut here: the output is over 5 bytes]"), "long\nmore"),
        ("", json!({"x": 1}), "{\"x\":1}"),
        ("", json!("made"), "made"),
        ("\"a text\"\n", json!("a text"), "\"a text\""),
        ("\u{feff}{\"x\": 1.50}\n", json!({"x": 1.5}), "\u{feff}{\"x\": 1.50}"),
    ] {
        let mut bench = Bench::new();
        bench.submit("r");
        bench.say("r", vec![started(), progress("a", running())]);
        let mut taken = String::new();
        for c in printed.chars() {
            bench.records(vec![written(OutputStream::Stdout, 1, &c.to_string())]);
            let (so_far, _) = bench.output("a", None).expect("an output");
            assert!(so_far.starts_with(&taken), "{printed:?}: {taken:?} became {so_far:?}");
            taken = so_far;
        }
        let is_json = !output.is_string() || printed.starts_with('"');
        bench.say("r", vec![progress("a", done(output, false))]);
        assert_eq!(bench.output("a", None), Ok((shown.to_owned(), is_json)));
        assert!(shown.starts_with(&taken), "{printed:?}: {taken:?} became {shown:?}");
        assert_eq!(bench.output("a", Some(OutputStream::Stdout)), Ok((printed.to_owned(), false)), "as it was printed");
    }
}

#[test]
fn an_output_that_was_cut_for_its_message_is_read_whole() {
    let mut bench = Bench::new();
    bench.submit("r");
    let whole = json!({"long": "x".repeat(1000)});
    let at = bench.now.wall;
    bench.records(vec![
        event("r", started(), at),
        Record::Whole { project: p(), run: run_id("r"), step: step_id("a"), output: Arc::new(whole.clone()) },
        event("r", progress("a", done(json!("{\"long\":\"xx"), true)), at),
    ]);
    for is_ended in [false, true] {
        assert_eq!(bench.output("a", None), Ok((whole.to_string(), true)), "ended: {is_ended}");
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), whole_outputs: true });
        let step = &run["steps"][0];
        assert_eq!((&step["output"], &step["truncated"], &step["outputBytes"]), (&whole, &Value::Null, &Value::Null));
        bench.say("r", vec![completed()]);
        bench.wait_ms(100_000);
    }
}

/// A run of two steps, the first of which returned something large that is cut in its message.
fn large_run(bench: &mut Bench, whole: &Value) {
    bench.submit("r");
    let at = bench.now.wall;
    bench.records(vec![
        event("r", started(), at),
        Record::Whole { project: p(), run: run_id("r"), step: step_id("a"), output: Arc::new(whole.clone()) },
        event("r", progress("a", done(json!("\"output\":null"), true)), at),
        event("r", progress("b", running()), at),
        event("r", progress("b", done(json!({"output": null}), false)), at),
    ]);
}

#[test]
fn a_large_run_is_answered_piece_by_piece_as_long_as_was_promised() {
    let whole = json!(["\"steps\":[]", "\"output\":null", "x".repeat(900_000)]);
    let mut bench = Bench::new();
    large_run(&mut bench, &whole);
    let cut = bench.json(Query::Run { project: p(), run: run_id("r"), whole_outputs: false });
    for is_ended in [false, true] {
        let get = Query::Run { project: p(), run: run_id("r"), whole_outputs: true };
        let Answer::LongJson { length, mut bytes, mut rest } = bench.read(get) else { panic!("it is large") };
        bench.say("r", vec![completed()]);
        bench.wait_ms(100_000);
        while let Some(more) = rest.take() {
            let query = Query::OutputRest { rest: more, bytes_max: 100_000 };
            let Answer::OutputRest { bytes: piece, rest: left } = bench.read(query) else { panic!("no piece") };
            assert!((1..=100_000 + 4096).contains(&piece.len()), "{} bytes", piece.len());
            bytes.extend(piece);
            rest = left;
        }
        assert_eq!(bytes.len() as u64, length);
        let run: Value = serde_json::from_slice(&bytes).expect("JSON");
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let step = &run["steps"][0];
        assert_eq!((&step["output"], &step["truncated"], &step["outputBytes"]), (&whole, &Value::Null, &Value::Null));
        assert_eq!(run["steps"][1]["output"], json!({"output": null}));
        if !is_ended {
            assert_eq!((names(&run), &run["steps"][1]), (names(&cut), &cut["steps"][1]));
        }
    }
}

#[test]
fn what_is_left_of_a_large_run_is_refused_once_the_run_was_let_go() {
    let mut bench = Bench::with(keeping(Retention { runs: 0, ..KEEP_ALL }));
    large_run(&mut bench, &json!("x".repeat(900_000)));
    let get = Query::Run { project: p(), run: run_id("r"), whole_outputs: true };
    let Answer::LongJson { rest: Some(rest), .. } = bench.read(get) else { panic!("it is large") };
    bench.say("r", vec![completed()]);
    bench.wait_ms(DAY_MS);
    bench.handle(Vec::new());
    let answer = bench.read(Query::OutputRest { rest, bytes_max: 100_000 });
    assert!(matches!(answer, Answer::Refused(Refusal::OutputReplaced)), "{answer:?}");
}

#[test]
fn runs_are_listed_newest_first_by_status_and_page_by_page() {
    let mut bench = Bench::new();
    for n in 1..=5 {
        bench.submit(&format!("r{n}"));
        let end = if n % 2 == 0 { completed() } else { failed(EndReason::StepFailed) };
        bench.say(&format!("r{n}"), vec![started(), end]);
    }
    bench.submit("r6");
    bench.submit("r7");
    bench.say("r6", vec![started()]);
    let mut listed = |status: Option<RunStatus>, before: Option<&str>, limit: usize| {
        let list = bench.json(Query::Runs { project: p(), status, before: before.map(position), limit });
        let ids = list["workflows"].as_array().expect("an array").iter().map(|run| run["runId"].as_str());
        let ids: Vec<_> = ids.map(|id| id.expect("an id").to_owned()).collect();
        (ids.join(" "), list["next"].as_str().map(str::to_owned))
    };
    assert_eq!(listed(None, None, 3), ("r7 r6 r5".into(), Some("~5".into())));
    assert_eq!(listed(None, Some("~5"), 4), ("r4 r3 r2 r1".into(), None));
    assert_eq!(listed(Some(RunStatus::Failed), None, 2), ("r5 r3".into(), Some("~3".into())));
    assert_eq!(listed(Some(RunStatus::Failed), Some("r3"), 2), ("r1".into(), None));
    assert_eq!(listed(Some(RunStatus::Running), None, 1), ("r6".into(), None));
    assert_eq!(listed(Some(RunStatus::Queued), None, 10), ("r7".into(), None));
    assert_eq!(listed(Some(RunStatus::Queued), Some("r7"), 10), (String::new(), None));
    assert_eq!(listed(Some(RunStatus::Cancelled), None, 10), (String::new(), None));
    assert_eq!(listed(None, Some("r9"), 1), (String::new(), None), "none is older than all that have ended");
}

fn position(text: &str) -> Position {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_page_of_runs_could_not_be_gone_on_from_once_its_last_run_was_let_go() {
    let mut bench = Bench::with(keeping(Retention { runs: 1, ..KEEP_ALL }));
    bench.submit("old");
    for run in ["r1", "r2"] {
        bench.whole_run(run, 0);
        bench.submit(&format!("{run}-goes-on"));
    }
    let page = |bench: &mut Bench, before: Option<&str>| {
        let before = before.map(position);
        let list = bench.json(Query::Runs { project: p(), status: None, before, limit: 2 });
        let ids = list["workflows"].as_array().expect("an array").iter().map(|run| run["runId"].as_str());
        let ids: Vec<_> = ids.map(|id| id.expect("an id").to_owned()).collect();
        (ids.join(" "), list["next"].as_str().map(str::to_owned))
    };
    let (first, next) = page(&mut bench, None);
    assert_eq!(first, "r2-goes-on r2");
    // The run that the page ended with is let go.
    bench.whole_run("r3", 0);
    let gone = Query::Run { project: p(), run: run_id("r2"), whole_outputs: true };
    bench.wait_ms(61_000);
    assert!(matches!(bench.read(gone), Answer::Refused(Refusal::UnknownRun)));
    assert_eq!(page(&mut bench, next.as_deref()), ("r1-goes-on old".into(), None));
    for bad in ["~", "~0", "~x", "~-1", "a b", ""] {
        assert!(bad.parse::<Position>().is_err(), "{bad}");
    }
}

#[test]
fn a_list_of_runs_that_have_ended_reads_none_of_their_states() {
    let mut bench = Bench::with(keeping(Retention { age_ms: u64::MAX, ..KEEP_ALL }));
    let writes: Vec<Write> = (1..=3)
        .flat_map(|n| {
            let summary = format!("{{\"runId\":\"run{n}\"}}").into_bytes().into();
            let state = b"not looked at".as_slice().into();
            let status = if n == 2 { RunStatus::Failed } else { RunStatus::Completed };
            [created(n, 0), Write::RunEnded { number: number(n), status, summary, state, last_seq: n }]
        })
        .collect();
    assert_eq!(bench.journal.store.append(&[], &writes, Timestamp::default()), Ok(()));
    for (status, expected) in [
        (None, json!([{"runId": "run3"}, {"runId": "run2"}, {"runId": "run1"}])),
        (Some(RunStatus::Completed), json!([{"runId": "run3"}, {"runId": "run1"}])),
        (Some(RunStatus::Failed), json!([{"runId": "run2"}])),
    ] {
        let list = bench.json(Query::Runs { project: p(), status, before: None, limit: 3 });
        assert_eq!(list["workflows"], expected, "{status:?}");
    }
}

#[test]
fn a_runs_events_are_read_page_by_page() {
    let mut bench = Bench::new();
    bench.publish(&p(), 1);
    bench.whole_run("r", 3);
    let query =
        |after, limit| Query::RunEvents { project: p(), run: run_id("r"), after, limit, list: EventList::Messages };
    let page = bench.json(query(0, 2));
    let first = &page["events"][0];
    assert_eq!(
        (&first["id"], &first["type"], &first["seq"]),
        (&json!(bench.id(2)), &json!("workflow_started"), &json!(2))
    );
    assert_eq!((page["events"].as_array().map(Vec::len), &page["next"]), (Some(2), &json!(bench.id(3))));
    let rest = bench.json(query(3, 3));
    assert_eq!((rest["events"].as_array().map(Vec::len), &rest["next"]), (Some(3), &Value::Null));
    assert_eq!(bench.json(query(6, 3))["events"], json!([]));
}

#[test]
fn a_page_of_a_runs_events_was_as_large_as_its_messages_were() {
    const MIB: usize = 1024 * 1024;
    let mut bench = Bench::new();
    bench.submit("r");
    let said = progress("a", done(json!("x".repeat(MIB)), false));
    bench.say("r", vec![started()]);
    (0..9).for_each(|_| drop(bench.say("r", vec![said.clone()])));
    let (mut after, mut seen, mut pages) = (0, 0, 0);
    loop {
        let Answer::Json(body) = bench.read(Query::RunEvents {
            project: p(),
            run: run_id("r"),
            after,
            limit: 1000,
            list: EventList::Messages,
        }) else {
            panic!("no page")
        };
        assert!(body.len() < 6 * MIB, "{} bytes", body.len());
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        let events = page["events"].as_array().expect("an array");
        (seen, pages) = (seen + events.len(), pages + 1);
        after = events.last().map_or(after, |event| event["seq"].as_u64().expect("a number"));
        if page["next"].is_null() {
            break;
        }
        assert_eq!(page["next"], json!(bench.id(after)));
    }
    assert_eq!((seen, pages), (10, 3));
}

#[test]
fn what_runs_did_is_counted_once_it_is_kept() {
    let mut bench = Bench::new();
    bench.submit("r");
    let outcome = bench.say("r", vec![started(), progress("a", running()), completed()]);
    let work = outcome.deliveries.iter().find_map(|delivery| match delivery {
        Delivery::Worked(work) => Some(*work),
        _ => None,
    });
    let work = work.expect("work");
    assert_eq!(work.runs().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("started", 1), ("completed", 1)]);
    assert_eq!(work.steps().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("running", 1)]);
}
