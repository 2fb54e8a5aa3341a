//! Every message that a stream sends is described in `/openapi.json`, with all its members.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::Request;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::stream::Event;

/// A description of messages, and of all that they refer to.
struct Described(Value);

/// What schemas say of an object: the members that it must have, and the schemas of each that it may have.
#[derive(Default)]
struct Members<'d> {
    required: BTreeSet<&'d str>,
    known: BTreeMap<&'d str, Vec<&'d Value>>,
}

impl Described {
    fn messages(&self) -> &serde_json::Map<String, Value> {
        let stream = &self.0["paths"]["/api/sse/projects/{projectId}"]["get"]["responses"]["200"]["content"];
        stream["text/event-stream"]["x-messages"].as_object().expect("messages")
    }

    fn gather<'d>(&'d self, schema: &'d Value, is_sure: bool, into: &mut Members<'d>) {
        if let Some(name) = schema["$ref"].as_str() {
            self.gather(self.0.pointer(name.trim_start_matches('#')).expect("it is there"), is_sure, into);
        }
        for (name, is_sure) in [("allOf", is_sure), ("oneOf", false), ("anyOf", false)] {
            schema[name].as_array().into_iter().flatten().for_each(|part| self.gather(part, is_sure, into));
        }
        if is_sure {
            into.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            into.known.entry(name).or_default().push(property);
        }
    }

    /// Whatever is in `value` is described, and whatever must be there is there.
    fn check(&self, value: &Value, schema: &Value, place: &str) {
        match value {
            Value::Array(items) => {
                let of_items = self.resolved(schema);
                items.iter().for_each(|item| self.check(item, &of_items["items"], &format!("{place}[]")));
            }
            Value::Object(members) => {
                let mut described = Members::default();
                self.gather(schema, true, &mut described);
                if described.known.is_empty() {
                    return;
                }
                for name in described.required {
                    assert!(members.contains_key(name), "{place}.{name} is missing: {value}");
                }
                for (name, inner) in members {
                    let schemas = described.known.get(name.as_str());
                    let schemas = schemas.unwrap_or_else(|| panic!("{place}.{name} is not described: {value}"));
                    schemas.iter().filter(|_| schemas.len() == 1).for_each(|schema| {
                        self.check(inner, schema, &format!("{place}.{name}"));
                    });
                }
            }
            _ => {}
        }
    }

    fn resolved<'d>(&'d self, schema: &'d Value) -> &'d Value {
        let named = schema["$ref"].as_str().map(|name| self.0.pointer(name.trim_start_matches('#')));
        named.map_or(schema, |found| found.expect("it is there"))
    }
}

/// A run in which all happens that is told: items, an approval, a change of the plan, a handler, and its failure.
fn eventful(server: &Server, gate: &TempDirectory) -> (Vec<Event>, Vec<Event>) {
    let mut first = server.stream("/api/sse/projects/p?items=1");
    let file = gate.join("open");
    let run = server.submit(
        "p",
        &json!({"name": "n", "onFailure": "continue", "steps": [
            {"id": "each", "tool": "gate", "forEach": [1, 2], "inputs": {"file": file}},
            {"id": "ask", "tool": "approval", "dependencies": ["each"], "inputs": {"message": "Go?", "expires": "1h"}},
            {"id": "late", "tool": "echo", "dependencies": ["ask"]},
        ], "handlers": {"onExit": [{"id": "tidy", "tool": "echo"}]}}),
    );
    let mut seen = first.until(|message| message["payload"]["item"] == 1);
    let mut late = server.stream("/api/sse/projects/p?items=1");
    let of_late = late.until(|message| message["type"] == "workflow_items_snapshot");
    let change = json!({"expectedRevision": 1, "add": [{"id": "more", "tool": "echo", "dependencies": ["ask"]}]});
    let path = format!("/api/projects/p/workflows/{run}");
    let changed = server.call(
        Request::new("PATCH", &format!("{path}/plan"))
            .header("Content-Type", "application/json")
            .body(change.to_string()),
    );
    assert_eq!(changed.status, 200, "{}", changed.text());
    std::fs::write(file, "").expect("it opens");
    seen.extend(first.until(|message| message["payload"]["status"] == "waiting"));
    let rejected = server.post(&format!("{path}/steps/ask/decision"), &json!({"decision": "reject"}));
    assert_eq!(rejected.status, 200, "{}", rejected.text());
    server.submit("p", &json!({"name": "m", "steps": [{"id": "a", "tool": "echo"}]}));
    seen.extend(first.until(|message| message["type"] == "workflow_completed"));
    let mut reset = server.stream_of(Request::get("/api/sse/projects/p").header("Last-Event-ID", "none.1.none"));
    seen.extend(reset.until(|message| message["type"] == "stream_reset"));
    server.signal(Signal::TERM);
    seen.extend(first.rest());
    (seen, of_late)
}

#[test]
fn each_message_of_a_stream_is_described_with_all_its_members() {
    let directory = TempDirectory::new();
    let gate = "[tools.gate]\nkind = \"command\"\n\
        argv = [\"sh\", \"-c\", 'echo waits; while [ ! -e \"$1\" ]; do sleep 0.02; done', \"gate\", \"{{ inputs.file }}\"]\n";
    let server = Setup::default().config(gate).start();
    let described = Described(server.get("/openapi.json").json());
    let (seen, of_late) = eventful(&server, &directory);
    let mut kinds = BTreeSet::new();
    for event in seen.iter().chain(&of_late) {
        let schema = described.messages().get(event.kind());
        let schema = schema.unwrap_or_else(|| panic!("{} is not described", event.kind()));
        described.check(&event.message, schema, event.kind());
        kinds.insert(event.kind());
    }
    let expected: BTreeSet<_> = described.messages().keys().map(String::as_str).collect();
    let unseen: Vec<_> = expected.difference(&kinds).collect();
    assert_eq!(unseen, [&"heartbeat"], "all others were seen, and are checked");
}
