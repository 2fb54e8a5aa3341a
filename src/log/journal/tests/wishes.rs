//! Wishes for runs of other nodes: each is done once, by whoever has the run, and answered as at home.

use super::*;
use crate::log::fake_engine::{FakeLease, FakeTail, Identity, TTL_MS};
use crate::log::faulty::{Call, Disk, Fault};
use crate::log::store::{Lease, RunNumber as Number, Tail, WishId, WishRow, Wishes};
use crate::log::{MemoryStore, SteerRequest};
use crate::model::{Choice, Decide, Issue, Steering, SteeringError, SteeringId, StepStatus, Verdict};

/// A node, and the threads beside its log.
struct Node {
    bench: Bench,
    identity: Identity,
    tail: FakeTail<MemoryStore>,
    lease: FakeLease<MemoryStore>,
}

impl Node {
    fn start(disk: &Disk<MemoryStore>) -> Self {
        let identity = disk.join();
        let mut bench = Bench::new();
        let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
        let store = Box::new(disk.store_as(&identity));
        let opened = Journal::open(store, bench.signer.clone(), limits(), read_plan, bench.now);
        bench.journal = opened.expect("nothing fails").0;
        let (tail, lease) = (disk.tail(&identity, 100), disk.lease(&identity));
        Self { bench, identity, tail, lease }
    }

    /// What its tail finds of wishes.
    fn wishes(&mut self) -> Wishes {
        let waiting = self.bench.journal.waiting_wishes().all();
        self.tail.wishes(&waiting).expect("it can be read")
    }

    /// Learns what others have written, and what came of wishes.
    fn look(&mut self) -> Outcome {
        let standings = self.bench.journal.standings().all();
        let followed = self.tail.changes_since(&standings, usize::MAX).expect("it can be read");
        let wishes = self.wishes();
        self.bench.handle(vec![Command::Follow(followed), Command::Wishes(wishes)])
    }

    /// The run has something done that another node asked for: what it is asked, told by the run.
    fn does(&mut self, say: impl Fn(SteeringId) -> Vec<Record>) -> Vec<SteeringId> {
        let outcome = self.look();
        let ids = orders(&outcome);
        for id in &ids {
            self.bench.handle(vec![Command::Records(say(*id))]);
        }
        ids
    }

    fn hears(&mut self) -> Vec<(u64, String)> {
        shown(self.look())
    }
}

/// The first has the run, the second is asked.
fn two_nodes() -> (Disk<MemoryStore>, Node, Node) {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (mut one, other) = (Node::start(&disk), Node::start(&disk));
    one.bench.submit("r");
    one.bench.say("r", vec![started()]);
    (disk, one, other)
}

fn steer(run: &str, key: Option<&str>, fingerprint: u8, to: u64) -> Command {
    let fingerprint = Fingerprint { value: [fingerprint; 32], bytes: [fingerprint; 32] };
    let claim = Claim { project: p(), key: key.map(str::to_owned), run: None, fingerprint };
    let payload = Some(Arc::new(json!({"why": null, "n": 1.5})));
    let what = Steering::Decide(Decide { step: step_id("a"), choice: Choice::Approve, payload });
    let request = SteerRequest { claim, run: run_id(run), by: "ann".into(), what };
    Command::Steer { request: Box::new(request), reply: reply_to(to) }
}

fn orders(outcome: &Outcome) -> Vec<SteeringId> {
    let id = |order: &Order| match order {
        Order::Steer { steer, .. } => {
            assert_eq!(&*steer.by, "ann");
            let Steering::Decide(decide) = &steer.what else { panic!("{steer:?}") };
            assert_eq!(decide.payload.as_deref(), Some(&json!({"why": null, "n": 1.5})));
            Some(steer.id)
        }
        _ => None,
    };
    outcome.orders.iter().filter_map(id).collect()
}

fn says(id: SteeringId, answer: Result<Value, SteeringError>) -> Vec<Record> {
    vec![Record::Verdict { project: p(), run: run_id("r"), verdict: Box::new(Verdict { id, answer }) }]
}

fn yes(id: SteeringId) -> Vec<Record> {
    let told = event("r", progress("a", done(json!(id.0), false)), Timestamp::from_millis(0));
    [vec![told], says(id, Ok(json!({"yes": "ü"})))].concat()
}

const YES: &str = r#"{"yes":"ü"}"#;

