//! What must be in the log and what whoever watches it must have been sent: looked at after everything that a node says.

use super::*;
use crate::log::store::History;
use crate::model::SteeringError;

/// What a node was asked, and is to be answered.
pub(super) enum Asked {
    /// These numbers.
    Publish(ProjectId, Vec<u64>),
    Submit(ProjectId),
    Cancel(ProjectId, RunId),
    /// Some run is to say something; it is answered later than it is asked.
    Steer,
    Attach(ProjectId, Option<u64>),
    Run,
}

/// A run that was taken on.
#[derive(Default)]
pub(super) struct TakenOn {
    /// The node whose executor has it.
    node: Option<usize>,
    /// Someone was told that it was asked to end.
    is_cancelled: bool,
}

pub(super) struct Model {
    disk: Disk<MemoryStore>,
    pub(super) told: Told,
    /// The messages of each project, as far as anyone has looked.
    log: BTreeMap<ProjectId, Vec<Message>>,
    pub(super) runs: BTreeMap<(ProjectId, RunId), TakenOn>,
}

struct Message {
    json: Arc<[u8]>,
    /// What a publisher's holds.
    number: Option<u64>,
    /// Whose it is, and whether it is that one's last.
    run: Option<(RunId, bool)>,
}

impl Message {
    fn new(stored: &crate::log::store::StoredMessage) -> Self {
        let value: Value = serde_json::from_slice(&stored.json).expect("JSON");
        let payload = &value["payload"];
        let is_last = ["workflow_completed", "workflow_failed"].iter().any(|last| value["type"] == *last);
        assert_eq!(value["seq"], stored.seq);
        assert_eq!(stored.run.is_some(), payload["runId"].is_string());
        let run = payload["runId"].as_str().map(|run| (run_id(run), is_last));
        Self { json: stored.json.clone(), number: payload["n"].as_u64(), run }
    }
}

impl Model {
    pub(super) fn new(disk: Disk<MemoryStore>) -> Self {
        let log = PROJECTS.map(|name| (project(name), Vec::new())).into();
        Self { disk, told: Told::nothing(), log, runs: BTreeMap::new() }
    }

    pub(super) fn newest(&self, project: &ProjectId) -> u64 {
        self.log[project].len() as u64
    }

    /// Reads on in the log: its messages are numbered from 1 without a gap, and none comes after the last of its run.
    fn read_on(&mut self) {
        for (project, known) in &mut self.log {
            let read = self.disk.look(|store| crate::log::testing::read(store, project, known.len() as u64, None));
            for stored in &read {
                assert_eq!(stored.seq, known.len() as u64 + 1, "{project} has a gap");
                let message = Message::new(stored);
                if let Some((run, _)) = &message.run {
                    let before = known.iter().filter_map(|message| message.run.as_ref());
                    assert!(!before.clone().any(|(other, is_last)| other == run && *is_last), "{run} has two ends");
                    assert!(self.runs.contains_key(&(project.clone(), run.clone())), "nobody was told of {run}");
                }
                known.push(message);
            }
        }
    }

