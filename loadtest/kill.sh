#!/bin/sh
# Kills the release build again and again while clients watch, publish and submit, and checks that nothing is lost.
#
#   loadtest/kill.sh [TRIALS] [SEED]
#
# 200 trials where none are named; the seed of the first is taken from the clock where none is named. A trial that fails
# names its seed, and leaves its data directory for you to look into.
set -eu
cd "$(dirname "$0")/.."
trials=${1:-200}
seed=${2:-$(date +%s)}
cargo build --release --bin stepcast
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
echo "$trials trials, the first with STEPCAST_SEED=$seed"
STEPCAST_BIN=$target/release/stepcast STEPCAST_KILL_TRIALS=$trials STEPCAST_SEED=$seed \
    cargo test --quiet --test contract durability::nothing_that_anyone_saw -- --nocapture
