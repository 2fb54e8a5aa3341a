#!/bin/sh
# Kills the release build again and again while clients watch, publish and submit, and checks that nothing is lost.
#
#   loadtest/kill.sh [--nodes N] [TRIALS] [SEED]
#
# 200 trials where none are named; the seed of the first is taken from the clock where none is named. A trial that fails
# names its seed, and leaves its data directory for you to look into.
#
# With --nodes there are N nodes over one PostgreSQL, which the trial starts for itself. They are killed, frozen for longer than
# they are believed alive, cut off and stalled, the database is restarted, and their clients come back at any other.
set -eu
cd "$(dirname "$0")/.."
features= test=durability::nothing_that_anyone_saw_or
if [ "${1:-}" = --nodes ]; then
    export STEPCAST_NODES="$2" CI=1
    features='--features postgres' test=durability::nothing_that_anyone_saw_at_any_node
    shift 2
fi
trials=${1:-200}
seed=${2:-$(date +%s)}
# shellcheck disable=SC2086 # No word, or two.
cargo build --release --bin stepcast $features
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
echo "$trials trials, the first with STEPCAST_SEED=$seed"
# shellcheck disable=SC2086
STEPCAST_BIN=$target/release/stepcast STEPCAST_KILL_TRIALS=$trials STEPCAST_SEED=$seed \
    cargo test --quiet --test contract $features "$test" -- --nocapture