fn shown(outcome: Outcome) -> Vec<(u64, String)> {
    let text = |answer| match answer {
        Answer::Accepted { body, replayed } => {
            format!("{}{}", String::from_utf8_lossy(&body), if replayed { " again" } else { "" })
        }
        Answer::Refused(refusal) => format!("{refusal:?}"),
        other => format!("{other:?}"),
    };
    answers(outcome).into_iter().map(|(to, answer)| (to, text(answer))).collect()
}

fn refused(refusal: Refusal) -> String {
    format!("{refusal:?}")
}

fn down() -> String {
    refused(Refusal::StoreUnavailable)
}

#[test]
fn a_wish_for_a_run_of_another_node_is_done_there_once_and_answered_here_once() {
    let (_, mut one, mut other) = two_nodes();
    let outcome = other.bench.handle(vec![steer("r", None, 0, 1)]);
    assert!(outcome.has_wishes && outcome.orders.is_empty() && answers(outcome).is_empty());
    assert_eq!(other.hears(), [], "nobody has done it");
    let stale = one.wishes();
    let id = orders(&one.look())[..].try_into().map(|[id]: [SteeringId; 1]| id).expect("it is done");
    assert!(orders(&one.look()).is_empty(), "it is on its way");
    let outcome = one.bench.handle(vec![Command::Records(yes(id))]);
    assert!(outcome.has_wishes, "others are to hear of it");
    let outcome = one.bench.handle(vec![Command::Wishes(stale)]);
    assert!(orders(&outcome).is_empty(), "what was read before its answer does it no second time");
    assert_eq!(other.hears(), [(1, YES.to_owned())]);
    assert_eq!(other.hears(), []);
    assert!(other.bench.journal.waiting_wishes().all().is_empty());
}

#[test]
fn every_refusal_of_a_run_of_another_node_is_the_one_that_it_is_at_home() {
    let issues = vec![Issue { path: "steps[0]".into(), message: "is \"odd\"".into(), step_id: Some(step_id("a")) }];
    let errors = [
        SteeringError::RunEnded,
        SteeringError::UnknownStep,
        SteeringError::NotWaiting { status: StepStatus::Running },
        SteeringError::AlreadyDecided {
            choice: Choice::Reject,
            by: Some("bob".into()),
            at: Timestamp::from_millis(1_700_000_000_123),
        },
        SteeringError::AlreadyDecided { choice: Choice::Approve, by: None, at: Timestamp::from_millis(0) },
        SteeringError::StaleRevision { current: 7 },
        SteeringError::StepStarted { step: step_id("b"), status: StepStatus::Completed },
        SteeringError::RunEnding,
        SteeringError::TooManyChanges { limit: 9 },
        SteeringError::InvalidChange { issues: issues.clone() },
        SteeringError::NotADecider,
        SteeringError::InvalidPayload { issues },
    ];
    for error in errors {
        let (_, mut one, mut other) = two_nodes();
        other.bench.handle(vec![steer("r", None, 0, 1)]);
        assert_eq!(one.does(|id| says(id, Err(error.clone()))).len(), 1);
        assert_eq!(other.hears(), [(1, refused(Refusal::Steering(error)))]);
    }
}

#[test]
fn refusals_of_all_kinds_travel_as_they_are() {
    let group = Refusal::ConcurrencyConflict { group: "g".into(), runs: vec![run_id("r")] };
    let numbers = [Refusal::TooManyRuns(1), Refusal::TooManyKeys(2), Refusal::TooManySteerings(3)];
    let plain = [Refusal::UnknownRun, Refusal::KeyReused, Refusal::RunEnded, Refusal::StoreUnavailable];
    for refusal in plain.into_iter().chain(numbers).chain([group, Refusal::Steering(SteeringError::NotADecider)]) {
        let text = serde_json::to_string(&refusal).expect("serializes");
        assert_eq!(serde_json::from_str::<Refusal>(&text).expect("reads back"), refusal);
    }
}

