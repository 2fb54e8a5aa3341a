//! Runs that wait for decisions: when a turn of a client ends, and what it is asked.

use super::story::Story;
use super::*;

const AG_UI: Format = Format::AgUi { knows_cancelled: true, in_turns: true };
const AI_SDK: Format = Format::AiSdk { in_turns: true };

fn progress(step: &str, level: usize, mut status: Value) -> RunEvent {
    let counts = json!({"completed": 0, "failed": 0, "skipped": 0, "cancelled": 0, "total": 3, "percent": 0});
    for (name, value) in [("stepId", json!(step)), ("stepTitle", json!(step)), ("progress", counts)] {
        status[name] = value;
    }
    (status["level"], status["attempt"]) = (json!(level), json!(1));
    said("workflow_progress", status)
}

fn running(step: &str, level: usize) -> RunEvent {
    progress(step, level, json!({"status": "running", "stepDescription": "", "message": ""}))
}

fn waiting(step: &str, level: usize, approval: &Value) -> RunEvent {
    progress(step, level, json!({"status": "waiting", "message": approval["message"], "approval": approval}))
}

fn completed(step: &str, level: usize) -> RunEvent {
    progress(step, level, json!({"status": "completed", "output": {}, "duration": 1}))
}

fn failed(step: &str, level: usize, decision: Option<&str>) -> RunEvent {
    let mut status = json!({"status": "failed", "error": "rejected by ann", "duration": 1});
    if let Some(choice) = decision {
        status["decision"] = json!({"decision": choice, "by": "ann", "at": "1970-01-01T00:00:01.000Z"});
    }
    progress(step, level, status)
}

fn level(level: usize, steps: &[&str]) -> RunEvent {
    said("workflow_level_started", json!({"level": level, "totalLevels": 2, "steps": steps}))
}

fn question() -> Value {
    json!({"message": "Go on?"})
}

/// The numbers of the messages after which a stream in turns ends.
fn ends(plan: &Value, events: &[RunEvent]) -> Vec<usize> {
    let ends = [AG_UI, AI_SDK].map(|format| {
        let mut encoder = Encoder::new(format, head(plan));
        let ends = |(at, event): (usize, &RunEvent)| encoder.tell(event, "id", &mut Vec::new()).then_some(at);
        events.iter().enumerate().filter_map(ends).collect::<Vec<_>>()
    });
    assert_eq!(ends[0], ends[1], "it is the same for both formats");
    ends[0].clone()
}

fn plan(scheduling: &str, on_failure: &str, steps: &[(&str, &[&str])]) -> Value {
    let step = |(id, dependencies): &(&str, &[&str])| json!({"id": id, "tool": "echo", "dependencies": dependencies});
    let steps: Vec<_> = steps.iter().map(step).collect();
    json!({"name": "p", "scheduling": scheduling, "onFailure": on_failure, "steps": steps})
}

#[test]
fn a_level_is_halted_once_all_that_it_brings_along_has_ended_or_waits() {
    let plan = plan("levels", "stop", &[("ask", &[]), ("also", &[]), ("work", &[]), ("later", &["work"])]);
    let events = [
        level(0, &["ask", "also", "work"]),
        running("ask", 0),
        waiting("ask", 0, &question()),
        running("also", 0),
        waiting("also", 0, &question()),
        running("work", 0),
        completed("work", 0),
        completed("ask", 0),
        completed("also", 0),
    ];
    assert_eq!(ends(&plan, &events), [6], "once, for both");
}

#[test]
fn without_levels_a_run_is_halted_once_nothing_can_start() {
    let steps: &[(&str, &[&str])] = &[("ask", &[]), ("work", &[]), ("next", &["work"]), ("later", &["ask", "next"])];
    let events = [
        running("ask", 0),
        waiting("ask", 0, &question()),
        running("work", 0),
        completed("work", 0),
        running("next", 1),
        completed("next", 1),
    ];
    assert_eq!(ends(&plan("eager", "stop", steps), &events), [5]);
}

#[test]
fn a_failure_that_lets_nothing_start_halts_a_run_without_levels() {
    let steps: &[(&str, &[&str])] = &[("ask", &[]), ("work", &[]), ("free", &[])];
    let events = [running("ask", 0), waiting("ask", 0, &question()), running("work", 0), failed("work", 0, None)];
    assert_eq!(ends(&plan("eager", "stop", steps), &events), [3], "nobody waits for a step that never starts");
    assert_eq!(ends(&plan("eager", "continue", steps), &events), [] as [usize; 0], "it goes on with the last");
}

