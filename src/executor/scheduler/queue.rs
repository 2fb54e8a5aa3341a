//! Runs that are accepted and have not started: first come, first served, except for runs that are held until they are
//! released. A run that waits longer than its plan allows is returned as late.
//!
//! While a child run is held, the runs of its group that are not held are needed: the child waits for their end, and so
//! does its parent, which keeps its slot meanwhile. They are started even if no slot is free.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::sync::Arc;
use std::time::Duration;

use super::super::context::Context;
use super::super::run::{NewRun, ResumedRun, Run};
use crate::model::{Now, ProjectId, RunId, RunStatus, Timestamp};

/// By what a run is known.
type Name = (ProjectId, RunId);

/// A concurrency group of a project.
type Group = (ProjectId, Arc<str>);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Queue {
    waiting: HashMap<Name, Waiting>,
    /// The names of those that may begin, by when they came.
    line: BTreeMap<u64, Name>,
    /// The positions in it of each group's runs.
    positions: HashMap<Group, BTreeSet<u64>>,
    /// When those that may not wait for ever have waited too long.
    deadlines: BTreeSet<(Duration, Name)>,
    /// How many children are held, of each group in which one is.
    held_children: HashMap<Group, usize>,
    /// How many have come so far.
    came: u64,
}

struct Waiting {
    run: ResumedOrNew,
    /// The group that it is of.
    group: Option<Group>,
    /// Its position in the line; none while it is held.
    position: Option<u64>,
    /// When it has waited too long, by the wall clock.
    late_at: Option<Timestamp>,
    /// Its entry among the deadlines.
    due: Option<Duration>,
}

impl Queue {
    /// A run waits from here on.
    pub(super) fn push(&mut self, run: ResumedOrNew, now: Now) {
        let name = run.name();
        if self.waiting.contains_key(&name) {
            log::error!("run {} of project {} was started twice", name.1, name.0);
            return;
        }
        let (is_held, late_at) = run.terms();
        let due = late_at.map(|at| mono_at(at, now));
        if let Some(due) = due {
            self.deadlines.insert((due, name.clone()));
        }
        let group = run.group();
        if let (Some(group), true) = (&group, is_held && run.is_child()) {
            *self.held_children.entry(group.clone()).or_default() += 1;
        }
        self.waiting.insert(name.clone(), Waiting { run, group, position: None, late_at, due });
        if !is_held {
            self.line_up(&name);
        }
    }

    /// A run that was held may begin. One that needs no slot is handed out at once.
    pub(super) fn release(&mut self, name: &Name) -> Option<ResumedOrNew> {
        let waiting = self.waiting.get(name).filter(|waiting| waiting.position.is_none())?;
        if waiting.run.is_child() {
            return self.take(name);
        }
        self.line_up(name);
        None
    }

    fn line_up(&mut self, name: &Name) {
        if let Some(waiting) = self.waiting.get_mut(name) {
            self.came += 1;
            waiting.position = Some(self.came);
            self.line.insert(self.came, name.clone());
            if let Some(group) = &waiting.group {
                self.positions.entry(group.clone()).or_default().insert(self.came);
            }
        }
    }

    /// Is there one that is awaited?
    pub(super) fn has_awaited(&self) -> bool {
        self.awaited().is_some()
    }

    /// The next that is awaited.
    pub(super) fn pop_awaited(&mut self) -> Option<ResumedOrNew> {
        let name = self.awaited()?.clone();
        self.take(&name)
    }

    fn awaited(&self) -> Option<&Name> {
        self.line.get(self.first_of_awaited_groups().min()?)
    }

    /// The first position of each group of which a child is held: no more is looked at, and where none is held, nothing.
    fn first_of_awaited_groups(&self) -> impl Iterator<Item = &u64> {
        self.held_children.keys().filter_map(|group| self.positions.get(group)?.first())
    }

    /// May a run begin?
    pub(super) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// The next run that may begin.
    pub(super) fn pop(&mut self) -> Option<ResumedOrNew> {
        let name = self.line.first_key_value()?.1.clone();
        self.take(&name)
    }

    /// The run of this name waits no longer.
    pub(super) fn take(&mut self, name: &Name) -> Option<ResumedOrNew> {
        let Waiting { run, group, position, due, .. } = self.waiting.remove(name)?;
        match (group, position) {
            (Some(group), Some(position)) => self.leave_line(group, position),
            (Some(group), None) if run.is_child() => self.leave_child(group),
            _ => {}
        }
        position.map(|position| self.line.remove(&position));
        due.map(|due| self.deadlines.remove(&(due, name.clone())));
        Some(run)
    }

    fn leave_line(&mut self, group: Group, position: u64) {
        if let hash_map::Entry::Occupied(mut positions) = self.positions.entry(group) {
            positions.get_mut().remove(&position);
            if positions.get().is_empty() {
                positions.remove();
            }
        }
    }