#[test]
fn the_key_of_a_wish_is_bound_by_the_node_that_has_the_run_and_answers_everywhere() {
    let (disk, mut one, mut other) = two_nodes();
    let mut third = Node::start(&disk);
    let outcome = other.bench.handle(vec![steer("r", Some("k"), 0, 1), steer("r", Some("k"), 0, 2)]);
    assert!(answers(outcome).is_empty(), "both wait for one wish");
    assert_eq!(
        shown(other.bench.handle(vec![steer("r", Some("k"), 9, 3), steer("r", Some("k"), 0, 4)])),
        [(3, refused(Refusal::KeyReused))]
    );
    third.bench.handle(vec![steer("r", Some("k"), 0, 5)]);
    let at_home = one.bench.handle(vec![steer("r", Some("k"), 0, 6)]);
    let id = orders(&at_home)[..].try_into().map(|[id]: [SteeringId; 1]| id).expect("it is done");
    assert!(orders(&one.look()).is_empty(), "all wait for the one that is on its way");
    assert_eq!(shown(one.bench.handle(vec![Command::Records(yes(id))])), [(6, YES.to_owned())]);
    assert_eq!(other.hears(), [1, 2, 4].map(|to| (to, YES.to_owned())));
    assert_eq!(third.hears(), [(5, YES.to_owned())]);
    for node in [&mut one, &mut other, &mut third] {
        assert_eq!(shown(node.bench.handle(vec![steer("r", Some("k"), 0, 7)])), [(7, format!("{YES} again"))]);
        let reused = refused(Refusal::KeyReused);
        assert_eq!(shown(node.bench.handle(vec![steer("r", Some("k"), 9, 8)])), [(8, reused)]);
    }
}

#[test]
fn what_is_no_run_or_has_ended_is_refused_at_once_and_a_run_that_ends_meanwhile_later() {
    let (_, mut one, mut other) = two_nodes();
    assert_eq!(shown(other.bench.handle(vec![steer("x", None, 0, 1)])), [(1, refused(Refusal::UnknownRun))]);
    other.bench.handle(vec![steer("r", None, 0, 2)]);
    let stale = one.wishes();
    one.bench.say("r", vec![completed()]);
    let outcome = one.bench.handle(vec![Command::Wishes(stale)]);
    assert!(orders(&outcome).is_empty() && outcome.has_wishes, "it is answered all the same");
    assert_eq!(other.hears(), [(2, refused(Refusal::RunEnded))]);
    assert_eq!(shown(other.bench.handle(vec![steer("r", None, 0, 3)])), [(3, refused(Refusal::RunEnded))]);
}

#[test]
fn a_wish_whose_run_ended_before_anyone_read_it_is_answered_so() {
    let (_, mut one, mut other) = two_nodes();
    other.bench.handle(vec![steer("r", None, 0, 1)]);
    one.bench.say("r", vec![completed()]);
    // The store tells of a run that has ended without an answer by an empty one.
    let id = other.bench.journal.waiting_wishes().all()[0];
    let wishes = Wishes { open: Vec::new(), answered: vec![(id, Arc::from([].as_slice()))] };
    let ended = refused(Refusal::Steering(SteeringError::RunEnded));
    assert_eq!(shown(other.bench.handle(vec![Command::Wishes(wishes)])), [(1, ended)]);
}

#[test]
fn whoever_waits_too_long_or_while_the_store_is_down_is_told_that_it_takes_nothing() {
    let (disk, mut one, mut other) = two_nodes();
    other.bench.handle(vec![steer("r", None, 0, 1)]);
    other.bench.wait_ms(29_999);
    assert_eq!(shown(other.bench.handle(Vec::new())), []);
    assert!(other.bench.journal.next_deadline() <= other.bench.now.mono + Duration::from_millis(1));
    other.bench.wait_ms(1);
    assert_eq!(shown(other.bench.handle(Vec::new())), [(1, down())]);
    assert_eq!(one.does(yes).len(), 1, "it is done all the same");
    assert_eq!(other.hears(), [], "and nobody waits");

    other.bench.handle(vec![steer("r", Some("k"), 0, 2)]);
    disk.set(Fault::Always(Call::WRITES));
    let answers = shown(other.bench.handle(vec![publish(&p(), 1, 3)]));
    assert_eq!(answers, [(3, down()), (2, down())]);
    disk.set(Fault::Never);
    one.does(yes);
    // When it is tried again is counted from here.
    other.bench.handle(Vec::new());
    other.bench.wait_ms(1000);
    other.bench.handle(Vec::new());
    assert_eq!(
        shown(other.bench.handle(vec![steer("r", Some("k"), 0, 4)])),
        [(4, format!("{YES} again"))],
        "the key tells"
    );
}

