//! What a node learns late of others, and by reading it anew: it costs little, nothing of it is told twice or never, and nothing
//! stays that is over.

use std::sync::Mutex;

use super::*;
use crate::log::fake_engine::{FakeLease, FakeTail, Identity, TTL_MS};
use crate::log::faulty::{Call, Disk, Fault, Interruption};
use crate::log::lookup::heads::ProjectHead;
use crate::log::store::{Lease, Tail};
use crate::log::{MemoryStore, RunNumber};
use crate::model::Parent;

/// A node, and what the threads beside its log have.
struct Node {
    bench: Bench,
    identity: Identity,
    tail: FakeTail<MemoryStore>,
    lease: FakeLease<MemoryStore>,
}

impl Node {
    fn start(disk: &Disk<MemoryStore>) -> Self {
        Self::with(disk, limits(), true)
    }

    fn with(disk: &Disk<MemoryStore>, limits: Limits, can_read_plans: bool) -> Self {
        Self::of(disk, disk.join(), limits, can_read_plans)
    }

    fn of(disk: &Disk<MemoryStore>, identity: Identity, limits: Limits, can_read_plans: bool) -> Self {
        let mut bench = Bench::new();
        let read_plan = Box::new(move |_: &[u8]| match can_read_plans {
            true => Ok(plan(&["a", "b: a"])),
            false => Err("it is of another program".to_owned()),
        });
        let store = Box::new(disk.store_as(&identity));
        let opened = Journal::open(store, bench.signer.clone(), limits, read_plan, bench.now);
        bench.journal = opened.expect("nothing fails").0;
        let (tail, lease) = (disk.tail(&identity, 100), disk.lease(&identity));
        Self { bench, identity, tail, lease }
    }

    /// Learns what others have written.
    fn look(&mut self) -> Outcome {
        let standings = self.bench.journal.standings().all();
        let followed = self.tail.changes_since(&standings, usize::MAX).expect("it can be read");
        self.bench.handle(vec![Command::Follow(followed)])
    }

    fn watch(&mut self) {
        assert!(matches!(self.bench.ask(subscribe(everything(p()), 0)), Answer::StartsAt(_)));
    }

    fn submit_to(&mut self, of: &str, run: &str) -> Answer {
        let submission = Box::new(submission(of, run, None, 0));
        self.bench.ask(Command::Submit { submission, reply: reply_to(0) })
    }

    /// What it answers itself, once it has learnt of others.
    fn json(&mut self, query: Query) -> Value {
        match self.bench.ask(Command::Read { query, reply: reply_to(0) }) {
            Answer::Json(body) => serde_json::from_slice(&body).expect("JSON"),
            other => panic!("no body: {other:?}"),
        }
    }

    fn runs(&mut self) -> Vec<String> {
        let query = Query::Runs { project: p(), status: None, before: None, limit: 10 };
        let list = self.json(query);
        let rows = list["workflows"].as_array().expect("a list").iter();
        rows.map(|row| format!("{} {}", row["runId"], row["status"])).collect()
    }

    fn projects(&mut self) -> Vec<String> {
        let list = self.json(Query::Projects { visible: None, after: None, limit: 100 });
        let rows = list["projects"].as_array().expect("a list").iter();
        rows.map(|row| row["projectId"].as_str().expect("an id").to_owned()).collect()
    }
}

fn two_nodes() -> (Disk<MemoryStore>, Node, Node) {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (one, other) = (Node::start(&disk), Node::start(&disk));
    (disk, one, other)
}

fn two_with(limits: Limits) -> (Disk<MemoryStore>, Node, Node) {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (one, other) = (Node::with(&disk, limits, true), Node::with(&disk, limits, true));
    (disk, one, other)
}

/// How often the store is called meanwhile.
fn calls(disk: &Disk<MemoryStore>, act: impl FnOnce()) -> u64 {
    disk.set(Fault::At { of: Call::ALL, first: u64::MAX, more: 0 });
    act();
    disk.seen()
}

fn cancel(run: &str) -> Command {
    Command::Cancel { project: p(), run: run_id(run), reply: None }
}

fn kept(outcome: &Outcome) -> u64 {
    let kept = |order: &Order| if let Order::Kept(batches) = order { *batches } else { 0 };
    outcome.orders.iter().map(kept).sum()
}

#[test]
fn runs_of_other_nodes_take_no_room_from_those_of_this_one() {
    let (_, mut one, mut other) = two_with(Limits { open_runs: 1, ..limits() });
    other.bench.submit("theirs");
    assert_eq!(one.runs().len(), 1, "it is known here");
    one.bench.submit("r");
    let full = one.submit_to("p", "s");
    assert!(matches!(full, Answer::Refused(Refusal::TooManyRuns(1))), "{full:?}");
    let both = ["x", "y"].map(|run| submit(run, None, 0, 0)).to_vec();
    other.bench.say("theirs", vec![started(), completed()]);
    let taken_on = answers(other.bench.handle(both)).into_iter().filter(|(_, it)| accepted_now(it)).count();
    assert_eq!(taken_on, 1, "nor are more taken on in one batch");
}

