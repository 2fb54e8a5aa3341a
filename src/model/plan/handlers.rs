//! Reads the handlers of a plan, from their own fields or from `handlers`.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Issues;
use super::fields::{Fields, Location};
use crate::model::HandlerKind;

/// The most handlers of a plan, of all kinds together.
const HANDLERS_MAX: usize = 100;

/// The timeout of one attempt at a handler that sets none.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The default timeout of all handlers of a run together.
pub const HANDLERS_TIMEOUT: Duration = Duration::from_secs(600);

/// The path of a step in its document, such as `steps[3]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPath {
    /// The name of the list.
    pub list: &'static str,
    /// The index in that list.
    pub at: usize,
}

impl fmt::Display for StepPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.at)
    }
}

/// A step in a document.
pub(super) struct Listed<'a> {
    pub document: &'a Value,
    pub path: StepPath,
    pub handler: Option<HandlerKind>,
}

/// The steps of a plan, followed by its handlers.
pub(super) fn listed<'a>(steps: &'a [Value], object: &'a Map<String, Value>, issues: &mut Issues) -> Vec<Listed<'a>> {
    let mut all = Vec::new();
    list(steps, "steps", None, &mut all);
    let count = all.len();
    let mut fields = Fields::new(object, Location::default(), issues);
    for kind in HandlerKind::ALL {
        // The field `onFailure` may also hold a word.
        let is_word = kind == HandlerKind::Failure && !object.get(kind.as_str()).is_some_and(Value::is_array);
        let own = if is_word { None } else { fields.array(kind.as_str()) };
        list(own.map_or(&[], Vec::as_slice), kind.as_str(), Some(kind), &mut all);
    }
    if let Some(object) = fields.object("handlers") {
        let location = Location { inside: Some("handlers"), ..Location::default() };
        let mut fields = Fields::new(object, location, fields.issues);
        for kind in HandlerKind::ALL {
            let more = fields.array(kind.as_str());
            list(more.map_or(&[], Vec::as_slice), kind.path_in_handlers(), Some(kind), &mut all);
        }
    }
    if all.len() - count > HANDLERS_MAX {
        let message = format_args!("too many handlers: {} (limit {HANDLERS_MAX}, not configurable)", all.len() - count);
        issues.report(None, None, format_args!("handlers"), message);
        all.truncate(count);
    }
    all
}

fn list<'a>(documents: &'a [Value], list: &'static str, handler: Option<HandlerKind>, all: &mut Vec<Listed<'a>>) {
    let listed =
        documents.iter().enumerate().map(|(at, document)| Listed { document, path: StepPath { list, at }, handler });
    all.extend(listed);
}
