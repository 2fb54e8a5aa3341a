//! Plans of random shape, and the tools that they call.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::random::Random;

/// A step that shows only the beginning of its output prints so many bytes.
pub const BIG_BYTES: usize = 3000;

/// What of it a message shows.
const OUTPUT_BYTES: &str = "1KiB";

/// Every command notes in `ledger` that it was called: what was really done, whatever the messages say of it.
pub fn config(ledger: &Path) -> String {
    let note = format!(
        "echo $STEPCAST_PROJECT_ID $STEPCAST_RUN_ID $STEPCAST_STEP_ID $STEPCAST_ATTEMPT >> '{}'",
        ledger.display()
    );
    let tool = |name: &str, more: &str, script: &str| {
        format!("[tools.{name}]\nkind = \"command\"\n{more}argv = [\"sh\", \"-c\", \"{note}; {script}\"]\n")
    };
    [
        format!(
            "[limits]\noutput_bytes = \"{OUTPUT_BYTES}\"\npublish_rate = 1000000\n[sse]\nqueue_bytes = \"16KiB\"\n"
        ),
        tool("work", "", "echo one; sleep 0.0{{ inputs.n }}; echo two"),
        tool("once", "rerun = false\n", "sleep 0.0{{ inputs.n }}; echo done"),
        tool("flaky", "", "test $STEPCAST_ATTEMPT -ge 2"),
        tool("big", "", &format!("head -c {BIG_BYTES} /dev/zero | tr '\\\\0' x")),
    ]
    .concat()
}

/// A plan. One that is endless ends only when it is cancelled.
pub fn plan(name: &str, is_endless: bool, random: &mut Random) -> Value {
    let mut steps: Vec<Value> = Vec::new();
    for n in 0..random.between(1, 7) {
        steps.push(step(n, &steps, random));
    }
    if is_endless {
        steps.push(json!({"id": "endless", "tool": "delay", "inputs": {"ms": 600_000}}));
    }
    let on_failure = if random.one_in(2) { "continue" } else { "stop" };
    json!({"name": name, "onFailure": on_failure, "steps": steps})
}

fn step(n: u64, earlier: &[Value], random: &mut Random) -> Value {
    let dependencies: Vec<&Value> = earlier.iter().filter(|_| random.one_in(3)).collect();
    let (tool, inputs) = tool(dependencies.first().copied(), random);
    let ids: Vec<&Value> = dependencies.iter().map(|step| &step["id"]).collect();
    let mut step = json!({"id": format!("s{n}"), "tool": tool, "inputs": inputs, "dependencies": ids});
    if tool == "flaky" || tool == "fail" && random.one_in(2) {
        step["retryPolicy"] = retry_policy(random);
    }
    if random.one_in(4) {
        step["continueOnFailure"] = json!(true);
    }
    if random.one_in(10) {
        step["conditional"] = json!("false");
    }
    step
}

fn tool(upstream: Option<&Value>, random: &mut Random) -> (&'static str, Value) {
    match random.between(0, 13) {
        0..=2 => ("echo", echo_inputs(upstream)),
        3..=4 => ("delay", json!({"ms": random.between(0, 40)})),
        5..=7 => ("work", json!({"n": random.between(0, 9)})),
        8..=9 => ("once", json!({"n": random.between(0, 9)})),
        10..=11 => ("flaky", json!({})),
        12 => ("big", json!({})),
        _ => ("fail", json!({"message": "boom"})),
    }
}

/// The whole output of another step, and its length where it is text.
fn echo_inputs(upstream: Option<&Value>) -> Value {
    let Some(step) = upstream.and_then(|step| step["id"].as_str()) else { return json!({"k": 1}) };
    let output = format!("steps.{step}.output");
    json!({"bytes": format!("{{{{ {output} | length if {output} is string else 0 }}}}"),
        "from": format!("{{{{ {output} }}}}")})
}

fn retry_policy(random: &mut Random) -> Value {
    let backoff = *random.pick(&["fixed", "linear", "exponential"]).expect("three");
    json!({"maxRetries": random.between(1, 3), "backoff": backoff, "initialDelay": random.between(1, 60),
        "jitter": random.one_in(2)})
}