fn accepted_now(answer: &Answer) -> bool {
    matches!(answer, Answer::Accepted { replayed: false, .. })
}

#[test]
fn nobody_is_refused_for_runs_of_the_project_that_have_ended_elsewhere() {
    let (_, mut one, mut other) = two_with(Limits { project_runs: 1, ..limits() });
    other.bench.submit("theirs");
    assert_eq!(one.runs().len(), 1, "it is known here");
    assert!(matches!(one.submit_to("p", "r"), Answer::Refused(Refusal::TooManyProjectRuns(1))));
    other.bench.say("theirs", vec![started(), completed()]);
    one.bench.submit("r");
}

#[test]
fn documents_of_runs_that_were_known_were_read_again_with_each_that_another_began() {
    let (disk, mut one, mut other) = two_nodes();
    ["a", "b", "c"].iter().for_each(|run| other.bench.submit(run));
    disk.documents();
    assert_eq!((one.runs().len(), disk.documents()), (3, 3));
    one.bench.submit("mine");
    other.bench.submit("d");
    disk.documents();
    assert_eq!((one.runs().len(), disk.documents()), (5, 1));
}

#[test]
fn a_run_elsewhere_does_not_stay_open_for_ever_in_a_project_that_is_not_followed() {
    let (_, mut one, mut other) = two_nodes();
    other.bench.submit("theirs");
    one.runs();
    assert_eq!(one.bench.journal.open_runs, 1);
    other.bench.say("theirs", vec![started(), completed()]);
    let due = one.bench.journal.next_deadline();
    one.bench.wait_ms(10_000);
    assert!(due <= one.bench.now.mono, "it looks though nothing comes");
    one.bench.handle(Vec::new());
    assert_eq!(one.bench.journal.open_runs, 0);
}

#[test]
fn a_cancel_that_comes_between_ones_own_and_its_commit_is_told_to_who_runs_the_run() {
    for is_failing in [false, true] {
        let (disk, mut one, other) = two_nodes();
        one.bench.handle(vec![grouped("x", 1, OnConflict::Cancel)]);
        let other = Arc::new(Mutex::new(other));
        let asked = other.clone();
        if is_failing {
            disk.set(Fault::At { of: &[Call::Append], first: 2, more: 0 });
        }
        disk.interrupt([Box::new(move || {
            asked.lock().expect("it does not panic").bench.handle(vec![cancel("x")]);
        }) as Interruption]);
        let outcome = one.bench.handle(vec![grouped("y", 1, OnConflict::Cancel)]);
        assert_eq!(one.bench.journal.is_down(), is_failing);
        assert!(told(&outcome).contains(&"x is cancelled".to_owned()), "{is_failing} {:?}", outcome.orders);
    }
}

#[test]
fn what_a_transaction_publishes_to_a_project_whose_runs_began_elsewhere_is_numbered() {
    let (disk, mut one, mut other) = two_nodes();
    other.submit_to("q", "r");
    disk.publish(&project("q"), "{}".to_owned());
    let outgoing = one.tail.published(10, &[]).expect("it can be read");
    one.bench.handle(vec![Command::Drain(outgoing)]);
    assert!(!one.bench.journal.is_down());
    assert_eq!(disk.outgoing(), 0);
}

#[test]
fn a_project_that_was_emptied_elsewhere_is_listed_nowhere() {
    let brief = Retention { age_ms: 1000, ..KEEP_ALL };
    for is_listed in [true, false] {
        let (_, mut one, mut other) = two_with(keeping(brief));
        other.bench.publish(&p(), 1);
        assert_eq!(one.projects(), ["p"]);
        other.bench.wait_ms(60_000);
        other.bench.handle(Vec::new());
        assert_eq!(other.projects(), [] as [&str; 0]);
        match is_listed {
            true => assert_eq!(one.projects(), [] as [&str; 0]),
            // One's own trims find nothing more.
            false => {
                one.bench.wait_ms(10_000);
                one.bench.handle(Vec::new());
            }
        }
        assert!(one.bench.journal.projects.is_empty(), "nor does it take room from others");
    }
}

