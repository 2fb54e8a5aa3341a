//! Templates and conditions: the expressions in plans and declared tools. They are checked when a plan is submitted or
//! a tool is declared, and evaluated when a step runs.
//!
//! A template is a string that contains `{{ expression }}`; a condition is a single expression. Expressions are Jinja's
//! (evaluated by minijinja), with some JavaScript syntax accepted: `&&`, `||`, `!`, `===`, `!==` and `null`, and dashes
//! in `steps.my-step.output`. There are no statements, loops, includes or assignments: `{%` and `{#` are ordinary text.
//! Where a value becomes text, in a template, with `~` or with `string`, it is written as JSON. The cost of an
//! expression is limited by [`FUEL`], its result by [`RENDERED_BYTES_MAX`]. An undefined value is an error that names
//! it.

mod condition;
mod escaping;
mod expression;
mod scope;
mod spelling;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value as Evaluated};
use serde_json::{Map, Value};

use crate::model::{Items, Step};
use expression::Parsed;
use value::Budget;

pub use condition::unwrap as unwrap_condition;
pub use escaping::Escaping;
pub use scope::Scope;
pub(in crate::executor) use text::{Segment, segments};

/// What one evaluation may spend: one unit an instruction, and about one for each 64 bytes that it makes or two items
/// that it visits. So what one expression makes is at most about 64 MB.
pub const FUEL: u64 = 1_000_000;

/// What the templates of one call of [`Engine::render`] may fill in, all together: bytes of text, and 32 for each value
/// of any other kind, about what it takes in memory.
pub const RENDERED_BYTES_MAX: usize = 64 << 20;

/// How deep values may nest: as deep as the JSON reader lets them.
pub const DEPTH_MAX: usize = 128;

/// The longest error message, in characters; a longer one is cut.
const MESSAGE_CHARS_MAX: usize = 300;

/// The names that a plan's templates and conditions may begin with.
pub const RUN_ROOTS: &[&str] = &["steps", "inputs", "projectId", "runId"];

/// What the expressions of a plan's handlers may begin with.
pub const HANDLER_ROOTS: &[&str] = &["steps", "inputs", "projectId", "runId", "run"];

/// Functions that expressions may call.
const FUNCTIONS: &[&str] = &["range", "dict"];

