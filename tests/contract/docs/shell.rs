//! Shell blocks: parsed, searched for commands and flags of stepcast, and run.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::pages::{Block, blocks, pages, root};
use crate::common::server::{Setup, TempDirectory, program, run};

const TOOLS: &str = include_str!("tools.toml");

/// Where the documentation says that the server is.
const SERVER: &str = "127.0.0.1:8080";

/// Folders whose files commands of the documentation name.
const FOLDERS: [&str; 7] = ["examples/", "tests/", "loadtest/", "benches/", "findings/", "packaging/", "docs/"];

/// Commands that have commands.
const GROUPS: [&str; 2] = ["config", "webhooks"];

/// What ends the arguments of a command.
const ENDS: [&str; 6] = ["|", "&", "&&", "||", ";", ">"];

/// A stream that goes on is left once its first message is there. The server's heartbeats have curl notice that.
const PRELUDE: &str = r#"set -euo pipefail
curl() {
  case " $* " in
    *" -N "*) { command curl -sS --fail-with-body "$@" || true; } | head -n 3 | grep . ;;
    *) command curl -sS --fail-with-body "$@" ;;
  esac
}
"#;

#[test]
fn shell_in_the_documentation_can_be_parsed() {
    for (place, text) in scripts() {
        let output = Command::new("bash").args(["-n", "-c", &text]).output().expect("bash is installed");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn commands_and_flags_in_the_documentation_exist() {
    let mut helps = BTreeMap::new();
    for (place, text) in scripts() {
        for line in text.replace("\\\n", " ").lines() {
            let words: Vec<_> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
            let calls =
                words.iter().enumerate().filter(|(_, word)| **word == "stepcast" || word.ends_with("/stepcast"));
            for (at, _) in calls {
                let Some(command) = words.get(at + 1).filter(|word| word.starts_with(char::is_alphabetic)) else {
                    continue;
                };
                let inner = words.get(at + 2).filter(|word| GROUPS.contains(command) && !word.starts_with('-'));
                let whole: Vec<_> = [Some(command), inner].into_iter().flatten().copied().collect();
                let help = helps.entry(whole.join(" ")).or_insert_with(|| help_of(&whole));
                let arguments = words[at + 2..].iter().take_while(|word| !ENDS.contains(word));
                for flag in arguments.filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap_or_default();
                    assert!(help.contains(flag), "{place}: stepcast {} has no {flag}", whole.join(" "));
                }
            }
        }
    }
}

fn help_of(command: &[&str]) -> String {
    let (status, help, errors) = run(&[command, &["--help"]].concat(), &[], "");
    assert_eq!(status, 0, "there is no stepcast {}: {errors}", command.join(" "));
    help
}

#[test]
fn files_that_commands_in_the_documentation_name_exist() {
    for (place, text) in scripts() {
        let words = text.split(|c: char| c.is_whitespace() || "'\"@=();".contains(c));
        for word in words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
            assert!(root().join(word).exists(), "{place}: there is no {word}");
        }
    }
}

/// All shell of the documentation with its places; of a conversation with a terminal, what was typed.
fn scripts() -> Vec<(String, String)> {
    let whole = blocks("sh").into_iter().chain(blocks("sh run")).map(|block| (block.place, block.text));
    let typed = blocks("console").into_iter().map(|block| (block.place.clone(), typed(&block)));
    whole.chain(typed).collect()
}

fn typed(block: &Block) -> String {
    let mut text = String::new();
    for line in block.text.lines() {
        if text.ends_with("\\\n") {
            text.push_str(line);
        } else if let Some(command) = line.strip_prefix("$ ") {
            text.push_str(command);
        } else {
            continue;
        }
        text.push('\n');
    }
    text
}

#[test]
fn commands_in_the_documentation_do_what_it_says() {
    let mut ran = 0;
    for page in pages() {
        let blocks: Vec<_> = page.blocks().into_iter().filter(|block| block.info == "sh run").collect();
        let Some(first) = blocks.first() else { continue };
        ran += blocks.len();
        let server = Setup::default().config(TOOLS).flags(&["--sse-heartbeat", "1s"]).start();
        let script: String = blocks.iter().map(|block| block.text.as_str()).collect();
        let script = PRELUDE.to_owned() + &script.replace(SERVER, &server.address.to_string());
        let directory = TempDirectory::new();
        symlink(program().get_program(), directory.join("stepcast")).expect("a link to the program");
        symlink(root().join("examples"), directory.join("examples")).expect("a link to the examples");
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        shell.args(["-x", "-c", &script]).env("PATH", path).env_remove("STEPCAST_TOKEN").current_dir(directory.path());
        let output = shell.stdin(Stdio::null()).output().expect("bash is installed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}\n{}", first.place, String::from_utf8_lossy(&output.stderr));
    }
    assert!(ran > 0);
}