#[test]
fn projects_are_looked_at_in_turn_where_there_are_many() {
    let (_, mut one, mut other) = two_with(Limits { projects: 5000, ..limits() });
    let count = super::super::freshness::LOOK_AROUND_MAX + 1;
    let submits = (0..count).map(|n| {
        let submission = Box::new(submission(&format!("p{n:05}"), "r", None, 0));
        Command::Submit { submission, reply: reply_to(0) }
    });
    other.bench.handle(submits.collect());
    one.json(Query::Projects { visible: None, after: None, limit: count });
    assert_eq!(one.bench.journal.open_runs, count);
    let ends = |n: usize| {
        let said = [started(), completed()].map(|kind| match event("r", kind, Timestamp::default()) {
            Record::Event { event, .. } => Record::Event { project: project(&format!("p{n:05}")), event },
            other => other,
        });
        Command::Records(said.to_vec())
    };
    other.bench.handle((0..count).map(ends).collect());
    let mut left = || {
        one.bench.wait_ms(10_000);
        one.bench.handle(Vec::new());
        one.bench.journal.open_runs
    };
    assert!((1..count).contains(&left()), "some of them");
    assert_eq!(left(), 0);
}

#[test]
fn to_learn_of_one_project_publishes_the_heads_of_no_other() {
    let (_, mut one, mut other) = two_nodes();
    other.bench.submit("r");
    other.submit_to("q", "s");
    assert_eq!(one.projects(), ["p", "q"]);
    let marked = ProjectHead { active_runs: 77, last_activity: Timestamp::default() };
    one.bench.journal.heads.projects.say([(project("q"), Some(marked))]);
    other.bench.say("r", vec![started(), completed()]);
    assert_eq!(one.runs(), [r#""r" "completed""#]);
    let list = one.json(Query::Projects { visible: None, after: None, limit: 10 });
    let active: Vec<_> = list["projects"].as_array().expect("rows").iter().map(|it| it["activeRuns"].clone()).collect();
    assert_eq!(active, [json!(0), json!(77)]);
}

#[test]
fn to_list_many_projects_that_have_moved_reads_none_of_their_messages() {
    let (disk, mut one, mut other) = two_nodes();
    let publish_to_all = |node: &mut Node| {
        let all = (0..50).map(|n| publish(&project(&format!("p{n}")), 1, 0)).collect();
        node.bench.handle(all);
    };
    publish_to_all(&mut other);
    assert_eq!(one.projects().len(), 50);
    publish_to_all(&mut other);
    let count = calls(&disk, || drop(one.projects()));
    assert!(count < 10, "{count} calls");
}

#[test]
fn what_is_refused_reads_no_runs_of_other_projects_anew() {
    let (disk, mut one, mut other) = two_nodes();
    (0..50).for_each(|n| drop(other.submit_to("q", &format!("r{n}"))));
    assert_eq!(one.projects(), ["q"]);
    let is_refused = |write: &Write| matches!(write, Write::Message(..));
    disk.set(Fault::RefusesAndFails { is_refused, of: Call::ALL, at: u64::MAX });
    let answer = one.bench.ask(publish(&p(), 1, 0));
    assert!(matches!(answer, Answer::Refused(Refusal::TooLarge)), "{answer:?}");
    let count = disk.seen();
    assert!(count < 30, "{count} calls");
    assert_eq!(one.bench.journal.open_runs, 50);
}

#[test]
fn a_run_elsewhere_that_cannot_be_read_here_is_over_here_too() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, mut other) = (Node::with(&disk, limits(), false), Node::start(&disk));
    one.watch();
    other.bench.submit("theirs");
    one.look();
    assert_eq!(one.bench.journal.open_runs, 1);
    other.bench.say("theirs", vec![started(), completed()]);
    one.look();
    assert_eq!(one.bench.journal.open_runs, 0);
    assert!(one.bench.journal.open_run(&p(), &run_id("theirs")).is_none());
}

fn child_of(run: &str, parent: &str) -> Command {
    let parent = Some(Parent { run_id: run_id(parent), step_id: step_id("a"), depth: 1 });
    let plan = Arc::new(Plan { parent, ..plan(&["a", "b: a"]) });
    let submission = Box::new(Submission { plan, ..submission("p", run, None, 0) });
    Command::Submit { submission, reply: reply_to(0) }
}

#[test]
fn no_child_begins_on_a_node_that_has_lost_its_parent() {
    let (_, mut one, mut other) = two_nodes();
    other.bench.submit("r");
    let answer = one.bench.ask(child_of("c", "r"));
    assert!(matches!(answer, Answer::Refused(Refusal::RunEnded)), "{answer:?}");
    assert!(accepted_now(&other.bench.ask(child_of("c", "r"))));
}

