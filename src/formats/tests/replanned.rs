//! Runs whose plan changes, in both formats: who saw it change has what somebody has who came later.

use super::*;

fn plan(steps: &[&str]) -> Value {
    let steps: Vec<_> = steps.iter().map(|id| json!({"id": id, "tool": "echo", "inputs": {"of": id}})).collect();
    json!({"name": "p", "steps": steps})
}

fn step(id: &str, status: Value) -> RunEvent {
    let progress = json!({"completed": 0, "failed": 0, "skipped": 0, "cancelled": 0, "total": 3, "percent": 0});
    let mut payload = json!({"stepId": id, "stepTitle": id, "level": 0, "attempt": 1, "progress": progress});
    payload.as_object_mut().expect("an object").extend(status.as_object().expect("an object").clone());
    said("workflow_progress", payload)
}

/// `c` runs while `a` goes and `d` comes; then both end.
fn messages() -> Vec<RunEvent> {
    let simplest = simplest();
    let progress = json!({"completed": 0, "failed": 0, "skipped": 0, "cancelled": 0, "total": 3, "percent": 0});
    let running = |id: &str| step(id, json!({"status": "running", "stepDescription": "", "message": "Running"}));
    let completed = |id: &str| step(id, json!({"status": "completed", "output": id, "duration": 5}));
    let changed = json!({"revision": 2, "added": ["d"], "removed": ["a"], "changed": [], "by": "ann",
        "steps": [{"id": "d", "title": "d", "description": "new", "tool": "echo", "level": 0}],
        "levels": [["b", "c", "d"]], "stepCount": 3, "totalLevels": 1, "progress": progress});
    vec![
        simplest[0].clone(),
        running("c"),
        said("workflow_step_output", json!({"stepId": "c", "attempt": 1, "stream": "text", "chunk": "Hel"})),
        said("workflow_plan_changed", changed),
        said("workflow_step_output", json!({"stepId": "c", "attempt": 1, "stream": "text", "chunk": "lo"})),
        completed("c"),
        running("d"),
        completed("d"),
    ]
}

/// As a run is known once its plan has changed.
fn newest_head(document: &Value) -> Arc<RunHead> {
    let first = head(document);
    let mut start = first.start.clone();
    start.revision = 2;
    Arc::new(RunHead { start, ..RunHead::clone(&first) })
}

#[test]
fn who_sees_a_plan_change_has_what_somebody_has_who_comes_later() {
    let after = plan(&["b", "c", "d"]);
    let document = json!({"plan": after, "inputs": {}}).to_string();
    for format in [Format::AgUi { knows_cancelled: true, in_turns: true }, Format::AiSdk { in_turns: true }] {
        let mut watched = Encoder::new(format, head(&plan(&["a", "b", "c"])));
        let mut later = Encoder::new(format, newest_head(&after));
        let mut told = Vec::new();
        for (n, event) in messages().iter().enumerate() {
            watched.tell(event, &n.to_string(), &mut told);
            if event.message_type() == "workflow_plan_changed" {
                watched.know_plan(document.as_bytes());
            }
            later.tell(event, &n.to_string(), &mut Vec::new());
        }
        let prelude = |encoder: &Encoder| written(|to| encoder.prelude(&Opening::default(), "9", to));
        assert_eq!(prelude(&watched), prelude(&later), "{format:?}");
        let told = events_of(&told);
        let whole = told.iter().find(|event| match format {
            Format::AgUi { .. } => event["type"] == "STATE_SNAPSHOT",
            Format::AiSdk { .. } => event["type"] == "data-plan",
        });
        let whole = whole.expect("the plan is told anew");
        let steps = match format {
            Format::AgUi { .. } => &whole["snapshot"]["run"]["steps"],
            Format::AiSdk { .. } => &whole["data"]["steps"],
        };
        let ids: Vec<_> = steps.as_array().expect("steps").iter().map(|step| step["id"].as_str()).collect();
        assert_eq!(ids, [Some("b"), Some("c"), Some("d")], "{format:?}");
    }
}
