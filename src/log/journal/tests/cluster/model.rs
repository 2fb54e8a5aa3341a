//! What must be in the log, and what whoever watches it on whatever node must have been sent: looked at after everything that
//! a node says.

use std::sync::atomic::Ordering;

use super::node::{Running, limit_of};
use super::*;
use crate::log::store::{History, RunNumber};
use crate::model::SteeringError;

/// A run that is kept.
#[derive(Debug)]
pub(super) struct TakenOn {
    number: RunNumber,
    group: String,
    /// The node whose executor was given it last.
    holder: Option<usize>,
    /// Someone was told that it was asked to end; or that it may have been.
    is_cancelled: bool,
    may_be_cancelled: bool,
    /// How far its messages have come: 4 is the end.
    stage: usize,
}

const END: usize = 4;

pub(super) struct Model {
    disk: Disk<MemoryStore>,
    pub(super) told: Told,
    /// The messages of each project, as far as anyone has looked.
    log: BTreeMap<ProjectId, Vec<Message>>,
    /// Each as the first node that told it told it.
    frames: BTreeMap<(ProjectId, u64), Vec<u8>>,
    runs: BTreeMap<(ProjectId, RunId), TakenOn>,
    /// Numbers that were published beside.
    beside: BTreeSet<u64>,
    /// Tickets for which a stream began that showed no position.
    spent: BTreeSet<u64>,
}

struct Message {
    json: Arc<[u8]>,
    /// What a publisher's holds.
    number: Option<u64>,
    /// Whose it is.
    run: Option<RunId>,
    author: usize,
}

impl Model {
    pub(super) fn new(disk: Disk<MemoryStore>) -> Self {
        let log = PROJECTS.map(|name| (project(name), Vec::new())).into();
        let (runs, beside, spent, frames) = Default::default();
        Self { disk, told: Told::nothing(), log, frames, runs, beside, spent }
    }

    pub(super) fn newest(&self, project: &ProjectId) -> u64 {
        self.log[project].len() as u64
    }

    pub(super) fn published_beside(&mut self, number: u64) {
        self.beside.insert(number);
    }

    pub(super) fn some_run(&self, rng: &mut Rng) -> Option<(ProjectId, RunId)> {
        if self.runs.is_empty() { None } else { self.runs.keys().nth(rng.below(self.runs.len())).cloned() }
    }

    /// How far a run has come.
    pub(super) fn stage(&self, project: &ProjectId, run: &RunId) -> usize {
        self.runs[&(project.clone(), run.clone())].stage
    }

    pub(super) fn count(&self, of: &ProjectId) -> usize {
        self.runs.keys().filter(|(project, _)| project == of).count()
    }

    /// Takes what a node says.
    pub(super) fn take(&mut self, node: &mut Node, outcome: Outcome) {
        self.read_on();
        for order in outcome.orders {
            self.take_order(node, order);
        }
        for delivery in outcome.deliveries {
            match delivery {
                Delivery::Frames { project, frames } => self.take_frames(node, &project, &frames),
                Delivery::Reply { to, answer } => {
                    let to = number_of(&to).expect("nobody else asks");
                    let asked = node.asked.remove(&to).expect("asked, and answered once");
                    self.take_answer(node, asked, answer);
                }
                Delivery::StoreIsDown(true) => self.told.meet("outage"),
                Delivery::StoreIsDown(false) | Delivery::Worked(_) => {}
                other => panic!("{other:?}"),
            }
        }
        node.note_identity(self.told.now);
        let are_wishes = node.asked.values().all(|asked| matches!(asked, Asked::Steer(..)));
        assert!(are_wishes, "someone was not answered: {:?}", node.asked);
        let open: usize = node.journal.projects.values().map(|entry| entry.open_runs.len()).sum();
        assert!(node.journal.is_stale || node.journal.open_runs == open, "runs are counted");
        self.told.meet_times("conflict", self.disk.conflicts());
    }

    /// Reads on in the log: its messages are numbered from 1 without a gap, and each run says everything once, in order, by
    /// the node whose it is.
    fn read_on(&mut self) {
        for name in PROJECTS {
            let of = project(name);
            let known = self.log[&of].len() as u64;
            for stored in self.disk.look(|store| crate::log::testing::read(store, &of, known, None)) {
                assert_eq!(stored.seq, self.newest(&of) + 1, "{of} has a gap");
                let value: Value = serde_json::from_slice(&stored.json).expect("JSON");
                assert_eq!(value["seq"], stored.seq);
                let author = self.disk.author(&of, stored.seq);
                let run = value["payload"]["runId"].as_str().map(run_id);
                if let (Some(run), Some(number)) = (&run, stored.run) {
                    assert_eq!(self.disk.owner(number), Some(author), "{run} is spoken for by another node");
                    self.move_on(&of, run, number, &value);
                }
                let number = value["payload"]["n"].as_u64();
                let message = Message { json: stored.json.clone(), number, run, author };
                self.log.get_mut(&of).expect("one of them").push(message);
            }
        }
    }