#[test]
fn a_wish_that_is_not_kept_is_on_its_way_nowhere() {
    let (disk, mut one, mut other) = two_nodes();
    disk.set(Fault::Always(Call::WRITES));
    assert_eq!(shown(other.bench.handle(vec![steer("r", Some("k"), 0, 1)])), [(1, down())]);
    disk.set(Fault::Never);
    assert!(one.wishes().open.is_empty() && other.bench.journal.waiting_wishes().all().is_empty());
}

#[test]
fn a_wish_is_made_anew_where_others_write_to_its_project_meanwhile() {
    let (disk, mut one, mut other) = two_nodes();
    other.bench.publish(&p(), 1);
    one.bench.say("r", vec![output_chunk("x")]);
    other.bench.handle(vec![steer("r", None, 0, 1)]);
    assert!(disk.conflicts() > 0);
    assert_eq!(one.wishes().open.len(), 1, "once");
    assert_eq!(one.does(yes).len(), 1);
    assert_eq!(other.hears(), [(1, YES.to_owned())]);
}

#[test]
fn after_a_take_over_the_node_that_has_the_run_does_what_is_open() {
    let (disk, mut one, mut other) = two_nodes();
    let mut asked = Node::start(&disk);
    asked.bench.handle(vec![steer("r", None, 0, 1)]);
    assert_eq!(orders(&one.look()).len(), 1, "it is on its way, and its node is gone before the run has done it");
    drop(one);
    for _ in 0..2 {
        disk.pass_ms(TTL_MS / 2 + 1);
        let beat = other.lease.beat().expect("it is alive");
        asked.lease.beat().expect("it is alive");
        if !beat.taken_over.is_empty() {
            let outcome = other.bench.handle(vec![Command::Adopt(beat.taken_over)]);
            assert!(outcome.orders.iter().any(|order| matches!(order, Order::Resume(_))));
        }
    }
    assert_eq!(other.does(yes).len(), 1);
    assert_eq!(asked.hears(), [(1, YES.to_owned())]);
}

#[test]
fn a_wish_that_comes_while_its_node_ends_is_left_for_the_next() {
    let (_, mut one, mut other) = two_nodes();
    other.bench.handle(vec![steer("r", None, 0, 1), steer("r", None, 1, 2)]);
    let wishes = one.wishes();
    let ids = orders(
        &one.bench.handle(vec![Command::Wishes(Wishes { open: vec![wishes.open[0].clone()], answered: vec![] })]),
    );
    one.bench.handle(vec![Command::Records(says(ids[0], Err(SteeringError::ShuttingDown)))]);
    one.bench.handle(vec![Command::ExecutorEnded]);
    assert!(orders(&one.look()).is_empty());
    assert_eq!(other.hears(), [], "neither is refused");
    assert_eq!(one.wishes().open.len(), 2, "both are open");
}

#[test]
fn a_wish_for_a_run_that_this_node_does_not_have_so_far_is_left() {
    let (_, one, mut other) = two_nodes();
    let number = one.bench.journal.open_run(&p(), &run_id("r")).expect("it goes on");
    let row = |number, wish: &[u8]| WishRow {
        id: WishId([7; 16]),
        project: p(),
        run: run_id("r"),
        number,
        wish: wish.into(),
    };
    let grant =
        |node: &mut Node, row| node.bench.handle(vec![Command::Wishes(Wishes { open: vec![row], answered: vec![] })]);
    let good = serde_json::to_vec(
        &json!({"by": "ann", "key": null, "claimed": null, "fingerprints": [vec![0; 32], vec![0; 32]],
        "what": {"kind": "decide", "step": "a", "choice": "approve", "payload": null}}),
    );
    let good = good.expect("JSON");
    let outcome = grant(&mut other, row(number, &good));
    assert!(outcome.orders.is_empty() && !outcome.has_wishes);
    let mut one = one;
    let another = Number(number.0.saturating_add(1));
    assert!(grant(&mut one, row(another, &good)).has_wishes, "it was for another run of the id");
    let unread = WishRow { id: WishId([8; 16]), ..row(number, b"{}") };
    assert!(grant(&mut one, unread).has_wishes, "one that can't be read is answered as well");
    assert_ne!(
        one.identity.load(std::sync::atomic::Ordering::SeqCst),
        other.identity.load(std::sync::atomic::Ordering::SeqCst)
    );
}