/// Why a template could not be filled in, on one line. Names what the plan's author wrote, never the values met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The field that holds the template, as `inputs.query`; empty where there is but one.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl TemplateError {
    fn new(message: impl fmt::Display) -> Self {
        Self { path: String::new(), message: one_line(&message.to_string()) }
    }

    /// The same, found at `part` of where it was found so far.
    fn below(mut self, part: impl fmt::Display) -> Self {
        self.path.insert_str(0, &part.to_string());
        self
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for TemplateError {}

/// What a template or condition says, without evaluating it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// The ids of the steps that it names, in the order in which it does.
    pub steps: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// May this string hold a template?
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// Evaluates templates and conditions. One serves all threads.
#[derive(Debug)]
pub struct Engine {
    /// An undefined value is an error.
    strict: Environment<'static>,
    /// An undefined value has undefined members, and counts as false.
    lenient: Environment<'static>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine with Jinja's filters and tests.
    pub fn new() -> Self {
        Self { strict: environment(UndefinedBehavior::Strict), lenient: environment(UndefinedBehavior::Chainable) }
    }

    /// Fills in the templates inside a step's inputs.
    ///
    /// # Errors
    /// The first template that can't be filled in, its path beginning with `inputs`.
    pub fn render(&self, inputs: &Map<String, Value>, scope: &Scope) -> Result<Map<String, Value>, TemplateError> {
        let filled = self.filling(scope).object(inputs, 0);
        filled.map_err(|error| error.below("inputs"))
    }

    /// Fills in the templates inside any value.
    ///
    /// # Errors
    /// The first template that can't be filled in, its path being the one below `value`.
    pub fn render_value(&self, value: &Value, scope: &Scope) -> Result<Value, TemplateError> {
        self.filling(scope).value(value, 0)
    }

    /// Fills in a string that stays text: values that are none are shown as JSON, and all are escaped for where the text goes.
    ///
    /// # Errors
    /// If it can't be filled in, or a value may not stand there.
    pub fn render_text(&self, text: &str, escaping: Escaping, scope: &Scope) -> Result<String, TemplateError> {
        self.filling(scope).text(&segments(text).map_err(TemplateError::new)?, escaping)
    }

    /// The value of one expression in which what is missing is null, and so are its members.
    ///
    /// # Errors
    /// If it can't be evaluated, or the value is nothing that JSON can hold.
    pub fn evaluate_or_null(&self, expression: &str, scope: &Scope) -> Result<Value, TemplateError> {
        let mut filling = self.filling(scope);
        let (_, value) = filling.evaluated_in(&self.lenient, expression)?;
        if value.is_undefined() { Ok(Value::Null) } else { filling.json_of(expression, &value) }
    }

    /// Does the condition hold? Its wrapping `{{ }}` or `${ }` may be there or not. Empty text, 0, null and empty
    /// arrays and objects count as false.
    ///
    /// # Errors
    /// If it can't be evaluated, or the value is undefined.
    pub fn is_true(&self, condition: &str, scope: &Scope) -> Result<bool, TemplateError> {
        let value = self.filling(scope).evaluated(&unwrap_condition(condition))?;
        Ok(value.is_true())
    }

    /// The items that a step is made for, no more than `max` of them.
    ///
    /// # Errors
    /// If they can't be evaluated, are too many, or are no array.
    pub fn items(&self, items: &Items, scope: &Scope, max: usize) -> Result<Vec<Value>, TemplateError> {
        let mut filling = self.filling(scope);
        let items = match items {
            Items::Array(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| filling.value(item, 0).map_err(|error| error.below(format_args!("[{at}]"))))
                .collect::<Result<Vec<_>, _>>()?,
            Items::Expression(expression) => filling.array(&unwrap_condition(expression), max)?,
        };
        if items.len() > max { Err(too_many_items(items.len(), max)) } else { Ok(items) }
    }

    /// What a string's templates say. They may begin with the names in `roots`.
    pub fn inspect_text(&self, text: &str, roots: &[&str]) -> Inspection {
        let mut found = Inspection::default();
        match segments(text) {
            Ok(segments) => {
                for segment in segments {
                    if let Segment::Expression(expression) = segment {
                        self.inspect(expression, roots, &mut found);
                    }
                }
            }
            Err(problem) => found.problems.push(problem.to_owned()),
        }
        found
    }

    /// What a condition says.
    pub fn inspect_condition(&self, condition: &str, roots: &[&str]) -> Inspection {
        let mut found = Inspection::default();
        self.inspect(&unwrap_condition(condition), roots, &mut found);
        if condition::quotes_a_template(condition) {
            found.problems.push("a template inside quotes is not evaluated; write the value without quotes".to_owned());
        }
        found
    }

    /// Do the step's templates or its condition name one of these inputs of its run, or all of them together?
    pub fn names_input(&self, step: &Step, names: &BTreeSet<String>) -> bool {
        let is_named = |expression: &str| match Parsed::read(expression) {
            Ok(parsed) => parsed.inputs().any(|name| name.is_none_or(|name| names.contains(name))),
            Err(_) => true,
        };
        let mut open: Vec<&Value> = step.inputs.values().collect();
        let has_condition = step.conditional.as_ref().is_some_and(|condition| is_named(condition));
        let has_items = match step.for_each.as_ref().map(|each| &each.items) {
            Some(Items::Expression(expression)) => is_named(expression),
            Some(Items::Array(items)) => {
                open.extend(items);
                false
            }
            None => false,
        };
        let mut found = !names.is_empty() && (has_condition || has_items);
        while let (Some(value), false) = (open.pop(), found || names.is_empty()) {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(members) => open.extend(members.values()),
                Value::String(text) if is_template(text) => {
                    let mut named = segments(text).unwrap_or_default().into_iter();
                    found = named.any(|segment| matches!(segment, Segment::Expression(text) if is_named(text)));
                }
                _ => {}
            }
        }
        found
    }

    fn inspect(&self, expression: &str, roots: &[&str], found: &mut Inspection) {
        let parsed = match Parsed::read(expression) {
            Ok(parsed) => parsed,
            Err(problem) => return found.problems.push(one_line(&about(expression, &problem))),
        };
        // What most templates are; compiling it is half of what checking a plan costs.
        if !expression::is_plain_path(expression)
            && let Err(error) = self.strict.compile_expression_owned(parsed.source.clone())
        {
            found.problems.push(self.explain(&error, &parsed, None).message);
            return;
        }
        let unknown = parsed.problems(roots).chain(self.unknown_calls(&parsed));
        found.problems.extend(unknown.map(|problem| one_line(&problem)));
        found.steps.extend(parsed.steps().map(str::to_owned));
    }

    /// Filters, tests and functions that do not exist: by itself the engine would only notice when it calls them.
    fn unknown_calls(&self, parsed: &Parsed<'_>) -> Vec<String> {
        let unknown = |what, name| format!("unknown {what} `{name}`");
        let filters = parsed
            .filters
            .iter()
            .filter(|name| is_error(self.strict.empty_state().apply_filter(name, &[]), ErrorKind::UnknownFilter));
        let tests = parsed
            .tests
            .iter()
            .filter(|name| is_error(self.strict.empty_state().perform_test(name, &[]), ErrorKind::UnknownTest));
        let functions = parsed.functions.iter().filter(|name| !FUNCTIONS.contains(name));
        let calls = filters.map(|name| unknown("filter", name)).chain(tests.map(|name| unknown("test", name)));
        calls.chain(functions.map(|name| unknown("function", name))).collect()
    }

    fn filling<'a>(&'a self, scope: &'a Scope) -> Filling<'a> {
        let budget = Budget::new(RENDERED_BYTES_MAX);
        Filling { engine: self, scope, context: scope.context(), budget }
    }

    /// The error of an evaluation in words; with the scope it knows what was undefined.
    fn explain(&self, error: &minijinja::Error, parsed: &Parsed<'_>, scope: Option<&Scope>) -> TemplateError {
        let expression = parsed.text.trim();
        if may_be_undefined(error) {
            let missing = scope.and_then(|scope| parsed.first_missing(scope));
            if missing.is_some() || error.kind() == ErrorKind::UndefinedError {
                return undefined(parsed, missing);
            }
        }
        match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => {
                TemplateError::new(format_args!("`{expression}` takes too much work to evaluate"))
            }
            // This detail quotes the operands.
            (_, Some(detail)) if detail.starts_with("unable to calculate") => {
                TemplateError::new(format_args!("`{expression}` can't be calculated"))
            }
            (kind, detail) => {
                let detail = detail.map_or_else(|| kind.to_string(), str::to_owned);
                TemplateError::new(format_args!("`{expression}`: {detail}"))
            }
        }
    }
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let unwanted: Vec<String> =
        environment.globals().filter(|(name, _)| !FUNCTIONS.contains(name)).map(|(name, _)| name.to_owned()).collect();
    unwanted.iter().for_each(|name| environment.remove_global(name));
    spelling::install(&mut environment);
    environment
}

