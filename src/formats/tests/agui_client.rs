//! What a client of AG-UI makes of events, and which it refuses: what `@ag-ui/client` does, as far as it matters here.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Client {
    pub state: Value,
    pub messages: Vec<Value>,
    pub steps: BTreeSet<String>,
    pub texts: BTreeSet<String>,
    /// The last event, once the run is over.
    pub end: Option<Value>,
    goes_on: bool,
}

impl Client {
    /// Takes what a stream sends.
    pub fn take(&mut self, events: &[Value]) {
        events.iter().for_each(|event| self.take_one(event));
    }

    /// The stream was cut.
    pub fn disconnect(&mut self) {
        self.goes_on = false;
        self.steps.clear();
        self.texts.clear();
    }

    fn take_one(&mut self, event: &Value) {
        let kind = event["type"].as_str().expect("a type");
        assert!(event["timestamp"].is_u64(), "{event}");
        assert_eq!(self.goes_on, kind != "RUN_STARTED", "a run is begun, once: {event}");
        match kind {
            "RUN_STARTED" => (self.goes_on, self.end) = (true, None),
            "RUN_FINISHED" => {
                assert!(self.steps.is_empty() && self.texts.is_empty(), "{self:?}");
                self.finish(event);
            }
            "RUN_ERROR" => self.finish(event),
            "STATE_SNAPSHOT" => self.state = event["snapshot"].clone(),
            "STATE_DELTA" => patch(&mut self.state, &event["delta"]),
            "MESSAGES_SNAPSHOT" => self.messages_snapshot(event["messages"].as_array().expect("messages")),
            "STEP_STARTED" => assert!(self.steps.insert(text(event, "stepName")), "{event}"),
            "STEP_FINISHED" => assert!(self.steps.remove(&text(event, "stepName")), "{event}"),
            "TEXT_MESSAGE_START" => self.text_start(event),
            "TEXT_MESSAGE_CONTENT" => self.text_content(event),
            "TEXT_MESSAGE_END" => assert!(self.texts.remove(&text(event, "messageId")), "{event}"),
            "TOOL_CALL_START" => self.call(event),
            "TOOL_CALL_ARGS" => self.call_args(event),
            "TOOL_CALL_END" => {}
            "TOOL_CALL_RESULT" => self.result(event),
            "ACTIVITY_SNAPSHOT" => self.messages.push(json!({"id": event["messageId"], "role": "activity",
                "activityType": event["activityType"], "content": event["content"]})),
            "ACTIVITY_DELTA" => patch(&mut self.message(event, "messageId")["content"], &event["patch"]),
            other => panic!("{other} is no event that is sent"),
        }
    }

    fn finish(&mut self, event: &Value) {
        self.disconnect();
        self.end = Some(event.clone());
    }

    fn message(&mut self, event: &Value, field: &str) -> &mut Value {
        let found = self.messages.iter_mut().find(|message| message["id"] == event[field]);
        found.unwrap_or_else(|| panic!("no message of {event}"))
    }

    /// Messages that are known stay where they are; new ones come after them.
    fn messages_snapshot(&mut self, told: &[Value]) {
        let of = |id: &Value| told.iter().find(|message| message["id"] == *id).cloned();
        self.messages = self.messages.iter().filter_map(|message| of(&message["id"])).collect();
        let new = told.iter().filter(|message| !self.messages.iter().any(|known| known["id"] == message["id"]));
        let new: Vec<_> = new.cloned().collect();
        self.messages.extend(new);
    }

    fn text_start(&mut self, event: &Value) {
        assert!(self.texts.insert(text(event, "messageId")), "{event}");
        if !self.messages.iter().any(|message| message["id"] == event["messageId"]) {
            self.messages.push(json!({"id": event["messageId"], "role": "assistant", "content": ""}));
        }
    }

    fn text_content(&mut self, event: &Value) {
        assert!(self.texts.contains(&text(event, "messageId")) && event["delta"] != "", "{event}");
        append(&mut self.message(event, "messageId")["content"], &event["delta"]);
    }

    fn call(&mut self, event: &Value) {
        let id = &event["toolCallId"];
        assert!(!self.messages.iter().any(|message| message["id"] == *id), "a call has an id of its own: {event}");
        let function = json!({"name": event["toolCallName"], "arguments": ""});
        self.messages.push(json!({"id": id, "role": "assistant",
            "toolCalls": [{"id": id, "type": "function", "function": function}]}));
    }

    fn call_args(&mut self, event: &Value) {
        let message = self.message(event, "toolCallId");
        append(&mut message["toolCalls"][0]["function"]["arguments"], &event["delta"]);
    }

    /// Right after its call.
    fn result(&mut self, event: &Value) {
        let result = json!({"id": event["messageId"], "role": "tool", "toolCallId": event["toolCallId"],
            "content": event["content"]});
        let call = self.messages.iter().position(|message| message["id"] == event["toolCallId"]).expect("a call");
        let behind = self.messages.get(call + 1).is_some_and(|message| message["role"] == "tool");
        assert!(!behind, "one result a call: {event}");
        self.messages.insert(call + 1, result);
    }
}

fn text(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap_or_else(|| panic!("no {field}: {event}")).to_owned()
}

fn append(to: &mut Value, more: &Value) {
    let whole = to.as_str().unwrap_or_default().to_owned() + more.as_str().expect("a text");
    *to = whole.into();
}

/// RFC 6902, as far as it is used: members of objects, and both ends of arrays.
fn patch(document: &mut Value, operations: &Value) {
    for operation in operations.as_array().expect("operations") {
        let path = text(operation, "path");
        let (parent, name) = path.rsplit_once('/').expect("a path");
        let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("no parent: {operation}"));
        match (text(operation, "op").as_str(), parent) {
            ("add", Value::Object(members)) => add(members, name, &operation["value"]),
            ("remove", Value::Object(members)) => assert!(members.remove(name).is_some(), "{operation}"),
            ("add", Value::Array(items)) if name == "-" => items.push(operation["value"].clone()),
            ("remove", Value::Array(items)) if name == "0" => drop(items.remove(0)),
            _ => panic!("{operation}"),
        }
    }
}

fn add(members: &mut Map<String, Value>, name: &str, value: &Value) {
    members.insert(name.to_owned(), value.clone());
}
