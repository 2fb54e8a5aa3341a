//! Reads a plan: from a JSON document to a [`Draft`], which also contains everything that is wrong with it.

mod step;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::step::read_step;
use super::fields::{Fields, Location, kind};
use super::graph::Order;
use super::handlers::{Listed, TIMEOUT as HANDLER_TIMEOUT, listed};
use super::{Concurrency, HANDLERS_TIMEOUT, Issue, Issues, Items, OnFailure, Plan, Scheduling, Step, StepPath};
use crate::model::{Budget, Cost, DidYouMean, FIRST_REVISION, HandlerKind, Quoted, StepId, TOKENS_MAX};

/// The longest name of a plan and of a tool, in characters.
const NAME_CHARS_MAX: usize = 256;
/// The longest description, in characters. Each `running` message of the step carries it.
const DESCRIPTION_CHARS_MAX: usize = 16_384;
/// The longest delay before a retry: a day, in milliseconds.
const DELAY_MS_MAX: u64 = 86_400_000;
/// The longest timeout of a step or a run: 30 days, in milliseconds.
const TIMEOUT_MS_MAX: u64 = 30 * DELAY_MS_MAX;
/// The longest estimate: the largest integer that is exact in JavaScript.
const ESTIMATE_MS_MAX: u64 = (1 << 53) - 1;
/// How deep a document may nest: as deep as the JSON reader allows. Code that looks into a draft may recurse that far.
const DEPTH_MAX: usize = 128;
/// The most steps of a cycle that an issue names.
const CYCLE_STEPS_SHOWN: usize = 12;

/// A plan as far as its document could be read, and what is wrong with it.
#[derive(Debug)]
pub struct Draft {
    name: String,
    description: String,
    inputs: Map<String, Value>,
    estimated_duration: Option<u64>,
    timeout: Option<Duration>,
    on_failure: OnFailure,
    scheduling: Scheduling,
    handler_timeout: Duration,
    queue_timeout: Option<Duration>,
    concurrency: Option<Concurrency>,
    parameters: Option<Value>,
    budget: Budget,
    steps: Vec<Step>,
    /// Which steps have a usable id. Other steps have a made-up id, so that the rest of them can be checked; it is
    /// never shown.
    named: Vec<bool>,
    /// Where each step is in the document.
    paths: Vec<StepPath>,
    dependencies: Vec<Vec<usize>>,
    order: Order,
    index: HashMap<StepId, usize>,
    issues: Issues,
}

impl Draft {
    /// Reads a plan of at most `steps_max` steps. What can't be read is an issue, and left out.
    pub fn read(document: &Value, steps_max: usize) -> Self {
        let Some(object) = document.as_object() else {
            return Self::unreadable(format_args!("a plan must be an object, not {}", kind(document)));
        };
        if nests_deeper(document, DEPTH_MAX) {
            return Self::unreadable(format_args!("a plan must not be nested more than {DEPTH_MAX} levels deep"));
        }
        let mut issues = Issues::new();
        let steps = step_documents(object, steps_max, &mut issues);
        let steps = listed(steps, object, &mut issues);
        let mut draft = Self::read_head(object, issues);
        draft.read_steps(&steps);
        draft.read_dependencies(&steps);
        draft.order = Order::new(&draft.dependencies);
        draft.report_cycles();
        draft
    }

    /// The steps in the document's order, without levels and as yet without dependencies.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The schema of the run's inputs.
    pub fn parameters(&self) -> Option<&Value> {
        self.parameters.as_ref()
    }

    /// The template of the concurrency group of the run.
    pub fn group(&self) -> Option<&str> {
        self.concurrency.as_ref().map(|concurrency| &*concurrency.group)
    }

