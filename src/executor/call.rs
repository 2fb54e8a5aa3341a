//! Makes one attempt at a step, on the calling thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};

use super::context::Context;
use super::run::{AttemptError, BEFORE_IT_BEGAN, Launch};
use super::template::is_template;
use super::tool::{Call, Outcome, OutputSink, OutputStream, Tool};

/// Takes no time worth a worker: the tool [answers at once](Tool::is_instant), and there is no template to be filled in,
/// which may take a while.
pub fn is_instant(tool: &dyn Tool, inputs: &Map<String, Value>) -> bool {
    tool.is_instant() && !inputs.values().any(has_template)
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(members) => members.values().any(has_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Where the live output of a tool goes that has none.
pub struct Unheard;

impl OutputSink for Unheard {
    fn write(&self, _: OutputStream, _: &[u8]) {}
}

/// Makes an attempt: fills in its inputs, and calls the tool. A panic fails it, nothing else.
pub fn attempt(context: &Context, launch: &Launch, output: &dyn OutputSink) -> Result<Outcome, AttemptError> {
    if launch.cancel.is_cancelled() {
        return Err(AttemptError::Passing(BEFORE_IT_BEGAN.to_owned()));
    }
    // Templates and schemas are the product's own code, but a panic there must not cost a worker either.
    catch_unwind(AssertUnwindSafe(|| {
        let (tool, inputs) = prepare(context, launch)?;
        call(tool, &inputs, launch, output)
    }))
    .unwrap_or_else(|panic| Err(AttemptError::Passing(format!("the tool panicked: {}", panic_text(&*panic)))))
}

/// The tool, and the inputs that it accepts. What fails here would fail the same way again.
fn prepare<'a>(context: &'a Context, launch: &Launch) -> Result<(&'a dyn Tool, Map<String, Value>), AttemptError> {
    let step = &launch.plan.steps[launch.step];
    // Plans are checked before they run, but a run may outlive a tool: the next start may declare others.
    let unknown = || AttemptError::Lasting(format!("the tool {} is no longer configured", step.tool));
    let tool = context.registry.tool(&step.tool).ok_or_else(unknown)?;
    let inputs = context.engine.render(&step.inputs, &launch.scope);
    let inputs = inputs.map_err(|error| AttemptError::Lasting(error.to_string()))?;
    let issues = tool.check_inputs(&inputs, &|_| false);
    if issues.is_empty() {
        return Ok((&**tool, inputs));
    }
    let issues: Vec<_> = issues.iter().map(|(path, message)| placed(path, message)).collect();
    Err(AttemptError::Lasting(format!("the tool rejected its inputs: {}", issues.join("; "))))
}

/// Prefixes a message with its path; a message about the inputs as a whole has none.
fn placed(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

fn call(
    tool: &dyn Tool,
    inputs: &Map<String, Value>,
    launch: &Launch,
    output: &dyn OutputSink,
) -> Result<Outcome, AttemptError> {
    let call = Call {
        project: &launch.project,
        run: &launch.run,
        step: &launch.plan.steps[launch.step].id,
        item: launch.unit.item,
        attempt: launch.attempt,
        inputs,
        output,
        cancel: &launch.cancel,
    };
    tool.call(&call).map_err(|error| match (error.failure(), error.retry_after()) {
        (Some(failure), wait) => AttemptError::Known { error: error.to_string(), failure, wait },
        (None, Some(wait)) => AttemptError::Busy(error.to_string(), wait),
        (None, None) => AttemptError::Passing(error.to_string()),
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
