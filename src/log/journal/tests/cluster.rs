//! Two to four journals over one engine, which delays, refuses, conflicts and forgets to wake them; with nodes that are killed,
//! and nodes that sleep past their time and come back. Whatever happens there is one log, everyone who watches it anywhere is
//! sent it whole, and every run that was taken on has one end. A [`Model`] knows what must be.
//!
//! `STEPCAST_SEEDS=n` plays n seeds, `STEPCAST_SEED=x` one alone.

mod model;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use self::model::Model;
use self::node::{Asked, Node};
use super::several::{
    Met, PROJECTS, SEEDS, ToDo, Told, answered, assert_same_answers, attach, grant, is_kept, lock, play_seeds, steer,
    unless_busy,
};
use super::*;
use crate::executor::testing::Rng;
use crate::log::MemoryStore;
use crate::log::fake_engine::TTL_MS;
use crate::log::faulty::{Call, Disk, Fault, Interruption};

const STEPS: usize = 200;

/// Turns after which everything must have come to rest, or to its end.
const TURNS_MAX: usize = 200;

/// What the default seeds must meet between them.
const WORTH_MEETING: [&str; 19] = [
    "adopted run",
    "cancel of another's run",
    "conflict",
    "drained",
    "fenced",
    "foreign messages",
    "found elsewhere",
    "killed",
    "outage",
    "paused",
    "records of before",
    "refused event",
    "released",
    "replayed",
    "run held",
    "steered",
    "steered elsewhere",
    "ticket spent",
    "told to end",
];

#[test]
fn whatever_nodes_do_that_share_a_store_there_is_one_log() {
    play_seeds(&WORTH_MEETING, |rng| Cluster::new(2 + rng.below(3)).play(rng));
}

/// The simulation sees what it is there to see.
#[test]
fn a_node_that_writes_though_it_is_thought_to_be_gone_is_found_out() {
    let quietly = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..SEEDS).any(|seed| {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let cluster = Cluster::new(3);
            cluster.disk.engine(|engine| engine.is_without_fences = true);
            cluster.play(&mut Rng::new(seed))
        }));
        played.is_err()
    });
    std::panic::set_hook(quietly);
    assert!(found);
}

