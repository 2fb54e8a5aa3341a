//! What changes of a JSON object, as a JSON Patch (RFC 6902).

use serde_json::{Map, Value, json};

/// The operations that make `new` of `old`, an object that lies at `path`. Members are taken as wholes: `add` puts one in
/// place of what was there.
pub(super) fn changes(path: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Value> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let gone = gone.map(|name| json!({"op": "remove", "path": member(path, name)}));
    let come = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let come = come.map(|(name, value)| json!({"op": "add", "path": member(path, name), "value": value}));
    gone.chain(come).collect()
}

fn member(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}
