#!/usr/bin/env bash
# The value of a label of a metric may hold any character. The crate prometheus-parse 0.2.5 cuts such a value at a comma, leaves
# the label out where its value holds `=`, and the whole sample where it holds `}`; and it leaves out metrics whose name has
# a colon, as Prometheus's own recording rules are named. No error tells of any of it. parse-prometheus-text-format 1.1.1
# (npm) and prometheus-client 0.26.0 (PyPI) read all of them.
#
# Seen: 1 of 5 lines is read in full by the crate, 5 by the others.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund parse-prometheus-text-format@1.1.1 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check prometheus-client==0.26.0 || exit 2
cat > metrics <<'METRICS'
plain{path="/a"} 1
comma{path="/a,b"} 1
equals{path="/a?b=c"} 1
brace{path="/a/{id}"} 1
job:colon{path="/a"} 1
METRICS
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
prometheus-parse = "=0.2.5"
TOML
cat > src/main.rs <<'RUST'
fn main() {
    let lines = std::fs::read_to_string("metrics").expect("the file");
    let scrape = prometheus_parse::Scrape::parse(lines.lines().map(|line| Ok(line.to_owned()))).expect("no error");
    for sample in scrape.samples {
        println!("prometheus-parse: {} {}", sample.metric, sample.labels.get("path").unwrap_or("(no label)"));
    }
}
RUST
cargo build --quiet 2>build.log || { cat build.log; exit 2; }
cat > probe.cjs <<'JS'
const { readFileSync } = require('node:fs');
const parse = require('parse-prometheus-text-format');

for (const { name, metrics } of parse(readFileSync('metrics', 'utf8'))) {
  console.log(`parse-prometheus-text-format: ${name} ${metrics[0].labels.path}`);
}
JS
cat > probe.py <<'PYTHON'
from prometheus_client.parser import text_string_to_metric_families

for family in text_string_to_metric_families(open("metrics").read()):
    for sample in family.samples:
        print("prometheus-client:", sample.name, sample.labels["path"])
PYTHON
{ target/debug/probe && node probe.cjs && v/bin/python probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
prometheus-parse: plain /a
prometheus-parse: comma /a
prometheus-parse: equals (no label)
parse-prometheus-text-format: plain /a
parse-prometheus-text-format: comma /a,b
parse-prometheus-text-format: equals /a?b=c
parse-prometheus-text-format: brace /a/{id}
parse-prometheus-text-format: job:colon /a
prometheus-client: plain /a
prometheus-client: comma /a,b
prometheus-client: equals /a?b=c
prometheus-client: brace /a/{id}
prometheus-client: job:colon /a
SEEN
