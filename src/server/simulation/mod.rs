//! The whole server in a seeded simulation: fake sockets, a virtual clock, the log and the executor stepped by hand.
//!
//! Clients connect, send requests in pieces and in rows, watch from old, new and impossible positions, read slowly,
//! fall silent, leave; workers report in any order; queues run full; the clock jumps; the server drains. A
//! [model](model::Model) of the log knows what each of them must be sent, and all of it is read strictly. In the end
//! nothing may be left.
//!
//! Runs ask for decisions and get them; their plans are changed by others and by their own steps; they start runs of
//! stored plans, wait for others of their group, call tools for many items, run handlers when they end, and are
//! retried.
//!
//! Every other world uses the store on disk. In most of these, other threads read beside the log, and their answers
//! come in any order. What excuses a server ends with its cause: whoever asks after that must be answered.
//!
//! In [storms] the process is killed or told to end, and starts again with what is on its disk; and the disk fails.
//! What anyone saw, and whatever was acknowledged, must be there afterwards, and every run must end exactly once.
//!
//! `STEPCAST_SEEDS=n` plays n seeds, `STEPCAST_SEED=x` only that one.

mod actions;
mod answer;
mod beside;
mod checks;
mod client;
mod families;
mod finale;
mod follower;
mod items;
mod judge;
mod kinships;
mod laws;
mod logging;
mod medium;
mod model;
mod orders;
mod plans;
mod positions;
mod readers;
mod requests;
mod retold;
mod run_model;
mod several;
mod shop;
mod socket;
mod sse;
mod steers;
mod storms;
mod tokens;
mod turns;
mod verdicts;
mod watching;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::executor::testing::Rng;
use laws::Laws;
#[cfg(feature = "sqlite")]
use medium::Directory;
use medium::{Medium, Memory};
use world::World;

/// Seeds played by default.
const SEEDS: u64 = 64;

/// What the default seeds must meet between them: a simulation that meets nothing shows nothing.
const WORTH_MEETING: [&str; 70] = [
    "answer ahead",
    "child completed",
    "child could not begin",
    "child ended",
    "child given up",
    "child wished",
    "clock set back",
    "clock set forward",
    "closing busy",
    "closing shutdown",
    "closing token_expired",
    "connected fresh",
    "connected fresh of several",
    "connected reset",
    "connected reset of several",
    "connected resumed",
    "connected resumed of several",
    "decided",
    "decided before",
    "decided by expiry",
    "drain",
    "eager",
    "group full",
    "group let on",
    "group waits",
    "handed on",
    "handler onCancel",
    "handler onExit",
    "handler onFailure",
    "handler onSuccess",
    "idle",
    "intake full",
    "item",
    "items ran",
    "items shown",
    "jump expired",
    "jump expired of several",
    "keys full",
    "large answer",
    "log full",
    "not waiting",
    "output kept",
    "page",
    "plan changed",
    "plan changed by a step",
    "plan changed by someone",
    "replay",
    "reset ahead",
    "reset expired",
    "reset unknown_id",
    "retold anew",
    "retold on",
    "retold over",
    "run again",
    "run over",
    "stale revision",
    "stalled",
    "status 204",
    "status 408",
    "status 429",
    "status 503",
    "steered after its end",
    "steered before",
    "step started",
    "ticket spent",
    "took too long",
    "tried again",
    "tried again for nothing",
    "tried again too soon",
    "waited too long",
];

/// How often each thing worth meeting was met.
type Met = BTreeMap<String, u64>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Plays a world to its end, every other one over the store on disk; what it met.
fn play(number: u64, seed: u64, laws: Laws, crash_at: Option<usize>) -> Met {
    match number % 2 {
        #[cfg(feature = "sqlite")]
        0 => play_on::<Directory>(seed, laws, crash_at),
        _ => play_on::<Memory>(seed, laws, crash_at),
    }
}

fn play_on<M: Medium>(seed: u64, laws: Laws, crash_at: Option<usize>) -> Met {
    let mut world = World::<M>::new(seed, laws);
    match crash_at {
        None => world.play(),
        Some(action) => world.play_with_crash_at(action),
    }
    std::mem::take(&mut world.met)
}

/// Plays so many seeds, or those that were asked for; by default they must meet all that is worth it.
fn play_seeds(seeds_usual: u64, laws: fn(u64) -> Laws, worth_meeting: &[&str]) {
    let (one, seeds) = (number("STEPCAST_SEED"), number("STEPCAST_SEEDS").unwrap_or(seeds_usual));
    let (mut met, mut failed) = (Met::new(), Vec::new());
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        let played = catch_unwind(AssertUnwindSafe(|| play(seed, seed, laws(seed), None)));
        let Ok(played) = played else {
            eprintln!("STEPCAST_SEED={seed}");
            failed.push(seed);
            continue;
        };
        played.into_iter().for_each(|(what, times)| *met.entry(what).or_default() += times);
    }
    assert!(failed.is_empty(), "STEPCAST_SEED is one of {failed:?}");
    let missed: Vec<_> = worth_meeting.iter().filter(|what| !met.contains_key(**what)).collect();
    assert!(one.is_some() || seeds < seeds_usual || missed.is_empty(), "{missed:?} were never met in {met:#?}");
}

#[test]
fn whatever_happens_every_client_gets_what_it_must() {
    play_seeds(SEEDS, |seed| Laws::random(&mut Rng::new(seed ^ 0x5eed)), &WORTH_MEETING);
}

/// Seeds played by default in which the process and its store break.
const STORMY_SEEDS: u64 = 48;

/// What they must meet between them.
const WORTH_MEETING_IN_STORMS: [&str; 35] = [
    "came back",
    "cancel in an outage",
    "child completed",
    "child ended",
    "child put off",
    "child wished",
    "clock set back",
    "clock set forward",
    "connected resumed",
    "crash",
    "decided",
    "decided before",
    "decided by expiry",
    "ended while down",
    "group waits",
    "handler onExit",
    "interrupted too often",
    "items ran",
    "items shown",
    "outage",
    "output kept",
    "paused",
    "plan changed",
    "plan changed by a step",
    "restart",
    "retold on",
    "run resumed",
    "stale revision",
    "steered before",
    "store back",
    "store unavailable",
    "ticket again",
    "timeout while down",
    "tried again",
    "waiting in an outage",
];

/// The world that is crashed at each of its first steps in turn, and how many they are.
const CRASHED_SEED: u64 = 6;
const CRASHED_STEPS: usize = 200;

#[test]
fn crashes_restarts_and_failing_stores_lose_nothing_that_anyone_saw() {
    play_seeds(STORMY_SEEDS, |seed| Laws::stormy(&mut Rng::new(seed ^ 0x5701)), &WORTH_MEETING_IN_STORMS);
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_anyone_saw() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..CRASHED_STEPS {
        let laws = Laws { has_readers: step % 4 < 2, ..Laws::busy(&mut Rng::new(CRASHED_SEED)) };
        let played = catch_unwind(AssertUnwindSafe(|| play(step as u64, CRASHED_SEED, laws, Some(step))));
        let played = played.unwrap_or_else(|_| panic!("crashed at {step}"));
        played.into_keys().for_each(|what| *met.entry(what).or_default() += 1);
    }
    for what in ["came back", "run resumed", "ticket again", "connected resumed"] {
        assert!(met.get(what).is_some_and(|&worlds| worlds > CRASHED_STEPS / 4), "{what} is too rare: {met:#?}");
    }
}
