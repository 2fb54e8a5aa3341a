//! `forEach`: a step that calls its tool once for each item of an array.

use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, kind};
use super::{OnFailure, Step};

/// The maximum number of items of a step; it limits the size of its state, its messages and its rows.
pub const ITEMS_MAX: usize = 1_000;

/// The maximum of `maxConcurrent`.
const CONCURRENT_MAX: u64 = 100;
/// The default of `maxConcurrent`.
const CONCURRENT_DEFAULT: usize = 10;

/// The default name of the item in templates.
const NAME_DEFAULT: &str = "item";
/// The name of the item's index, counted from 0, in templates.
pub const INDEX_NAME: &str = "index";
/// The longest name of an item, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The longest expression, in characters.
const EXPRESSION_CHARS_MAX: usize = 16_384;

/// Names with another meaning in expressions.
const NAMES_TAKEN: [&str; 18] = [
    "steps",
    "inputs",
    "projectId",
    "runId",
    INDEX_NAME,
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "true",
    "false",
    "none",
    "null",
    "range",
    "dict",
];

/// The settings of a step that calls its tool for each item of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct ForEach {
    /// An expression without its wrapping that evaluates to an array, or an array with unevaluated templates.
    pub items: Items,
    /// The name of the item in templates.
    pub name: Arc<str>,
    /// The maximum number of active items.
    pub max_concurrent: usize,
    /// What happens to the other items after one failed, if the step sets it.
    pub on_item_failure: Option<OnFailure>,
}

/// Where the items come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// An expression.
    Expression(Arc<str>),
    /// The items themselves, which may contain templates.
    Array(Vec<Value>),
}

impl Step {
    /// Whether all items run even after one failed: as the step sets it, by default if the step's failure does not stop
    /// the run.
    pub fn tries_all_items(&self, plan: OnFailure) -> bool {
        match self.for_each.as_ref().and_then(|each| each.on_item_failure) {
            Some(said) => said == OnFailure::Continue,
            None => self.continue_on_failure || plan == OnFailure::Continue,
        }
    }

    /// Whether the step completes despite failed items, with null in their place.
    pub fn tolerates_failed_items(&self) -> bool {
        self.for_each.as_ref().is_some_and(|each| each.on_item_failure == Some(OnFailure::Continue))
    }
}

/// A step's `forEach`, with what belongs to it.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<ForEach> {
    let items = read_items(fields);
    let name = read_name(fields);
    let max_concurrent = fields.integer("maxConcurrent", 1..=CONCURRENT_MAX);
    let on_item_failure = fields.word("onItemFailure", &[("stop", OnFailure::Stop), ("continue", OnFailure::Continue)]);
    Some(ForEach {
        items: items?,
        name,
        max_concurrent: max_concurrent.map_or(CONCURRENT_DEFAULT, |items| items as usize),
        on_item_failure,
    })
}

fn read_items(fields: &mut Fields<'_, '_>) -> Option<Items> {
    match fields.value("forEach")? {
        Value::Array(items) if items.len() > ITEMS_MAX => {
            fields.report(
                "forEach",
                format_args!("too many items: {} (limit {ITEMS_MAX}, not configurable)", items.len()),
            );
            None
        }
        Value::Array(items) => Some(Items::Array(items.clone())),
        Value::String(_) => {
            let text = fields.text("forEach", EXPRESSION_CHARS_MAX)?.trim();
            if text.is_empty() {
                fields.report("forEach", format_args!("must not be empty"));
                return None;
            }
            Some(Items::Expression(text.into()))
        }
        other => {
            fields.report("forEach", format_args!("must be an expression or an array, not {}", kind(other)));
            None
        }
    }
}

fn read_name(fields: &mut Fields<'_, '_>) -> Arc<str> {
    let name = fields.text("as", NAME_CHARS_MAX).unwrap_or(NAME_DEFAULT);
    if !is_name(name) {
        fields.report("as", format_args!("must start with a letter and contain only letters, digits and _"));
    } else if NAMES_TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        fields.report("as", format_args!("{name} is reserved in expressions; choose another name"));
    }
    name.into()
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
