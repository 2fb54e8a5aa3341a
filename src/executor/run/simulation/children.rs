//! Steps that wait for a run of their own, in the simulation: children that end well or badly, before and after crashes.

use super::*;
use crate::executor::run::child::child_id;

/// The runs that the run has begun.
#[derive(Default)]
pub(super) struct Children {
    /// Those that are waited for; with what came of them, where they had ended when they were asked for.
    awaited: BTreeMap<RunId, Option<ChildEnd>>,
    /// What came of those that have ended.
    ended: BTreeMap<RunId, ChildEnd>,
    /// Those that this process has begun.
    begun: BTreeSet<RunId>,
    /// Those that go on, whoever has begun them; with how many records there were then.
    alive: BTreeMap<RunId, usize>,
    /// Those whose end this process has asked for, the newest last; with how many records there were when they began, and
    /// by then.
    given_up: Vec<(RunId, usize, usize)>,
}

impl Children {
    /// The log hears wishes after the records of before: where so many of the last wishes for an end were lost, this many
    /// records were not.
    pub(super) fn durable(&self, lost: usize) -> usize {
        self.given_up.iter().rev().nth(lost).map_or(0, |(_, _, at)| *at)
    }

    /// Another process goes on: nobody waits, and the runs are there that had begun by then. Of the last wishes for an end so
    /// many came to nobody.
    pub(super) fn crash(&mut self, lost: usize, durable: usize) {
        self.awaited.clear();
        self.begun.clear();
        for (run, begun, _) in std::mem::take(&mut self.given_up).into_iter().rev().take(lost) {
            self.ended.remove(&run);
            self.alive.insert(run, begun);
        }
        self.alive.retain(|_, at| *at <= durable);
    }

    fn hear(&mut self, wish: ChildWish, records: usize) {
        match wish {
            ChildWish::Forget => unreachable!("a run does not let itself go"),
            ChildWish::Begin(child) => {
                assert!(self.begun.insert(child.run.clone()), "one process begins a child once");
                let before = self.ended.get(&child.run).cloned();
                if before.is_none() {
                    self.alive.entry(child.run.clone()).or_insert(records);
                }
                self.awaited.insert(child.run, before);
            }
            ChildWish::Cancel(_, run) => {
                self.awaited.remove(&run);
                // One that has ended, or never was, stays as it is.
                if let Some(begun) = self.alive.remove(&run) {
                    let cancelled = AttemptError::Passing("the child is cancelled".to_owned());
                    self.ended.insert(run.clone(), ChildEnd { result: Err(cancelled), usage: None });
                    self.given_up.push((run, begun, records));
                }
            }
        }
    }
}

impl World {
    pub(super) fn hear_of_children(&mut self, wishes: Vec<ChildWish>) {
        wishes.into_iter().for_each(|wish| self.children.hear(wish, self.records.len()));
    }

    /// One of those that are waited for ends.
    pub(super) fn end_a_child(&mut self) {
        if self.children.awaited.is_empty() {
            return;
        }
        let at = self.rng.below(self.children.awaited.len());
        let Some(child) = self.children.awaited.keys().nth(at).cloned() else { return };
        let known = self.children.awaited.remove(&child).flatten();
        let end = known.unwrap_or_else(|| {
            let result = match self.rng.one_in(3) {
                true => Err(AttemptError::Passing("broken".to_owned())),
                false => Ok(json!({"runId": child, "outputs": {}})),
            };
            let total_tokens = self.rng.below(20) as u64;
            let usage = self.rng.one_in(2).then(|| Box::new(Usage { total_tokens, ..Usage::default() }));
            ChildEnd { result, usage }
        });
        self.durable = self.durable.max(self.children.alive.remove(&child).unwrap_or(0));
        self.children.ended.insert(child.clone(), end.clone());
        let told = |run: &Run| run.state().usage.as_ref().map_or(0, |usage| usage.total_tokens);
        let (before, used) = (told(&self.run), end.usage.as_ref().map_or(0, |usage| usage.total_tokens));
        self.act(|run, now, effects| run.child_ended(&child, end, now, effects));
        assert!(told(&self.run) >= before + used, "its usage is told with its end");
    }

    /// Whoever goes on is waited for, or will be: by a step that runs again, whose next attempt is joined to it.
    fn check_nobody_is_forgotten(&self) {
        let will_be_joined: BTreeSet<RunId> = (self.new.plan.steps.iter().zip(&self.run.state().steps))
            .filter(|(_, state)| state.status == StepStatus::Running)
            .map(|(step, state)| child_id(&self.new.project, &self.run.as_parent(&step.id), state.retries))
            .collect();
        for run in self.children.alive.keys() {
            assert!(self.children.awaited.contains_key(run) || will_be_joined.contains(run), "{run} is forgotten");
        }
    }

    /// Whoever waits for a child waits for one that will be heard of, and nobody else is.
    pub(super) fn check_children(&self) {
        let joining = self.run.live.values().filter_map(|live| match &live.phase {
            Phase::Joining { run, .. } => Some(run),
            _ => None,
        });
        if !self.run.is_ended() {
            self.check_nobody_is_forgotten();
        }
        assert!(joining.collect::<BTreeSet<_>>().into_iter().eq(self.children.awaited.keys()));
    }
}