fn is_error<T>(result: Result<T, minijinja::Error>, kind: ErrorKind) -> bool {
    result.is_err_and(|error| error.kind() == kind)
}

/// Can an undefined value be the cause of this error? Operators tell it in their detail, or not at all; filters pass it
/// on as the source of their own error.
fn may_be_undefined(error: &minijinja::Error) -> bool {
    let is_silent = error.detail().is_none_or(|detail| detail.contains("undefined"));
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<minijinja::Error>().is_some_and(|error| error.kind() == ErrorKind::UndefinedError) {
            return true;
        }
        cause = error.source();
    }
    error.kind() == ErrorKind::InvalidOperation && is_silent
}

fn undefined(parsed: &Parsed<'_>, missing: Option<String>) -> TemplateError {
    match missing {
        Some(path) => TemplateError::new(format_args!("{path} is undefined")),
        None => TemplateError::new(format_args!("`{}` uses an undefined value", parsed.text.trim())),
    }
}

fn too_many_items(count: usize, max: usize) -> TemplateError {
    TemplateError::new(format_args!("too many items: {count} (limit {max}, not configurable)"))
}

/// Templates being filled in: what they see and what they may still give.
struct Filling<'a> {
    engine: &'a Engine,
    scope: &'a Scope,
    context: Evaluated,
    budget: Budget,
}

