#!/usr/bin/env bash
# `5M` is five minutes for ms 2.1.3 and parse-duration 2.1.9 (npm) and pytimeparse 1.1.10 (PyPI), and five months, 152 days,
# for the crate humantime 2.4.0, as it is for systemd. None of them refuses it. `5m` is five minutes for all.
#
# Seen, in seconds: 300 and 300 for the first three, 13150080 and 300 for humantime.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund ms@2.1.3 parse-duration@2.1.9 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check pytimeparse==1.1.10 || exit 2
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
humantime = "=2.4.0"
TOML
cat > src/main.rs <<'RUST'
fn main() {
    let seconds = |text| humantime::parse_duration(text).expect("a duration").as_secs();
    println!("humantime: {} {}", seconds("5M"), seconds("5m"));
}
RUST
cargo build --quiet 2>build.log || { cat build.log; exit 2; }
cat > probe.mjs <<'JS'
import ms from 'ms';
import parse from 'parse-duration';

for (const [name, read] of Object.entries({ ms, 'parse-duration': parse })) console.log(`${name}: ${read('5M') / 1000} ${read('5m') / 1000}`);
JS
{
  target/debug/probe
  node probe.mjs
  v/bin/python -c 'from pytimeparse import parse; print("pytimeparse:", parse("5M"), parse("5m"))'
} > seen || { cat seen; exit 1; }
echo "5M and 5m, in seconds:"
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
humantime: 13150080 300
ms: 300 300
parse-duration: 300 300
pytimeparse: 300 300
SEEN
