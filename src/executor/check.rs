//! Checking a plan before anything runs: what its document says of itself, and then what only the tools and the
//! templates can tell. Everything that is wrong is found at once.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};
use strsim::levenshtein;

use super::template::{Engine, Inspection, RUN_ROOTS, is_template, unwrap_condition};
use super::tool::{Registry, Tool};
use crate::model::{Draft, ISSUES_MAX, Issue, Issues, Plan, Quoted, Submission};

/// How many of the known tools are named where one is unknown.
const TOOLS_SHOWN_MAX: usize = 10;

/// The longest key that a path shows as it is, in bytes.
const KEY_BYTES_MAX: usize = 60;

/// How many edits a misspelt tool may be away from the one that is suggested: two characters swapped are two edits.
const EDITS_MAX: usize = 3;

/// What is wrong with a key that holds a template.
const KEY_IS_TEMPLATE: &str =
    "a template in a key is not filled in; write the object as one expression: \"{{ {inputs.key: inputs.value} }}\"";

/// Reads and checks a plan of at most `steps_max` steps, with nothing left unsaid that can be known before it runs.
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

/// As [`check_plan`], with what is wrong with the numbers of the submission among the issues.
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

/// Reads a plan again that was checked when it was taken on. A tool that is gone since is no reason not to: its steps fail
/// when their turn comes.
///
/// # Errors
/// As [`check_plan`], but for the tools.
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
    let Checker { issues, mentions, .. } = checker;
    settle(&mut draft, mentions);
    draft.absorb(issues);
    draft.finish()
}

/// A step's use of another step's output.
struct Mention {
    step: usize,
    target: usize,
    path: String,
}

/// Gathers what is wrong with the steps of a draft.
struct Checker<'a> {
    draft: &'a Draft,
    /// None where tools are not looked at.
    registry: Option<&'a Registry>,
    engine: &'a Engine,
    issues: Issues,
    /// In the order of their steps; each target once a step.
    mentions: Vec<Mention>,
    /// Of each step the last one that was found to mention it.
    mentioned: Vec<usize>,
}

impl Checker<'_> {
    fn check_step(&mut self, at: usize) {
        let step = &self.draft.steps()[at];
        let mut path = Path { step: at, parts: vec![Part::Key("inputs")] };
        for (key, value) in &step.inputs {
            self.check_part(Part::Key(key), value, &mut path);
        }
        self.check_tool(at, &step.tool, &step.inputs);
        if let Some(condition) = &step.conditional {
            let found = self.engine.inspect_condition(condition, RUN_ROOTS);
            self.note(&Path { step: at, parts: vec![Part::Key("conditional")] }, found);
        }
    }

    fn check_tool(&mut self, at: usize, name: &str, inputs: &Map<String, Value>) {
        let Some(registry) = self.registry else { return };
        let Some(tool) = registry.tool(name) else {
            // A missing name is an issue already.
            if !name.is_empty() {
                let unknown = UnknownTool { name, registry };
                self.report(at, format_args!("steps[{at}].tool"), format_args!("{unknown}"));
            }
            return;
        };
        for (below, message) in opinion(tool.as_ref(), inputs) {
            let dot = if below.is_empty() || below.starts_with('[') { "" } else { "." };
            self.report(at, format_args!("steps[{at}].inputs{dot}{below}"), format_args!("{message}"));
        }
    }

    /// Checks the templates inside a value. Recursion is safe: a draft bounds how deep its inputs nest.
    fn check_part<'v>(&mut self, part: Part<'v>, value: &'v Value, path: &mut Path<'v>) {
        path.parts.push(part);
        match value {
            Value::String(text) if is_template(text) => {
                let found = self.engine.inspect_text(text, RUN_ROOTS);
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

    /// A plan that was taken on keeps the keys that it has.
    fn check_key(&mut self, path: &Path<'_>) {
        if let Some(Part::Key(key)) = path.parts.last()
            && is_template(key)
            && self.registry.is_some()
        {
            self.report(path.step, format_args!("{path}"), format_args!("{KEY_IS_TEMPLATE}"));
        }
    }

    /// Takes over what a template or condition says.
    fn note(&mut self, path: &Path<'_>, found: Inspection) {
        for problem in &found.problems {
            self.report(path.step, format_args!("{path}"), format_args!("{problem}"));
        }
        for id in &found.steps {
            match self.draft.find(id) {
                None => self.report(path.step, format_args!("{path}"), format_args!("there is no step {}", Quoted(id))),
                Some(target) if std::mem::replace(&mut self.mentioned[target], path.step) == path.step => {}
                Some(target) => self.mentions.push(Mention { step: path.step, target, path: path.to_string() }),
            }
        }
    }

    /// Reports the outputs that will not be there when they are asked for.
    fn check_ancestry(&mut self) {
        let pairs: Vec<_> = self.mentions.iter().map(|mention| (mention.step, mention.target)).collect();
        let mut early = Issues::new();
        let unreached = self.draft.not_ancestors(&pairs);
        for Mention { step, target, path } in &self.mentions {
            if unreached.binary_search(&(*step, *target)).is_err() {
                continue;
            }
            let id = &self.draft.steps()[*target].id;
            let reason =
                if step == target { "is the step itself" } else { "is none of the steps that this one waits for" };
            let message = format_args!("{} {reason}, so its output is not known here", Quoted(id.as_str()));
            early.report(Some(*step), self.draft.step_id(*step), format_args!("{path}"), message);
        }
        self.issues.absorb(early);
    }

    fn report(&mut self, step: usize, path: fmt::Arguments<'_>, message: fmt::Arguments<'_>) {
        self.issues.report(Some(step), self.draft.step_id(step), path, message);
    }
}

/// Notes in the draft what the steps' templates and conditions came to.
fn settle(draft: &mut Draft, mentions: Vec<Mention>) {
    let mut references = vec![Vec::new(); draft.steps().len()];
    for Mention { step, target, .. } in mentions {
        references[step].push(target);
    }
    for (step, references) in references.into_iter().enumerate() {
        let condition = draft.steps()[step].conditional.as_deref().map(unwrap_condition);
        draft.settle(step, references, condition.as_deref());
    }
}

/// A place inside a step.
struct Path<'a> {
    step: usize,
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steps[{}]", self.step)?;
        self.parts.iter().try_for_each(|part| match part {
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) if key.len() <= KEY_BYTES_MAX && !key.contains(char::is_control) => write!(f, ".{key}"),
            Part::Key(key) => write!(f, "[{}]", Quoted(key)),
        })
    }
}

