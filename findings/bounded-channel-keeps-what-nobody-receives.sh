#!/usr/bin/env bash
# The receiver of a channel is dropped while a message waits in it: crossbeam-channel 0.5.17 lets that message go where the
# channel is unbounded, and keeps it where it is bounded, until the last sender is gone too. A message that holds the way
# back for its answer (a request to a thread that is about to end) is thus never answered, and whoever sent it and still
# holds a sender waits for ever.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
mkdir src
cat > Cargo.toml <<'END'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
crossbeam-channel = "=0.5.17"
END
cat > src/main.rs <<'END'
use crossbeam_channel::{bounded, unbounded, Receiver, Sender, TryRecvError};

/// Is whoever waits for an answer told that there will be none?
fn is_told((requests, inbox): (Sender<Sender<()>>, Receiver<Sender<()>>)) -> bool {
    let (answer, answered) = bounded::<()>(1);
    requests.send(answer).expect("there is a receiver");
    drop(inbox);
    answered.try_recv() == Err(TryRecvError::Disconnected)
}

fn main() {
    let (unbounded, bounded) = (is_told(unbounded()), is_told(bounded(8)));
    println!("crossbeam-channel 0.5.17: told in an unbounded channel: {unbounded}, in a bounded one: {bounded}");
    std::process::exit(i32::from((unbounded, bounded) != (true, false)));
}
END
cargo build --quiet --release 2>build.log || { cat build.log; exit 2; }
target/release/probe