    fn move_on(&mut self, of: &ProjectId, run: &RunId, number: RunNumber, message: &Value) {
        let stage = match message["type"].as_str().expect("a type") {
            // It does what someone wants of it.
            "workflow_step_output" => return,
            "workflow_started" => 1,
            "workflow_completed" | "workflow_failed" => END,
            _ if message["payload"]["status"] == "completed" => 3,
            _ => 2,
        };
        let taken_on = self.taken_on(of, run, number);
        assert!(stage > taken_on.stage, "{run} of {of} says {stage} behind {}", taken_on.stage);
        assert!(stage == END || stage == taken_on.stage + 1, "{run} of {of} leaves something out");
        taken_on.stage = stage;
        let group = taken_on.group.clone();
        if stage == 1 && !group.is_empty() {
            let goes_on = |it: &&TakenOn| (1..END).contains(&it.stage) && !it.may_be_cancelled;
            let members = self.runs.iter().filter(|((project, _), it)| project == of && it.group == group);
            let count = members.map(|(_, it)| it).filter(goes_on).count();
            assert!(count <= limit_of(&group), "{count} runs of {group} go on in {of}");
        }
    }

    fn taken_on(&mut self, of: &ProjectId, run: &RunId, number: RunNumber) -> &mut TakenOn {
        let disk = &self.disk;
        self.runs.entry((of.clone(), run.clone())).or_insert_with(|| {
            let document = disk.look(|store| store.document(number)).expect("it can be read").expect("it is kept");
            let group = String::from_utf8(document.to_vec()).expect("text");
            TakenOn { number, group, holder: None, is_cancelled: false, may_be_cancelled: false, stage: 0 }
        })
    }

    fn take_order(&mut self, node: &mut Node, order: Order) {
        match order {
            Order::Start { project, run, is_held, .. } => {
                let number = self.disk.look(|store| store.run_number(&project, &run)).expect("nothing fails");
                let number = number.expect("it is kept before it begins");
                let taken_on = self.taken_on(&project, &run, number);
                assert_eq!(taken_on.holder.replace(node.me()), None, "{run} is begun twice");
                if is_held {
                    self.told.meet("run held");
                }
                node.runs.insert((project, run), Running { is_held, ..Running::default() });
            }
            Order::Resume(resumed) => {
                self.told.meet("adopted run");
                let of = (resumed.project, resumed.state.run_id.clone());
                let number = self.disk.look(|store| store.run_number(&of.0, &of.1)).expect("nothing fails");
                let taken_on = self.taken_on(&of.0, &of.1, number.expect("it is kept"));
                assert_ne!(taken_on.holder.replace(node.me()), Some(node.me()), "{} is begun twice", of.1);
                assert_eq!(self.disk.owner(self.runs[&of].number), Some(node.me()), "another node has it");
                let (is_cancelled, is_held) = (resumed.cancelled, resumed.is_held);
                let running = Running { is_cancelled, is_held, ..Running::left(&resumed.state) };
                assert_eq!(running.said, self.runs[&of].stage, "{} is gone on with elsewhere", of.1);
                node.runs.insert(of, running);
            }
            Order::Abandon(number) => {
                self.told.meet("fenced");
                node.runs.clear();
                node.wishes.clear();
                if node.channel.iter().any(|it| matches!(it, Command::Records(_))) {
                    self.told.meet("records of before");
                }
                node.channel.push(Command::Abandoned(number));
            }
            Order::Release { project, run } => {
                self.told.meet("released");
                if let Some(running) = node.runs.get_mut(&(project, run)) {
                    running.is_held = false;
                }
            }
            Order::Cancel { project, run } => {
                self.told.meet("told to end");
                if let Some(running) = node.runs.get_mut(&(project, run)) {
                    running.is_cancelled = true;
                }
            }
            Order::Kept(batches) => {
                node.unkept = node.unkept.checked_sub(batches).expect("no more than it handed over");
            }
            Order::Steer { project, run, steer } => node.wishes.push((project, run, steer)),
            Order::ChildEnded { .. } | Order::StoreIsDown(_) => {}
        }
    }

