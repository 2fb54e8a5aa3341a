#!/bin/sh
# The table: stepcast, the floor and other servers side by side, on one processor each, the load generator on the others.
#
#   loadtest/table.sh [--quick] [--runs N] [--peers LIST] [--only CELL,...]
#
# Prints the table with the ratios to the floor; figures go to loadtest/target/table.json, a picture of them to
# loadtest/target/table.svg. About 4 minutes with --quick, half an hour without. Needs two processors with nothing else
# to do. Peers: node (nodejs), nchan (apt-get install nginx libnginx-mod-nchan), axum (built here), restate (npm), dbos (pip);
# what is not there is named and left out.
set -eu
cd "$(dirname "$0")/.."
cargo build --release
cargo build --release --manifest-path loadtest/Cargo.toml
ulimit -n "$(ulimit -Hn)"
ours=${CARGO_TARGET_DIR:-target}/release/stepcast
generator=${CARGO_TARGET_DIR:-loadtest/target}/release/stepcast-loadtest
mkdir -p loadtest/target
out=loadtest/target/table
rm -f $out.json
status=0
"$generator" table --server "$ours" --to $out.json "$@" || status=$?
[ ! -s $out.json ] || "$generator" draw $out.json > $out.svg
exit $status