impl Filling<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<Value, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::new(format_args!("is nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(match value {
            Value::String(text) if is_template(text) => self.template(text)?,
            Value::Array(items) => {
                let fill =
                    |(at, item)| self.value(item, depth + 1).map_err(|error| error.below(format_args!("[{at}]")));
                Value::Array(items.iter().enumerate().map(fill).collect::<Result<_, _>>()?)
            }
            Value::Object(object) => Value::Object(self.object(object, depth)?),
            plain => plain.clone(),
        })
    }

    fn object(&mut self, object: &Map<String, Value>, depth: usize) -> Result<Map<String, Value>, TemplateError> {
        let mut filled = Map::new();
        for (key, value) in object {
            let value = self.value(value, depth + 1).map_err(|error| error.below(format_args!(".{key}")))?;
            filled.insert(key.clone(), value);
        }
        Ok(filled)
    }

    /// A string that is one template whole becomes that value; any other stays text.
    fn template(&mut self, text: &str) -> Result<Value, TemplateError> {
        match segments(text).map_err(TemplateError::new)?.as_slice() {
            [Segment::Expression(expression)] => self.json(expression),
            segments => self.text(segments, Escaping::Text).map(Value::String),
        }
    }

    fn text(&mut self, segments: &[Segment<'_>], escaping: Escaping) -> Result<String, TemplateError> {
        let mut text = String::new();
        for segment in segments {
            let value = match *segment {
                Segment::Text(plain) => {
                    text.push_str(plain);
                    continue;
                }
                Segment::Expression(expression) => self.json(expression)?,
            };
            let shown = match value {
                Value::String(string) => string,
                other => other.to_string(),
            };
            text.push_str(&escaping.fit(&shown).map_err(TemplateError::new)?);
        }
        Ok(text)
    }

    /// The array that an expression gives. One that is too long is not copied to find that out.
    fn array(&mut self, expression: &str, max: usize) -> Result<Vec<Value>, TemplateError> {
        let value = self.evaluated(expression)?;
        let is_array = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
        if let Some(count) = value.len().filter(|&count| is_array && count > max) {
            return Err(too_many_items(count, max));
        }
        match if is_array { self.json_of(expression, &value)? } else { Value::Null } {
            Value::Array(items) => Ok(items),
            _ => {
                let problem = format!("must be an array, not {}", value.kind());
                Err(TemplateError::new(about(expression, &problem)))
            }
        }
    }

    fn json(&mut self, expression: &str) -> Result<Value, TemplateError> {
        let value = self.evaluated(expression)?;
        self.json_of(expression, &value)
    }

    fn json_of(&mut self, expression: &str, value: &Evaluated) -> Result<Value, TemplateError> {
        value::to_json(value, &mut self.budget).map_err(|problem| TemplateError::new(about(expression, problem)))
    }

    fn evaluated(&self, expression: &str) -> Result<Evaluated, TemplateError> {
        let (parsed, value) = self.evaluated_in(&self.engine.strict, expression)?;
        if value.is_undefined() { Err(undefined(&parsed, parsed.first_missing(self.scope))) } else { Ok(value) }
    }

    /// The value, which may be undefined.
    fn evaluated_in<'e>(
        &self,
        environment: &Environment<'static>,
        expression: &'e str,
    ) -> Result<(Parsed<'e>, Evaluated), TemplateError> {
        let parsed = Parsed::read(expression).map_err(|problem| TemplateError::new(about(expression, &problem)))?;
        let explain = |error| self.engine.explain(&error, &parsed, Some(self.scope));
        let compiled = environment.compile_expression_owned(parsed.source.clone()).map_err(explain)?;
        let value = compiled.eval(self.context.clone()).map_err(explain)?;
        Ok((parsed, value))
    }
}

/// `text` without line breaks and other control characters, cut where it is long.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().take(MESSAGE_CHARS_MAX).map(plain).collect();
    if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        line.push_str("...");
    }
    line
}

/// `problem` with the expression that has it, if there is any text to name.
fn about(expression: &str, problem: &str) -> String {
    match expression.trim() {
        "" => problem.to_owned(),
        expression => format!("`{expression}`: {problem}"),
    }
}