    /// The index of the step with this id.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The usable ids of the steps, in no particular order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.index.keys().map(StepId::as_str)
    }

    /// Returns those of `pairs` (step, other step) in which the other is not an ancestor of the step. Ignores pairs
    /// whose step is part of a cycle or waits for one.
    pub fn not_ancestors(&self, pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
        self.order.unreached(&self.dependencies, pairs)
    }

    /// The id of a step, if it is usable.
    pub fn step_id(&self, step: usize) -> Option<&StepId> {
        self.named[step].then(|| &self.steps[step].id)
    }

    /// Where a step is in the document.
    pub fn path(&self, step: usize) -> StepPath {
        self.paths[step]
    }

    /// Sets the steps whose outputs this step uses, and its condition and the expression of its items without wrapping.
    pub fn set_expressions(
        &mut self,
        step: usize,
        references: Vec<usize>,
        conditional: Option<&str>,
        items: Option<&str>,
    ) {
        let step = &mut self.steps[step];
        step.references = references;
        step.conditional = conditional.map(Into::into);
        if let (Some(each), Some(items)) = (&mut step.for_each, items) {
            each.items = Items::Expression(items.into());
        }
    }

    /// Adds the issues of another pass.
    pub fn absorb(&mut self, issues: Issues) {
        self.issues.absorb(issues);
    }

    /// The plan.
    ///
    /// # Errors
    /// Everything that is wrong, in the document's order; at most [`ISSUES_MAX`](super::ISSUES_MAX) issues.
    pub fn finish(mut self) -> Result<Plan, Vec<Issue>> {
        if !self.issues.is_empty() {
            return Err(self.issues.into_vec());
        }
        debug_assert!(self.order.is_acyclic(), "a cycle is an issue");
        let levels = self.levels();
        for (step, dependencies) in self.steps.iter_mut().zip(self.dependencies) {
            step.dependencies = dependencies;
        }
        let estimated_duration = self.estimated_duration.unwrap_or_else(|| match self.scheduling {
            Scheduling::Levels => estimate_of_levels(&self.steps, &levels),
            Scheduling::Eager => estimate_of_chains(&self.steps, &levels),
        });
        Ok(Plan {
            parent: None,
            name: self.name.into(),
            description: self.description.into(),
            steps: self.steps,
            levels,
            inputs: self.inputs,
            estimated_duration,
            timeout: self.timeout,
            on_failure: self.on_failure,
            scheduling: self.scheduling,
            handler_timeout: self.handler_timeout,
            budget: self.budget,
            revision: FIRST_REVISION,
            source: None,
            queue_timeout: self.queue_timeout,
            concurrency: self.concurrency.map(Arc::new),
            parameters: self.parameters.map(Arc::new),
            retry_of: None,
        })
    }

    /// The draft of a document that can't be read: it has only the issue.
    fn unreadable(why: fmt::Arguments<'_>) -> Self {
        let mut issues = Issues::new();
        issues.report(None, None, format_args!(""), why);
        Self { issues, ..Self::read_head(&Map::new(), Issues::new()) }
    }

    fn read_head(object: &Map<String, Value>, mut issues: Issues) -> Self {
        let mut fields = Fields::new(object, Location::default(), &mut issues);
        let name = fields.required_text("name", NAME_CHARS_MAX);
        let description = fields.text("description", DESCRIPTION_CHARS_MAX);
        // An array is a list of handlers instead.
        let on_failure = match fields.value("onFailure") {
            Some(Value::Array(_)) => None,
            _ => fields.word("onFailure", &[("stop", OnFailure::Stop), ("continue", OnFailure::Continue)]),
        };
        let scheduling = fields.word("scheduling", &[("levels", Scheduling::Levels), ("eager", Scheduling::Eager)]);
        Self {
            name: name.unwrap_or_default().to_owned(),
            description: description.unwrap_or_default().to_owned(),
            inputs: fields.object("inputs").cloned().unwrap_or_default(),
            estimated_duration: fields.integer("estimatedDuration", 0..=ESTIMATE_MS_MAX),
            timeout: fields.integer("timeout", 1..=TIMEOUT_MS_MAX).map(Duration::from_millis),
            on_failure: on_failure.unwrap_or_default(),
            scheduling: scheduling.unwrap_or_default(),
            handler_timeout: fields
                .integer("handlerTimeout", 1..=TIMEOUT_MS_MAX)
                .map_or(HANDLERS_TIMEOUT, Duration::from_millis),
            queue_timeout: fields.integer("queueTimeout", 1..=TIMEOUT_MS_MAX).map(Duration::from_millis),
            concurrency: Concurrency::read(&mut fields),
            parameters: fields.object("parameters").cloned().map(Value::Object),
            budget: read_budget(fields),
            steps: Vec::new(),
            named: Vec::new(),
            paths: Vec::new(),
            dependencies: Vec::new(),
            order: Order::new(&[]),
            index: HashMap::new(),
            issues,
        }
    }

    fn read_steps(&mut self, documents: &[Listed<'_>]) {
        let mut issues = Issues::new();
        self.index.reserve(documents.len());
        self.steps.reserve(documents.len());
        for (at, &Listed { document, path, handler }) in documents.iter().enumerate() {
            self.paths.push(path);
            let Some(object) = document.as_object() else {
                let message = format_args!("a step must be an object, not {}", kind(document));
                issues.report(Some(at), None, format_args!("{path}"), message);
                self.add_step(at, None, handler, &Map::new(), &mut Issues::new());
                continue;
            };
            let id = self.read_id(at, object, &mut issues);
            self.add_step(at, id, handler, object, &mut issues);
        }
        self.issues.absorb(issues);
    }

    fn add_step(
        &mut self,
        at: usize,
        id: Option<StepId>,
        handler: Option<HandlerKind>,
        object: &Map<String, Value>,
        issues: &mut Issues,
    ) {
        let location = Location { step: Some(at), listed: Some(self.paths[at]), step_id: id.as_ref(), inside: None };
        let mut step = read_step(id.clone().unwrap_or_else(|| stand_in(at)), Fields::new(object, location, issues));
        if handler.is_some() {
            step.handler = handler;
            step.timeout.get_or_insert(HANDLER_TIMEOUT);
            if step.for_each.take().is_some() {
                let message = format_args!("a handler runs once and can't have forEach");
                issues.report(Some(at), id.as_ref(), format_args!("{location}forEach"), message);
            }
        }
        self.named.push(id.is_some());
        self.steps.push(step);
    }

    /// The id of the step, if it is usable and no earlier step has it.
    fn read_id(&mut self, at: usize, object: &Map<String, Value>, issues: &mut Issues) -> Option<StepId> {
        let location = Location { step: Some(at), listed: Some(self.paths[at]), ..Location::default() };
        let mut fields = Fields::new(object, location, issues);
        let text = fields.required_text("id", usize::MAX)?;
        let id = match StepId::parse(text) {
            Ok(id) => id,
            Err(error) => {
                fields.report("id", format_args!("{error}, not {}", Quoted(text)));
                return None;
            }
        };
        if let Some(first) = self.index.get(&id) {
            fields.location.step_id = Some(&id);
            fields.report(
                "id",
                format_args!("duplicate step id {}; {} already has it", Quoted(text), self.paths[*first]),
            );
            return None;
        }
        self.index.insert(id.clone(), at);
        Some(id)
    }

    fn read_dependencies(&mut self, documents: &[Listed<'_>]) {
        let mut issues = Issues::new();
        // For each step, the last step that was seen to depend on it: a dependency that is listed twice counts once.
        let mut dependent = vec![usize::MAX; documents.len()];
        for (at, &Listed { document, path: listed, .. }) in documents.iter().enumerate() {
            let location = Location { step: Some(at), listed: Some(listed), step_id: self.step_id(at), inside: None };
            let named = document
                .as_object()
                .and_then(|object| Fields::new(object, location, &mut issues).array("dependencies"));
            let mut found = Vec::new();
            for (nth, name) in named.into_iter().flatten().enumerate() {
                match self.resolve(at, name) {
                    Ok(step) if std::mem::replace(&mut dependent[step], at) == at => {}
                    Ok(step) => found.push(step),
                    Err(problem) => {
                        let path = format_args!("{listed}.dependencies[{nth}]");
                        issues.report(Some(at), location.step_id, path, format_args!("{problem}"));
                    }
                }
            }
            self.dependencies.push(found);
        }
        self.issues.absorb(issues);
    }

    /// The step that a dependency of `step` refers to.
    fn resolve<'a>(&'a self, step: usize, name: &'a Value) -> Result<usize, BadDependency<'a>> {
        let name = name.as_str().ok_or_else(|| BadDependency::NoText(kind(name)))?;
        match self.find(name) {
            None => Err(BadDependency::Unknown(name, self)),
            Some(same) if same == step => Err(BadDependency::Itself),
            Some(other) if self.steps[other].handler != self.steps[step].handler => Err(BadDependency::Elsewhere(name)),
            Some(other) => Ok(other),
        }
    }

    fn report_cycles(&mut self) {
        let mut issues = Issues::new();
        for cycle in self.order.cycles(&self.dependencies) {
            let path = format_args!("{}.dependencies", self.paths[cycle[0]]);
            let message =
                format_args!("dependency cycle (each step depends on the next): {}", self.named_cycle(&cycle));
            issues.report(Some(cycle[0]), self.step_id(cycle[0]), path, message);
        }
        self.issues.absorb(issues);
    }

    /// `a -> b -> a`; a long cycle without its middle.
    fn named_cycle(&self, cycle: &[usize]) -> String {
        let mut names: Vec<&str> =
            cycle.iter().take(CYCLE_STEPS_SHOWN).map(|&step| self.steps[step].id.as_str()).collect();
        let left_out = format!("({} more)", cycle.len() - names.len());
        if cycle.len() > names.len() {
            names.push(&left_out);
        }
        names.push(self.steps[cycle[0]].id.as_str());
        names.join(" -> ")
    }

    fn levels(&mut self) -> Vec<Vec<usize>> {
        let of_steps = self.order.levels.iter().zip(&self.steps).filter(|(_, step)| step.handler.is_none());
        let count = of_steps.map(|(level, _)| level + 1).max().unwrap_or(0);
        let mut levels = vec![Vec::new(); count];
        for (at, step) in self.steps.iter_mut().enumerate() {
            step.level = self.order.levels[at];
            if step.handler.is_none() {
                levels[step.level].push(at);
            }
        }
        for level in &mut levels {
            // Stable: equal priorities stay in the document's order.
            level.sort_by_key(|&step| std::cmp::Reverse(self.steps[step].priority));
        }
        levels
    }
}

/// Why a dependency is invalid.
enum BadDependency<'a> {
    NoText(&'static str),
    Unknown(&'a str, &'a Draft),
    Itself,
    Elsewhere(&'a str),
}

impl fmt::Display for BadDependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoText(kind) => write!(f, "must be a step id, not {kind}"),
            Self::Unknown(name, draft) => {
                write!(f, "unknown step {}{}", Quoted(name), DidYouMean::new(name, draft.ids()))
            }
            Self::Itself => f.write_str("a step can't depend on itself"),
            Self::Elsewhere(name) => {
                write!(
                    f,
                    "{} is in another list; steps can depend only on steps, and handlers only on handlers of their kind",
                    Quoted(name)
                )
            }
        }
    }
}

