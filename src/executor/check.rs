//! Checks a plan before it runs: first its document, then everything that requires the tools and the templates. All
//! problems are reported at once.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};

use super::template::{Engine, HANDLER_ROOTS, Inspection, RUN_ROOTS, is_template, unwrap_condition};
use super::tool::{Registry, Schema, Tool};
use crate::model::{
    DidYouMean, Draft, ForEach, INDEX_NAME, ISSUES_MAX, Issue, Issues, Items, Plan, Quoted, Step, StepPath, Submission,
};

/// The names that the template of a group may begin with.
const GROUP_ROOTS: &[&str] = &["inputs"];

/// The most known tools that the message about an unknown one lists.
const TOOLS_SHOWN_MAX: usize = 10;

/// The longest key that a path shows as it is, in bytes.
const KEY_BYTES_MAX: usize = 60;

/// The problem with a key that holds a template.
const KEY_IS_TEMPLATE: &str =
    "templates in keys are not supported; write the object as one expression: \"{{ {inputs.key: inputs.value} }}\"";

/// Reads and checks a plan of at most `steps_max` steps. Reports everything that can be known before it runs.
///
/// # Errors
/// All issues, in the document's order; at most [`ISSUES_MAX`].
pub fn check_plan(
    document: &Value,
    registry: &Registry,
    engine: &Engine,
    steps_max: usize,
) -> Result<Plan, Vec<Issue>> {
    read_plan(document, Some(registry), engine, steps_max)
}

/// As [`check_plan`], but also reports the numbers of the submission that would be lost.
///
/// # Errors
/// As there.
pub fn check_submission(
    submission: &Submission,
    registry: &Registry,
    engine: &Engine,
    steps_max: usize,
) -> Result<Plan, Vec<Issue>> {
    let numbers = submission.issues.iter().cloned();
    match check_plan(&submission.plan, registry, engine, steps_max) {
        Ok(plan) if submission.issues.is_empty() => Ok(plan),
        Ok(_) => Err(numbers.collect()),
        Err(issues) => Err(numbers.chain(issues).take(ISSUES_MAX).collect()),
    }
}

/// Reads a plan again that was checked when it was accepted. A tool that no longer exists is no issue: its steps fail
/// when they start.
///
/// # Errors
/// As [`check_plan`], without the issues of tools.
pub fn reread_plan(document: &Value, engine: &Engine) -> Result<Plan, Vec<Issue>> {
    read_plan(document, None, engine, usize::MAX)
}

fn read_plan(
    document: &Value,
    registry: Option<&Registry>,
    engine: &Engine,
    steps_max: usize,
) -> Result<Plan, Vec<Issue>> {
    let mut draft = Draft::read(document, steps_max);
    let count = draft.steps().len();
    let mut checker = Checker {
        draft: &draft,
        registry,
        engine,
        issues: Issues::new(),
        mentions: Vec::new(),
        mentioned: vec![usize::MAX; count],
    };
    (0..count).for_each(|step| checker.check_step(step));
    checker.check_ancestry();
    checker.check_head();
    let Checker { issues, mentions, .. } = checker;
    resolve_references(&mut draft, mentions);
    draft.absorb(issues);
    draft.finish()
}

/// A step's use of another step's output.
struct Mention {
    step: usize,
    target: usize,
    path: String,
}

/// Collects the issues of a draft's steps.
struct Checker<'a> {
    draft: &'a Draft,
    /// `None` if tools are not checked.
    registry: Option<&'a Registry>,
    engine: &'a Engine,
    issues: Issues,
    /// In the order of their steps, with each target once per step.
    mentions: Vec<Mention>,
    /// For each step, the last step that was found to mention it.
    mentioned: Vec<usize>,
}

