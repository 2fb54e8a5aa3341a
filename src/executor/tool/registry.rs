//! The tools that plans can call, by name, and the timeouts of their calls.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Tool, UsageFaults, builtin};

/// The tools that plans may call, by name.
#[derive(Clone, Default)]
pub struct Registry {
    tools: HashMap<Arc<str>, Arc<dyn Tool>>,
    /// Of those that have one.
    budgets: BTreeMap<Arc<str>, Budget>,
    /// Of the declared tools that say what they use.
    faults: BTreeMap<Arc<str>, Arc<UsageFaults>>,
}

impl Registry {
    /// A registry without tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry with `echo`, `delay`, `fail` and `approval`.
    pub fn with_builtins() -> Self {
        let mut registry = Self::new();
        builtin::register(&mut registry);
        registry
    }

    /// Adds a tool; a tool of the same name is replaced.
    pub fn insert(&mut self, name: &str, tool: impl Tool + 'static) {
        self.faults.remove(name);
        self.budgets.remove(name);
        if tool.budget() != Budget::default() {
            self.budgets.insert(name.into(), tool.budget());
        }
        self.tools.insert(name.into(), Arc::new(tool));
    }

    /// What can't be read of what this tool says it has used is counted there.
    pub(super) fn note_faults(&mut self, name: &str, faults: Arc<UsageFaults>) {
        self.faults.insert(name.into(), faults);
    }

    /// By tool, what could not be read of what it says it has used.
    pub(crate) fn usage_faults(&self) -> &BTreeMap<Arc<str>, Arc<UsageFaults>> {
        &self.faults
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name)
    }

    /// How long an attempt may take at `tool` where its step says `wanted`: a plan shortens what a tool allows, and
    /// never lengthens it.
    pub(in crate::executor) fn timeout(&self, tool: &str, wanted: Option<Duration>) -> Option<Timeout> {
        let of = |whose, lasts: Option<Duration>| lasts.map(|lasts| Timeout { lasts, whose });
        let step = of(Whose::Step, wanted);
        let Some(tool) = self.tool(tool) else { return step };
        let bounds = [step, of(Whose::Tool, tool.timeout())].into_iter().flatten();
        bounds.min_by_key(|timeout| timeout.lasts).or_else(|| of(Whose::Default, tool.default_timeout()))
    }

    /// The tools of which a run may not use as much as it likes.
    pub(in crate::executor) fn budgets(&self) -> impl Iterator<Item = (&str, Budget)> {
        self.budgets.iter().map(|(name, budget)| (&**name, *budget))
    }

    /// The names of all tools, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tools.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names
    }
}

/// What an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) struct Timeout {
    /// How long that is in all.
    pub lasts: Duration,
    whose: Whose,
}

/// Where a [`Timeout`] is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// In the plan, at the step.
    Step,
    /// At the tool's declaration.
    Tool,
    /// Nowhere: the tool has one by default.
    Default,
}

impl Timeout {
    /// What an attempt at `tool` that took longer says of itself.
    pub fn sentence(self, tool: &str) -> String {
        let ms = self.lasts.as_millis();
        match self.whose {
            Whose::Step => format!("timed out after {ms} ms (the step's timeout)"),
            Whose::Tool => format!("timed out after {ms} ms (tools.{tool}.timeout)"),
            Whose::Default => format!("timed out after {ms} ms (the default of tools.{tool}.timeout)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::executor::tool::{Call, Outcome, ToolError};

    struct Timed(Option<u64>, Option<u64>);

    impl Tool for Timed {
        fn call(&self, _: &Call<'_>) -> Result<Outcome, ToolError> {
            Ok(Outcome::Output(Value::Null))
        }

        fn timeout(&self) -> Option<Duration> {
            self.0.map(Duration::from_secs)
        }

        fn default_timeout(&self) -> Option<Duration> {
            self.1.map(Duration::from_secs)
        }
    }

    #[test]
    fn a_timeout_did_not_say_whose_limit_it_was() {
        for (limit, default, wanted, expected) in [
            (Some(1), None, Some(30), "timed out after 1000 ms (tools.t.timeout)"),
            (Some(30), None, Some(1), "timed out after 1000 ms (the step's timeout)"),
            (None, Some(9), None, "timed out after 9000 ms (the default of tools.t.timeout)"),
        ] {
            let mut registry = Registry::new();
            registry.insert("t", Timed(limit, default));
            let timeout = registry.timeout("t", wanted.map(Duration::from_secs)).expect("a timeout");
            assert_eq!(timeout.sentence("t"), expected);
        }
    }

    #[test]
    fn a_plan_raised_the_timeout_of_a_tool() {
        for (limit, default, wanted, expected) in [
            (Some(1), None, Some(30), Some(1)),
            (Some(30), None, Some(1), Some(1)),
            (Some(1), None, None, Some(1)),
            (Some(1), Some(9), None, Some(1)),
            (None, Some(9), None, Some(9)),
            (None, Some(9), Some(30), Some(30)),
            (None, None, Some(30), Some(30)),
            (None, None, None, None),
        ] {
            let mut registry = Registry::new();
            registry.insert("t", Timed(limit, default));
            let seconds = Duration::from_secs;
            let said = format!("{limit:?} {default:?} {wanted:?}");
            let lasts = |tool| registry.timeout(tool, wanted.map(seconds)).map(|timeout| timeout.lasts);
            assert_eq!(lasts("t"), expected.map(seconds), "{said}");
            assert_eq!(lasts("gone"), wanted.map(seconds));
        }
    }
}
