//! Declared tools: commands.

use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup};
use crate::common::{is_alive, wait_for};

/// `sh` runs the script of its step, which is given as an argument.
const SHELL: &str = r#"
[tools.sh]
kind = "command"
argv = ["sh", "-c", "{{ inputs.script }}"]
env = { GREETING = "hello {{ inputs.name | default('you') }}", PLAIN = "an ordinary value", API_TOKEN = "s3cr3t-word" }
pass_env = ["STEPCAST_TEST_WORD"]
"#;

fn shell() -> Server {
    let setup = Setup::default().config(SHELL).environment("STEPCAST_TEST_WORD", "shown");
    setup.environment("STEPCAST_TEST_HELD_BACK", "held back").start()
}

fn script(id: &str, script: &str) -> Value {
    json!({"id": id, "tool": "sh", "inputs": {"script": script}})
}

pub(crate) fn plan(steps: Value) -> Value {
    json!({"name": "n", "onFailure": "continue", "steps": steps})
}

fn payloads<'m>(messages: &'m [Value], kind: &str, step: &str) -> Vec<&'m Value> {
    let is_it = |message: &&Value| message["type"] == kind && message["payload"]["stepId"] == step;
    messages.iter().filter(is_it).map(|message| &message["payload"]).collect()
}

/// How a step ended.
pub(crate) fn end<'m>(messages: &'m [Value], step: &str) -> &'m Value {
    payloads(messages, "workflow_progress", step).pop().unwrap_or_else(|| panic!("nothing of {step}"))
}

pub(crate) fn error(messages: &[Value], step: &str) -> String {
    let payload = end(messages, step);
    assert_eq!(payload["status"], "failed", "{payload}");
    payload["error"].as_str().expect("text").to_owned()
}

pub(crate) fn live_output(messages: &[Value], step: &str, stream: &str) -> String {
    let chunks = payloads(messages, "workflow_step_output", step).into_iter();
    chunks
        .filter(|payload| payload["stream"] == stream)
        .map(|payload| payload["chunk"].as_str().expect("text"))
        .collect()
}

