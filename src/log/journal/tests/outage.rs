//! A store that fails at any call, for any time: whatever was refused is nowhere, whatever was acknowledged stays, what
//! runs say meanwhile comes once and in order, and all in all the journal is as one that never failed.
//!
//! A [`Pair`] drives both: the one over a failing disk with a script, and another, over a disk that never fails, with
//! what the first one said it took, at that very moment.

mod script;

use std::collections::{BTreeMap, BTreeSet};

use self::script::{attach, cancel, questions, says, script};
use super::*;
use crate::log::MemoryStore;
use crate::log::WorkCounts;
use crate::log::faulty::{Call, Disk, Fault};

/// Turns after which a store that works again must have been found to.
const TURNS_MAX: usize = 8;

const TURN: Duration = Duration::from_millis(100);

/// How many calls fail after the first.
const MORE: [u64; 2] = [0, 7];

struct Pair {
    failing: Journal,
    disk: Disk<MemoryStore>,
    sound: Journal,
    now: Now,
    /// What runs said that the failing one holds back.
    held: Vec<Record>,
    /// What was refused for the store's sake, to be asked again.
    again: Vec<Command>,
    /// What the script has runs say that were not taken on yet.
    unsaid: Vec<Record>,
    started: BTreeSet<RunId>,
    /// Who waits until what was held back is kept.
    barriers: Vec<u64>,
    /// By project: what was delivered of it, and after which message.
    delivered: [BTreeMap<ProjectId, (u64, Vec<u8>)>; 2],
    work: [WorkCounts; 2],
    refusals: usize,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::from_millis(1_700_000_000_000) };
        let open = |disk: &Disk<MemoryStore>| {
            let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
            let opened = Journal::open(Box::new(disk.store()), signer.clone(), limits, read_plan, now);
            opened.expect("nothing fails yet").0
        };
        let disk = Disk::new(MemoryStore::new());
        Self {
            failing: open(&disk),
            sound: open(&Disk::new(MemoryStore::new())),
            disk,
            now,
            held: Vec::new(),
            again: Vec::new(),
            unsaid: Vec::new(),
            started: BTreeSet::new(),
            barriers: Vec::new(),
            delivered: Default::default(),
            work: Default::default(),
            refusals: 0,
        }
    }

    /// The script under `fault`; did anything fail?
    fn play(limits: Limits, fault: Fault) -> bool {
        let mut pair = Self::new(limits);
        pair.disk.set(fault);
        for commands in script() {
            pair.turn(commands);
        }
        pair.disk.set(Fault::Never);
        for _ in 0..TURNS_MAX {
            pair.turn(Vec::new());
        }
        pair.check_end();
        pair.disk.failed() > 0
    }

    /// The next of the script, and what was refused before.
    fn turn(&mut self, commands: Vec<Command>) {
        self.now = self.now.plus(TURN);
        let mut batch = std::mem::take(&mut self.again);
        for command in commands {
            match command {
                Command::Records(records) => self.unsaid.extend(records),
                other => batch.push(other),
            }
        }
        let is_started = |record: &mut Record| self.started.contains(record.run());
        let records: Vec<_> = self.unsaid.extract_if(.., is_started).collect();
        if !records.is_empty() {
            batch.push(Command::Records(records));
        }
        self.hand_over(batch);
    }

    fn hand_over(&mut self, batch: Vec<Command>) {
        let (was_down, failed_before) = (self.failing.is_down(), self.disk.failed());
        let outcome = self.failing.handle(batch.clone(), self.now);
        check_order(&outcome);
        let news: Vec<bool> = outcome.deliveries.iter().filter_map(store_is_down).collect();
        let (back, kept) = match (was_down, &news[..]) {
            (false, []) => (false, true),
            (false, [true]) | (true, []) => (false, false),
            (true, [false]) => (true, true),
            (true, [false, true]) => (true, false),
            other => panic!("{other:?}"),
        };
        assert_eq!(self.failing.is_down(), !kept);
        assert!(kept || was_down || self.disk.failed() > failed_before, "it is down for nothing");
        let mut answers = answers(self.take(0, outcome));
        if back {
            let barriers = std::mem::take(&mut self.barriers);
            let reached: Vec<_> = answers.extract_if(.., |(to, _)| barriers.contains(to)).map(|(to, _)| to).collect();
            assert_eq!(reached, barriers, "each is answered once");
        }
        let refused = |to: u64| answers.iter().any(|(of, answer)| *of == to && is_down(answer));
        let reads_failed = self.disk.failed() > failed_before || !kept;
        let mut taken = Vec::new();
        for command in batch {
            match reply_of(&command) {
                None => match command {
                    Command::Records(records) if !kept => self.held.extend(records),
                    other => taken.push(other),
                },
                Some(to) if !kept && matches!(command, Command::Barrier(_)) => self.barriers.push(to),
                Some(to) if refused(to) => {
                    assert!(reads_failed, "refused for nothing: {command:?}");
                    self.refusals += 1;
                    self.again.push(command);
                }
                Some(_) => {
                    // A cancel may be refused for good, for there is nothing that it could end.
                    let writes_nothing =
                        matches!(command, Command::Read { .. } | Command::Subscribe { .. } | Command::Cancel { .. });
                    assert!(kept || writes_nothing, "taken though nothing is: {command:?}");
                    taken.push(command);
                }
            }
        }
        let answers = answers.into_iter().filter(|(_, answer)| !is_down(answer));
        let answers = answers.map(|(to, answer)| (to, shown(answer))).collect::<BTreeMap<_, _>>();
        self.follow(back, taken, &answers);
    }

    /// The other journal is handed what the first took: what was held back first.
    fn follow(&mut self, back: bool, taken: Vec<Command>, expected: &BTreeMap<u64, String>) {
        if back {
            let held = Command::Records(std::mem::take(&mut self.held));
            let outcome = self.sound.handle(vec![held], self.now);
            self.take(1, outcome);
        }
        let outcome = self.sound.handle(taken, self.now);
        let answers = answers(self.take(1, outcome));
        let answers: BTreeMap<_, _> = answers.into_iter().map(|(to, answer)| (to, shown(answer))).collect();
        assert_eq!(expected, &answers, "the same answers");
        assert_eq!(self.delivered[0], self.delivered[1], "the same messages");
    }

    /// Takes what is delivered to those who watch, and what the executor is ordered.
    fn take(&mut self, of: usize, mut outcome: Outcome) -> Outcome {
        for delivery in &outcome.deliveries {
            match delivery {
                Delivery::Frames { project, frames } => {
                    let (behind, bytes) = self.delivered[of].entry(project.clone()).or_default();
                    assert!(frames.first_seq > *behind && (*behind == 0 || frames.first_seq == *behind + 1));
                    *behind = frames.next_seq() - 1;
                    bytes.extend_from_slice(&frames.bytes);
                }
                Delivery::Worked(work) => self.work[of].add(work),
                Delivery::Reply { .. } | Delivery::Opened { .. } | Delivery::StoreIsDown(_) | Delivery::Tickets(_) => {}
            }
        }
        for order in outcome.orders.drain(..).filter(|_| of == 0) {
            if let Order::Start { run, .. } = order {
                assert!(self.started.insert(run), "a run is started once");
            }
        }
        outcome
    }

    /// Nothing fails any more, and nothing is on its way.
    fn check_end(&mut self) {
        assert!(!self.failing.is_down() && self.held.is_empty() && self.again.is_empty() && self.unsaid.is_empty());
        assert_eq!(self.failing.held_back(), 0);
        assert_eq!(self.failing.open_runs, self.sound.open_runs);
        assert_eq!(self.failing.next_number, self.sound.next_number);
        for (number, run) in &self.sound.runs {
            let same = &self.failing.runs[number];
            // Of one that has ended no more is kept than what it is shown as.
            let is_shown_as = |state: &crate::model::RunState| serde_json::to_value(state).expect("serializes");
            assert_eq!(is_shown_as(&same.state), is_shown_as(&run.state));
            assert!(run.state.status.is_ended() || same.state == run.state, "the fold of its messages");
            assert_eq!(same.first_seq, run.first_seq);
            assert!(same.last_seq == run.last_seq || run.first_seq.is_none());
        }
        assert_eq!(self.failing.runs.len(), self.sound.runs.len());
        let watched = |journal: &Journal| {
            let watched = journal.projects.iter().filter(|(_, entry)| entry.is_watched).map(|(id, _)| id.clone());
            watched.collect::<BTreeSet<_>>()
        };
        assert_eq!(watched(&self.failing), watched(&self.sound));
        assert_eq!(self.work[0].messages(), self.work[1].messages());
        assert!(self.work[0].runs().eq(self.work[1].runs()) && self.work[0].steps().eq(self.work[1].steps()));
        self.hand_over(questions());
        assert!(self.again.is_empty());
    }
}

