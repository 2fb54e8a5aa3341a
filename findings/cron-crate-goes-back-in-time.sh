#!/usr/bin/env bash
# The times that a schedule of the crate cron 0.17.0 gives do not always come in order. Where a clock is set back and a pattern
# names several times in the hour that comes twice, each time is followed by its own repetition: of `*/30` it gives 01:00,
# 01:00 an hour later, then 01:30, half an hour before the one that it gave last. A program that sleeps until each next
# time has missed that one when it is told.
#
# Seen: `05:00 06:00 05:30 06:30 07:00` in UTC, for New York on 2026-11-01.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
chrono = { version = "0.4", default-features = false }
chrono-tz = { version = "0.10", default-features = false }
cron = { version = "=0.17.0", default-features = false }
TOML
cat > src/main.rs <<'RUST'
use chrono::{TimeZone, Utc};

fn main() {
    // New York's clock shows 00:45 and, an hour and a quarter later, 01:00 for the second time.
    let start = chrono_tz::America::New_York.with_ymd_and_hms(2026, 11, 1, 0, 45, 0).unwrap();
    let schedule: cron::Schedule = "0 */30 * * * *".parse().expect("a pattern");
    let times: Vec<_> = schedule.after(&start).take(5).map(|time| time.with_timezone(&Utc).format("%H:%M").to_string()).collect();
    println!("cron 0.17.0, each half hour, in UTC: {}", times.join(" "));
    std::process::exit(i32::from(times != ["05:00", "06:00", "05:30", "06:30", "07:00"]));
}
RUST
cargo build --quiet 2>build.log || { cat build.log; exit 2; }
target/debug/probe
