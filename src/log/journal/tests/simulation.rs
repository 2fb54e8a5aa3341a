//! Several journals over one store, each in turn and now and then in the middle of another's append, with stores that fail
//! and nodes that begin again. Whatever happens, there is one log: a [`Model`] knows what must be in it, and what everyone
//! who watches must have been sent of it.
//!
//! `STEPCAST_SEEDS=n` plays n seeds, `STEPCAST_SEED=x` one alone.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use self::model::{Asked, Model};
use super::several::{
    Met, PROJECTS, ToDo, Told, answered, assert_same_answers, attach, grant, is_kept, lock, play_seeds, steer,
    unless_busy,
};
use super::*;
use crate::executor::testing::Rng;
use crate::log::MemoryStore;
use crate::log::faulty::{Call, Disk, Fault, Interruption};

const NODES: usize = 3;

const STEPS: usize = 150;

/// Turns after which a store that works again must have been found to, and every run must have come to its end.
const TURNS_MAX: usize = 40;

/// What the default seeds must meet between them.
const WORTH_MEETING: [&str; 15] = [
    "cancel held back",
    "cancel of another's run",
    "conflict",
    "foreign messages",
    "key reused",
    "outage",
    "refused event",
    "replayed",
    "restart",
    "resumed elsewhere",
    "resumed run",
    "run begun",
    "steered",
    "steered before",
    "told to end",
];

#[test]
fn whatever_several_writers_do_there_is_one_log() {
    play_seeds(&WORTH_MEETING, |rng| Cluster::new().play(rng));
}

/// A journal, the loop and the executor beside it as far as they matter here.
pub(super) struct Node {
    index: usize,
    journal: Journal,
    /// What the loop was sent of the projects that it watches: everything up to here.
    seen: BTreeMap<ProjectId, u64>,
    /// The runs that the executor has.
    runs: BTreeMap<(ProjectId, RunId), Running>,
    /// Batches of records that it handed over and that are not kept.
    unkept: u64,
    asked: BTreeMap<u64, Asked>,
    /// What its runs are to do.
    wishes: Vec<ToDo>,
}

/// A run as the executor has it.
#[derive(Default)]
struct Running {
    /// How many of its messages it has said.
    said: usize,
    is_cancelled: bool,
}

#[derive(Clone)]
struct Cluster {
    disk: Disk<MemoryStore>,
    nodes: Arc<Vec<Mutex<Node>>>,
    model: Arc<Mutex<Model>>,
}

fn open(disk: &Disk<MemoryStore>, index: usize, now: Now) -> (Journal, Outcome) {
    let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let opened = Journal::open(Box::new(disk.store_of(index)), signer, limits(), read_plan, now);
    opened.expect("nothing fails")
}

impl Cluster {
    fn new() -> Self {
        let disk = Disk::new(MemoryStore::new());
        let model = Model::new(disk.clone());
        let node = |index| {
            let (journal, _) = open(&disk, index, model.told.now);
            let (seen, runs, unkept, asked, wishes) = Default::default();
            Mutex::new(Node { index, journal, seen, runs, unkept, asked, wishes })
        };
        let nodes = Arc::new((0..NODES).map(node).collect());
        Self { disk, nodes, model: Arc::new(Mutex::new(model)) }
    }

    fn play(self, rng: &mut Rng) -> Met {
        for _ in 0..STEPS {
            lock(&self.model).told.pass_time(rng.below(120) as u64);
            let index = rng.below(NODES);
            match rng.below(100) {
                0..3 => self.restart(index),
                3..8 => self.follow(index),
                8..14 => self.turn(index, Vec::new()),
                14..24 => self.act_on_a_failing_store(index, rng),
                24..54 => self.act_while_others_do(index, rng),
                _ => self.act(index, rng),
            }
        }
        self.come_to_rest();
        lock(&self.model).check_cancels(&self.nodes);
        self.end_runs(rng);
        self.come_to_rest();
        lock(&self.model).check_end(&self.nodes);
        std::mem::take(&mut lock(&self.model).told.met)
    }

    /// Some commands, as one batch.
    fn act(&self, index: usize, rng: &mut Rng) {
        let Some(mut node) = unless_busy(&self.nodes[index]) else { return };
        let batch = (0..=rng.below(4)).map(|_| self.command(&mut node, rng)).collect();
        self.hand_over(&mut node, batch);
    }

    fn act_on_a_failing_store(&self, index: usize, rng: &mut Rng) {
        let of = [Call::ALL, Call::WRITES, &[Call::Append], &[Call::Read]][rng.below(4)];
        self.disk.set(Fault::At { of, first: 1 + rng.below(6) as u64, more: rng.below(3) as u64 });
        self.act_while_others_do(index, rng);
        self.disk.set(Fault::Never);
    }

    /// Others write in the middle of it, several times.
    fn act_while_others_do(&self, index: usize, rng: &mut Rng) {
        let others = (0..rng.below(4)).map(|_| {
            let (cluster, seed, other) = (self.clone(), rng.next(), rng.below(NODES));
            Box::new(move || cluster.act(other, &mut Rng::new(seed))) as Interruption
        });
        self.disk.interrupt(others.collect::<Vec<_>>());
        self.act(index, rng);
        self.disk.let_through();
    }

    fn turn(&self, index: usize, batch: Vec<Command>) {
        self.hand_over(&mut lock(&self.nodes[index]), batch);
    }

    fn hand_over(&self, node: &mut Node, batch: Vec<Command>) {
        let now = lock(&self.model).told.now;
        let outcome = node.journal.handle(batch, now);
        lock(&self.model).take(node, outcome);
    }

