//! What a run leaves with clients is bounded, and what is left out is told.

use super::agui_client::Client;
use super::*;
use crate::model::RunEventKind;

const AG_UI: Format = Format::AgUi { knows_cancelled: true, in_turns: false };

/// A run of one format, and one who was there from the beginning.
struct Watched {
    encoder: Encoder,
    client: Client,
}

impl Watched {
    fn new(plan: &Value) -> Self {
        let encoder = Encoder::new(AG_UI, head(plan));
        let mut client = Client::default();
        client.take(&written(|to| encoder.prelude(&Opening::default(), "id", to)));
        Self { encoder, client }
    }

    /// The next message.
    fn tell(&mut self, event: &RunEvent) {
        self.client.take(&written(|to| _ = self.encoder.tell(event, "id", to)));
    }

    /// Whoever attaches now has the same.
    fn check(&self) {
        let mut late = Client::default();
        late.take(&written(|to| self.encoder.prelude(&Opening::default(), "id", to)));
        assert_eq!(late.state, self.client.state);
        assert_eq!(late.messages, self.client.messages);
    }

    fn text(&self, id: &str) -> &str {
        let message = self.client.messages.iter().find(|message| message["id"] == id);
        message.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

fn plan(steps: usize) -> Value {
    let steps: Vec<_> = (0..steps).map(|at| json!({"id": format!("s{at}"), "tool": "echo"})).collect();
    json!({"name": "p", "steps": steps})
}

fn progress(step: &str, mut status: Value) -> RunEvent {
    let counts = json!({"completed": 0, "failed": 0, "skipped": 0, "cancelled": 0, "total": 1, "percent": 0});
    for (name, value) in [("stepId", json!(step)), ("stepTitle", json!(step)), ("progress", counts)] {
        status[name] = value;
    }
    for (name, value) in [("level", 0), ("attempt", 1)] {
        status[name] = json!(value);
    }
    said("workflow_progress", status)
}

fn of_attempt(attempt: u32, mut event: RunEvent) -> RunEvent {
    if let RunEventKind::Progress(said) = &mut event.kind {
        said.attempt = attempt;
    }
    event
}

fn running(step: &str) -> RunEvent {
    progress(step, json!({"status": "running", "stepDescription": "", "message": ""}))
}

fn completed(step: &str, output: &Value) -> RunEvent {
    progress(step, json!({"status": "completed", "output": output, "duration": 1}))
}

fn output(step: &str, stream: &str, chunk: &str) -> RunEvent {
    said("workflow_step_output", json!({"stepId": step, "attempt": 1, "stream": stream, "chunk": chunk}))
}

#[test]
fn a_text_that_is_too_long_ends_with_where_it_is_whole() {
    let mut run = Watched::new(&plan(2));
    run.tell(&running("s0"));
    let piece = "x".repeat(64 * 1024);
    (0..9).for_each(|_| run.tell(&output("s0", "text", &piece)));
    let text = run.text("r/s0/1/text");
    assert!(text.len() <= KEPT_BYTES_MAX, "{}", text.len());
    assert!(
        text.ends_with("x\n[truncated: the full text is available at /api/projects/p/workflows/r/steps/s0/output]")
    );
    assert!(run.client.texts.is_empty(), "nothing more comes of it");

    // What little room there is goes to what still fits; then steps are told, and their calls are not.
    let retrying = json!({"status": "retrying", "error": "x".repeat(1000), "delay": 0, "maxRetries": 999,
        "nextRetryAt": "1970-01-01T00:00:01.000Z"});
    (1..200).for_each(|attempt| {
        run.tell(&of_attempt(attempt, running("s1")));
        run.tell(&of_attempt(attempt, progress("s1", retrying.clone())));
    });
    let calls = run.client.messages.len();
    run.tell(&of_attempt(200, running("s1")));
    assert_eq!(run.client.messages.len(), calls);
    assert_eq!(run.client.steps.len(), 2);
    assert_eq!(run.client.state["run"]["steps"][1]["status"], "running");
    assert!(run.encoder.memory() < 2 * KEPT_BYTES_MAX);
    run.check();
}

#[test]
fn of_what_is_printed_the_newest_is_kept() {
    let mut run = Watched::new(&plan(2));
    run.tell(&running("s0"));
    run.tell(&running("s1"));
    run.tell(&output("s1", "stderr", "early"));
    for at in 0..20 {
        run.tell(&output("s0", "stdout", &format!("{at:016384}")));
    }
    let log = |step: &str| {
        let id = format!("r/{step}/1/log");
        run.client.messages.iter().find(|message| message["id"] == id).expect("a log")["content"].clone()
    };
    assert_eq!(log("s1"), json!({"stepId": "s1", "attempt": 1, "chunks": [], "droppedBytes": 5}));
    let chunks = log("s0")["chunks"].as_array().expect("chunks").len();
    assert!(chunks * 16_384 <= LOG_BYTES_MAX && (chunks + 2) * 16_384 > LOG_BYTES_MAX, "{chunks}");
    assert_eq!(log("s0")["droppedBytes"], (20 - chunks) * 16_384);
    run.check();
}

#[test]
fn large_inputs_and_outputs_are_cut_and_say_where_they_are() {
    let mut plan = plan(3);
    plan["steps"][0]["inputs"] = json!({"text": "ä".repeat(OUTPUT_BYTES_MAX)});
    let mut run = Watched::new(&plan);
    for (step, value) in [("s0", json!("ä".repeat(OUTPUT_BYTES_MAX))), ("s1", json!(null)), ("s2", json!({"a": [1.0]}))]
    {
        run.tell(&running(step));
        run.tell(&completed(step, &value));
    }
    let arguments = &run.client.messages[0]["toolCalls"][0]["function"]["arguments"];
    let arguments: Value = serde_json::from_str(arguments.as_str().expect("a text")).expect("JSON");
    assert_eq!(arguments, json!({"truncated": true, "bytes": 8203, "whole": "/api/projects/p/workflows/r/plan"}));
    let half = "ä".repeat(OUTPUT_BYTES_MAX / 2);
    let mark = "[truncated: 8192 bytes in total, available at /api/projects/p/workflows/r/steps/s0/output]";
    assert_eq!(run.text("r/s0/1/result"), format!("{half}\n{mark}"));
    assert_eq!((run.text("r/s1/1/result"), run.text("r/s2/1/result")), ("null", r#"{"a":[1.0]}"#));
    let step = &run.client.state["run"]["steps"][0];
    assert_eq!((&step["truncated"], &step["outputBytes"], &step["output"]), (&json!(true), &json!(8192), &json!(null)));
    assert_eq!(run.client.state["run"]["steps"][2]["output"], json!({"a": [1.0]}));
    run.check();
}

#[test]
fn the_steps_of_a_large_plan_are_not_in_the_state() {
    let mut run = Watched::new(&plan(STATE_STEPS_MAX + 1));
    run.tell(&running("s7"));
    assert_eq!(run.client.state["run"]["stepsLeftOut"], STATE_STEPS_MAX + 1);
    assert_eq!(run.client.state["run"].get("steps"), None);
    assert_eq!(run.client.messages.len(), 1, "its calls are told");
    run.check();
}

#[test]
fn an_attempt_that_was_interrupted_has_a_result_too() {
    let mut run = Watched::new(&plan(1));
    run.tell(&running("s0"));
    run.tell(&of_attempt(2, running("s0")));
    assert_eq!(run.text("r/s0/1/result"), r#"{"error":"the attempt was interrupted"}"#);
    run.check();
}

#[test]
fn what_a_client_has_of_its_own_is_told_back_to_it() {
    let own = r#"[{"id": "u", "role": "user", "content": "Go"}, {"id": "r/s0/1", "role": "assistant"}, {"role": "user"},
        {"id": "q/s0/1", "role": "assistant", "toolCalls": []}, {"id": "rx/", "role": "user", "content": "\u2028"}]"#;
    let mut run = Watched::new(&plan(1));
    run.tell(&running("s0"));
    let messages = serde_json::from_str(own).ok();
    let opening = Opening { thread: Some("thread"), messages, ..Opening::default() };
    let events = written(|to| run.encoder.prelude(&opening, "id", to));
    let ids: Vec<_> = events[2]["messages"].as_array().expect("messages").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, ["u", "q/s0/1", "rx/", "r/s0/1"]);
    assert_eq!(events[0]["threadId"], "thread");
    run.check();
}

#[test]
fn a_stream_that_ends_early_ends_with_an_error() {
    for (format, expected) in [(AG_UI, &["RUN_ERROR"][..]), (Format::AiSdk { in_turns: true }, &["error", "[DONE]"])] {
        let events = written(|to| closing(format, "shutdown", to));
        assert_eq!(types(&events), expected);
        assert!(events[0].to_string().contains("shutdown"), "{events:?}");
    }
    assert_eq!(written(|to| closing(AG_UI, "shutdown", to))[0]["code"], "stream_closing");
}

#[test]
fn of_the_events_of_a_message_the_last_alone_has_its_id() {
    let mut encoder = Encoder::new(AG_UI, head(&plan(1)));
    let mut to = Vec::new();
    encoder.tell(&running("s0"), "x.9", &mut to);
    let text = String::from_utf8(contents(&to)).expect("text");
    let blocks: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!(blocks.iter().filter(|block| block.contains("id: ")).count(), 1);
    assert!(blocks.len() > 1 && blocks[blocks.len() - 1].starts_with("id: x.9\ndata: {"), "{text}");
    assert!(!text.contains('\r'));
}
