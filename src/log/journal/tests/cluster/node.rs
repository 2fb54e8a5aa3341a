//! A node: its journal, and the loop, the executor and the threads beside it as far as they matter here.

use super::*;
use crate::log::fake_engine::{FakeLease, FakeTail, Identity};
use crate::log::journal::numbers::Numbers;
use crate::log::store::{BeatError, Lease, Tail};
use crate::model::{RunState, StepStatus};

/// After so long without a beat a node takes itself for fenced.
const BELIEF_MS: u64 = TTL_MS - 2000;

/// What a node was asked, and is to be answered.
#[derive(Debug)]
pub(super) enum Asked {
    /// These numbers.
    Publish(ProjectId, Vec<u64>),
    Submit(ProjectId),
    Cancel(ProjectId, RunId),
    Attach(ProjectId, Option<u64>),
    /// A stream, for which this ticket is spent.
    Spend(ProjectId, u64, bool),
    /// A run of which someone was told by now, and what it must have come to, where what others write is not followed.
    Run(ProjectId, RunId, Option<usize>),
    /// How many runs there must be.
    List(Option<usize>),
    /// Some run is to do something, which may be another node's: it is answered later than it is asked.
    Steer(ProjectId, RunId),
}

pub(super) struct Node {
    pub(super) index: usize,
    pub(super) identity: Identity,
    pub(super) journal: Journal,
    lease: FakeLease<MemoryStore>,
    tail: FakeTail<MemoryStore>,
    beaten_at: Duration,
    known_as: usize,
    tickets: BTreeSet<u64>,
    paused_until: Duration,
    /// What the loop was sent of the projects that it watches: everything up to here.
    pub(super) seen: BTreeMap<ProjectId, u64>,
    /// The runs that the executor has.
    pub(super) runs: BTreeMap<(ProjectId, RunId), Running>,
    /// What is on its way to the log.
    pub(super) channel: Vec<Command>,
    /// What its runs are to do.
    pub(super) wishes: Vec<ToDo>,
    /// Batches of records that were handed over and that are not kept.
    pub(super) unkept: u64,
    pub(super) asked: BTreeMap<u64, Asked>,
}

/// A run as the executor has it.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// How many of its messages it has said.
    pub(super) said: usize,
    pub(super) is_cancelled: bool,
    pub(super) is_held: bool,
}