/// The plan's step documents. Empty if there are too many.
fn step_documents<'a>(object: &'a Map<String, Value>, steps_max: usize, issues: &mut Issues) -> &'a [Value] {
    let mut fields = Fields::new(object, Location::default(), issues);
    if fields.value("steps").is_none() {
        fields.report("steps", format_args!("is required and must be an array of steps"));
    }
    let steps = fields.array("steps").map_or(&[][..], Vec::as_slice);
    if steps.is_empty() && fields.value("steps").is_some_and(Value::is_array) {
        fields.report("steps", format_args!("must have at least one step"));
    }
    if steps.len() > steps_max {
        fields.report("steps", format_args!("too many steps: {} (limit {steps_max}, limits.plan_steps)", steps.len()));
        return &[];
    }
    steps
}

/// Whether a value contains values more than `levels` levels below it. Recurses no deeper than that.
fn nests_deeper(value: &Value, levels: usize) -> bool {
    let is_too_deep = |value: &Value| levels == 0 || nests_deeper(value, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(is_too_deep),
        Value::Object(object) => object.values().any(is_too_deep),
        _ => false,
    }
}

/// The placeholder for an unusable id.
fn stand_in(at: usize) -> StepId {
    StepId::parse(&format!("steps-{at}")).expect("letters, a dash and at most 20 digits")
}