    /// They go on from what the node was sent before, are what is in the log, and what other nodes told, to the byte.
    fn take_frames(&mut self, node: &mut Node, project: &ProjectId, frames: &Frames) {
        // Nobody watches any more.
        let Some(seen) = node.seen.get_mut(project) else { return };
        assert_eq!(frames.first_seq, *seen + 1, "{project} on node {}", node.index);
        *seen = frames.next_seq() - 1;
        self.check_frames(project, frames);
        let log = &self.log[project][frames.first_seq as usize - 1..frames.next_seq() as usize - 1];
        if log.iter().any(|message| message.author != node.me()) {
            self.told.meet("foreign messages");
        }
    }

    fn check_frames(&mut self, project: &ProjectId, frames: &Frames) {
        let mut from = 0;
        for (seq, mark) in (frames.first_seq..).zip(&frames.marks) {
            let message = self.log[project].get(seq as usize - 1).expect("sent before it is kept");
            let frame = &frames.bytes[from..mark.end];
            assert!(frame.windows(message.json.len()).any(|window| *window == *message.json));
            assert_eq!(mark.run.is_some(), message.run.is_some());
            let first = self.frames.entry((project.clone(), seq)).or_insert_with(|| frame.to_vec());
            assert_eq!(first, frame, "two nodes tell message {seq} of {project} in two ways");
            from = mark.end;
        }
    }

    fn take_answer(&mut self, node: &mut Node, asked: Asked, answer: Answer) {
        match (asked, answer) {
            (Asked::Publish(project, numbers), Answer::Published { first_seq, count }) => {
                assert_eq!(count, numbers.len());
                let there = self.log[&project][first_seq as usize - 1..].iter().map(|message| message.number);
                self.told.has_published(numbers, there);
            }
            (Asked::Publish(_, numbers), Answer::Refused(Refusal::StoreUnavailable)) => self.told.has_refused(numbers),
            (Asked::Submit(project), Answer::Accepted { body, replayed }) => {
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let run = run_id(body["runId"].as_str().expect("an id"));
                let number = self.disk.look(|store| store.run_number(&project, &run)).expect("nothing fails");
                self.taken_on(&project, &run, number.expect("it is kept"));
                if replayed {
                    self.told.meet("replayed");
                }
            }
            (Asked::Submit(_), Answer::Refused(Refusal::KeyReused)) => {}
            (Asked::Cancel(project, run), Answer::CancelAccepted) => {
                let me = node.me();
                let taken_on = self.runs.get_mut(&(project, run)).expect("a run");
                (taken_on.is_cancelled, taken_on.may_be_cancelled) = (true, true);
                if taken_on.holder != Some(me) {
                    self.told.meet("cancel of another's run");
                }
            }
            (Asked::Cancel(project, run), Answer::Refused(Refusal::CancelHeldBack | Refusal::StoreUnavailable)) => {
                if let Some(taken_on) = self.runs.get_mut(&(project, run)) {
                    taken_on.may_be_cancelled = true;
                }
            }
            (Asked::Cancel(project, run), Answer::Refused(Refusal::RunEnded)) => {
                assert_eq!(self.stage(&project, &run), END);
            }
            (Asked::Cancel(_, run), Answer::Refused(Refusal::UnknownRun)) => assert_eq!(run, run_id("none")),
            (Asked::Attach(project, resume), Answer::StartsAt(start)) => {
                let expected = if resume.is_some() { Resume::Resumed } else { Resume::Fresh };
                assert_eq!((start.resume, start.after), (expected, resume.unwrap_or(start.after)));
                self.begin(node, &project, &start);
            }
            (Asked::Spend(project, ticket, has_proof), Answer::StartsAt(start)) => {
                assert!(has_proof || self.spent.insert(ticket), "ticket {ticket} is spent twice");
                self.begin(node, &project, &start);
            }
            (Asked::Spend(_, _, has_proof), Answer::Refused(Refusal::TicketSpent)) => {
                assert!(!has_proof);
                self.told.meet("ticket spent");
            }
            (Asked::Run(project, run, stage), Answer::Json(body)) => {
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let has_ended = body["finishedAt"].is_string();
                let is_known = |stage: usize| stage == 0 || body["startedAt"].is_string();
                assert!(stage.is_none_or(|stage| is_known(stage) && (stage < END || has_ended)), "{body} is old");
                if self.runs[&(project, run)].holder != Some(node.me()) {
                    self.told.meet("found elsewhere");
                }
            }
            (Asked::List(count), Answer::Json(body)) => {
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let shown = body["workflows"].as_array().expect("a list").len();
                assert!(count.is_none_or(|count| shown >= count), "{shown} of {count:?} are shown");
            }
            (Asked::Steer(project, run), Answer::Accepted { body, .. }) => {
                assert!(is_kept(&body, self.log[&project].iter().map(|message| &*message.json)), "a yes is lost");
                let is_elsewhere = self.runs[&(project, run)].holder != Some(node.me());
                self.told.meet(if is_elsewhere { "steered elsewhere" } else { "steered" });
            }
            (
                Asked::Steer(..),
                Answer::Refused(Refusal::KeyReused | Refusal::RunEnded | Refusal::Steering(SteeringError::RunEnded)),
            ) => {}
            (_, Answer::Refused(Refusal::StoreUnavailable)) => {}
            (asked, other) => panic!("{asked:?}: {other:?}"),
        }
    }

