//! Converts the engine's values to JSON, exactly and within a budget.

use minijinja::Value as Evaluated;
use minijinja::value::ValueKind;
use serde_json::{Map, Number, Value};

use super::DEPTH_MAX;
use super::scope::Node;

/// What a value that is no long text takes in memory, in bytes.
const VALUE_BYTES: usize = 32;

const TOO_BIG: &str = "the result is too large";
const TOO_DEEP: &str = "the result is nested too deeply";

/// How much may still be made.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.0 = self.0.checked_sub(bytes.max(VALUE_BYTES)).ok_or(TOO_BIG)?;
        Ok(())
    }
}

/// The JSON value that `value` is.
///
/// # Errors
/// If the budget does not suffice, or JSON has no such value.
pub(super) fn to_json(value: &Evaluated, budget: &mut Budget) -> Result<Value, &'static str> {
    nested(value, budget, 0)
}

fn nested(value: &Evaluated, budget: &mut Budget, depth: usize) -> Result<Value, &'static str> {
    if depth > DEPTH_MAX {
        return Err(TOO_DEEP);
    }
    if let Some(node) = value.downcast_object_ref::<Node>() {
        weigh(node.value(), budget, depth)?;
        return Ok(node.value().clone());
    }
    budget.spend(value.as_str().map_or(0, str::len))?;
    match value.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => number(value),
        ValueKind::String => Ok(Value::from(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => array(value, budget, depth),
        ValueKind::Map => object(value, budget, depth),
        ValueKind::Undefined => Err("the result contains an undefined value"),
        _ => Err("the result can't be represented in JSON"),
    }
}

fn array(value: &Evaluated, budget: &mut Budget, depth: usize) -> Result<Value, &'static str> {
    let items = value.try_iter().map_err(|_| "the result can't be iterated over")?;
    items.map(|item| nested(&item, budget, depth + 1)).collect::<Result<_, _>>().map(Value::Array)
}

fn object(value: &Evaluated, budget: &mut Budget, depth: usize) -> Result<Value, &'static str> {
    let mut object = Map::new();
    for key in value.try_iter().map_err(|_| "the result can't be iterated over")? {
        let item = value.get_item(&key).map_err(|_| "the result can't be iterated over")?;
        let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        budget.spend(name.len())?;
        object.insert(name, nested(&item, budget, depth + 1)?);
    }
    Ok(Value::Object(object))
}

fn number(value: &Evaluated) -> Result<Value, &'static str> {
    if value.is_integer() {
        let signed = value.as_i64().map(Number::from);
        let number = signed.or_else(|| u64::try_from(value.clone()).ok().map(Number::from));
        return number.map(Value::Number).ok_or("the result is an integer of more than 64 bits");
    }
    let float = f64::try_from(value.clone()).ok().and_then(Number::from_f64);
    float.map(Value::Number).ok_or("the result is not a finite number")
}

/// Takes the size of a value out of the budget before it is copied.
fn weigh(value: &Value, budget: &mut Budget, depth: usize) -> Result<(), &'static str> {
    let mut open = vec![(value, depth)];
    while let Some((value, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        budget.spend(value.as_str().map_or(0, str::len))?;
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(object) => {
                for (key, item) in object {
                    budget.spend(key.len())?;
                    open.push((item, depth + 1));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