#[test]
fn a_commands_output_is_json_where_it_parses_or_else_text_without_its_last_newline() {
    let table = [
        ("text", r"printf 'hello\n\n'", json!("hello\n")),
        ("bare", "printf hello", json!("hello")),
        ("object", r#"echo '{"a": [1, 2]}'"#, json!({"a": [1, 2]})),
        ("number", "echo 42", json!(42)),
        ("nearly", r#"echo '{"a": 1} and more'"#, json!("{\"a\": 1} and more")),
        ("empty", "true", json!("")),
        ("umlaut", "printf 'ü€'", json!("ü€")),
        ("quiet", "echo aside >&2; echo main", json!("main")),
    ];
    let steps: Vec<Value> = table.iter().map(|(id, text, _)| script(id, text)).collect();
    let messages = shell().carry_out(&plan(json!(steps)));
    for (id, _, output) in table {
        assert_eq!(end(&messages, id)["output"], output, "{id}");
    }
}

#[test]
fn a_version_or_a_hash_on_stdout_became_another_number() {
    let words = ["1.10", "81111e1", "7205e12", "-0", "1E5", "123456789012345678901"];
    let steps: Vec<Value> =
        words.iter().enumerate().map(|(n, w)| script(&format!("s{n}"), &format!("echo {w}"))).collect();
    let messages = shell().carry_out(&plan(json!(steps)));
    for (n, word) in words.iter().enumerate() {
        assert_eq!(end(&messages, &format!("s{n}"))["output"], json!(word));
    }
}

#[test]
fn an_integer_of_more_than_64_bits_in_json_on_stdout_became_another() {
    let messages = shell().carry_out(&plan(json!([script("a", r#"echo '{"rows": [{"id": 18446744073709551616}]}'"#)])));
    let error = error(&messages, "a");
    assert!(error.contains("rows[0].id: 18446744073709551616 is an integer of more than 64 bits"), "{error}");
}

#[test]
fn a_command_gets_its_inputs_on_stdin_and_an_environment_of_its_own() {
    let server = shell();
    let steps = json!([
        {"id": "stdin", "tool": "sh", "inputs": {"script": "cat", "more": {"k": [1, "ü"]}}},
        {"id": "env", "tool": "sh", "inputs": {"script": "env", "name": "me"}},
    ]);
    let run = server.submit("p", &plan(steps));
    let messages = server.messages("p", &run);
    assert_eq!(end(&messages, "stdin")["output"], json!({"script": "cat", "more": {"k": [1, "ü"]}}));
    let text = end(&messages, "env")["output"].as_str().expect("text").to_owned();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "GREETING=hello me",
        "PLAIN=an ordinary value",
        "API_TOKEN=***",
        "STEPCAST_TEST_WORD=shown",
        "STEPCAST_PROJECT_ID=p",
        &format!("STEPCAST_RUN_ID={run}"),
        "STEPCAST_STEP_ID=env",
        "STEPCAST_ATTEMPT=1",
    ] {
        assert!(lines.contains(&line), "{line} in {text}");
    }
    assert!(!text.contains("held back"), "{text}");
}

#[test]
fn arguments_are_never_shell_text() {
    let config = "[tools.say]\nkind = \"command\"\nargv = [\"printf\", \"[%s]\", \"{{ inputs.x }}\", \"b c\", \"{{ inputs.n }}\"]\n";
    let server = Setup::default().config(config).start();
    let inputs = json!({"x": "; echo $HOME `id`", "n": 5});
    let steps = json!([{"id": "a", "tool": "say", "inputs": inputs}, {"id": "b", "tool": "say", "inputs": {"x": "x"}}]);
    let messages = server.carry_out(&plan(steps));
    assert_eq!(end(&messages, "a")["output"], "[; echo $HOME `id`][b c][5]");
    assert!(error(&messages, "b").contains("inputs.n"), "what is undefined is named");
}

#[test]
fn a_command_that_fails_says_how_and_its_last_line_of_stderr() {
    let config = format!("{SHELL}[tools.none]\nkind = \"command\"\nargv = [\"/nonexistent/program\"]\n");
    let server = Setup::default().config(&config).start();
    let steps = json!([
        script("status", "echo out; echo first >&2; echo 'the last' >&2; exit 3"),
        script("silent", "exit 4"),
        script("progress", r"seq -f 'fetching %g' 400 | tr '\n' '\r' >&2; printf 'fatal: disk full\r\033[K\033[0m' >&2; exit 1"),
        script("signal", "kill -TERM $$"),
        {"id": "none", "tool": "none"},
        {"id": "again", "tool": "sh", "inputs": {"script": "test $STEPCAST_ATTEMPT = 3"},
            "retryPolicy": {"maxRetries": 5, "initialDelay": 1}},
    ]);
    let messages = server.carry_out(&plan(steps));
    let status = error(&messages, "status");
    assert!(status.contains('3') && status.ends_with("the last"), "{status}");
    assert!(error(&messages, "silent").contains('4'));
    assert_eq!(error(&messages, "progress"), "exit status 1: fatal: disk full");
    assert!(error(&messages, "signal").contains("SIGTERM"));
    assert!(error(&messages, "none").contains("/nonexistent/program"));
    assert_eq!(
        (&end(&messages, "again")["status"], &end(&messages, "again")["attempt"]),
        (&json!("completed"), &json!(3))
    );
}

#[test]
fn output_is_live_and_cuts_no_character() {
    let server = shell();
    // The command goes on only once its first output has been seen, which it is told by a file.
    let seen = std::env::temp_dir().join(format!("stepcast-seen-{}", std::process::id()));
    let seen = seen.to_str().expect("plain characters");
    let text = format!(
        "echo one; echo aside >&2; while [ ! -e {seen} ]; do sleep 0.01; done; rm {seen}; \
         printf '\\303'; sleep 0.15; printf '\\274\\n'"
    );
    let run = server.submit("p", &plan(json!([script("a", &text)])));
    let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
    let is_aside = |message: &Value| message["payload"]["stream"] == "stderr";
    let mut messages: Vec<Value> = stream.until(is_aside).into_iter().map(|event| event.message).collect();
    std::fs::write(seen, "").expect("the temporary directory can be written to");
    messages.extend(stream.rest().into_iter().map(|event| event.message));
    assert_eq!(live_output(&messages, "a", "stdout"), "one\nü\n");
    assert_eq!(live_output(&messages, "a", "stderr"), "aside\n");
    assert_eq!(end(&messages, "a")["output"], "one\nü");
    for payload in payloads(&messages, "workflow_step_output", "a") {
        assert_eq!(payload["attempt"], 1);
        assert!(!payload["chunk"].as_str().expect("text").contains('\u{fffd}'), "{payload}");
    }
}

#[test]
fn a_flood_of_output_is_thinned_out_live_and_whole_where_it_is_read() {
    const BYTES: usize = 600_000;
    let server = shell();
    let text = format!("yes 0123456789abcde | head -c {BYTES}; echo; echo end >&2");
    let run = server.submit("p", &plan(json!([script("a", &text)])));
    let messages = server.messages("p", &run);
    let chunks = payloads(&messages, "workflow_step_output", "a");
    let of_chunk = |payload: &&Value| payload["chunk"].as_str().expect("text").len();
    assert!(chunks.iter().all(|payload| of_chunk(payload) <= 16 * 1024));
    let shown: usize = chunks.iter().map(of_chunk).sum();
    let told = chunks.iter().copied().chain([end(&messages, "a")]);
    let omitted: u64 = told.filter_map(|payload| payload["omittedBytes"].as_u64()).sum();
    assert_eq!(shown + omitted as usize, BYTES + "\nend\n".len(), "every byte is shown or counted");

    let ended = end(&messages, "a");
    assert_eq!((&ended["truncated"], &ended["outputBytes"]), (&json!(true), &json!(BYTES)));
    let begun = ended["output"].as_str().expect("text");
    assert!(begun.len() <= 64 * 1024 && begun.starts_with("0123456789abcde\n0"));
    let completed = &messages.last().expect("a message")["payload"];
    assert_eq!(completed["truncated"], json!(["a"]));
    let path = format!("/api/projects/p/workflows/{run}");
    assert_eq!(server.get(&path).json()["steps"][0]["output"].as_str().expect("text").len(), BYTES);
    assert_eq!(server.get(&format!("{path}/steps/a/output")).body.len(), BYTES);
    let snapshot = server.stream("/api/sse/projects/p").until(|message| message["type"] == "workflow_snapshot").pop();
    let step = &snapshot.expect("a snapshot").message["payload"]["steps"][0];
    assert_eq!((&step["truncated"], &step["outputBytes"]), (&json!(true), &json!(BYTES)));
}

#[test]
fn a_burst_of_output_was_shown_in_part() {
    let server = shell();
    let text = "seq 1 9000 | sed 's/^/line /' | head -c 55296";
    let messages = server.carry_out(&plan(json!([script("a", text)])));
    let shown = live_output(&messages, "a", "stdout");
    assert_eq!(shown, end(&messages, "a")["output"], "54 KiB at once are four messages");
    assert!(payloads(&messages, "workflow_step_output", "a").iter().all(|payload| payload["omittedBytes"].is_null()));
    assert_eq!(end(&messages, "a")["omittedBytes"], Value::Null);
}

#[test]
fn large_json_is_cut_to_a_string_in_messages_alone() {
    let server = Setup::default().flags(&["--limits-output-bytes", "1KiB"]).start();
    let inputs = json!({"text": "x".repeat(5000)});
    let run = server.submit(
        "p",
        &plan(json!([{"id": "a", "tool": "echo", "inputs": inputs},
        {"id": "b", "tool": "echo", "inputs": {"same": "{{ steps.a.output.text }}"}, "dependencies": ["a"]}])),
    );
    let messages = server.messages("p", &run);
    let ended = end(&messages, "a");
    assert_eq!((&ended["truncated"], &ended["outputBytes"]), (&json!(true), &json!(inputs.to_string().len())));
    assert!(ended["output"].as_str().is_some_and(|text| text.starts_with("{\"text\":\"xxx") && text.len() <= 1024));
    let shown = server.get(&format!("/api/projects/p/workflows/{run}")).json();
    assert_eq!(shown["steps"][0]["output"], inputs);
    assert_eq!(shown["steps"][1]["output"]["same"], inputs["text"], "the next step has it whole");
}

#[test]
fn the_end_of_a_command_is_the_end_of_its_whole_group() {
    let server = shell();
    let spawns = "sleep 600 & echo $!; echo $$; wait";
    let cancel = |run: &str| server.call(Request::new("POST", &format!("/api/projects/p/workflows/{run}/cancel")));
    for ending in ["cancelled", "timed out"] {
        let mut step = script("a", spawns);
        if ending == "timed out" {
            step["timeout"] = json!(500);
        }
        let run = server.submit("p", &plan(json!([step])));
        let mut stream = server.stream(&format!("/api/sse/projects/p?runId={run}"));
        let mut said = String::new();
        stream.until(|message| {
            said.push_str(message["payload"]["chunk"].as_str().unwrap_or_default());
            said.lines().count() == 2
        });
        let pids: Vec<u64> = said.lines().map(|line| line.parse().expect("a process id")).collect();
        if ending == "cancelled" {
            assert_eq!(cancel(&run).status, 202);
        }
        assert_eq!(stream.rest().last().expect("a message").kind(), "workflow_failed");
        wait_for("the group's end", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    }
    let left = server.carry_out(&plan(json!([script("b", "sleep 600 >/dev/null 2>&1 & echo $!")])));
    let pid = end(&left, "b")["output"].as_u64().expect("a process id");
    wait_for("the end of what was left behind", || (!is_alive(pid)).then_some(()));
}

#[test]
fn a_plan_raised_the_timeout_of_a_tool() {
    let config = SHELL.replace("argv =", "timeout = \"300ms\"\nargv =");
    let server = Setup::default().config(&config).start();
    let mut long = script("long", "exec sleep 600");
    let mut short = script("short", "exec sleep 600");
    (long["timeout"], short["timeout"]) = (json!(30_000), json!(50));
    let messages = server.carry_out(&plan(json!([long, short])));
    assert_eq!(error(&messages, "long"), "timed out after 300 ms (tools.sh.timeout)");
    assert_eq!(error(&messages, "short"), "timed out after 50 ms (the step's timeout)");
}

#[test]
fn a_secret_that_was_too_short_to_be_masked_was_shown() {
    for (line, said) in [
        ("env = { API_KEY = \"abc\" }", "tools.t.env.API_KEY: a secret must have at least 4 bytes"),
        ("pass_env = [\"STEPCAST_TEST_TOKEN\"]", "tools.t.pass_env[0]: a secret must have at least 4 bytes"),
    ] {
        let config = format!("[tools.t]\nkind = \"command\"\nargv = [\"true\"]\n{line}\n");
        let starting = Setup::default().config(&config).environment("STEPCAST_TEST_TOKEN", "ab").launch();
        let (status, log) = starting.refusal();
        assert!(status == Some(1) && log.contains(":4: ") && log.contains(said), "{status:?}: {log}");
    }
}

#[test]
fn members_were_lost_where_their_masked_keys_were_the_same() {
    let config = SHELL.replace("API_TOKEN = ", "API_KEY = \"0ther-word\", API_TOKEN = ");
    let server = Setup::default().config(&config).start();
    let text = r#"printf '{"%s": 1, "%s": 2, "plain": 3}' "$API_TOKEN" "$API_KEY""#;
    let messages = server.carry_out(&plan(json!([script("a", text)])));
    assert_eq!(end(&messages, "a")["output"], json!({"***": 1, "*** (2)": 2, "plain": 3}));
}

#[test]
fn a_schema_is_checked_before_and_after_templates_are_filled_in() {
    let schema = r#"{ type = "object", required = ["n"], properties = { n = { type = "integer", minimum = 1 } } }"#;
    let config = format!("[tools.count]\nkind = \"command\"\nargv = [\"cat\"]\ninputs = {schema}\n");
    let server = Setup::default().config(&config).start();
    let step = |n: Value| json!({"name": "n", "steps": [{"id": "a", "tool": "count", "inputs": {"n": n}}]});
    for (n, status) in [(json!(1), 200), (json!(0), 422), (json!("1"), 422), (json!("{{ inputs.n }}"), 200)] {
        assert_eq!(server.post("/api/workflow/check", &step(n.clone())).status, status, "{n}");
    }
    let late = server.carry_out(&json!({"plan": step(json!("{{ inputs.n }}")), "inputs": {"n": "text"}}));
    assert!(error(&late, "a").contains("integer"));
}
