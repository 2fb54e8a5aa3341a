#!/usr/bin/env bash
# A template that prints a value from JSON: minijinja 2.12.0 prints `true` and `none`, minijinja 3.1.0 prints Python's
# `True` and `None`, so the same template makes other text after an update. What it prints is no JSON either way.
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
two = { package = "minijinja", version = "=2.12.0" }
three = { package = "minijinja", version = "=3.1.0" }
END
cat > src/main.rs <<'END'
const SOURCE: &str = "{{ true }} {{ none }} {{ 'is ' ~ true }}";

fn main() {
    let two = two::Environment::new().render_str(SOURCE, ()).expect("it renders");
    let three = three::Environment::new().render_str(SOURCE, ()).expect("it renders");
    println!("minijinja 2.12.0: {two:?}, minijinja 3.1.0: {three:?}");
    std::process::exit(i32::from((two.as_str(), three.as_str()) != ("true none is true", "True None is True")));
}
END
cargo build --quiet --release 2>build.log || { cat build.log; exit 2; }
target/release/probe
