#!/bin/sh
# The table: stepcast, the floor and other servers side by side, on one processor each, the load generator on the others.
#
#   loadtest/table.sh [--quick] [--runs N] [--peers nchan,axum,node] [--only CELL,...]
#
# Prints the table with the ratios to the floor; figures go to loadtest/target/table.json, a picture of them to
# loadtest/target/table.svg. About 4 minutes with --quick, half an hour without. Needs two processors with nothing else
# to do. Peers: node (nodejs), nchan (apt-get install nginx libnginx-mod-nchan), axum (built here); what is not there is
# named and left out.
set -eu
cd "$(dirname "$0")/.."
cargo build --release
cargo build --release --manifest-path loadtest/Cargo.toml
ulimit -n "$(ulimit -Hn)"
out=loadtest/target/table
status=0
loadtest/target/release/stepcast-loadtest table --server "${CARGO_TARGET_DIR:-target}/release/stepcast" \
    --to $out.json "$@" || status=$?
[ ! -s $out.json ] || loadtest/target/release/stepcast-loadtest draw $out.json > $out.svg
exit $status