/// Says that there is no such tool, and which one may be meant.
struct UnknownTool<'a> {
    name: &'a str,
    registry: &'a Registry,
}

impl fmt::Display for UnknownTool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.registry.names();
        write!(f, "there is no tool {}", Quoted(self.name))?;
        if let Some(closest) = closest(self.name, &known) {
            write!(f, ", did you mean {}?", Quoted(closest))?;
        }
        let shown = known.len().min(TOOLS_SHOWN_MAX);
        match known.len() - shown {
            0 if shown == 0 => f.write_str("; no tool is known"),
            0 => write!(f, "; known are {}", known.join(", ")),
            more => write!(f, "; known are {} and {more} more", known[..shown].join(", ")),
        }
    }
}

/// What a tool says of its inputs. One that panics over them refuses them: no plan may end the process.
fn opinion(tool: &dyn Tool, inputs: &Map<String, Value>) -> Vec<(String, String)> {
    let said = catch_unwind(AssertUnwindSafe(|| tool.check_inputs(inputs, &is_template)));
    said.unwrap_or_else(|_| vec![(String::new(), "the tool panicked over them".to_owned())])
}

/// The known name that a misspelt one most likely stands for: at most half of it differs.
fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let differences = known.iter().filter_map(|candidate| {
        let far = (name.chars().count() / 2).clamp(1, EDITS_MAX);
        let is_near = name.len().abs_diff(candidate.len()) <= far && name.len() <= KEY_BYTES_MAX;
        is_near.then(|| (levenshtein(name, candidate), *candidate)).filter(|&(edits, _)| edits <= far)
    });
    differences.min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::executor::tool::{Call, Outcome, ToolError};

    struct Anything;

    impl Tool for Anything {
        fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
            Ok(Outcome::Output(Value::Object(call.inputs.clone())))
        }
    }

    /// Wants `ms` to be a number, and says something of the whole where it is missing.
    struct Strict;

    impl Tool for Strict {
        fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
            Ok(Outcome::Output(Value::Null))
        }

        fn check_inputs(
            &self,
            inputs: &Map<String, Value>,
            is_template: &dyn Fn(&str) -> bool,
        ) -> Vec<(String, String)> {
            match inputs.get("ms") {
                Some(Value::Bool(_)) => panic!("a bool"),
                None => vec![(String::new(), "ms is missing".into())],
                Some(Value::Number(_)) => vec![],
                Some(Value::String(text)) if is_template(text) => vec![],
                Some(_) => vec![("ms".into(), "must be a number".into())],
            }
        }
    }

    fn registry() -> Registry {
        let mut registry = Registry::new();
        registry.insert("echo", Anything);
        registry.insert("delay", Strict);
        registry
    }

    fn check(steps: Value) -> Result<Plan, Vec<Issue>> {
        check_plan(&json!({"name": "p", "steps": steps}), &registry(), &Engine::new(), 10_000)
    }

    #[test]
    fn tools_templates_and_conditions_are_checked_with_all_the_rest() {
        let issues = check(json!([
            {"id": "a", "tool": "ehco", "inputs": {"q": "{{ steps.b.output }}"}},
            {"id": "b", "tool": "delay", "dependencies": ["a"], "priority": true,
             "inputs": {"ms": "soon", "x": ["{{ 1 + }}", {"y z": "{{ steps.nope.output }} {{ lipsum() }}"}]}},
            {"id": "c", "tool": "delay", "dependencies": ["b"], "conditional": "${ steps.d.output.ok"},
            {"id": "d", "tool": "delay", "dependencies": ["c"], "conditional": "steps.d.output || steps.a.output",
             "inputs": {"ms": "{{ steps.a.output }}"}},
            {"tool": "summarize", "inputs": {"q": "{{ step.a }}"}}
        ]));
        let said: Vec<_> = issues.expect_err("many").iter().map(ToString::to_string).collect();
        let expected = [
            "steps[0].tool: there is no tool \"ehco\", did you mean \"echo\"?; known are delay, echo",
            "steps[0].inputs.q: \"b\" is none of the steps that this one waits for, so its output is not known here",
            "steps[1].priority: must be an integer, not true",
            "steps[1].inputs.x[0]: `1 +`: unexpected end of input, expected expression",
            "steps[1].inputs.x[1].y z: there is no function `lipsum`",
            "steps[1].inputs.x[1].y z: there is no step \"nope\"",
            "steps[1].inputs.ms: must be a number",
            "steps[2].inputs: ms is missing",
            "steps[2].conditional: `( steps.d.output.ok`: unexpected end of input, expected `)`",
            "steps[3].conditional: \"d\" is the step itself, so its output is not known here",
            "steps[4].id: is required: a string",
            "steps[4].inputs.q: `step` is not known here, only steps, inputs, projectId, runId are",
            "steps[4].tool: there is no tool \"summarize\"; known are delay, echo",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_template_in_a_key_stayed_as_it_was() {
        let steps =
            json!([{"id": "a", "tool": "echo", "inputs": {"{{ inputs.k }}": 1, "x": [{"a {{": "{{ inputs.v }}"}]}}]);
        let issues = check(steps.clone()).expect_err("refused");
        let said: Vec<_> = issues.iter().map(|issue| (issue.path.as_str(), issue.message.as_str())).collect();
        let paths = ["steps[0].inputs.{{ inputs.k }}", "steps[0].inputs.x[0].a {{"];
        assert_eq!(said, paths.map(|path| (path, KEY_IS_TEMPLATE)));
        let kept = reread_plan(&json!({"name": "p", "steps": steps}), &Engine::new());
        assert!(kept.is_ok(), "a plan that was taken on before goes on");
        let computed = check(json!([{"id": "a", "tool": "echo", "inputs": {"x": "{{ {inputs.k: inputs.v} }}"}}]));
        assert!(computed.is_ok(), "what the issue recommends");
    }

    #[test]
    fn a_tool_that_panicked_over_a_plans_inputs_ended_the_process() {
        let issues = check(json!([{"id": "a", "tool": "delay", "inputs": {"ms": true}}])).expect_err("refused");
        assert_eq!(issues[0].to_string(), "steps[0].inputs: the tool panicked over them");
    }

    #[test]
    fn a_good_plan_knows_what_its_steps_refer_to() {
        let plan = check(json!([
            {"id": "a", "tool": "echo"},
            {"id": "b-1", "tool": "echo", "dependencies": ["a"], "conditional": " ${ steps.a.output.ok } "},
            {"id": "c", "tool": "delay", "dependencies": ["b-1"], "conditional": "${steps.a.output} && true",
             "inputs": {"ms": "{{ steps.b-1.output }}", "t": "{{ steps.a.output }} {{ inputs.not_there_yet }}"}}
        ]))
        .expect("a plan");
        let references: Vec<_> = plan.steps.iter().map(|step| step.references.clone()).collect();
        assert_eq!(references, [vec![], vec![0], vec![1, 0]]);
        assert_eq!(plan.steps[1].conditional.as_deref(), Some("steps.a.output.ok"));
        assert_eq!(plan.steps[2].conditional.as_deref(), Some("(steps.a.output) && true"));
    }

    #[test]
    fn a_chain_of_the_greatest_length_may_refer_to_its_beginning_from_everywhere() {
        let steps = (0..10_000).map(|at: usize| {
            let dependencies: Vec<_> = at.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect();
            let far = at.checked_sub(2).map_or(String::new(), |_| format!("{{{{ steps.s{}.output }}}}", at / 2));
            json!({"id": format!("s{at}"), "tool": "echo", "dependencies": dependencies, "inputs": {"x": far}})
        });
        let plan = check(steps.collect()).expect("a plan");
        assert_eq!(plan.steps[9_999].references, [4_999]);
    }

    #[test]
    fn misspelt_tools_are_recognised() {
        let known = ["delay", "echo", "http_get"];
        for (name, meant) in [
            ("ehco", Some("echo")),
            ("ech", Some("echo")),
            ("httpget", Some("http_get")),
            ("dealy", Some("delay")),
            ("delays", Some("delay")),
            ("x", None),
            (&*"e".repeat(10_000), None),
        ] {
            assert_eq!(closest(name, &known), meant, "{name}");
        }
    }
}
