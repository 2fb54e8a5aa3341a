//! The values that expressions can use. They are shared with their owners and only copied when they are used.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value as Evaluated};
use serde_json::Value;

use super::DEPTH_MAX;
use crate::model::{ProjectId, RunId, StepId};

/// The values that templates and conditions may name. Cheap to clone: all of them are shared.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    values: Vec<(Cow<'static, str>, Arc<Value>)>,
    steps: HashMap<StepId, Arc<Value>>,
}

impl Scope {
    /// A scope without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a plan's templates see of their run, besides outputs. `inputs` is an object.
    pub fn of_run(project: &ProjectId, run: &RunId, inputs: Arc<Value>) -> Self {
        let text = |id: &str| Arc::new(Value::from(id));
        Self::new().with("inputs", inputs).with("projectId", text(project.as_str())).with("runId", text(run.as_str()))
    }

    /// The scope with a value under a name of its own.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: Arc<Value>) -> Self {
        self.values.push((name.into(), value));
        self
    }

    /// The scope with a step's output: `steps.ID.output`.
    #[must_use]
    pub fn with_step(mut self, id: StepId, output: Arc<Value>) -> Self {
        self.steps.insert(id, output);
        self
    }

    /// The outputs that it holds, for tests to compare.
    #[cfg(test)]
    pub fn outputs(&self) -> Vec<(StepId, Arc<Value>)> {
        let mut outputs: Vec<_> = self.steps.iter().map(|(id, output)| (id.clone(), output.clone())).collect();
        outputs.sort_by(|a, b| a.0.cmp(&b.0));
        outputs
    }

    /// The scope as the engine looks names up in it.
    pub(super) fn context(&self) -> Evaluated {
        Evaluated::from_object(self.clone())
    }

    /// How many of `keys`, one inside the other from `root` on, lead to something; none where `root` does not.
    pub(super) fn reaches(&self, root: &str, keys: &[Key]) -> Option<usize> {
        let (value, taken) = match (root, keys) {
            ("steps", []) => return Some(0),
            ("steps", [id, inside @ ..]) => match (id.step(&self.steps), inside.first()) {
                (None, _) => return Some(0),
                (Some(output), Some(Key::Name(field))) if field == "output" => (output, 2),
                _ => return Some(1),
            },
            _ => (&**self.value(root)?, 0),
        };
        let inside = keys[taken..].iter().scan(value, |at, key| {
            *at = key.of(at)?;
            Some(())
        });
        Some(taken + inside.count())
    }

    fn value(&self, name: &str) -> Option<&Arc<Value>> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Object for Scope {
    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Evaluated> {
        match name {
            "steps" => Some(Evaluated::from_object(Steps(self.clone()))),
            _ => self.value(name).map(|value| Node::whole(value.clone()).evaluated()),
        }
    }

    fn get_value(self: &Arc<Self>, name: &Evaluated) -> Option<Evaluated> {
        self.get_value_by_str(name.as_str()?)
    }
}

/// The value of `steps`.
#[derive(Debug)]
struct Steps(Arc<Scope>);

impl Object for Steps {
    fn get_value(self: &Arc<Self>, id: &Evaluated) -> Option<Evaluated> {
        let output = self.0.steps.get(id.as_str()?)?;
        Some(Evaluated::from_object(StepValue(output.clone())))
    }
}

/// The value of `steps.ID`.
#[derive(Debug)]
struct StepValue(Arc<Value>);

impl Object for StepValue {
    fn get_value(self: &Arc<Self>, field: &Evaluated) -> Option<Evaluated> {
        (field.as_str()? == "output").then(|| Node::whole(self.0.clone()).evaluated())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["output"])
    }
}

/// What leads from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Of an object.
    Name(String),
    /// Of an array.
    Index(usize),
}

impl Key {
    fn step<'a>(&self, outputs: &'a HashMap<StepId, Arc<Value>>) -> Option<&'a Value> {
        match self {
            Self::Name(id) => outputs.get(id.as_str()).map(|output| &**output),
            Self::Index(_) => None,
        }
    }

    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Name(name) => value.as_object()?.get(name),
            Self::Index(index) => value.as_array()?.get(*index),
        }
    }
}

/// An array or object somewhere inside a shared value. It holds the whole and the way from there, so that reaching into
/// a great output copies no more than keys.
#[derive(Clone)]
pub(super) struct Node {
    whole: Arc<Value>,
    way: Vec<Key>,
}

impl Node {
    fn whole(whole: Arc<Value>) -> Self {
        Self { whole, way: Vec::new() }
    }

    /// The value it stands for.
    pub fn value(&self) -> &Value {
        self.way.iter().try_fold(&*self.whole, |value, key| key.of(value)).unwrap_or(&Value::Null)
    }

    fn child(&self, key: Key) -> Option<Evaluated> {
        key.of(self.value())?;
        if self.way.len() >= DEPTH_MAX {
            return Some(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply").into());
        }
        let mut way = self.way.clone();
        way.push(key);
        Some(Self { whole: self.whole.clone(), way }.evaluated())
    }

    /// As the engine takes it: arrays and objects stay where they are, anything else is copied.
    fn evaluated(self) -> Evaluated {
        match self.value() {
            Value::Null => Evaluated::from(()),
            Value::Bool(flag) => Evaluated::from(*flag),
            Value::Number(number) => evaluated_number(number),
            Value::String(text) => Evaluated::from(text.as_str()),
            Value::Array(_) | Value::Object(_) => Evaluated::from_object(self),
        }
    }
}

fn evaluated_number(number: &serde_json::Number) -> Evaluated {
    match (number.as_i64(), number.as_u64()) {
        (Some(signed), _) => Evaluated::from(signed),
        (None, Some(unsigned)) => Evaluated::from(unsigned),
        (None, None) => Evaluated::from(number.as_f64().unwrap_or(f64::NAN)),
    }
}

impl fmt::Debug for Node {
    /// As JSON: what the engine shows where it makes text of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.value(), f)
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.value().is_array() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Evaluated) -> Option<Evaluated> {
        match key.as_str() {
            Some(name) => self.get_value_by_str(name),
            None => self.child(Key::Index(key.as_usize()?)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Evaluated> {
        self.child(Key::Name(name.to_owned()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Value::Array(items) => Enumerator::Seq(items.len()),
            Value::Object(object) => {
                Enumerator::Values(object.keys().map(|key| Evaluated::from(key.as_str())).collect())
            }
            _ => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match self.value() {
            Value::Array(items) => Some(items.len()),
            Value::Object(object) => Some(object.len()),
            _ => None,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
