//! The whole server in a seeded simulation: fake sockets, a virtual clock, the log and the executor stepped by hand.
//!
//! Clients connect, send requests in pieces and in rows, watch from old, new and impossible positions, read slowly,
//! fall silent, leave; workers report in any order; queues run full; the clock jumps; the server drains. A
//! [model](model::Model) of the log knows what each of them must be sent, and all of it is read strictly. In the end
//! nothing may be left.
//!
//! In [storms] the process is killed or told to end, and begins again with what its disk holds; and the disk fails. What
//! anyone saw, and whatever was acknowledged, has to be there afterwards; every run has to come to its one end.
//!
//! `STEPCAST_SEEDS=n` plays n seeds, `STEPCAST_SEED=x` one alone.

mod actions;
mod answer;
mod checks;
mod client;
mod finale;
mod follower;
mod judge;
mod laws;
mod model;
mod requests;
mod shop;
mod socket;
mod sse;
mod storms;
mod tokens;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::executor::testing::Rng;
use laws::Laws;
use world::World;

/// Seeds played by default.
const SEEDS: u64 = 64;

/// What the default seeds must meet between them: a simulation that meets nothing shows nothing.
const WORTH_MEETING: [&str; 28] = [
    "clock set",
    "closing busy",
    "closing shutdown",
    "closing token_expired",
    "connected fresh",
    "connected reset",
    "connected resumed",
    "drain",
    "idle",
    "intake full",
    "jump expired",
    "keys full",
    "large answer",
    "log full",
    "page",
    "page ahead",
    "replay",
    "reset ahead",
    "reset expired",
    "reset unknown_id",
    "run again",
    "run over",
    "stalled",
    "status 204",
    "status 408",
    "status 429",
    "status 503",
    "ticket spent",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Plays a seed; what it met.
fn play(seed: u64, change: impl FnOnce(&mut World)) -> BTreeMap<String, u64> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let laws = Laws::random(&mut Rng::new(seed ^ 0x5eed));
        let mut world = World::new(seed, laws);
        change(&mut world);
        world.play();
        std::mem::take(&mut world.met)
    }));
    played.unwrap_or_else(|_| panic!("STEPCAST_SEED={seed}"))
}

#[test]
fn whatever_happens_every_client_gets_what_it_must() {
    if let Some(seed) = number("STEPCAST_SEED") {
        play(seed, |_| {});
        return;
    }
    let seeds = number("STEPCAST_SEEDS").unwrap_or(SEEDS);
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..seeds {
        for (what, times) in play(seed, |_| {}) {
            *met.entry(what).or_default() += times;
        }
    }
    let missed: Vec<_> = WORTH_MEETING.iter().filter(|what| !met.contains_key(**what)).collect();
    assert!(seeds < SEEDS || missed.is_empty(), "{missed:?} were never met in {met:#?}");
}

/// Seeds played by default in which the process and its store break.
const STORMY_SEEDS: u64 = 32;

/// What they must meet between them.
const WORTH_MEETING_IN_STORMS: [&str; 16] = [
    "came back",
    "cancel in an outage",
    "clock set back",
    "clock set forward",
    "connected resumed",
    "crash",
    "interrupted too often",
    "outage",
    "ended while down",
    "paused",
    "restart",
    "run resumed",
    "store back",
    "store unavailable",
    "ticket again",
    "timeout while down",
];

/// The world that is crashed at each of its first steps in turn, and how many they are.
const CRASHED_SEED: u64 = 5;
const CRASHED_STEPS: usize = 200;

fn play_stormy(seed: u64) -> BTreeMap<String, u64> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let laws = Laws::stormy(&mut Rng::new(seed ^ 0x5701));
        let mut world = World::new(seed, laws);
        world.play();
        std::mem::take(&mut world.met)
    }));
    played.unwrap_or_else(|_| panic!("STEPCAST_SEED={seed}"))
}

#[test]
fn crashes_restarts_and_failing_stores_lose_nothing_that_anyone_saw() {
    if let Some(seed) = number("STEPCAST_SEED") {
        play_stormy(seed);
        return;
    }
    let seeds = number("STEPCAST_SEEDS").unwrap_or(STORMY_SEEDS);
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..seeds {
        for (what, times) in play_stormy(seed) {
            *met.entry(what).or_default() += times;
        }
    }
    let missed: Vec<_> = WORTH_MEETING_IN_STORMS.iter().filter(|what| !met.contains_key(**what)).collect();
    assert!(seeds < STORMY_SEEDS || missed.is_empty(), "{missed:?} were never met in {met:#?}");
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_anyone_saw() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..CRASHED_STEPS {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let laws = Laws::busy(&mut Rng::new(CRASHED_SEED));
            let mut world = World::new(CRASHED_SEED, laws);
            world.play_with_crash_at(step);
            std::mem::take(&mut world.met)
        }));
        let played = played.unwrap_or_else(|_| panic!("crashed at {step}"));
        played.into_keys().for_each(|what| *met.entry(what).or_default() += 1);
    }
    for what in ["came back", "run resumed", "ticket again", "connected resumed"] {
        assert!(met.get(what).is_some_and(|&worlds| worlds > CRASHED_STEPS / 4), "{what} is too rare: {met:#?}");
    }
}