/// That the store is down is told before anyone is refused for it, that it is back before anything else.
fn check_order(outcome: &Outcome) {
    let first = |is: &dyn Fn(&Delivery) -> bool| outcome.deliveries.iter().position(is);
    if let Some(down) = first(&|delivery| matches!(delivery, Delivery::StoreIsDown(true))) {
        let refused = |delivery: &Delivery| matches!(delivery, Delivery::Reply { answer, .. } if is_down(answer));
        assert!(first(&refused).is_none_or(|refused| refused > down));
    }
    let back = first(&|delivery| matches!(delivery, Delivery::StoreIsDown(false)));
    assert!(back.is_none_or(|back| back == 0));
}

/// Was it refused for the store's sake?
fn is_down(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(Refusal::StoreUnavailable | Refusal::CancelHeldBack))
}

fn store_is_down(delivery: &Delivery) -> Option<bool> {
    match delivery {
        Delivery::StoreIsDown(is_down) => Some(*is_down),
        _ => None,
    }
}

/// An answer, without what may differ: when a snapshot was cut, and what a run without messages names as its newest.
fn shown(answer: Answer) -> String {
    let view = |view: &mut Value| {
        view.as_object_mut().expect("an object").remove("timestamp");
        if view["status"] == "queued" {
            view["lastEventId"] = Value::Null;
        }
    };
    match answer {
        Answer::StartsAt(mut start) => {
            let snapshots = std::mem::take(&mut start.snapshots);
            let snapshots = snapshots.iter().map(|snapshot| {
                let mut snapshot: Value = serde_json::from_slice(snapshot).expect("JSON");
                view(&mut snapshot["payload"]);
                snapshot.to_string()
            });
            let mut backlog = start.backlog.take();
            let bytes = backlog.as_mut().map(|frames| std::mem::take(&mut frames.bytes)).unwrap_or_default();
            let snapshots = snapshots.collect::<Vec<_>>().join("\n");
            format!("{snapshots} {start:?} {backlog:?} {}", String::from_utf8_lossy(&bytes))
        }
        Answer::Json(body) => {
            let mut body: Value = serde_json::from_slice(&body).expect("JSON");
            if body["lastEventId"].is_string() {
                view(&mut body);
            }
            body.to_string()
        }
        Answer::Page(mut page) => {
            let bytes = std::mem::take(&mut page.bytes);
            format!("{page:?} {}", String::from_utf8_lossy(&bytes))
        }
        other => format!("{other:?}"),
    }
}