    fn leave_child(&mut self, group: Group) {
        if let hash_map::Entry::Occupied(mut held) = self.held_children.entry(group) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    /// Does the run of this name wait?
    pub(super) fn has(&self, name: &Name) -> bool {
        self.waiting.contains_key(name)
    }

    /// A run that waits becomes another and keeps its position.
    pub(super) fn change(&mut self, name: &Name, change: impl FnOnce(ResumedOrNew) -> ResumedOrNew) {
        if let Some(mut waiting) = self.waiting.remove(name) {
            waiting.run = change(waiting.run);
            self.waiting.insert(name.clone(), waiting);
        }
    }

    /// The next of those that have waited too long by the wall clock, which may have been set since it was asked.
    pub(super) fn pop_late(&mut self, now: Now) -> Option<ResumedOrNew> {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now.mono) {
            let (_, name) = self.deadlines.pop_first()?;
            let waiting = self.waiting.get_mut(&name)?;
            let at = waiting.late_at?;
            if at <= now.wall {
                waiting.due = None;
                return self.take(&name);
            }
            let due = mono_at(at, now);
            waiting.due = Some(due);
            self.deadlines.insert((due, name));
        }
        None
    }

    /// When [`pop_late`](Self::pop_late) is to be asked, on the monotonic clock.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn clear(&mut self) {
        *self = Self { came: self.came, ..Self::default() };
    }
}

/// When the monotonic clock will be where the wall clock says `at`, as far as anyone can tell now.
fn mono_at(at: Timestamp, now: Now) -> Duration {
    now.mono + Duration::from_millis(at.millis_since(now.wall))
}

/// A run that has not begun in this process.
pub(super) enum ResumedOrNew {
    New(NewRun),
    Resumed(Box<ResumedRun>),
    /// One of these, made already because someone wanted something of it.
    Made {
        run: Box<Run>,
        name: Name,
    },
}

impl ResumedOrNew {
    pub(super) fn name(&self) -> (ProjectId, RunId) {
        let new = match self {
            Self::New(new) => new,
            Self::Resumed(resumed) => &resumed.new,
            Self::Made { name, .. } => return name.clone(),
        };
        (new.project.clone(), new.run.clone())
    }

    /// Does a step of another run wait for its end?
    fn is_child(&self) -> bool {
        match self {
            Self::New(new) => new.plan.parent.is_some(),
            Self::Resumed(resumed) => resumed.new.plan.parent.is_some(),
            Self::Made { run, .. } => run.is_child(),
        }
    }

    fn group(&self) -> Option<Group> {
        let new = match self {
            Self::New(new) => new,
            Self::Resumed(resumed) => &resumed.new,
            Self::Made { run, .. } => return run.group(),
        };
        new.plan.concurrency.as_ref().map(|concurrency| (new.project.clone(), concurrency.group.clone()))
    }

    pub(super) fn into_run(self, context: Arc<Context>, now: Now) -> Run {
        match self {
            Self::New(new) => Run::new(new, context),
            Self::Resumed(resumed) => Run::resume(*resumed, context, now),
            Self::Made { run, .. } => *run,
        }
    }

