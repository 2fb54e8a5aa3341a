//! Plans: checked, filled in, and run to their end by hand.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use stepcast::StepId;
use stepcast::bench::{
    Context, Durations, Effects, Engine, NewRun, Now, Plan, PlanLimits, Registry, Run, Scope, Timestamp, check_plan,
};
use stepcast::tool::Outcome;

use super::streams::project;
use super::work::{Done, Work, used};

/// Steps of a level in a wide plan.
const WIDTH: usize = 100;

/// The document of a plan in levels of `width` steps. Each step depends on up to three of the level before, and one in
/// four fills in what its first dependency gave.
pub fn layered(steps: usize, width: usize) -> Value {
    let step = |n: usize| {
        let (level, place) = (n / width, n % width);
        let before = |by: usize| (level - 1) * width + (place + by * 7) % width;
        let mut dependencies: Vec<usize> = if level == 0 { Vec::new() } else { (0..3).map(before).collect() };
        dependencies.dedup();
        dependencies.truncate(width);
        let inputs = match dependencies.first() {
            Some(first) if n.is_multiple_of(4) => {
                json!({"n": format!("{{{{ steps.s{first}.output.n }}}}"), "text": "a text"})
            }
            _ => json!({"n": n, "text": "a text", "flag": true}),
        };
        let dependencies: Vec<String> = dependencies.iter().map(|at| format!("s{at}")).collect();
        json!({"id": format!("s{n}"), "title": format!("Step {n}"), "tool": "echo", "inputs": inputs,
            "dependencies": dependencies})
    };
    json!({"name": "bench", "steps": (0..steps).map(step).collect::<Vec<_>>()})
}

/// Checks a wide plan, from its JSON as values to its levels.
pub fn check(steps: usize) -> Done<Work> {
    check_document(layered(steps, WIDTH.min(steps)))
}

/// The same of a plan in which each step waits for the one before.
pub fn check_chain(steps: usize) -> Done<Work> {
    check_document(layered(steps, 1))
}

fn check_document(document: Value) -> Done<Work> {
    let context = context();
    Ok(Box::new(move || used(checked(&document, &context)?)))
}

fn checked(document: &Value, context: &Context) -> Done<Plan> {
    let plan = check_plan(document, &context.registry, &context.engine, usize::MAX);
    plan.map_err(|issues| format!("{issues:?}").into())
}

/// Fills in the inputs of a step.
pub fn template() -> Done<Work> {
    let (engine, scope) = (Engine::new(), scope()?);
    let inputs = json!({"whole": "{{ steps.a.output.n }}", "text": "n is {{ steps.a.output.n }}", "plain": [1, "two"]});
    let Value::Object(inputs) = inputs else { return Err("no object".into()) };
    Ok(Box::new(move || used(engine.render(&inputs, &scope)?)))
}

/// Decides whether a step runs.
pub fn condition() -> Done<Work> {
    let (engine, scope) = (Engine::new(), scope()?);
    Ok(Box::new(move || used(engine.is_true("steps.a.output.n > 3 and inputs.target == 'all'", &scope)?)))
}

fn scope() -> Done<Scope> {
    let scope = Scope::of_run(&project()?, &"r".parse()?, Arc::new(json!({"target": "all"})));
    Ok(scope.with_step("a".parse::<StepId>()?, Arc::new(json!({"n": 5, "text": "x".repeat(200)}))))
}

/// A run from its first message to its last: every step is taken, and ends with its inputs as output.
pub fn run(document: Value) -> Done<Work> {
    let context = Arc::new(context());
    let plan = Arc::new(checked(&document, &context)?);
    let (project, run) = (project()?, "r".parse()?);
    let now = Now::default();
    Ok(Box::new(move || {
        let new = NewRun {
            project: project.clone(),
            run: Clone::clone(&run),
            plan: plan.clone(),
            created_at: Timestamp::default(),
            seed: 7,
            whole_outputs: HashMap::new(),
            is_held: false,
        };
        let (mut run, mut out) = (Run::new(new, context.clone()), Effects::default());
        run.start(now, &mut out);
        while run.has_ready() {
            let Some(launch) = run.take(now, &mut out) else { continue };
            let output = Outcome::Output(json!({"n": launch.step}));
            run.finish((launch.unit, launch.attempt), Ok(output), now, &mut out);
        }
        match run.is_ended() {
            true => used(out.records.len()),
            false => Err("the run has not ended".into()),
        }
    }))
}

fn context() -> Context {
    Context {
        registry: Registry::with_builtins(),
        engine: Engine::new(),
        output_bytes_max: 1 << 16,
        step_output_bytes_max: 1 << 26,
        durations: Durations::default(),
        interruptions_max: None,
        plan_limits: PlanLimits::default(),
    }
}