    fn begin(&mut self, node: &mut Node, project: &ProjectId, start: &StartingPosition) {
        if let Some(backlog) = &start.backlog {
            self.check_frames(project, backlog);
            node.seen.insert(project.clone(), backlog.next_seq() - 1);
        }
        assert!(start.after <= self.newest(project), "beyond the log");
        assert!(node.seen[project] >= start.after, "what comes between is never sent");
    }

    pub(super) fn open(&self) -> Vec<(&(ProjectId, RunId), &TakenOn)> {
        self.runs.iter().filter(|(_, it)| it.stage < END).collect()
    }

    pub(super) fn have_all_ended(&self) -> bool {
        self.open().is_empty()
    }

    /// Has everyone been sent all, has each run an executor, and does that know of what was asked of it?
    pub(super) fn are_all_up_to_date(&self, nodes: &[Mutex<Node>]) -> bool {
        let is_up_to_date = |node: &Mutex<Node>| {
            let node = lock(node);
            node.seen.iter().all(|(project, seen)| *seen == self.newest(project))
        };
        let is_run = |(of, run): (&(ProjectId, RunId), &TakenOn)| {
            let running = nodes.iter().any(|node| {
                let node = lock(node);
                let running = node.runs.get(of).filter(|running| running.is_cancelled || !run.is_cancelled);
                running.is_some() && self.disk.owner(run.number) == Some(node.me())
            });
            running || self.has_last_said(of, nodes)
        };
        nodes.iter().all(is_up_to_date) && self.open().into_iter().all(is_run)
    }

    /// Its executor has said its last, which is on its way.
    fn has_last_said(&self, of: &(ProjectId, RunId), nodes: &[Mutex<Node>]) -> bool {
        nodes.iter().any(|node| {
            let node = lock(node);
            let records = node.channel.iter().filter_map(|it| match it {
                Command::Records(records) => Some(records),
                _ => None,
            });
            let mut theirs = records.flatten().filter(|it| (it.project(), it.run()) == (&of.0, &of.1));
            theirs.any(|record| matches!(record, Record::Event { event, .. } if event.is_last()))
        })
    }

    /// Everything that was said is in the log, once, and all nodes know the same.
    pub(super) fn check_end(&mut self, nodes: &[Mutex<Node>]) {
        let numbers: Vec<u64> = self.log.values().flatten().filter_map(|message| message.number).collect();
        self.told.check(&numbers, &self.beside);
        if !self.beside.is_empty() {
            self.told.meet("drained");
        }
        assert!(self.have_all_ended());
        for node in nodes {
            let node = lock(node);
            let left = (node.journal.ours.len(), node.journal.held.len(), node.unkept, node.runs.len());
            assert_eq!(left, (0, 0, 0, 0), "runs of its own, that are held, batches of records, runs of the executor");
        }
        self.check_nodes(nodes);
    }

    fn check_nodes(&self, nodes: &[Mutex<Node>]) {
        let projects = Query::Projects { visible: None, after: None, limit: 100 };
        assert_same_answers(self.runs.keys(), [projects], |query| {
            let answer = |node: &Mutex<Node>| {
                let mut body = answered(&mut lock(node).journal, query, self.told.now);
                // A node that follows a project has it from when it was told.
                let projects = body["projects"].as_array_mut().into_iter().flatten();
                projects.for_each(|it| it["lastActivity"] = Value::Null);
                body
            };
            nodes.iter().map(answer).collect()
        });
    }
}

impl Node {
    pub(super) fn me(&self) -> usize {
        self.identity.load(Ordering::SeqCst)
    }
}