#[test]
fn an_interrupt_says_what_is_asked_and_what_is_open_is_closed_before_it() {
    let plan = plan("levels", "stop", &[("ask", &[])]);
    let mut encoder = Encoder::new(AG_UI, head(&plan));
    let schema = json!({"type": "object", "required": ["n"]});
    let approval = json!({"message": "Go on?", "schema": schema, "expiresAt": "2030-01-01T00:00:00.000Z"});
    let mut told = Vec::new();
    for event in [level(0, &["ask"]), running("ask", 0), waiting("ask", 0, &approval)] {
        told = written(|to| _ = encoder.tell(&event, "id", to));
    }
    assert_eq!(types(&told), ["STATE_DELTA", "STEP_FINISHED", "STATE_SNAPSHOT", "RUN_FINISHED"]);
    let interrupt = json!({"id": "r/ask/1", "reason": "input_required", "message": "Go on?", "toolCallId": "r/ask/1",
        "responseSchema": {"type": "object", "required": ["approved"],
            "properties": {"approved": {"type": "boolean"}, "payload": schema}},
        "expiresAt": "2030-01-01T00:00:00.000Z",
        "metadata": {"stepcast": {"runId": "r", "stepId": "ask", "title": "ask"}}});
    assert_eq!(told[3]["outcome"], json!({"type": "interrupt", "interrupts": [interrupt]}));

    let opening = Opening { thread: Some("t"), run: Some("second"), ..Opening::default() };
    let attached = written(|to| encoder.prelude(&opening, "id", to));
    assert_eq!(types(&attached), ["RUN_STARTED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]);
    let names = |event: &Value| [event["threadId"].clone(), event["runId"].clone(), event["parentRunId"].clone()];
    assert_eq!(names(&attached[0]), [json!("t"), json!("second"), json!("r")]);
    assert_eq!(names(&attached[3]), [json!("t"), json!("second"), json!(null)]);
    assert_eq!(attached[3]["outcome"], told[3]["outcome"]);
}

#[test]
fn a_tool_that_is_rejected_is_denied_and_one_that_fails_is_not() {
    let plan = plan("levels", "continue", &[("ask", &[]), ("work", &[])]);
    let mut encoder = Encoder::new(AI_SDK, head(&plan));
    let mut told = Vec::new();
    for event in [
        level(0, &["ask", "work"]),
        running("ask", 0),
        running("work", 0),
        failed("work", 0, None),
        waiting("ask", 0, &question()),
        failed("ask", 0, Some("reject")),
    ] {
        told.extend(written(|to| _ = encoder.tell(&event, "id", to)));
    }
    let tools: Vec<_> =
        types(&told).into_iter().filter(|kind| kind.starts_with("tool-") || *kind == "finish").collect();
    let expected = [
        "tool-input-available",
        "tool-input-available",
        "tool-output-error",
        "tool-approval-request",
        "finish",
        "tool-output-denied",
    ];
    assert_eq!(tools, expected);
    let finish = told.iter().find(|chunk| chunk["type"] == "finish").expect("the turn ends");
    assert_eq!(finish["finishReason"], "tool-calls");
}

#[test]
fn all_of_a_plan_is_looked_over_only_where_a_halt_may_be() {
    let plan = plan("levels", "stop", &[("ask", &[]), ("work", &[])]);
    let mut story = Story::new(head(&plan));
    let chunk = json!({"stepId": "work", "attempt": 1, "stream": "stdout", "chunk": "x"});
    let output = said("workflow_step_output", chunk);
    for event in [level(0, &["ask", "work"]), running("work", 0), running("ask", 0), waiting("ask", 0, &question())] {
        story.apply(&event);
    }
    for _ in 0..100 {
        story.apply(&output);
        story.apply(&running("work", 0));
    }
    assert_eq!((story.watch.looks, story.is_halted), (0, false), "another step runs");
    story.apply(&completed("work", 0));
    (0..100).for_each(|_| drop(story.apply(&output)));
    assert_eq!((story.watch.looks, story.is_halted), (1, true), "nothing more is");
}

#[test]
fn a_question_is_asked_however_much_a_client_keeps() {
    let plan = plan("levels", "stop", &[("work", &[]), ("ask", &[])]);
    let chunk = json!({"stepId": "work", "attempt": 1, "stream": "text", "chunk": "x".repeat(500)});
    let text = said("workflow_step_output", chunk);
    for format in [AI_SDK, AG_UI] {
        let mut encoder = Encoder::new(format, head(&plan));
        encoder.tell(&level(0, &["work", "ask"]), "id", &mut Vec::new());
        encoder.tell(&running("work", 0), "id", &mut Vec::new());
        (0..KEPT_BYTES_MAX / 500 + 1).for_each(|_| _ = encoder.tell(&text, "id", &mut Vec::new()));
        let call = written(|to| _ = encoder.tell(&running("ask", 0), "id", to));
        assert!(!types(&call).iter().any(|kind| kind.starts_with("TOOL") || kind.starts_with("tool")), "{call:?}");
        encoder.tell(&completed("work", 0), "id", &mut Vec::new());
        let told = written(|to| _ = encoder.tell(&waiting("ask", 0, &question()), "id", to));
        let late = written(|to| encoder.prelude(&Opening::default(), "id", to));
        if format == AI_SDK {
            for told in [told, late] {
                let kinds = types(&told);
                assert!(
                    kinds.ends_with(&["finish", "[DONE]"]) && kinds.contains(&"tool-approval-request"),
                    "{kinds:?}"
                );
            }
        } else {
            let interrupts = &told.last().expect("an end")["outcome"]["interrupts"];
            assert_eq!(interrupts[0]["toolCallId"], "r/ask/1");
            assert!(late[2].to_string().contains("r/ask/1"), "{late:?}");
        }
    }
}