impl Checker<'_> {
    /// Checks what the plan itself says and only templates and schemas can judge.
    fn check_head(&mut self) {
        let mut early = Issues::new();
        if let Some(Err(problem)) = self.draft.parameters().map(Schema::compile) {
            early.report(None, None, format_args!("parameters"), format_args!("{problem}"));
        }
        if let Some(group) = self.draft.group() {
            for problem in self.engine.inspect_text(group, GROUP_ROOTS).problems {
                early.report(None, None, format_args!("concurrency.group"), format_args!("{problem}"));
            }
        }
        self.issues.absorb(early);
    }

    fn check_step(&mut self, at: usize) {
        let step = &self.draft.steps()[at];
        if let Some(each) = &step.for_each {
            self.check_items(at, each);
        }
        let roots = input_roots(step);
        let mut path = Path { step: at, base: self.draft.path(at), roots: &roots, parts: vec![Part::Key("inputs")] };
        for (key, value) in &step.inputs {
            self.check_part(Part::Key(key), value, &mut path);
        }
        self.check_tool(at, step);
        if let Some(condition) = &step.conditional {
            let found = self.engine.inspect_condition(condition, own_roots(step));
            self.note(&self.field(at, "conditional"), found);
        }
    }

    /// Checks where a step's items come from. No template in there may name an item, because the items are not known
    /// yet.
    fn check_items(&mut self, at: usize, each: &ForEach) {
        match &each.items {
            Items::Expression(expression) => {
                let found = self.engine.inspect_condition(expression, RUN_ROOTS);
                self.note(&self.field(at, "forEach"), found);
            }
            Items::Array(items) => {
                let mut path = self.field(at, "forEach");
                items.iter().enumerate().for_each(|(nth, item)| self.check_part(Part::Index(nth), item, &mut path));
            }
        }
    }

    fn check_tool(&mut self, at: usize, step: &Step) {
        let Some(registry) = self.registry else { return };
        let (name, inputs) = (&*step.tool, &step.inputs);
        let Some(tool) = registry.tool(name) else {
            // A missing name was already reported.
            if !name.is_empty() {
                let unknown = UnknownTool { name, registry };
                self.report(at, format_args!("{}.tool", self.draft.path(at)), format_args!("{unknown}"));
            }
            return;
        };
        let path = self.draft.path(at);
        if step.for_each.is_some() && !tool.fits_for_each() {
            let message = format_args!("the tool {name} can't be used with forEach");
            self.report(at, format_args!("{path}.forEach"), message);
        }
        if step.handler.is_some() && !tool.fits_for_each() {
            self.report(at, format_args!("{path}.tool"), format_args!("the tool {name} can't be used in a handler"));
        }
        for (below, message) in opinion(tool.as_ref(), inputs) {
            let dot = if below.is_empty() || below.starts_with('[') { "" } else { "." };
            self.report(at, format_args!("{}.inputs{dot}{below}", self.draft.path(at)), format_args!("{message}"));
        }
    }

    /// Checks the templates inside a value. Recursion is safe: a draft bounds how deep its inputs nest.
    fn check_part<'v>(&mut self, part: Part<'v>, value: &'v Value, path: &mut Path<'v>) {
        path.parts.push(part);
        match value {
            Value::String(text) if is_template(text) => {
                let found = self.engine.inspect_text(text, path.roots);
                self.note(path, found);
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| self.check_part(Part::Index(at), item, path));
            }
            Value::Object(object) => object.iter().for_each(|(key, item)| self.check_part(Part::Key(key), item, path)),
            _ => {}
        }
        self.check_key(path);
        path.parts.pop();
    }

    /// Reports a template in a key. A plan that was accepted before keeps its keys.
    fn check_key(&mut self, path: &Path<'_>) {
        if let Some(Part::Key(key)) = path.parts.last()
            && is_template(key)
            && self.registry.is_some()
        {
            self.report(path.step, format_args!("{path}"), format_args!("{KEY_IS_TEMPLATE}"));
        }
    }

    /// Takes over the problems of a template or condition, and the steps that it mentions.
    fn note(&mut self, path: &Path<'_>, found: Inspection) {
        for problem in &found.problems {
            self.report(path.step, format_args!("{path}"), format_args!("{problem}"));
        }
        for id in &found.steps {
            match self.draft.find(id) {
                None => self.report(path.step, format_args!("{path}"), format_args!("{}", UnknownStep(id, self.draft))),
                Some(target) if std::mem::replace(&mut self.mentioned[target], path.step) == path.step => {}
                Some(target) => self.mentions.push(Mention { step: path.step, target, path: path.to_string() }),
            }
        }
    }

    /// Reports the use of outputs that may not exist yet.
    fn check_ancestry(&mut self) {
        // When a handler runs, all steps that are not handlers have ended.
        let handler = |step: usize| self.draft.steps()[step].handler;
        let may_be_early = |mention: &&Mention| handler(mention.step).is_none() || handler(mention.target).is_some();
        let mentions = self.mentions.iter().filter(may_be_early);
        let pairs: Vec<_> = mentions.map(|mention| (mention.step, mention.target)).collect();
        let mut early = Issues::new();
        let unreached = self.draft.not_ancestors(&pairs);
        for Mention { step, target, path } in &self.mentions {
            if unreached.binary_search(&(*step, *target)).is_err() {
                continue;
            }
            let id = &self.draft.steps()[*target].id;
            let reason =
                if step == target { "is the step itself" } else { "is not among the steps that this one depends on" };
            let message = format_args!("{} {reason}, so its output is not available here", Quoted(id.as_str()));
            early.report(Some(*step), self.draft.step_id(*step), format_args!("{path}"), message);
        }
        self.issues.absorb(early);
    }

    /// The path of a field in which no template may name an item.
    fn field<'p>(&self, step: usize, field: &'p str) -> Path<'p> {
        Path { step, base: self.draft.path(step), roots: RUN_ROOTS, parts: vec![Part::Key(field)] }
    }

    fn report(&mut self, step: usize, path: fmt::Arguments<'_>, message: fmt::Arguments<'_>) {
        self.issues.report(Some(step), self.draft.step_id(step), path, message);
    }
}

