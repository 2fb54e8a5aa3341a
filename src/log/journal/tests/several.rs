//! What the simulations of several journals over one store share: how seeds are played, what everyone was told, and what any node
//! may be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::*;
use crate::executor::testing::Rng;
use crate::log::{ReplyTo, SteerRequest};
use crate::model::{Choice, Decide, Steer, Steering, SteeringError, Verdict};

/// Seeds played by default.
pub(super) const SEEDS: u64 = 64;

pub(super) const PROJECTS: [&str; 3] = ["p", "q", "r"];

/// What was met, and how often.
pub(super) type Met = BTreeMap<&'static str, u64>;

/// Plays as many seeds as are wanted, see there. The default ones must meet what is worth meeting between them.
pub(super) fn play_seeds(worth_meeting: &[&str], play: impl Fn(&mut Rng) -> Met) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("STEPCAST_SEED");
    let seeds = number("STEPCAST_SEEDS").unwrap_or(SEEDS);
    let mut met = Met::new();
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        let played = catch_unwind(AssertUnwindSafe(|| play(&mut Rng::new(seed))));
        for (what, times) in played.unwrap_or_else(|_| panic!("STEPCAST_SEED={seed}")) {
            *met.entry(what).or_default() += times;
        }
    }
    let missed: Vec<_> = worth_meeting.iter().filter(|what| !met.contains_key(**what)).collect();
    assert!(one.is_some() || seeds < SEEDS || missed.is_empty(), "{missed:?} were never met in {met:#?}");
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics while they hold it")
}

/// A node, unless it is in the middle of something.
pub(super) fn unless_busy<T>(node: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match node.try_lock() {
        Ok(node) => Some(node),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Poisoned(_)) => panic!("a node has panicked"),
    }
}

/// What everyone was told of what they published, and what time it is.
pub(super) struct Told {
    pub(super) now: Now,
    numbers: u64,
    /// Numbers whose publisher was told that they are kept, and those that were refused.
    pub(super) published: BTreeSet<u64>,
    pub(super) refused: BTreeSet<u64>,
    pub(super) met: Met,
}

impl Told {
    pub(super) fn nothing() -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::from_millis(1_700_000_000_000) };
        let (numbers, published, refused, met) = Default::default();
        Self { now, numbers, published, refused, met }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn pass_time(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    pub(super) fn meet(&mut self, what: &'static str) {
        self.meet_times(what, 1);
    }

    pub(super) fn meet_times(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.met.entry(what).or_default() += times;
        }
    }

    /// Some events, and the numbers in them.
    pub(super) fn publish(&mut self, rng: &mut Rng, project: &ProjectId, reply: ReplyTo) -> (Vec<u64>, Command) {
        let numbers: Vec<u64> = (0..=rng.below(3)).map(|_| self.next()).collect();
        let event =
            |n: &u64| PublishedEvent { message_type: "note".into(), payload: format!("{{\"n\":{n}}}").into_bytes() };
        let events = numbers.iter().map(event).collect();
        (numbers, Command::Publish { project: project.clone(), events, reply })
    }

    /// A publisher was told that its numbers are kept, which are those from that place on in what is there.
    pub(super) fn has_published(&mut self, numbers: Vec<u64>, there: impl Iterator<Item = Option<u64>>) {
        let there: Vec<_> = there.take(numbers.len()).collect();
        assert_eq!(there, numbers.iter().copied().map(Some).collect::<Vec<_>>());
        self.published.extend(numbers);
    }

    pub(super) fn has_refused(&mut self, numbers: Vec<u64>) {
        self.meet("refused event");
        self.refused.extend(numbers);
    }

    /// All that was said to be kept is there, once, with what came `beside`; and nothing that was refused.
    pub(super) fn check(&self, numbers: &[u64], beside: &BTreeSet<u64>) {
        let kept: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), kept.len(), "something is there twice");
        assert!(self.refused.is_disjoint(&kept), "something is there that was refused");
        assert_eq!(kept, &self.published | beside, "something is not there, or nobody was told of it");
    }
}

/// Someone comes to watch, from now on or from a position that there is.
pub(super) fn attach(rng: &mut Rng, project: ProjectId, newest: u64, to: u64) -> (Option<u64>, Command) {
    let resume = rng.one_in(2).then(|| rng.below(newest as usize + 1) as u64);
    let subscription = Subscription { resume: resume.map(ResumeFrom::Seq), ..everything(project) };
    (resume, subscribe(subscription, to))
}

/// All journals answer the same to whoever asks for these runs, and for the runs of all projects.
pub(super) fn assert_same_answers<'a>(
    runs: impl Iterator<Item = &'a (ProjectId, RunId)>,
    others: impl IntoIterator<Item = Query>,
    mut ask_all: impl FnMut(&Query) -> Vec<Value>,
) {
    let run = |(project, run): &(ProjectId, RunId)| Query::Run {
        project: project.clone(),
        run: run.clone(),
        wanted: WantedRun::CUT,
    };
    let list = |name| Query::Runs { project: project(name), status: None, before: None, limit: 1000 };
    for query in runs.map(run).chain(PROJECTS.map(list)).chain(others) {
        let answers = ask_all(&query);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    }
}

/// What a journal answers.
pub(super) fn answered(journal: &mut Journal, query: &Query, now: Now) -> Value {
    let command = Command::Read { query: query.clone(), reply: reply_to(0) };
    match answers(journal.handle(vec![command], now)).pop() {
        Some((_, Answer::Json(body))) => serde_json::from_slice(&body).expect("JSON"),
        other => panic!("no list and no run: {other:?}"),
    }
}

/// What a run is to do.
pub(super) type ToDo = (ProjectId, RunId, Box<Steer>);

/// Someone decides about a step of a run.
pub(super) fn steer(project: ProjectId, run: RunId, key: Option<String>, reply: ReplyTo) -> Command {
    let fingerprint = Fingerprint { value: [7; 32], bytes: [7; 32] };
    let what = Steering::Decide(Decide { step: step_id("a"), choice: Choice::Approve, payload: None });
    let claim = Claim { project, key, run: None, fingerprint };
    Command::Steer { request: Box::new(SteerRequest { claim, run, by: "ann".into(), what }), reply }
}

/// Runs of a node do some of what they are to do, or say that they have ended.
pub(super) fn grant(
    wishes: &mut Vec<ToDo>,
    node: usize,
    has_begun: impl Fn(&(ProjectId, RunId)) -> bool,
    rng: &mut Rng,
    at: Timestamp,
) -> Vec<Record> {
    let mut records = Vec::new();
    let count = wishes.len().min(rng.below(3));
    for (project, run, steer) in wishes.drain(..count) {
        let said = format!("wish {} of node {node}", steer.id.0);
        let answer = match has_begun(&(project.clone(), run.clone())) {
            true => {
                let event = RunEvent { run_id: run.clone(), timestamp: at, kind: output_chunk(&said) };
                records.push(Record::Event { project: project.clone(), event });
                Ok(json!({ "said": said }))
            }
            false => Err(SteeringError::RunEnded),
        };
        records.push(Record::Verdict { project, run, verdict: Box::new(Verdict { id: steer.id, answer }) });
    }
    records
}

/// Is what was said for a wish among these messages?
pub(super) fn is_kept<'a>(body: &[u8], mut kept: impl Iterator<Item = &'a [u8]>) -> bool {
    let said: Value = serde_json::from_slice(body).expect("JSON");
    let said = said["said"].as_str().expect("a text").as_bytes();
    kept.any(|json| json.windows(said.len()).any(|window| window == said))
}