impl Node {
    pub(super) fn start(disk: &Disk<MemoryStore>, index: usize, model: &mut Model) -> Self {
        let identity = disk.join();
        let signer = ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]));
        let read_plan = Box::new(|document: &[u8]| Ok(plan_of(document)));
        let limits = Limits { open_runs: 200, ..limits() };
        let opened = Journal::open(Box::new(disk.store_as(&identity)), signer, limits, read_plan, model.told.now);
        let (mut journal, outcome) = opened.expect("nothing fails");
        journal.numbers = Numbers::seeded(model.told.next());
        let (lease, tail) = (disk.lease(&identity), disk.tail(&identity, 3));
        let (seen, runs, channel, wishes, unkept, asked, paused_until, tickets) = Default::default();
        let (beaten_at, known_as) = (model.told.now.mono, identity.load(std::sync::atomic::Ordering::SeqCst));
        let mut node = Self {
            index,
            identity,
            journal,
            lease,
            tail,
            beaten_at,
            known_as,
            tickets,
            paused_until,
            seen,
            runs,
            channel,
            wishes,
            unkept,
            asked,
        };
        model.take(&mut node, outcome);
        node
    }

    pub(super) fn is_paused(&self, model: &Model) -> bool {
        model.told.now.mono < self.paused_until
    }

    pub(super) fn pause(&mut self, now: Now, ms: u64) {
        self.paused_until = now.mono + Duration::from_millis(ms);
    }

    /// Some of what is on its way, in its order.
    pub(super) fn hand_over(&mut self, rng: &mut Rng) -> Vec<Command> {
        let count = rng.below(self.channel.len() + 1);
        self.channel.drain(..count).collect()
    }

    /// Says that it is alive. What its log is told then.
    pub(super) fn beat(&mut self, now: Now) -> Option<Command> {
        let since = now.mono.saturating_sub(self.beaten_at).as_millis() as u64;
        if since < TTL_MS / 3 {
            return None;
        }
        match self.lease.beat() {
            Ok(beat) => {
                self.beaten_at = now.mono;
                (!beat.taken_over.is_empty()).then_some(Command::Adopt(beat.taken_over))
            }
            Err(BeatError::Fenced) => Some(Command::Fence),
            Err(BeatError::Down(_)) => (since > BELIEF_MS).then_some(Command::Fence),
        }
    }

    /// Has it joined again?
    pub(super) fn note_identity(&mut self, now: Now) {
        let me = self.me();
        if std::mem::replace(&mut self.known_as, me) != me {
            self.beaten_at = now.mono;
        }
    }

    /// What others have written to what it follows, and what is to be numbered.
    pub(super) fn poll_tail(&mut self, rng: &mut Rng) -> Vec<Command> {
        let standings = self.journal.standings().all();
        self.tail.messages_max = 1 + rng.below(4);
        let mut found = Vec::new();
        let Ok(followed) = self.tail.changes_since(&standings, 0) else { return found };
        if !followed.is_empty() {
            found.push(Command::Follow(followed));
        }
        match self.tail.wishes(&self.journal.waiting_wishes().all()) {
            Ok(wishes) if !wishes.open.is_empty() || !wishes.answered.is_empty() => found.push(Command::Wishes(wishes)),
            _ => {}
        }
        // More than one may take it on itself.
        match self.tail.published(4, &self.journal.standings().put_off()) {
            Ok(outgoing) if !outgoing.is_empty() && rng.one_in(2) => found.push(Command::Drain(outgoing)),
            _ => {}
        }
        found
    }

    pub(super) fn command(&mut self, model: &mut Model, rng: &mut Rng) -> Command {
        let project = project(PROJECTS[rng.below(PROJECTS.len())]);
        let to = model.told.next();
        let reply = reply_to(to);
        match rng.below(100) {
            0..25 => {
                let (numbers, command) = model.told.publish(rng, &project, reply);
                self.asked.insert(to, Asked::Publish(project, numbers));
                command
            }
            25..38 => {
                // Few enough that two nodes take on the same one.
                let (run, key) = (format!("r{}", rng.below(20)), format!("k{}", rng.below(24)));
                let key = rng.one_in(2).then_some(key.as_str());
                let group = [None, None, Some("g"), Some("h")][rng.below(4)];
                self.asked.insert(to, Asked::Submit(project.clone()));
                let submission = submission(project.as_str(), &run, key, 0);
                let document = group.unwrap_or_default().as_bytes().into();
                let plan = Arc::new(plan_of(group.unwrap_or_default().as_bytes()));
                Command::Submit { submission: Box::new(Submission { plan, document, ..submission }), reply }
            }
            38..62 => {
                self.speak(rng, model.told.now.wall);
                self.channel.remove(0)
            }
            62..67 => {
                let (project, run) = model.some_run(rng).unwrap_or((project, run_id("none")));
                self.asked.insert(to, Asked::Cancel(project.clone(), run.clone()));
                Command::Cancel { project, run, reply: Some(reply) }
            }
            67..77 => {
                let (resume, command) = attach(rng, project.clone(), model.newest(&project), to);
                self.asked.insert(to, Asked::Attach(project, resume));
                command
            }
            77..82 => self.spend(project, model, rng, to),
            82..84 => Command::Unwatch(self.unwatch(project)),
            84..94 => match model.some_run(rng) {
                Some((project, run)) => {
                    let stage = (!self.journal.follows(&project)).then(|| model.stage(&project, &run));
                    self.asked.insert(to, Asked::Run(project.clone(), run.clone(), stage));
                    Command::Read { query: Query::Run { project, run, wanted: WantedRun::CUT }, reply }
                }
                None => Command::Probe,
            },
            94..96 => match model.some_run(rng) {
                Some((project, run)) => {
                    self.asked.insert(to, Asked::Steer(project.clone(), run.clone()));
                    steer(project, run, rng.one_in(2).then(|| format!("s{}", rng.below(8))), reply)
                }
                None => Command::Probe,
            },
            96..98 => {
                let count = (!self.journal.follows(&project)).then(|| model.count(&project));
                self.asked.insert(to, Asked::List(count));
                Command::Read { query: Query::Runs { project, status: None, before: None, limit: 1000 }, reply }
            }
            _ => Command::Probe,
        }
    }

    /// A stream for which one of few tickets is spent.
    fn spend(&mut self, project: ProjectId, model: &Model, rng: &mut Rng, to: u64) -> Command {
        let ticket = rng.below(6) as u64;
        if !self.tickets.insert(ticket) {
            // Its own tickets a node knows by itself.
            return Command::Probe;
        }
        let resume = rng.one_in(4).then(|| ResumeFrom::Seq(rng.below(model.newest(&project) as usize + 1) as u64));
        self.asked.insert(to, Asked::Spend(project.clone(), ticket, resume.is_some()));
        let is_proven = resume.is_some();
        let nonce = format!("{}AAAAAAAAAAAAAAAAAAAAA", (b'A' + ticket as u8) as char);
        let note = json!({"nonce": nonce, "kind": "spent", "until": "2043-01-01T00:00:00.000Z"});
        Command::Subscribe {
            subscription: Arc::new(Subscription { resume, ..Subscription::to(project) }),
            spends: Some(Spends { note: serde_json::from_value(note).expect("a note"), is_proven }),
            reply: reply_to(to),
        }
    }

    fn unwatch(&mut self, project: ProjectId) -> ProjectId {
        // Whoever asks in the same batch is not to be told of what is not sent.
        let is_asked = |asked: &Asked| matches!(asked, Asked::Attach(of, _) | Asked::Spend(of, ..) if *of == project);
        if self.asked.values().any(is_asked) {
            return super::project("nobody");
        }
        self.seen.remove(&project);
        project
    }

    /// One of its runs, or some, say the next of what they have to say. It goes on its way after what went before.
    pub(super) fn speak(&mut self, rng: &mut Rng, at: Timestamp) {
        let (me, runs) = (self.me(), &self.runs);
        let has_begun = |of: &(ProjectId, RunId)| runs.get(of).is_some_and(|running| running.said > 0);
        let mut records = grant(&mut self.wishes, me, has_begun, rng, at);
        for _ in 0..=rng.below(3) {
            let ready = self.runs.iter_mut().filter(|(_, running)| !running.is_held || running.is_cancelled);
            let mut ready: Vec<_> = ready.collect();
            if ready.is_empty() {
                break;
            }
            let index = rng.below(ready.len());
            let (of, running) = &mut ready[index];
            let of = of.clone();
            let (kind, is_last) = running.next();
            running.said += 1;
            let event = RunEvent { run_id: of.1.clone(), timestamp: at, kind };
            records.push(Record::Event { project: of.0.clone(), event });
            if is_last {
                self.runs.remove(&of);
            }
        }
        self.unkept += 1;
        self.channel.push(Command::Records(records));
    }
}