/// Stores in the draft which steps the templates and conditions mention.
fn resolve_references(draft: &mut Draft, mentions: Vec<Mention>) {
    let mut references = vec![Vec::new(); draft.steps().len()];
    for Mention { step, target, .. } in mentions {
        references[step].push(target);
    }
    for (step, references) in references.into_iter().enumerate() {
        let condition = draft.steps()[step].conditional.as_deref().map(unwrap_condition);
        let items = match draft.steps()[step].for_each.as_ref().map(|each| &each.items) {
            Some(Items::Expression(items)) => Some(unwrap_condition(items)),
            _ => None,
        };
        draft.set_expressions(step, references, condition.as_deref(), items.as_deref());
    }
}

/// The names that templates in a step's inputs may begin with.
fn input_roots(step: &Step) -> Cow<'_, [&str]> {
    match &step.for_each {
        None => own_roots(step).into(),
        Some(each) => own_roots(step).iter().copied().chain([&*each.name, INDEX_NAME]).collect(),
    }
}

/// The names that any template of a step may begin with.
fn own_roots(step: &Step) -> &'static [&'static str] {
    if step.handler.is_some() { HANDLER_ROOTS } else { RUN_ROOTS }
}

/// The path of a value inside a step.
struct Path<'a> {
    step: usize,
    base: StepPath,
    /// The names that templates there may begin with.
    roots: &'a [&'a str],
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        self.parts.iter().try_for_each(|part| match part {
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) if key.len() <= KEY_BYTES_MAX && !key.contains(char::is_control) => write!(f, ".{key}"),
            Part::Key(key) => write!(f, "[{}]", Quoted(key)),
        })
    }
}

/// Shows that a step is unknown, and suggests a known one.
struct UnknownStep<'a>(&'a str, &'a Draft);

impl fmt::Display for UnknownStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id, draft) = *self;
        write!(f, "unknown step {}{}", Quoted(id), DidYouMean::new(id, draft.ids()))
    }
}

/// Shows that a tool is unknown, and suggests a known one.
struct UnknownTool<'a> {
    name: &'a str,
    registry: &'a Registry,
}

impl fmt::Display for UnknownTool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.registry.names();
        write!(f, "unknown tool {}{}", Quoted(self.name), DidYouMean::new(self.name, known.iter().copied()))?;
        let shown = known.len().min(TOOLS_SHOWN_MAX);
        match known.len() - shown {
            0 if shown == 0 => f.write_str(" (no tools are configured)"),
            0 => write!(f, " (available tools: {})", known.join(", ")),
            more => write!(f, " (available tools: {} and {more} more)", known[..shown].join(", ")),
        }
    }
}

/// Asks a tool to check its inputs. A tool that panics refuses them: no plan may end the process.
fn opinion(tool: &dyn Tool, inputs: &Map<String, Value>) -> Vec<(String, String)> {
    let said = catch_unwind(AssertUnwindSafe(|| tool.check_inputs(inputs, &is_template)));
    said.unwrap_or_else(|_| vec![(String::new(), "the tool panicked while checking its inputs".to_owned())])
}

#[cfg(test)]
mod tests;