fn reply_of(command: &Command) -> Option<u64> {
    let reply = match command {
        Command::Publish { reply, .. }
        | Command::Submit { reply, .. }
        | Command::Steer { reply, .. }
        | Command::Read { reply, .. }
        | Command::Subscribe { reply, .. }
        | Command::Outbox { reply, .. }
        | Command::Plan { reply, .. }
        | Command::Items { reply, .. }
        | Command::Barrier(reply) => Some(reply),
        Command::Cancel { reply, .. } | Command::Note { reply, .. } => reply.as_ref(),
        Command::Records(_)
        | Command::Unwatch(_)
        | Command::IgnoreItems(_)
        | Command::ExecutorEnded
        | Command::Follow(_)
        | Command::Adopt(_)
        | Command::Drain(_)
        | Command::Wishes(_)
        | Command::Tickets(_)
        | Command::Grant(_)
        | Command::Probe
        | Command::Fence
        | Command::Abandoned(_)
        | Command::Close => None,
    };
    number_of(reply?)
}

/// The script, with the fault at each call in turn.
fn play_everywhere(limits: Limits, of: &'static [Call]) {
    for more in MORE {
        let mut first = 1;
        while Pair::play(limits, Fault::At { of, first, more }) {
            first += 1;
        }
        assert!(first > script().len() as u64, "each of the script's batches has met it");
    }
}

#[test]
fn a_journal_whose_commits_fail_is_as_one_that_never_failed() {
    play_everywhere(limits(), &[Call::Append]);
}

#[test]
fn a_journal_whose_store_takes_nothing_is_as_one_that_never_failed() {
    play_everywhere(limits(), &[Call::Append, Call::Probe]);
}

#[test]
fn a_journal_whose_store_does_nothing_at_all_is_as_one_that_never_failed() {
    play_everywhere(limits(), Call::ALL);
}