impl Running {
    /// One that an earlier node left so.
    pub(super) fn left(state: &RunState) -> Self {
        let step = state.step(&step_id("a")).expect("a step").status;
        let said = match (state.started_at, step) {
            (None, _) => 0,
            (_, StepStatus::Pending) => 1,
            (_, StepStatus::Completed) => 3,
            _ => 2,
        };
        Self { said, ..Self::default() }
    }

    fn next(&self) -> (RunEventKind, bool) {
        match self.said {
            0 => (started(), false),
            _ if self.is_cancelled => (failed(EndReason::Cancelled), true),
            1 => (progress("a", super::super::running()), false),
            2 => (progress("a", done(json!(7), false)), false),
            _ => (completed(), true),
        }
    }
}

/// The plan of a run of this group, or of none.
fn plan_of(document: &[u8]) -> Plan {
    let group = str::from_utf8(document).expect("text");
    let limit = if group == "g" { 1 } else { 2 };
    let concurrency = Concurrency { group: group.into(), limit, on_conflict: OnConflict::Queue };
    let concurrency = (!group.is_empty()).then(|| Arc::new(concurrency));
    Plan { concurrency, ..plan(&["a", "b: a"]) }
}

pub(super) fn limit_of(group: &str) -> usize {
    if group == "g" { 1 } else { 2 }
}