    /// Takes what a node says.
    pub(super) fn take(&mut self, node: &mut Node, outcome: Outcome) {
        for order in outcome.orders {
            self.take_order(node, order);
        }
        self.read_on();
        for delivery in outcome.deliveries {
            match delivery {
                Delivery::Frames { project, frames } => self.take_frames(node, &project, &frames),
                Delivery::Reply { to, answer } => {
                    let to = number_of(&to).expect("nobody else asks");
                    let asked = node.asked.remove(&to).expect("asked, and answered once");
                    self.take_answer(node, asked, answer);
                }
                Delivery::StoreIsDown(true) => self.told.meet("outage"),
                Delivery::StoreIsDown(false) | Delivery::Worked(_) | Delivery::Tickets(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let are_wishes = node.asked.values().all(|asked| matches!(asked, Asked::Steer));
        assert!(are_wishes, "someone was not answered");
        let open: usize = node.journal.projects.values().map(|entry| entry.open_runs.len()).sum();
        assert!(node.journal.is_stale || node.journal.open_runs == open, "runs are counted");
        self.told.meet_times("conflict", self.disk.conflicts());
    }

    fn take_order(&mut self, node: &mut Node, order: Order) {
        match order {
            Order::Start { project, run, .. } => {
                self.told.meet("run begun");
                let is_kept = self.disk.look(|store| store.run_number(&project, &run)).expect("nothing fails");
                assert!(is_kept.is_some(), "{run} is begun before it is kept");
                let taken_on = self.runs.entry((project.clone(), run.clone())).or_default();
                assert_eq!(taken_on.node.replace(node.index), None, "{run} is begun twice");
                node.runs.insert((project, run), Running::default());
            }
            Order::Resume(resumed) => {
                self.told.meet("resumed run");
                let of = (resumed.project, resumed.state.run_id.clone());
                assert_eq!(self.runs[&of].node, Some(node.index), "another node runs it");
                let messages = self.log[&of.0].iter().filter_map(|message| message.run.as_ref());
                let said = messages.filter(|(run, _)| *run == of.1).count();
                assert_eq!(resumed.state.started_at.is_some(), said > 0);
                node.runs.insert(of, Running { said, is_cancelled: resumed.cancelled });
            }
            Order::Abandon(_) => panic!("no node is fenced"),
            Order::Release { .. } => panic!("no run has a group"),
            Order::Cancel { project, run } => {
                assert_eq!(self.runs[&(project.clone(), run.clone())].node, Some(node.index), "another node runs it");
                self.told.meet("told to end");
                if let Some(running) = node.runs.get_mut(&(project, run)) {
                    running.is_cancelled = true;
                }
            }
            Order::Kept(batches) => {
                node.unkept = node.unkept.checked_sub(batches).expect("no more than it handed over")
            }
            Order::Steer { project, run, steer } => node.wishes.push((project, run, steer)),
            Order::ChildEnded { .. } | Order::StoreIsDown(_) => {}
        }
    }

    /// They go on from what the node was sent before, and are what is in the log.
    fn take_frames(&mut self, node: &mut Node, project: &ProjectId, frames: &Frames) {
        let seen = node.seen.get_mut(project).expect("only what is watched is sent");
        assert_eq!(frames.first_seq, *seen + 1, "{project} on node {}", node.index);
        let log = &self.log[project][*seen as usize..];
        let mut from = 0;
        assert!(log.len() >= frames.marks.len(), "sent before it is kept");
        for (message, mark) in log.iter().zip(&frames.marks) {
            let frame = &frames.bytes[from..mark.end];
            let is_in_it = frame.windows(message.json.len()).any(|window| *window == *message.json);
            assert!(is_in_it, "{:?} is not {:?}", str::from_utf8(frame), str::from_utf8(&message.json));
            assert_eq!((mark.run.is_some(), mark.is_last), message.place());
            from = mark.end;
        }
        *seen = frames.next_seq() - 1;
        let node_of = |message: &Message| self.runs[&(project.clone(), message.run.clone()?.0)].node;
        if log.iter().filter_map(node_of).any(|other| other != node.index) {
            self.told.meet("foreign messages");
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
                let taken_on = self.runs.get(&(project, run)).expect("begun");
                assert!(replayed || taken_on.node == Some(node.index));
                if replayed {
                    self.told.meet("replayed");
                }
            }
            (Asked::Submit(_), Answer::Refused(Refusal::KeyReused)) => self.told.meet("key reused"),
            (Asked::Cancel(project, run), Answer::CancelAccepted) => {
                let taken_on = self.runs.get_mut(&(project, run)).expect("a run");
                taken_on.is_cancelled = true;
                if taken_on.node != Some(node.index) {
                    self.told.meet("cancel of another's run");
                }
            }
            (Asked::Cancel(project, run), Answer::Refused(Refusal::RunEnded)) => {
                assert!(self.has_ended(&project, &run))
            }
            (Asked::Cancel(..), Answer::Refused(Refusal::CancelHeldBack)) => self.told.meet("cancel held back"),
            (Asked::Steer, Answer::Accepted { body, replayed }) => {
                assert!(is_kept(&body, self.log.values().flatten().map(|message| &*message.json)), "a yes is lost");
                self.told.meet(if replayed { "steered before" } else { "steered" });
            }
            (Asked::Steer, Answer::Refused(Refusal::KeyReused)) => self.told.meet("key reused"),
            (
                Asked::Steer,
                Answer::Refused(Refusal::UnknownRun | Refusal::RunEnded | Refusal::Steering(SteeringError::RunEnded)),
            ) => {}
            (Asked::Attach(project, resume), Answer::StartsAt(start)) => {
                let expected = if resume.is_some() { Resume::Resumed } else { Resume::Fresh };
                assert_eq!(start.resume, expected);
                assert_eq!(start.after, resume.unwrap_or(start.after));
                if let Some(backlog) = &start.backlog {
                    node.seen.insert(project.clone(), backlog.next_seq() - 1);
                }
                assert!(start.after <= self.newest(&project), "beyond the log");
                let seen = node.seen[&project];
                if seen > 0 && resume == Some(seen) {
                    self.told.meet("resumed elsewhere");
                }
            }
            (Asked::Run, Answer::Json(_)) => {}
            (Asked::Run | Asked::Cancel(..), Answer::Refused(Refusal::UnknownRun)) => {}
            (_, Answer::Refused(Refusal::StoreUnavailable)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }

    fn has_ended(&self, project: &ProjectId, run: &RunId) -> bool {
        self.log[project].iter().any(|message| matches!(&message.run, Some((of, true)) if of == run))
    }

    /// A node that begins again goes on with the runs that it had, and with no other.
    pub(super) fn check_resumed(&self, node: &Node) {
        let own = self.runs.iter().filter(|(_, run)| run.node == Some(node.index)).map(|(of, _)| of);
        let open: Vec<_> = own.filter(|(project, run)| !self.has_ended(project, run)).collect();
        assert_eq!(node.runs.keys().collect::<Vec<_>>(), open);
    }

    /// Who was told that a run is to end was told the truth: whoever runs it knows.
    pub(super) fn check_cancels(&self, nodes: &[Mutex<Node>]) {
        for ((project, run), taken_on) in self.runs.iter().filter(|(_, run)| run.is_cancelled) {
            let node = lock(&nodes[taken_on.node.expect("begun")]);
            let running = node.runs.get(&(project.clone(), run.clone()));
            assert!(running.is_none_or(|running| running.is_cancelled), "{run} was never told");
        }
        self.check_nodes(nodes);
    }

    /// Everything that was said is in the log, once.
    pub(super) fn check_end(&self, nodes: &[Mutex<Node>]) {
        let numbers: Vec<u64> = self.log.values().flatten().filter_map(|message| message.number).collect();
        self.told.check(&numbers, &BTreeSet::new());
        for (project, run) in self.runs.keys() {
            assert!(self.has_ended(project, run), "{run} has no end");
        }
        self.check_nodes(nodes);
        for node in nodes {
            let node = lock(node);
            let left = (node.journal.ours.len(), node.journal.open_runs, node.unkept);
            assert_eq!(left, (0, 0, 0), "runs of its own, runs that go on, batches of records");
        }
    }

    /// All nodes know the same, which is all that there is.
    fn check_nodes(&self, nodes: &[Mutex<Node>]) {
        for node in nodes {
            let node = lock(node);
            assert!(!node.journal.is_down());
            for (project, seen) in &node.seen {
                assert_eq!(*seen, self.newest(project), "{project} on node {}", node.index);
            }
        }
        assert_same_answers(self.runs.keys(), [], |query| {
            nodes.iter().map(|node| answered(&mut lock(node).journal, query, self.told.now)).collect()
        });
    }
}

impl Message {
    /// Is it a run's, and that one's last?
    fn place(&self) -> (bool, bool) {
        (self.run.is_some(), self.run.as_ref().is_some_and(|(_, is_last)| *is_last))
    }
}