fn read_budget(mut plan: Fields<'_, '_>) -> Budget {
    let Some(object) = plan.object("budget") else { return Budget::default() };
    let location = Location { inside: Some("budget"), ..plan.location };
    let mut fields = Fields::new(object, location, plan.issues);
    let budget = Budget { tokens: fields.integer("tokens", 1..=TOKENS_MAX), cost: read_cost(&mut fields) };
    if fields.value("tokens").or(fields.value("cost")).is_none() {
        plan.report("budget", format_args!("must have tokens or cost"));
    }
    budget
}

fn read_cost(fields: &mut Fields<'_, '_>) -> Option<Cost> {
    let value = fields.value("cost")?;
    let cost = value.as_f64().filter(|units| *units <= Cost::MAX.units()).and_then(Cost::of_units);
    let cost = cost.filter(|cost| *cost > Cost::default());
    if cost.is_none() {
        fields.report("cost", format_args!("must be a number greater than 0 and at most {}", Cost::MAX));
    }
    cost
}

/// The sum of the longest steps of all levels.
fn estimate_of_levels(steps: &[Step], levels: &[Vec<usize>]) -> u64 {
    let longest = |level: &Vec<usize>| level.iter().filter_map(|&step| steps[step].estimated_duration).max();
    levels.iter().filter_map(longest).fold(0, u64::saturating_add)
}

/// The duration of the longest chain of steps that wait for each other.
fn estimate_of_chains(steps: &[Step], levels: &[Vec<usize>]) -> u64 {
    let mut ends = vec![0u64; steps.len()];
    for &at in levels.iter().flatten() {
        let start = steps[at].dependencies.iter().map(|&dependency| ends[dependency]).max().unwrap_or(0);
        ends[at] = start.saturating_add(steps[at].estimated_duration.unwrap_or(0));
    }
    ends.into_iter().max().unwrap_or(0)
}
