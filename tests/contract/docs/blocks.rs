//! Blocks that are parsed or checked.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::pages::{Block, blocks, pages, root};
use crate::common::server::{TempFile, run};

/// The tools that plans in the documentation call.
const TOOLS: &str = include_str!("tools.toml");

const KNOWN: [&str; 14] = [
    "json plan",
    "json step",
    "json",
    "toml",
    "sh run",
    "sh",
    "console",
    "js",
    "rust",
    "nginx",
    "caddyfile",
    "ini",
    "sql",
    "text",
];

#[test]
fn every_block_says_how_it_is_checked() {
    for block in pages().iter().flat_map(super::pages::Page::blocks) {
        assert!(KNOWN.contains(&block.info.as_str()), "{}: {:?} is none of {KNOWN:?}", block.place, block.info);
    }
}

#[test]
fn plans_in_the_documentation_are_valid() {
    let tools = TempFile::new(".toml", TOOLS);
    let plans = blocks("json plan");
    assert!(!plans.is_empty());
    for block in plans {
        check(&block, &block.text, &tools);
    }
    for block in blocks("json step") {
        check(&block, &around(&parsed(&block)).to_string(), &tools);
    }
}

/// A plan with this step, and with one that does nothing for each that the step names.
fn around(step: &Value) -> Value {
    let named = step["dependencies"].as_array().into_iter().flatten();
    let mut steps: Vec<_> = named.map(|id| json!({"id": id, "tool": "echo"})).collect();
    steps.push(step.clone());
    json!({"name": "documented", "steps": steps})
}

fn check(block: &Block, plan: &str, tools: &TempFile) {
    let (status, _, errors) = run(&["check", "-", "--config", tools.text()], &[], plan);
    assert_eq!(status, 0, "{}: {errors}", block.place);
}

#[test]
fn json_in_the_documentation_is_json() {
    blocks("json").iter().map(parsed).for_each(drop);
}

fn parsed(block: &Block) -> Value {
    serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place))
}

/// Each block is one whole file.
#[test]
fn configurations_in_the_documentation_are_taken() {
    for block in blocks("toml") {
        let file = TempFile::new(".toml", &block.text);
        let plan = json!({"name": "any", "steps": [{"id": "a", "tool": "echo"}]}).to_string();
        let (status, _, errors) = run(&["check", "-", "--config", file.text()], &[], &plan);
        assert_eq!(status, 0, "{}: {errors}", block.place);
    }
}

#[test]
fn scripts_in_the_documentation_can_be_parsed() {
    for block in blocks("js") {
        let mut node = Command::new("node");
        node.args(["--input-type=module", "--check"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut node = node.spawn().expect("Node is installed");
        node.stdin.take().expect("piped").write_all(block.text.as_bytes()).expect("it reads");
        let output = node.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}: {}", block.place, String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn pages_with_rust_are_doc_tests() {
    let crate_root = std::fs::read_to_string(root().join("src/lib.rs")).expect("the crate's root");
    for block in blocks("rust") {
        let page = block.place.split(':').next().expect("a place begins with its page");
        assert!(
            crate_root.contains(&format!("include_str!(\"../{page}\")")),
            "{}: src/lib.rs does not include it",
            block.place
        );
    }
}

/// What is recommended is what is tested: each line of a recipe stands in a file of `examples/` or `packaging/`.
#[test]
fn recipes_stand_in_files_that_are_used() {
    for (info, folder) in [("nginx", "examples/proxies/nginx.conf"), ("caddyfile", "examples/proxies/Caddyfile")] {
        let file = std::fs::read_to_string(root().join(folder)).expect("the recipe");
        for block in blocks(info) {
            for line in block.text.lines().map(directive).filter(|line| !line.is_empty()) {
                assert!(file.lines().any(|it| directive(it) == line), "{}: {line:?} is not in {folder}", block.place);
            }
        }
    }
}

/// A line without its comment and its indentation.
fn directive(line: &str) -> &str {
    line.split(" #").next().unwrap_or_default().trim()
}