#[test]
fn the_end_of_a_child_elsewhere_is_told_also_where_it_is_read_anew() {
    let (disk, mut one, mut other) = two_nodes();
    one.bench.submit("r");
    one.bench.handle(vec![child_of("c", "r")]);
    // Another has it.
    let child = one.bench.journal.open_run(&p(), &run_id("c")).expect("it is open");
    let theirs = other.identity.load(std::sync::atomic::Ordering::SeqCst);
    disk.with(|shared| shared.nodes.insert(child, theirs));
    other.bench.handle(vec![Command::Adopt(vec![p()])]);
    one.bench.journal.ours.remove(&child);
    one.bench.journal.runs.get_mut(&child).expect("it is held").is_foreign = true;
    other.bench.say("c", vec![started(), completed()]);
    let outcome = one.bench.say("r", vec![started()]);
    assert_eq!(told(&outcome), ["r hears of c"], "{:?}", outcome.orders);
    assert_eq!(told(&one.look()), [] as [&str; 0], "once");
}

#[test]
fn what_another_said_of_a_run_was_left_out_by_a_node_that_did_not_know_that_it_had_lost_it() {
    let (disk, mut one, mut other) = two_nodes();
    one.watch();
    let attempt = |number: u32, update: StepUpdate| match progress("a", update) {
        RunEventKind::Progress(said) => RunEventKind::Progress(StepProgress { attempt: number, ..said }),
        kind => kind,
    };
    one.bench.submit("r");
    one.bench.say("r", vec![started(), attempt(1, running())]);
    let run = one.bench.journal.open_run(&p(), &run_id("r")).expect("it is open");
    let theirs = other.identity.load(std::sync::atomic::Ordering::SeqCst);
    disk.with(|shared| shared.nodes.insert(run, theirs));
    other.bench.handle(vec![Command::Adopt(vec![p()])]);
    for said in [attempt(2, running()), attempt(2, done(json!(1), false))] {
        other.bench.say("r", vec![said]);
        one.look();
    }
    let get = || Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE };
    assert_eq!(one.json(get())["steps"], other.json(get())["steps"]);
    assert_eq!(one.json(get())["steps"][0]["attempt"], 2);
    assert!(one.bench.journal.unfolded.is_empty());
}

#[test]
fn what_the_log_says_itself_of_runs_that_were_taken_over_is_nothing_that_was_handed_over() {
    for is_fenced in [false, true] {
        let disk = Disk::shared_by_nodes(MemoryStore::new());
        let (mut one, mut dead) = (Node::with(&disk, limits(), false), Node::start(&disk));
        dead.bench.submit("r");
        let number: RunNumber = dead.bench.journal.open_run(&p(), &run_id("r")).expect("it is open");
        disk.pass_ms(TTL_MS / 2);
        one.lease.beat().expect("it is alive");
        disk.pass_ms(TTL_MS / 2);
        let beat = one.lease.beat().expect("it is alive");
        assert_eq!(beat.taken_over, [p()]);
        match is_fenced {
            true => disk.pass_ms(TTL_MS),
            false => disk.set(Fault::At { of: &[Call::Append], first: 1, more: 0 }),
        }
        let mut outcome = one.bench.handle(vec![Command::Adopt(beat.taken_over)]);
        assert!(one.bench.journal.is_down());
        assert_eq!((kept(&outcome), one.bench.journal.held_back()), (0, 0), "{:?}", outcome.orders);
        disk.set(Fault::Never);
        // When it is tried again is counted from here.
        one.bench.handle(Vec::new());
        one.bench.wait_ms(1000);
        outcome = one.bench.handle(if is_fenced { vec![Command::Abandoned(1)] } else { Vec::new() });
        assert!(!one.bench.journal.is_down());
        assert_eq!(kept(&outcome), 0, "{:?}", outcome.orders);
        let has_ended = disk.look(|store| crate::log::store::History::ends(store, number)).expect("it can be read");
        assert_eq!(has_ended.expect("it is kept").last.is_some(), !is_fenced, "the next node ends it");
    }
}

#[test]
fn a_project_that_the_store_has_forgotten_is_behind_once() {
    let (disk, mut one, mut other) = two_nodes();
    one.watch();
    other.bench.publish(&p(), 3);
    one.look();
    disk.replace(MemoryStore::new());
    one.look();
    let standings = one.bench.journal.standings().all();
    assert!(one.tail.changes_since(&standings, usize::MAX).expect("it can be read").is_empty(), "{standings:?}");
}

#[test]
fn who_was_told_something_by_one_node_finds_it_on_another_that_watches_the_project() {
    let (_, mut one, mut other) = two_nodes();
    one.watch();
    other.bench.submit("r");
    assert_eq!(one.runs(), [r#""r" "queued""#]);
    other.bench.say("r", vec![started()]);
    let run = one.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::CUT });
    assert!(run["startedAt"].is_string(), "{run}");
}