    /// Is it to wait until it is released? And when it has waited too long; never, where it has begun in an earlier process.
    fn terms(&self) -> (bool, Option<Timestamp>) {
        let (new, has_begun) = match self {
            Self::New(new) => (new, false),
            Self::Resumed(resumed) => (&resumed.new, resumed.state.status != RunStatus::Queued),
            Self::Made { .. } => return (false, None),
        };
        let limit = new.plan.queue_timeout.filter(|_| !has_begun);
        let late_at =
            |limit: Duration| new.created_at.plus_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        (new.is_held, limit.map(late_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::{new_run, plan};
    use crate::model::{Concurrency, OnConflict, Parent, Plan};

    fn run(name: &str, queue_timeout: Option<u64>, is_held: bool) -> ResumedOrNew {
        let plan = Plan { queue_timeout: queue_timeout.map(Duration::from_millis), ..plan(&["a"]) };
        ResumedOrNew::New(NewRun { is_held, ..new_run(name, plan) })
    }

    fn of_group(name: &str, group: &str, is_held: bool, is_child: bool) -> ResumedOrNew {
        let concurrency = Concurrency { group: group.into(), limit: 1, on_conflict: OnConflict::Queue };
        let ids = (crate::model::RunId::parse("above"), crate::model::StepId::parse("s"));
        let (run_id, step_id) = (ids.0.expect("an id"), ids.1.expect("an id"));
        let parent = is_child.then_some(Parent { run_id, step_id, depth: 1 });
        let plan = Plan { concurrency: Some(Arc::new(concurrency)), parent, ..plan(&["a"]) };
        ResumedOrNew::New(NewRun { is_held, ..new_run(name, plan) })
    }

    fn id(run: Option<ResumedOrNew>) -> Option<String> {
        run.map(|run| run.name().1.to_string())
    }

    #[test]
    fn those_that_are_held_are_passed_by_and_take_their_place_when_they_are_released() {
        let (mut queue, now) = (Queue::default(), Now::default());
        for (name, is_held) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            queue.push(run(name, None, is_held), now);
        }
        for name in ["a", "b"] {
            assert!(queue.release(&run(name, None, false).name()).is_none());
        }
        assert!(queue.take(&run("d", None, false).name()).is_some());
        assert_eq!(
            [id(queue.pop()), id(queue.pop()), id(queue.pop())],
            [Some("b".to_owned()), Some("a".to_owned()), None]
        );
        assert!(!queue.has_next() && queue.take(&run("c", None, false).name()).is_some());
        assert!(queue.waiting.is_empty() && queue.line.is_empty());
    }

    #[test]
    fn a_child_that_was_held_is_handed_out_as_it_is_released() {
        let (mut queue, now) = (Queue::default(), Now::default());
        let ids = (crate::model::RunId::parse("above"), crate::model::StepId::parse("s"));
        let (run_id, step_id) = (ids.0.expect("an id"), ids.1.expect("an id"));
        let plan = Plan { parent: Some(Parent { run_id, step_id, depth: 1 }), ..plan(&["a"]) };
        let child = ResumedOrNew::New(NewRun { is_held: true, ..new_run("a", plan) });
        let name = child.name();
        queue.push(child, now);
        assert!(!queue.has_next());
        assert_eq!(id(queue.release(&name)), Some("a".to_owned()));
        assert!(queue.waiting.is_empty() && queue.release(&name).is_none());
    }

    #[test]
    fn while_a_child_is_held_those_of_its_group_are_awaited() {
        let (mut queue, now) = (Queue::default(), Now::default());
        for (name, group, is_held) in [("a", "h", false), ("b", "g", false), ("c", "g", true)] {
            queue.push(of_group(name, group, is_held, false), now);
        }
        assert!(!queue.has_awaited(), "no child is held");
        let child = of_group("child", "g", true, true);
        let name = child.name();
        queue.push(child, now);
        assert_eq!([id(queue.pop_awaited()), id(queue.pop_awaited())], [Some("b".to_owned()), None]);
        assert!(queue.release(&run("c", None, false).name()).is_none());
        assert_eq!(id(queue.pop_awaited()), Some("c".to_owned()), "it came before the child");
        queue.push(of_group("d", "g", false, false), now);
        assert_eq!(id(queue.release(&name)), Some("child".to_owned()));
        assert!(!queue.has_awaited() && queue.held_children.is_empty());
        assert_eq!([id(queue.pop()), id(queue.pop())], [Some("a".to_owned()), Some("d".to_owned())]);
    }

    /// Each turn looked at all that waited, several times.
    #[test]
    fn whether_one_is_awaited_was_looked_up_in_the_whole_line() {
        let (mut queue, now) = (Queue::default(), Now::default());
        for n in 0..100 {
            queue.push(of_group(&format!("r{n}"), &format!("g{}", n % 10), false, false), now);
        }
        let looked_at = |queue: &Queue| queue.first_of_awaited_groups().count();
        assert_eq!(looked_at(&queue), 0, "no child is held");
        queue.push(of_group("child", "g7", true, true), now);
        assert_eq!(looked_at(&queue), 1);
        let names = (0..11).map(|_| id(queue.pop_awaited())).collect::<Vec<_>>();
        let of_its_group = (0..10).map(|n| Some(format!("r{}", 10 * n + 7)));
        assert_eq!(names, of_its_group.chain([None]).collect::<Vec<_>>());
        assert!(queue.take(&of_group("child", "g7", true, true).name()).is_some() && queue.held_children.is_empty());
        while queue.pop().is_some() {}
        assert!(queue.positions.is_empty() && queue.line.is_empty());
    }

    #[test]
    fn one_that_waits_too_long_by_the_wall_clock_is_late_held_or_not() {
        let (mut queue, start) = (Queue::default(), Now::default());
        queue.push(run("a", Some(10), true), start);
        queue.push(run("b", Some(20), false), start);
        queue.push(run("c", None, false), start);
        assert_eq!(queue.next_deadline(), Some(Duration::from_millis(10)));
        assert_eq!(id(queue.pop_late(start)), None);
        let later = start.plus(Duration::from_millis(20));
        let set_back = Now { wall: Timestamp::from_millis(15), ..later };
        assert_eq!([id(queue.pop_late(set_back)), id(queue.pop_late(set_back))], [Some("a".to_owned()), None]);
        assert_eq!(queue.next_deadline(), Some(Duration::from_millis(25)), "the wall clock has 5 ms to go");
        assert_eq!(id(queue.pop()), Some("b".to_owned()));
        assert_eq!((queue.next_deadline(), id(queue.pop())), (None, Some("c".to_owned())));
    }
}