    /// Reads what others have written.
    fn follow(&self, index: usize) {
        let mut node = lock(&self.nodes[index]);
        if node.journal.is_down() {
            return;
        }
        let mut outcome = Outcome::default();
        let projects = PROJECTS.map(project);
        let caught_up = node.journal.catch_up(&projects, lock(&self.model).told.now, &mut outcome);
        assert_eq!(caught_up, Ok(()));
        lock(&self.model).take(&mut node, outcome);
    }

    /// A process dies, and another takes its place.
    fn restart(&self, index: usize) {
        let mut node = lock(&self.nodes[index]);
        let mut model = lock(&self.model);
        model.told.meet("restart");
        let (journal, outcome) = open(&self.disk, index, model.told.now);
        let (seen, runs, unkept, asked, wishes) = Default::default();
        *node = Node { index, journal, seen, runs, unkept, asked, wishes };
        model.take(&mut node, outcome);
        model.check_resumed(&node);
    }

    fn command(&self, node: &mut Node, rng: &mut Rng) -> Command {
        let mut model = lock(&self.model);
        let project = project(PROJECTS[rng.below(PROJECTS.len())]);
        let to = model.told.next();
        let reply = reply_to(to);
        match rng.below(100) {
            0..35 => {
                let (numbers, command) = model.told.publish(rng, &project, reply);
                node.asked.insert(to, Asked::Publish(project, numbers));
                command
            }
            35..50 => {
                // Few enough that two nodes take on the same one.
                let (run, key) = (format!("r{}", rng.below(12)), format!("k{}", rng.below(16)));
                let key = rng.one_in(2).then_some(key.as_str());
                let submission = submission(project.as_str(), &run, key, rng.below(2) as u8);
                node.asked.insert(to, Asked::Submit(project));
                Command::Submit { submission: Box::new(submission), reply }
            }
            50..75 => node.speak(rng, model.told.now.wall),
            75..79 => {
                let (project, run) = match rng.below(model.runs.len() + 1) {
                    0 => (project, run_id("none")),
                    n => model.runs.keys().nth(n - 1).expect("one of them").clone(),
                };
                let key = rng.one_in(2).then(|| format!("s{}", rng.below(4)));
                node.asked.insert(to, Asked::Steer);
                steer(project, run, key, reply)
            }
            79..83 => {
                let (project, run) = match rng.below(model.runs.len() + 1) {
                    0 => (project, run_id("none")),
                    n => model.runs.keys().nth(n - 1).expect("one of them").clone(),
                };
                node.asked.insert(to, Asked::Cancel(project.clone(), run.clone()));
                Command::Cancel { project, run, reply: Some(reply) }
            }
            83..95 => {
                let (resume, command) = attach(rng, project.clone(), model.newest(&project), to);
                node.asked.insert(to, Asked::Attach(project, resume));
                command
            }
            _ => {
                let run = run_id(&format!("r{}", rng.below(12)));
                node.asked.insert(to, Asked::Run);
                Command::Read { query: Query::Run { project, run, wanted: WantedRun::CUT }, reply }
            }
        }
    }

    /// Nothing fails, and everyone learns what others have written.
    fn come_to_rest(&self) {
        for _ in 0..TURNS_MAX {
            lock(&self.model).told.pass_time(300);
            (0..NODES).for_each(|index| self.turn(index, Vec::new()));
            if !self.nodes.iter().any(|node| lock(node).journal.is_down()) {
                break;
            }
        }
        (0..NODES).for_each(|index| self.follow(index));
    }

    /// Every run that goes on comes to its end, though each node knows nothing of what the others say meanwhile.
    fn end_runs(&self, rng: &mut Rng) {
        for _ in 0..TURNS_MAX {
            for node in self.nodes.iter() {
                let mut node = lock(node);
                let batch = (0..=node.runs.len()).map(|_| node.speak(rng, lock(&self.model).told.now.wall)).collect();
                self.hand_over(&mut node, batch);
            }
            let is_at_rest = |node: &Node| node.runs.is_empty() && node.wishes.is_empty();
            if self.nodes.iter().all(|node| is_at_rest(&lock(node))) {
                break;
            }
        }
    }
}

impl Node {
    /// One of its runs, or some, say the next of what they have to say.
    fn speak(&mut self, rng: &mut Rng, at: Timestamp) -> Command {
        let runs = &self.runs;
        let has_begun = |of: &(ProjectId, RunId)| runs.get(of).is_some_and(|running| running.said > 0);
        let mut records = grant(&mut self.wishes, self.index, has_begun, rng, at);
        for _ in 0..=rng.below(3) {
            if self.runs.is_empty() {
                break;
            }
            let index = rng.below(self.runs.len());
            let of = self.runs.keys().nth(index).expect("one of them").clone();
            let running = self.runs.get_mut(&of).expect("the same");
            let (kind, is_last) = match running.said {
                0 => (started(), false),
                _ if running.is_cancelled => (failed(EndReason::Cancelled), true),
                1 => (progress("a", super::running()), false),
                2 => (progress("a", done(json!(7), false)), false),
                _ => (completed(), true),
            };
            running.said += 1;
            let event = RunEvent { run_id: of.1.clone(), timestamp: at, kind };
            records.push(Record::Event { project: of.0.clone(), event });
            if is_last {
                self.runs.remove(&of);
            }
        }
        self.unkept += 1;
        Command::Records(records)
    }
}