#[derive(Clone)]
struct Cluster {
    disk: Disk<MemoryStore>,
    nodes: Arc<Vec<Mutex<Node>>>,
    model: Arc<Mutex<Model>>,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let disk = Disk::shared_by_nodes(MemoryStore::new());
        let mut model = Model::new(disk.clone());
        let nodes = Arc::new((0..count).map(|index| Mutex::new(Node::start(&disk, index, &mut model))).collect());
        Self { disk, nodes, model: Arc::new(Mutex::new(model)) }
    }

    fn play(self, rng: &mut Rng) -> Met {
        for _ in 0..STEPS {
            self.pass_time(rng.below(400) as u64);
            let index = rng.below(self.nodes.len());
            match rng.below(100) {
                0..2 => self.kill(index),
                2..4 => self.pause(index, rng),
                4..7 => self.publish_in_a_transaction(rng),
                7..12 => self.poll_tail(index, rng),
                12..20 => self.act_on_a_failing_store(index, rng),
                20..45 => self.act_while_others_do(index, rng),
                _ => self.act(index, rng),
            }
            self.beat(rng);
        }
        self.come_to_rest(rng);
        self.end_runs(rng);
        self.come_to_rest(rng);
        let mut model = lock(&self.model);
        model.check_end(&self.nodes);
        std::mem::take(&mut model.told.met)
    }

    fn pass_time(&self, ms: u64) {
        self.disk.pass_ms(ms);
        lock(&self.model).told.pass_time(ms);
    }

    /// Some commands, as one batch.
    fn act(&self, index: usize, rng: &mut Rng) {
        let Some(mut node) = unless_busy(&self.nodes[index]) else { return };
        if node.is_paused(&lock(&self.model)) {
            return;
        }
        let mut batch = node.hand_over(rng);
        batch.extend((0..rng.below(4)).map(|_| node.command(&mut lock(&self.model), rng)));
        self.handle(&mut node, batch);
    }

    fn handle(&self, node: &mut Node, batch: Vec<Command>) {
        let now = lock(&self.model).told.now;
        let outcome = node.journal.handle(batch, now);
        lock(&self.model).take(node, outcome);
    }

    fn act_on_a_failing_store(&self, index: usize, rng: &mut Rng) {
        let of = [Call::ALL, Call::WRITES, &[Call::Append], &[Call::Read], &[Call::Recover]][rng.below(5)];
        self.disk.set(Fault::At { of, first: 1 + rng.below(6) as u64, more: rng.below(3) as u64 });
        match rng.below(3) {
            0 => self.poll_tail(index, rng),
            _ => self.act_while_others_do(index, rng),
        }
        self.beat(rng);
        self.disk.set(Fault::Never);
    }

    /// Others write in the middle of it, several times.
    fn act_while_others_do(&self, index: usize, rng: &mut Rng) {
        let others = (0..rng.below(4)).map(|_| {
            let (cluster, seed, other) = (self.clone(), rng.next(), rng.below(self.nodes.len()));
            Box::new(move || cluster.act(other, &mut Rng::new(seed))) as Interruption
        });
        self.disk.interrupt(others.collect::<Vec<_>>());
        self.act(index, rng);
        self.disk.let_through();
    }

    /// A process dies, and another takes its place.
    fn kill(&self, index: usize) {
        let (mut node, mut model) = (lock(&self.nodes[index]), lock(&self.model));
        model.told.meet("killed");
        *node = Node::start(&self.disk, index, &mut model);
    }

    /// A process is held up, perhaps for longer than the others wait for it.
    fn pause(&self, index: usize, rng: &mut Rng) {
        let mut model = lock(&self.model);
        model.told.meet("paused");
        lock(&self.nodes[index]).pause(model.told.now, rng.below(2 * TTL_MS as usize) as u64);
    }

    fn publish_in_a_transaction(&self, rng: &mut Rng) {
        let mut model = lock(&self.model);
        let number = model.told.next();
        self.disk.publish(&project(PROJECTS[rng.below(PROJECTS.len())]), format!("{{\"n\":{number}}}"));
        model.published_beside(number);
    }

    /// A node finds out what others have written: at once, or it is told later.
    fn poll_tail(&self, index: usize, rng: &mut Rng) {
        let mut node = lock(&self.nodes[index]);
        if node.is_paused(&lock(&self.model)) {
            return;
        }
        let found = node.poll_tail(rng);
        match rng.one_in(3) {
            true => node.channel.extend(found),
            false => self.handle(&mut node, found),
        }
    }

    /// The nodes say that they are alive, where it is time.
    fn beat(&self, rng: &mut Rng) {
        for node in self.nodes.iter() {
            let mut node = lock(node);
            let now = lock(&self.model).told.now;
            if !node.is_paused(&lock(&self.model)) && !rng.one_in(4) {
                let told = node.beat(now);
                node.channel.extend(told);
            }
        }
    }

    /// Nothing fails, and everyone learns what others have written.
    fn come_to_rest(&self, rng: &mut Rng) {
        for _ in 0..TURNS_MAX {
            self.pass_time(300);
            self.beat(rng);
            for index in 0..self.nodes.len() {
                self.turn(index, rng);
            }
            let is_at_rest = |node: &Mutex<Node>| {
                let node = lock(node);
                !node.is_paused(&lock(&self.model)) && !node.journal.is_down() && node.channel.is_empty()
            };
            let is_done = self.nodes.iter().all(is_at_rest) && self.disk.outgoing() == 0;
            if is_done && lock(&self.model).are_all_up_to_date(&self.nodes) {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn turn(&self, index: usize, rng: &mut Rng) {
        let mut node = lock(&self.nodes[index]);
        if node.is_paused(&lock(&self.model)) {
            return;
        }
        let batch = std::mem::take(&mut node.channel);
        self.handle(&mut node, batch);
        let found = node.poll_tail(rng);
        self.handle(&mut node, found);
    }

    /// Every run that goes on comes to its end.
    fn end_runs(&self, rng: &mut Rng) {
        for _ in 0..TURNS_MAX {
            self.pass_time(100);
            self.beat(rng);
            for index in 0..self.nodes.len() {
                {
                    let mut node = lock(&self.nodes[index]);
                    let count = 1 + node.runs.len();
                    (0..count).for_each(|_| node.speak(rng, lock(&self.model).told.now.wall));
                }
                self.turn(index, rng);
            }
            if lock(&self.model).have_all_ended() {
                return;
            }
        }
        panic!("runs do not end: {:?}", lock(&self.model).open());
    }
}