#[test]
fn a_journal_whose_reads_fail_is_as_one_that_never_failed() {
    play_everywhere(limits(), &[Call::Read, Call::Recover]);
}

#[test]
fn what_is_let_go_during_outages_is_let_go_as_without() {
    let few = keeping(Retention { messages: 4, ..KEEP_ALL });
    play_everywhere(few, &[Call::Append, Call::Probe, Call::Recover]);
}

#[test]
fn nothing_is_taken_while_the_store_is_down_and_what_runs_say_meanwhile_comes_in_its_order() {
    let mut pair = Pair::new(limits());
    pair.turn(vec![attach(p(), None, 1), submit("r1", None, 1, 2)]);
    pair.disk.set(Fault::Always(Call::WRITES));
    for n in 0..20 {
        pair.turn(vec![
            publish(&p(), 1, 100 + n),
            says(
                "r1",
                vec![match n {
                    0 => started(),
                    n => output_chunk(&n.to_string()),
                }],
            ),
        ]);
    }
    assert!(pair.failing.is_down() && pair.failing.held_back() == 20 && pair.refusals >= 20);
    assert_eq!(pair.failing.newest(&p()), Ok(0), "nothing was taken");
    pair.disk.set(Fault::Never);
    pair.turn(vec![says("r1", vec![completed()])]);
    pair.turn(Vec::new());
    pair.turn(Vec::new());
    assert!(!pair.failing.is_down());
    assert_eq!(pair.failing.newest(&p()), Ok(21 + 20), "each once");
}

#[test]
fn a_cancel_of_what_has_ended_or_never_was_waited_for_the_store() {
    let mut pair = Pair::new(limits());
    pair.turn(vec![submit("ended", None, 1, 1), submit("open", None, 2, 2)]);
    pair.turn(vec![says("ended", vec![started(), completed()])]);
    pair.disk.set(Fault::Always(Call::WRITES));
    let mut refusal = |run: &str| {
        let answer = answers(pair.failing.handle(vec![publish(&p(), 1, 3), cancel(run, 4)], pair.now)).remove(1).1;
        let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
        (refusal, pair.failing.outage.as_ref().map_or(0, |outage| outage.held.len()))
    };
    assert_eq!(refusal("ended"), (Refusal::RunEnded, 0));
    assert_eq!(refusal("unknown"), (Refusal::UnknownRun, 0));
    assert_eq!(refusal("open"), (Refusal::CancelHeldBack, 1));
    pair.disk.set(Fault::Always(&[Call::Read]));
    assert_eq!(refusal("ended"), (Refusal::StoreUnavailable, 2), "nobody can tell");
}

#[test]
fn a_project_that_could_not_be_read_is_not_watched_without_its_messages() {
    let mut pair = Pair::new(limits());
    pair.turn(vec![publish(&p(), 2, 1)]);
    // The first read of an attach tells where it begins, the others get the messages that it is handed.
    pair.disk.set(Fault::At { of: &[Call::Read], first: 1, more: 1 });
    for _ in 0..3 {
        let answer = answers(pair.failing.handle(vec![attach(p(), None, 2)], pair.now)).remove(0).1;
        match answer {
            Answer::Refused(Refusal::StoreUnavailable) => assert!(!pair.failing.projects[&p()].is_watched),
            Answer::StartsAt(start) => {
                return assert!(start.backlog.is_some_and(|frames| frames.marks.len() == 2));
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it can be read again, and is not");
}

#[test]
fn of_runs_that_ended_in_one_batch_the_one_that_spoke_last_is_shown_after_a_start() {
    let mut pair = Pair::new(limits());
    pair.turn(vec![submit("r1", None, 1, 1), submit("r2", None, 2, 2)]);
    pair.turn(vec![says("r2", vec![started(), completed()]), says("r1", vec![started(), completed()])]);
    pair.turn(vec![attach(p(), None, 3)]);
    let read_plan = Box::new(|_: &[u8]| Err("there is none to read".to_owned()));
    let signer = pair.failing.signer.clone();
    let (again, left) =
        Journal::open(Box::new(pair.disk.store()), signer, limits(), read_plan, pair.now).expect("opens");
    assert!(left.orders.is_empty() && left.deliveries.is_empty());
    pair.failing = again;
    // The same snapshot as of the one that was not started again; what runs did is not read there.
    pair.sound.projects.get_mut(&p()).expect("it is there").is_watched = false;
    pair.hand_over(vec![attach(p(), None, 4)]);
}
