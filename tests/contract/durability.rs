//! Nothing is lost: trials in which a server with busy clients is killed again and again. What all clients saw is then
//! compared with each other and with what is stored.
//!
//! `STEPCAST_KILL_TRIALS` sets the number of trials, and `STEPCAST_SEED` the seed of the first; each further trial has
//! the next seed. The same seed gives the same plans, calls and choices; what the kills hit also depends on the
//! machine.

mod agent;
mod agent_judge;
mod callers;
#[cfg(feature = "postgres")]
mod cluster;
mod judge;
mod judge_run;
mod plans;
mod trial;
mod watcher;
mod world;

use std::panic::catch_unwind;

/// Of a cluster too, which has three nodes unless `STEPCAST_NODES` says otherwise.
const TRIALS_DEFAULT: u64 = 3;
const KILLS_MAX: u64 = 6;

/// A line for each so many trials.
const TRIALS_PER_LINE: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn trials(first_seed: u64, count: u64, kills: fn(u64) -> u64, carry_out: fn(u64, u64) -> trial::Report) {
    let mut sum = trial::Report::default();
    for (done, seed) in (1..).zip(first_seed..first_seed + count) {
        match catch_unwind(|| carry_out(seed, kills(seed))) {
            Ok(report) => sum.add(&report),
            Err(panic) => {
                eprintln!("STEPCAST_SEED={seed} failed");
                std::panic::resume_unwind(panic);
            }
        }
        if done % TRIALS_PER_LINE == 0 || done == count {
            println!("{done} of {count} trials: {sum}");
        }
    }
}

#[test]
fn without_a_crash_every_client_sees_everything() {
    trials(1, 1, |_| 0, trial::carry_out);
}

#[test]
fn nothing_that_anyone_saw_or_was_promised_is_lost_by_kill_9() {
    let count = number("STEPCAST_KILL_TRIALS").unwrap_or(TRIALS_DEFAULT);
    trials(number("STEPCAST_SEED").unwrap_or(1), count, |seed| 1 + seed % KILLS_MAX, trial::carry_out);
}

#[cfg(feature = "postgres")]
#[test]
fn without_a_fault_every_client_of_every_node_sees_everything() {
    trials(1, 1, |_| 0, cluster::carry_out);
}

#[cfg(feature = "postgres")]
#[test]
fn nothing_that_anyone_saw_at_any_node_is_lost_by_faults_of_nodes_and_of_their_engine() {
    let count = number("STEPCAST_KILL_TRIALS").unwrap_or(TRIALS_DEFAULT);
    trials(number("STEPCAST_SEED").unwrap_or(1), count, |seed| 1 + seed % KILLS_MAX, cluster::carry_out);
}

#[test]
fn without_a_crash_an_agent_steers_its_run_to_its_end() {
    trials(1, 1, |_| 0, agent::carry_out);
}

#[test]
fn nothing_that_an_agent_was_told_is_lost_and_nothing_is_done_twice_by_kill_9() {
    let count = number("STEPCAST_KILL_TRIALS").unwrap_or(TRIALS_DEFAULT);
    trials(number("STEPCAST_SEED").unwrap_or(1), count, |seed| 1 + seed % KILLS_MAX, agent::carry_out);
}
